"""A snap sync from end to end: open the directory, trust a header, download, verify, say so."""

from __future__ import annotations

import json
import os
import time
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from ethsync.errors import DatadirMismatch
from ethsync.peers.finding import named_only, run_finding
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView
from ethsync.peers.pool import PeerPool
from ethsync.peers.roster import run_roster
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.schema import FACT_PIVOT, FACT_RUNS, FACT_VERIFIED, FORMAT_VERSION, Format, header_key
from ethsync.store.writer import Writer, check_space, run_writer
from ethsync.sync.accounts import AccountStage
from ethsync.sync.bytecodes import CodeStage
from ethsync.sync.changes import Changes
from ethsync.sync.debts import DebtBook, PageNeeds
from ethsync.sync.download import PATIENCE, Download, run_download
from ethsync.sync.heads import fetch_header
from ethsync.sync.meter import run_meter
from ethsync.sync.progress import Limit, Phase, Progress
from ethsync.sync.resume import Kept, read_kept, reopened
from ethsync.sync.storage import StorageStage
from ethsync.sync.sweep import Sweep
from ethsync.sync.verifier import verify_or_raise
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from ethsync.networks import Network
    from ethsync.peers.finding import Finding
    from ethsync.wire.enode import Enode

MOST_CONTRACTS = 100_000
"""Contracts waiting for their storage before accounts wait for them: some 50 MB of queue."""

MOST_CODES = 30_000
"""Codes waiting, likewise."""

SPACE_FLOOR = 512 << 20
"""Bytes of free disk below which a sync stops cleanly, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class SnapOptions:
    """What to sync, from whom, into where."""

    network: Network
    peers: Sequence[Enode]
    head: bytes
    datadir: Path
    space_floor: int = SPACE_FLOOR
    patience: float = PATIENCE
    finding: Finding | None = None
    """How to be connected with more peers than `peers`; None for not at all."""
    cores: int = 0
    """Threads for proving; 0 for as many as there are processors."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a complete, verified state holds. Stored when the verification has passed."""

    block_number: int
    block_hash: str
    state_root: str
    accounts: int
    slots: int
    contracts: int
    codes: int
    bytes: int
    """Bytes of pages, bundles and codes."""
    at: int
    """When, in Unix seconds."""


@asynccontextmanager
async def _opened(path: Path, form: Format) -> AsyncIterator[Datadir]:
    """Open the data directory in a thread: LevelDB may have a log to replay."""
    manager = open_datadir(path, form)
    datadir = await trio.to_thread.run_sync(manager.__enter__)
    try:
        yield datadir
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(manager.__exit__, None, None, None)


async def run_snap(options: SnapOptions, progress: Progress) -> Verified:
    """Sync the state of the trusted block and verify it; return what is held then.

    Continues whatever an earlier run left. Raises EthsyncError; whatever was stored stays.
    """
    network = options.network
    form = Format(FORMAT_VERSION, network.name, network.chain_id, f"0x{network.genesis_hash.hex()}")
    async with _opened(options.datadir, form) as datadir:
        header = stored_pivot(datadir)
        if header is not None:
            _check_same_head(options, header)
            verified = stored_verdict(datadir)
            if verified is not None:
                _show(progress, header)
                _count(progress, verified)
                progress.phase, progress.key_space, progress.verified = Phase.DONE, 1.0, 1.0
                return verified
        check_space(datadir, options.space_floor)
        limiter = trio.CapacityLimiter(options.cores or os.cpu_count() or 1)
        header = await _download(options, datadir, header, limiter, progress)
        progress.phase, progress.limit = Phase.VERIFYING, Limit.CPU
        progress.verification.started = trio.current_time()

        def report(share: float) -> None:
            progress.verified = min(share, 0.999)

        findings = await verify_or_raise(datadir, header.state_root, limiter, report)
        verified = Verified(
            header.number, f"0x{header.hash.hex()}", f"0x{header.state_root.hex()}", findings.accounts, findings.slots,
            findings.contracts, findings.codes, findings.bytes, int(time.time()),
        )  # fmt: skip
        progress.verification.ended = trio.current_time()
        progress.verification.items = findings.accounts + findings.slots
        progress.verification.bytes = findings.bytes
        _count(progress, verified)
        datadir.accounts.put(FACT_VERIFIED, json.dumps(asdict(verified)).encode(), sync=True)
        progress.verified, progress.phase = 1.0, Phase.DONE
        return verified


def stored_pivot(datadir: Datadir) -> Header | None:
    """The block whose state the directory holds, or None before the first one is known."""
    raw = datadir.accounts.get(FACT_PIVOT)
    return decode_header(raw) if raw is not None else None


def stored_verdict(datadir: Datadir) -> Verified | None:
    """The verdict of the last verification that passed."""
    value = datadir.accounts.get(FACT_VERIFIED)
    return Verified(**json.loads(value)) if value is not None else None


def _check_same_head(options: SnapOptions, header: Header) -> None:
    if header.hash != options.head:
        raise DatadirMismatch(
            f"{options.datadir} holds the state of block {header.number} (0x{header.hash.hex()}), not of "
            f"0x{options.head.hex()}",
            hint=f"continue with --head hash:0x{header.hash.hex()}, or use another --datadir",
        )


def _show(progress: Progress, header: Header) -> None:
    progress.block_number = header.number
    progress.block_hash, progress.state_root = f"0x{header.hash.hex()}", f"0x{header.state_root.hex()}"


def _count(progress: Progress, verified: Verified) -> None:
    """Put the verified totals in place of what was counted on the way; what this run did not fetch, it had kept."""
    for stage, total in (
        (progress.accounts, verified.accounts),
        (progress.storage, verified.slots),
        (progress.codes, verified.codes),
    ):
        fetched = stage.items - stage.kept_items
        stage.items, stage.kept_items = total, max(0, total - fetched)
    progress.contracts = verified.contracts


async def _download(
    options: SnapOptions, datadir: Datadir, header: Header | None, limiter: trio.CapacityLimiter, progress: Progress
) -> Header:
    """Everything that needs peers or the writer. Returns once all of it is on the disk."""
    changes = Changes()
    known = (header.number, header.timestamp) if header is not None else (LATER_THAN_ANY_FORK, int(time.time()))
    pool = PeerPool(changes.ring, ChainView(options.network, *known))
    kept = await trio.to_thread.run_sync(read_kept, datadir, trio.from_thread.check_cancelled)
    progress.restarts = int(datadir.accounts.get(FACT_RUNS) or b"0")
    datadir.accounts.put(FACT_RUNS, b"%d" % (progress.restarts + 1))
    async with trio.open_nursery() as services:
        writer: Writer = await services.start(partial(run_writer, datadir, floor=options.space_floor))
        finding = options.finding or named_only(options.datadir, pool.view.fork_id)
        await services.start(run_finding, pool, replace(finding, static=options.peers))
        services.start_soon(run_meter, progress, pool, writer)
        services.start_soon(run_roster, pool, options.datadir)
        if header is None:
            header = await fetch_header(pool, changes, options.head, options.patience)
            datadir.headers.put(header_key(header.number), header.raw)
            datadir.accounts.put(FACT_PIVOT, header.raw, sync=True)
        pool.set_head(header.number, header.timestamp)
        _show(progress, header)
        progress.phase = Phase.DOWNLOADING
        stages = await _open_stages(header.state_root, datadir, writer, limiter, progress, kept)
        download = Download(pool, changes, progress, header.state_root, options.patience)
        await run_download(download, stages)
        writer.close()
        await writer.finished.wait()
        services.cancel_scope.cancel()
    return header


async def _open_stages(
    root: bytes, datadir: Datadir, writer: Writer, limiter: trio.CapacityLimiter, progress: Progress, kept: Kept
) -> tuple[StorageStage, CodeStage, AccountStage]:
    """The three stages, with what an earlier run left."""
    debts = DebtBook(datadir, writer)
    storage = StorageStage(root, datadir, writer, limiter, progress, debts)
    codes = CodeStage(datadir, writer, limiter, progress.codes, debts)
    sweep = Sweep(((marker.origin, marker.end) for marker in kept.markers), kept.depth)

    async def owed(needs: list[PageNeeds]) -> None:
        for need in needs:
            page = debts.open(need.path, len(need.contracts), len(need.codes))
            await storage.owe(page, need.contracts)
            codes.owe(page, need.codes)
            await trio.lowlevel.checkpoint()
        await debts.settle()

    def keeping_up() -> bool:
        return storage.waiting < MOST_CONTRACTS and codes.waiting < MOST_CODES

    accounts = AccountStage(root, sweep, datadir, writer, limiter, progress, owed, keeping_up)
    progress.key_space = sweep.share
    progress.accounts.items = progress.accounts.kept_items = sum(marker.leaves for marker in kept.markers)
    progress.accounts.bytes = sum(marker.size for marker in kept.markers)
    codes.resumed = bool(kept.markers)
    for debt in kept.debts:
        page = debts.reopen(reopened(debt))
        fresh = [(account, root) for account, root in debt.contracts if not storage.resume_big(page, account, root)]
        await storage.owe(page, fresh)
        codes.owe(page, debt.codes)
        await trio.lowlevel.checkpoint()
    await debts.settle()
    await storage.close_whole()
    return storage, codes, accounts
