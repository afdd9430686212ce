"""Following: after the end of a sync, the state of each new block, one step after the other.

What is held is always the complete, proven state of one block: a step is staged in memory and written as one batch. If
the chain is reorganised, the next step leads to another branch; it begins at whatever is held. Where a step does not
fit into memory, because we were away for too long, the state is healed in place as after a download, and verified
again; until that is done, and only then, the directory is not of one block, and says so.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from ethsync.errors import DatadirDamaged, StateUnavailable
from ethsync.store.datadir import LAYERS
from ethsync.store.folding import fold_all, fold_some
from ethsync.store.patches import Kind, Patch, fill, last_step
from ethsync.store.schema import FACT_DEPTH, FACT_MIXED, FACT_PIVOT, FACT_RUNS, FACT_VERIFIED
from ethsync.sync.download import Download, run_download
from ethsync.sync.local_trie import LocalTrie, local_accounts
from ethsync.sync.patience import Patience
from ethsync.sync.progress import Followed
from ethsync.sync.reconcile import Steps, reconcile
from ethsync.sync.step import Step, StepTooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ethsync.store.datadir import Datadir
    from ethsync.sync.chain import Chain
    from ethsync.sync.context import SyncContext
    from ethsync.sync.step import Totals
    from ethsync.wire.headers import Header


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """A step that is on the disk: the account trie then, what it changed, and what is to be said of it."""

    accounts: LocalTrie
    patches: list[Patch]
    followed: Followed


async def run_following(
    context: SyncContext,
    chain: Chain,
    verify: Callable[[Header], Awaitable[None]],
    holds: Callable[[Header], None],
) -> None:
    """Follow the chain until cancelled, from the state of its pivot on, which is complete.

    verify: check what is stored and write down that it holds. holds: told of each block whose state is held.

    Raises VerificationFailed, StoreError.
    """
    datadir = context.datadir
    while True:
        await chain.follow()
        if datadir.accounts.get(FACT_MIXED) is not None:  # the pivot moved in the last moment
            await _heal_in_place(context, chain)
            continue
        if datadir.accounts.get(FACT_VERIFIED) is None:
            await context.writer.settle(datadir.ledger)
            await verify(chain.pivot.header)
        too_far = await _follow(context, chain, holds)
        log.warning("the way to block %d is too long for one step: it is healed in place", too_far.number)
        await trio.to_thread.run_sync(fold_all, datadir, trio.from_thread.check_cancelled)
        await chain.heal_in_place(too_far)
        await _heal_in_place(context, chain)


async def _heal_in_place(context: SyncContext, chain: Chain) -> None:
    """Heal what is stored to the state of the pivot, which may move meanwhile."""
    datadir = context.datadir
    runs = int(datadir.accounts.get(FACT_RUNS) or b"0") + 1  # debts of one page are told apart by it
    datadir.accounts.put(FACT_RUNS, b"%d" % runs, sync=True)
    await chain.heal_in_place()
    await reconcile(context, chain.pivot, Steps(runs))


async def _follow(context: SyncContext, chain: Chain, holds: Callable[[Header], None]) -> Header:
    """Take one step after the other. Returns the block to which the way is too long for a step."""
    accounts = await trio.to_thread.run_sync(_local_accounts, context.datadir, limiter=context.limiter)
    progress = context.progress
    held, too_far = chain.pivot.header, None
    progress.followed = Followed(held.number, chain.head_number)
    chain.feed.held = held
    holds(held)
    while too_far is None:
        wanted = await chain.other_than(held)
        try:
            taken = await _take_step(context, chain, wanted, accounts)
        except* StepTooLarge:
            too_far = wanted
        except* StateUnavailable as error:
            progress.unserved = str(_first(error))
            log.warning("block %d stays held, the next is tried again: %s", held.number, progress.unserved)
        else:
            if taken is not None:
                accounts, held, progress.followed, progress.unserved = taken.accounts, wanted, taken.followed, ""
                progress.steps += 1
                chain.feed.held = held
                holds(held)  # before anything waits: whoever interrupts us is told where the state stands
                await _fold_some(context, taken.patches)
    return too_far


def _first(error: BaseExceptionGroup[StateUnavailable]) -> StateUnavailable:
    """The first error of a group of groups."""
    found = error.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


async def _fold_some(context: SyncContext, patches: list[Patch]) -> None:
    """Fold what is due after a step; it can be interrupted."""
    fold = partial(fold_some, context.datadir, patches, trio.from_thread.check_cancelled)
    context.writer.statistics.bytes += await trio.to_thread.run_sync(fold, limiter=context.limiter)


def _local_accounts(datadir: Datadir) -> LocalTrie:
    depth = datadir.accounts.get(FACT_DEPTH)
    if depth is None:
        raise DatadirDamaged(f"{datadir.path} does not say how deep its pages are")
    return local_accounts(datadir, depth[0])


async def _take_step(context: SyncContext, chain: Chain, header: Header, accounts: LocalTrie) -> Taken | None:
    """Fetch, prove and write what differs between the state held and that of a block.

    None if its state is served no more and another block is wanted. Raises StateUnavailable, StepTooLarge in groups.
    """
    begun = trio.current_time()
    step = Step(context, header, accounts)
    if header.state_root != accounts.root and not await _fetch(context, chain, header, step):
        return None
    new = await trio.to_thread.run_sync(step.prove, limiter=context.limiter)
    patches = await trio.to_thread.run_sync(step.patches, limiter=context.limiter)
    await context.writer.reached(context.datadir.codes)
    totals = step.totals
    write = partial(write_step, context.datadir, header, patches, totals)
    size = await trio.to_thread.run_sync(write, limiter=context.limiter)
    context.writer.statistics.bytes += size
    seconds = trio.current_time() - begun
    counts = totals.touched_accounts, totals.touched_slots, totals.codes
    return Taken(new, patches, Followed(header.number, chain.head_number, *counts, size, seconds))


async def _fetch(context: SyncContext, chain: Chain, header: Header, step: Step) -> bool:
    """Fetch what differs; False if peers have nothing of it any more and another block is wanted."""
    stale = trio.Event()

    def went_stale() -> None:
        stale.set()
        chain.pivot.on_stale()

    async def give_up() -> None:
        await stale.wait()
        await chain.other_than(header)
        nursery.cancel_scope.cancel()

    fetched = False
    patience = Patience(context.patience, trio.current_time())
    download = Download(context.pool, context.changes, context.progress, header.state_root, patience, went_stale)
    download.move(header.state_root)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await run_download(download, (step.nodes, step.codes))
        fetched = True
        nursery.cancel_scope.cancel()
    return fetched


def write_step(datadir: Datadir, header: Header, patches: list[Patch], totals: Totals) -> int:
    """Make the state of this block the one that is held. Runs in a thread. Returns the bytes handed to the database.

    Codes are forced to the disk before: the step relies on them.
    """
    datadir.codes.commit(datadir.codes.batch(), sync=True)  # those of a step that was given up may be among them
    layer = LAYERS["accounts"]
    facts = [
        Patch(layer, FACT_PIVOT, Kind.VALUE, header.raw),
        Patch(layer, FACT_VERIFIED, Kind.VALUE, _verdict(datadir, header, totals)),
    ]
    batch = datadir.patches.batch()
    size = fill(batch, last_step(datadir.patches) + 1, [*patches, *facts])
    datadir.patches.commit(batch, sync=True)
    datadir.lay_over()
    return size


def _verdict(datadir: Datadir, header: Header, totals: Totals) -> bytes:
    """What was verified before, and what the step has proven since."""
    before = json.loads(datadir.accounts.get(FACT_VERIFIED) or b"{}")
    more = {"accounts": totals.accounts, "slots": totals.slots, "contracts": totals.contracts, "codes": totals.codes}
    after = before | {name: before.get(name, 0) + count for name, count in more.items()}
    after |= {
        "block_number": header.number,
        "block_hash": f"0x{header.hash.hex()}",
        "state_root": f"0x{header.state_root.hex()}",
        "at": int(time.time()),
    }
    return json.dumps(after).encode()
