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

from ethsync.peers.changes import Changes
from ethsync.peers.finding import named_only, run_finding
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView
from ethsync.peers.pool import PeerPool
from ethsync.peers.roster import run_roster
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.folding import fold_all
from ethsync.store.schema import (
    FACT_MIXED,
    FACT_RUNS,
    FACT_VERIFIED,
    Format,
)
from ethsync.store.writer import Writer, check_space, run_writer
from ethsync.sync.chain import ChainOptions, open_chain, show_pivot, stored_moves, stored_pivot
from ethsync.sync.context import SyncContext
from ethsync.sync.fingerprints import Fingerprints
from ethsync.sync.follow import run_following
from ethsync.sync.leftovers import remove_unrecorded
from ethsync.sync.meter import read_meters, run_meter
from ethsync.sync.patience import PATIENCE
from ethsync.sync.pipeline import download_state
from ethsync.sync.progress import Limit, Phase, Progress
from ethsync.sync.resume import read_kept
from ethsync.sync.summary import open_summary
from ethsync.sync.verifier import verify_or_raise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from ethsync.networks import Network
    from ethsync.peers.finding import Finding
    from ethsync.sync.chain import Chain
    from ethsync.wire.enode import Enode
    from ethsync.wire.headers import Header

SPACE_FLOOR = 512 << 20
"""Bytes of free disk below which a sync stops cleanly, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class SnapOptions:
    """What to sync, from whom, into where."""

    network: Network
    peers: Sequence[Enode]
    chain: ChainOptions
    datadir: Path
    space_floor: int = SPACE_FLOOR
    patience: float = PATIENCE
    finding: Finding | None = None
    """How to be connected with more peers than `peers`; None for not at all."""
    follow: bool = False
    """Stay on the head after the end, until cancelled."""
    holds: Callable[[Verified], None] = lambda verified: None
    """Told of each block whose state is held while following."""
    cores: int = 0
    """Threads for proving; 0 for as many as there are processors."""
    eip7542: bool = False
    """Also offer EIP-7542 under its own name, on private networks."""


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


async def _follow(options: SnapOptions, context: SyncContext, chain: Chain) -> None:
    """Stay on the head until cancelled."""

    async def verify(header: Header) -> None:
        await _verify(context.datadir, header, context.limiter, context.progress)

    def holds(header: Header) -> None:
        options.holds(_done(context.datadir, header, context.progress))

    await run_following(context, chain, verify, holds)


@asynccontextmanager
async def _opened(path: Path, form: Format, *, followed: bool) -> AsyncIterator[Datadir]:
    """Open the data directory in a thread: LevelDB may have a log to replay."""
    manager = open_datadir(path, form, followed=followed)
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
    form = Format.of(network.name, network.chain_id, network.genesis_hash)
    async with _opened(options.datadir, form, followed=options.follow) as datadir:
        header = stored_pivot(datadir)
        if header is not None and options.chain.is_fixed_at(header) and stored_verdict(datadir) is not None:
            return _done(datadir, header, progress)
        check_space(datadir, options.space_floor)
        limiter = trio.CapacityLimiter(options.cores or os.cpu_count() or 1)
        async with open_summary(progress, options.datadir, stored_moves(datadir)):
            header = await _download(options, datadir, header, limiter, progress)
            if stored_verdict(datadir) is None:  # a pivot that moved has taken it away
                if progress.restarts:
                    await trio.to_thread.run_sync(remove_unrecorded, datadir, limiter=limiter)
                await _verify(datadir, header, limiter, progress)
        return _done(datadir, header, progress)


async def _verify(datadir: Datadir, header: Header, limiter: trio.CapacityLimiter, progress: Progress) -> None:
    """Recompute everything from the disk, and write the verdict down. Raises VerificationFailed."""
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
    datadir.accounts.put(FACT_VERIFIED, json.dumps(asdict(verified)).encode(), sync=True)


def _done(datadir: Datadir, header: Header, progress: Progress) -> Verified:
    """Show the verdict that is stored, and return it."""
    verified = stored_verdict(datadir)
    if verified is None:
        raise AssertionError("a state is done only once it is verified")
    show_pivot(progress, header)
    progress.held_number = header.number
    _count(progress, verified)
    progress.phase, progress.key_space, progress.verified = Phase.DONE, 1.0, 1.0
    return verified


def is_complete(datadir: Datadir) -> bool:
    """Whether the whole state of the stored pivot is there and verified."""
    return stored_verdict(datadir) is not None and datadir.accounts.get(FACT_MIXED) is None


def stored_verdict(datadir: Datadir) -> Verified | None:
    """The verdict of the last verification that passed."""
    value = datadir.accounts.get(FACT_VERIFIED)
    return Verified(**json.loads(value)) if value is not None else None


def _count(progress: Progress, verified: Verified) -> None:
    """Put the verified totals in place of what was counted on the way.

    What a run that went on from another did not fetch as ranges, it had kept, or healed.
    """
    went_on = progress.accounts.kept_items > 0
    for stage, total in (
        (progress.accounts, verified.accounts),
        (progress.storage, verified.slots),
        (progress.codes, verified.codes),
    ):
        fetched = stage.items - stage.kept_items
        stage.items, stage.kept_items = total, max(0, total - fetched) * went_on
        stage.owed = 0
    progress.contracts = verified.contracts


async def _download(
    options: SnapOptions, datadir: Datadir, header: Header | None, limiter: trio.CapacityLimiter, progress: Progress
) -> Header:
    """Everything that needs peers or the writer. Returns once all of it is on the disk."""
    changes = Changes()
    complete = options.follow and header is not None and is_complete(datadir)
    if not complete:
        # What follows changes pages themselves.
        await trio.to_thread.run_sync(fold_all, datadir, trio.from_thread.check_cancelled)
    known = (header.number, header.timestamp) if header is not None else (LATER_THAN_ANY_FORK, int(time.time()))
    pool = PeerPool(changes.ring, ChainView(options.network, *known, eip7542=options.eip7542))
    stored_codes = Fingerprints()
    kept = await trio.to_thread.run_sync(read_kept, datadir, stored_codes, trio.from_thread.check_cancelled)
    progress.restarts = int(datadir.accounts.get(FACT_RUNS) or b"0")
    datadir.accounts.put(FACT_RUNS, b"%d" % (progress.restarts + 1), sync=True)
    async with trio.open_nursery() as services:
        writer: Writer = await services.start(partial(run_writer, datadir, floor=options.space_floor))
        finding = options.finding or named_only(options.datadir, pool.view.fork_id)
        await services.start(run_finding, pool, replace(finding, static=options.peers))
        services.start_soon(run_meter, progress, pool, writer)
        services.start_soon(run_roster, pool, options.datadir)
        context = SyncContext(datadir, writer, pool, changes, limiter, progress, options.patience, stored_codes)
        async with open_chain(context, options.network, options.chain, header, complete=complete) as chain:
            if not complete:
                # The first line names the peers that there are.
                read_meters(progress, pool, writer, trio.current_time())
                await download_state(context, chain.pivot, kept, progress.restarts + 1)
            if options.follow:
                await _follow(options, context, chain)
            chain.freeze()
            await chain.headers_held()
        writer.close()
        await writer.finished.wait()
        read_meters(progress, pool, writer, trio.current_time())
        services.cancel_scope.cancel()
    return chain.pivot.header
