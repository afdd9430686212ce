"""After the download: one state out of what came from several, and nothing owed (docs/architecture.md).

Everything begins from what is on the disk, so a restart is no special case: the account trie is healed until its pages
give the pivot's root, then every debt is paid, and if the pivot has moved in the meantime, all of it is done again for
what has changed since.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING

import trio

from ethsync.errors import DatadirDamaged
from ethsync.state.pages import stored_path
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    DEBT,
    FACT_DEPTH,
    FACT_HEALED,
    FACT_MIXED,
    TOP,
    Debt,
    DebtRecord,
    account_key,
    decode_debt,
)
from ethsync.store.writer import Write
from ethsync.sync.bytecodes import CodeStage
from ethsync.sync.debts import DebtBook, needs_of, open_debts
from ethsync.sync.download import Download, run_download
from ethsync.sync.healing import HealingStage
from ethsync.sync.local_trie import LocalTrie, local_accounts
from ethsync.sync.page_updates import UpdatedPage, page_writes
from ethsync.sync.patience import Patience
from ethsync.sync.progress import Phase
from ethsync.sync.resume import OpenDebt, read_debts, reopened
from ethsync.sync.storage import StorageStage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from ethsync.state.columns import Leaves
    from ethsync.state.pages import PagePath
    from ethsync.store.datadir import Datadir
    from ethsync.sync.context import Pivot, SyncContext
    from ethsync.sync.stage import Stage

DEBTS_AT_ONCE = 1024
"""Account pages whose debts are paid together: what they owe is in memory, some 10,000 contracts at the most."""


class Steps:
    """Numbers for debts: each is higher than all before it, in this run and in earlier ones."""

    def __init__(self, runs: int) -> None:
        """`runs`: how often a sync has begun in this directory, this time included."""
        self._next = runs << 32

    def next(self) -> int:
        """A number that was never used."""
        self._next += 1
        return self._next


async def reconcile(context: SyncContext, pivot: Pivot, steps: Steps) -> None:
    """Heal and pay until what is stored is the whole state of the pivot. Raises StateUnavailable, DatadirDamaged."""
    progress = context.progress
    while True:
        await context.writer.reached(context.datadir.accounts)
        await context.writer.reached(context.datadir.ledger)
        local = await trio.to_thread.run_sync(_local_accounts, context.datadir, limiter=context.limiter)
        root = pivot.root
        if local.root != root:
            progress.phase = Phase.HEALING
            await _heal_accounts(context, pivot, local, steps)
            continue
        del local
        if not await trio.to_thread.run_sync(_all_paid, context.datadir, limiter=context.limiter):
            # No storage before the accounts that name it are safe: a power cut would leave what nobody looks for.
            await context.writer.settle(context.datadir.ledger)
            await _pay(context, pivot)
        elif await declare_whole(context, pivot, root):
            return


async def declare_whole(context: SyncContext, pivot: Pivot, root: bytes) -> bool:
    """What is stored is the whole state with this root: if it is still the pivot's, then the pivot moves no more."""
    async with pivot.lock:
        if pivot.root == root:
            if context.datadir.accounts.get(FACT_MIXED) is not None:
                await context.writer.settle(context.datadir.ledger)  # no page that a power cut takes may go unnoticed
                await context.writer.write(Write(context.datadir.accounts, [], [FACT_MIXED, FACT_HEALED]))
                await context.writer.reached(context.datadir.accounts)
            pivot.is_whole = True
    return pivot.is_whole


def _local_accounts(datadir: Datadir) -> LocalTrie:
    depth = datadir.accounts.get(FACT_DEPTH)
    if depth is None:
        raise DatadirDamaged(f"{datadir.path} does not say how deep its pages are")
    return local_accounts(datadir, depth[0])


def _all_paid(datadir: Datadir) -> bool:
    return next(open_debts(datadir), None) is None


async def _heal_accounts(context: SyncContext, pivot: Pivot, local: LocalTrie, steps: Steps) -> None:
    """Walk the account trie toward the pivot's root; returns early if the pivot moves."""

    def report(share: float) -> None:
        context.progress.healed = min(share, 0.999)

    stage = HealingStage(pivot.root, context.limiter, context.progress.healing, report)

    async def keep(pages: list[UpdatedPage]) -> None:
        puts, deletes = await trio.to_thread.run_sync(
            account_writes, context.datadir, pages, steps.next(), limiter=context.limiter
        )
        puts.append((FACT_HEALED, b"%.6f" % context.progress.healed))
        await context.writer.write(Write(context.datadir.accounts, puts, deletes))

    async def finished() -> None:
        context.progress.healed = 1.0

    stage.heal(b"", local, pivot.root, keep, finished)
    await run_until_moved(context, pivot, stage.root, [stage], stage.move)


async def _pay(context: SyncContext, pivot: Pivot) -> None:
    """Fetch what account pages owe under the pivot's root; returns early if the pivot moves."""
    debts = DebtBook(context.datadir, context.writer)
    root = pivot.root
    storage = StorageStage(root, context.datadir, context.writer, context.limiter, context.progress, debts)
    codes = CodeStage(
        context.datadir, context.writer, context.limiter, context.progress.codes, debts, context.stored_codes
    )
    codes.resumed = True
    context.progress.parked = 0
    after = b""
    while pivot.root == root:
        owed = await trio.to_thread.run_sync(_read_debts, context, after, limiter=context.limiter)
        if not owed:
            break
        after = owed[-1].path.stored
        await take_up(owed, storage, codes, debts, root)
        if pivot.root == root:
            context.progress.doubtful = len(owed) == DEBTS_AT_ONCE

        async def move(new: bytes) -> None:
            codes.move()
            await storage.move(new)

        await run_until_moved(context, pivot, storage.root, [storage, storage.nodes, codes], move)
    await context.writer.settle(context.datadir.ledger)


def _read_debts(context: SyncContext, after: bytes) -> list[OpenDebt]:
    """The next debts behind a stored path."""
    owing = islice(open_debts(context.datadir, after), DEBTS_AT_ONCE)
    return read_debts(context.datadir, owing, context.stored_codes)


async def take_up(
    owed: Sequence[OpenDebt], storage: StorageStage, codes: CodeStage, debts: DebtBook, state_root: bytes
) -> None:
    """Hand debts from the disk to the stages. state_root: under which their accounts were proven; empty if unknown."""
    certain = state_root == storage.root
    for debt in owed:
        page = debts.reopen(reopened(debt))
        for account in debt.dead:
            await storage.big.remove(account)
        fresh = [each for each in debt.contracts if not storage.resume_big(page, *each, state_root)]
        await storage.owe(page, fresh, state_root)
        codes.owe(page, debt.codes, certain=certain)
        await trio.lowlevel.checkpoint()
    await storage.big.begin_records()
    await debts.settle()
    await storage.close_whole()


async def run_until_moved(
    context: SyncContext,
    pivot: Pivot,
    root: bytes,
    stages: Sequence[Stage[Any]],
    move: Callable[[bytes], Awaitable[None]],
) -> None:
    """Run stages, which ask under this state root, until all are done; `move` tells them of each new one.

    Raises StateUnavailable.
    """
    patience = Patience(context.patience, trio.current_time())
    download = Download(context.pool, context.changes, context.progress, root, patience, pivot.on_stale)

    moving = trio.Lock()

    async def follow() -> None:
        known = root
        while True:
            if pivot.root == known:
                await pivot.moved.wait()
            async with moving:
                known = pivot.root
                await move(known)
                download.move(known)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await run_download(download, stages)
        async with moving:  # what stages found until they were moved is still being handed to the writer
            nursery.cancel_scope.cancel()


def account_writes(
    datadir: Datadir, pages: Sequence[UpdatedPage], step: int
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Puts and deletes for account pages that change, each with what it owes then. Runs in a thread."""
    puts, deletes = page_writes(pages, ACCOUNT_PAGE, TOP)
    for page in pages:
        flags = Debt.GONE if page.value is None else _owed_by(page.gone, page.come)
        value = datadir.accounts.get(account_key(DEBT, page.path))
        before = decode_debt(value).flags if value is not None else Debt(0)
        if page.value is not None and Debt.GONE in before:
            flags |= Debt.STORAGE  # what the page has left behind under this path is removed with what it owes now
        if flags:
            # What was owed before may not be paid: it is looked at once more.
            flags |= before & ~Debt.GONE
            puts.append((account_key(DEBT, page.path), DebtRecord(flags, step).encode()))
        if page.is_new:
            gone = _gone_under(datadir, page.path)
            deletes += (account_key(family, path) for path, _ in gone for family in (ACCOUNT_PAGE, TOP))
            puts += ((account_key(DEBT, path), debt) for path, debt in gone)
    return puts, deletes


def _gone_under(datadir: Datadir, path: PagePath) -> list[tuple[PagePath, bytes]]:
    """Longer paths whose pages are gone, with their debts.

    That they are gone is said once more with the page that takes their place: a power cut can leave the later of two
    batches without the earlier one (`ethsync.store.writer`), and pages must not overlap.
    """
    found = takewhile(
        lambda item: item[0].first < path.end,
        ((stored_path(key), value) for key, value in datadir.accounts.scan(DEBT, start=path.stored[:-1])),
    )
    return [
        (under, value)
        for under, value in found
        if path.first <= under.first and under.depth > path.depth and Debt.GONE in decode_debt(value).flags
    ]


def _owed_by(gone: Leaves, come: Leaves) -> Debt:
    """What accounts owe that were changed from some leaves to others."""
    before, after = _named(gone), _named(come)
    flags = Debt(0)
    if before[0] != after[0]:
        flags |= Debt.STORAGE
    if after[1] - before[1]:
        flags |= Debt.CODES
    return flags


def _named(leaves: Leaves) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Storage roots by account, and code hashes."""
    needs = needs_of(leaves)
    keys, roots = leaves.keys[needs.storage_rows], needs.storage_roots
    return (
        {key.tobytes(): root.tobytes() for key, root in zip(keys, roots, strict=True)},
        {code.tobytes() for code in needs.code_hashes},
    )
