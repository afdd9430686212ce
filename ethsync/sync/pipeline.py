"""From a pivot to the whole state on disk: the download, then whatever makes one state of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.store.schema import FACT_MIXED
from ethsync.sync.accounts import AccountStage
from ethsync.sync.bytecodes import CodeStage
from ethsync.sync.debts import DebtBook, PageNeeds
from ethsync.sync.progress import Phase
from ethsync.sync.reconcile import Steps, declare_whole, reconcile, run_until_moved, take_up
from ethsync.sync.storage import StorageStage
from ethsync.sync.sweep import Sweep

if TYPE_CHECKING:
    from ethsync.sync.context import Pivot, SyncContext
    from ethsync.sync.resume import Kept

MOST_CONTRACTS = 100_000
"""Contracts waiting for their storage before accounts wait for them: some 50 MB of queue."""

MOST_CODES = 30_000
"""Codes waiting, likewise."""


async def download_state(context: SyncContext, pivot: Pivot, kept: Kept, runs: int) -> None:
    """Bring the whole state of the pivot to the disk, wherever an earlier run left it. `runs`: how many there were.

    The pivot may move meanwhile. Raises StateUnavailable when nobody serves its state; what is stored stays.
    """
    context.progress.phase = Phase.DOWNLOADING
    storage, codes, accounts = await _open_stages(context, pivot, kept)

    async def move(root: bytes) -> None:
        accounts.root = root
        codes.move()
        await storage.move(root)

    await run_until_moved(context, pivot, accounts.root, (storage, storage.nodes, codes, accounts), move)
    mixed = context.datadir.accounts.get(FACT_MIXED) is not None
    if mixed or not await declare_whole(context, pivot, accounts.root):
        await context.writer.settle(context.datadir.ledger)
        await reconcile(context, pivot, Steps(runs))


async def _open_stages(context: SyncContext, pivot: Pivot, kept: Kept) -> tuple[StorageStage, CodeStage, AccountStage]:
    """The three stages, with what an earlier run left."""
    datadir, writer, progress = context.datadir, context.writer, context.progress
    debts = DebtBook(datadir, writer)
    storage = StorageStage(pivot.root, datadir, writer, context.limiter, progress, debts)
    codes = CodeStage(datadir, writer, context.limiter, progress.codes, debts, context.stored_codes)
    sweep = Sweep(((marker.origin, marker.end) for marker in kept.markers), kept.depth)

    async def owed(needs: list[PageNeeds], state_root: bytes) -> None:
        await codes.look_up(digest for need in needs for digest in need.codes)
        for need in needs:
            page = debts.open(need.path, len(need.contracts), len(need.codes))
            await storage.owe(page, need.contracts, state_root)
            codes.owe(page, need.codes, certain=state_root == pivot.root)
            await trio.lowlevel.checkpoint()
        await debts.settle()

    def keeping_up() -> bool:
        return storage.waiting < MOST_CONTRACTS and codes.waiting < MOST_CODES

    accounts = AccountStage(pivot.root, sweep, datadir, writer, context.limiter, progress, owed, keeping_up)
    progress.key_space = sweep.share
    progress.accounts.items = progress.accounts.kept_items = sum(marker.leaves for marker in kept.markers)
    progress.accounts.bytes = sum(marker.size for marker in kept.markers)
    codes.resumed = bool(kept.markers)
    mixed = progress.doubtful = datadir.accounts.get(FACT_MIXED) is not None
    await take_up(kept.debts, storage, codes, debts, b"" if mixed else pivot.root)
    return storage, codes, accounts
