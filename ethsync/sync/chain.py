"""The chain around the state: heads that somebody vouches for, the headers behind them, and the pivot among these."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from ethsync.errors import LocalProtocolError, StateUnavailable
from ethsync.headers.service import HeaderDownload, open_header_chain, run_headers
from ethsync.heads.head import HeadFeed
from ethsync.heads.source import FixedHead, run_head_source
from ethsync.store.schema import FACT_HEALED, FACT_MIXED, FACT_MOVES, FACT_PIVOT, FACT_VERIFIED, header_key
from ethsync.sync.context import Pivot
from ethsync.sync.heads import fetch_header
from ethsync.sync.patience import Patience
from ethsync.sync.pivots import BEHIND, FIXED, FOLLOWING, PivotChooser, PivotRules, run_pivot
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ethsync.heads.source import HeadSource
    from ethsync.networks import Network
    from ethsync.store.datadir import Datadir
    from ethsync.sync.context import SyncContext
    from ethsync.sync.progress import Progress

ALL, RECENT, NONE = "all", "recent", "none"


@dataclass(frozen=True, slots=True)
class ChainOptions:
    """Who names the head, how far back headers are wanted, and how the pivot keeps up with the head."""

    source: HeadSource
    headers: str = ALL
    """`ALL` back to genesis, `RECENT` as far as the newest ones reach, `NONE` for a fixed head only."""
    rules: PivotRules = BEHIND
    following: PivotRules = FOLLOWING
    """The same once a state is complete and followed."""

    def is_fixed_at(self, header: Header) -> bool:
        """Whether this block is wanted and no other, and no headers besides."""
        fixed = isinstance(self.source, FixedHead) and self.source.block_hash == header.hash
        return fixed and self.headers == NONE


def only_block(block_hash: bytes) -> ChainOptions:
    """This block's state and nothing else."""
    return ChainOptions(FixedHead(block_hash), NONE)


@dataclass(slots=True, eq=False)
class Chain:
    """The pivot, which moves until it is frozen, and the headers that come in meanwhile."""

    pivot: Pivot
    _download: HeaderDownload | None
    _moving: trio.CancelScope
    _patience: float
    _mover: Mover | None = None

    def freeze(self) -> None:
        """Move the pivot no more: its state is complete."""
        self._moving.cancel()

    @property
    def feed(self) -> HeadFeed:
        """The trusted heads. Only where they move."""
        return self._moves().chooser.feed

    @property
    def head_number(self) -> int:
        """Number of the newest trusted head whose header is known. Only where they move."""
        head = self._moves().chooser.head
        return head.number if head is not None else self.pivot.header.number

    def _moves(self) -> Mover:
        if self._mover is None:
            raise LocalProtocolError("a fixed head cannot be followed")
        return self._mover

    async def follow(self) -> None:
        """Leave the pivot, whose state is complete, and what is stored alone from now on; only say what is wanted."""
        mover = self._moves()
        mover.following = True
        async with mover.lock:  # a move may be half done
            mover.chooser.rules = mover.options.following
        mover.chooser.headers.changes.ring()

    async def other_than(self, held: Header) -> Header:
        """The block whose state is wanted, once it is another one. While following."""
        mover = self._moves()
        while True:
            changed, wanted = mover.changed, mover.wanted
            if wanted is not None and wanted.hash != held.hash:
                return wanted
            await changed.wait()

    async def heal_in_place(self, header: Header | None = None) -> None:
        """End following: move the pivot again, at once to this block if one is given."""
        mover = self._moves()
        async with mover.lock:
            mover.following = self.pivot.is_whole = False
            mover.chooser.rules = mover.options.rules
            if header is not None:
                await mover.move(header)

    async def headers_held(self) -> None:
        """Wait until all headers that are wanted are on the disk. Raises StateUnavailable if nobody sends any more."""
        download = self._download
        if download is None:
            return
        patience, held = Patience(self._patience, trio.current_time()), -1
        while not download.finished.is_set():
            changed, now = download.changes.next(), trio.current_time()
            if download.chain.counters.items != held:
                held = download.chain.counters.items
                patience.renew(now)
            patient_until = patience.look(now, excused=download.pool.awaits_peers)
            if now >= patient_until:
                below = download.chain.store.below
                raise StateUnavailable(
                    f"no connected peer sends header {below.number if below else 'of the head'}",
                    hint="everything so far is kept: run the same command again, or with --headers recent",
                )
            with trio.move_on_at(patient_until):
                await changed.wait()


@dataclass(slots=True, eq=False)
class Mover:
    """Whoever is told of a new pivot: moves it, or notes that it is wanted while its state is followed."""

    context: SyncContext
    options: ChainOptions
    chooser: PivotChooser = field(init=False)
    following: bool = False
    wanted: Header | None = None
    changed: trio.Event = field(default_factory=trio.Event)
    pivot: Pivot | None = None
    lock: trio.Lock = field(default_factory=trio.Lock)

    async def moved(self, header: Header) -> None:
        """A block was chosen."""
        async with self.lock:
            if self.following or (self.pivot is not None and self.pivot.is_whole):
                self.wanted = header
                changed, self.changed = self.changed, trio.Event()
                changed.set()
            else:
                await self.move(header)

    async def move(self, header: Header) -> None:
        """Make this block the pivot; what is stored is of another one from now on."""
        await trio.to_thread.run_sync(move_pivot, self.context.datadir, header)
        show_pivot(self.context.progress, header)
        if self.pivot is not None:
            self.pivot.move(header)
            self.context.progress.pivot_moves += 1
            self.context.progress.doubtful = True

    def went_stale(self) -> None:
        """Peers have nothing of the chosen block any more."""
        self.chooser.is_stale = True
        self.context.changes.ring()


@asynccontextmanager
async def open_chain(
    context: SyncContext, network: Network, options: ChainOptions, stored: Header | None, *, complete: bool = False
) -> AsyncIterator[Chain]:
    """Find the pivot and follow the chain for as long as the block lasts. `stored`: the pivot of an earlier run.

    complete: its state is, and it is not to be moved before `Chain.heal_in_place` says so.

    Raises StateUnavailable if nobody sends the header of a fixed head; ConfigError, VerificationFailed, StoreError.
    """
    if isinstance(options.source, FixedHead) and options.headers == NONE:
        yield Chain(await _fixed_pivot(context, options.source, stored), None, trio.CancelScope(), context.patience)
        return
    floor = 0 if options.headers == ALL else None
    proven = await trio.to_thread.run_sync(
        open_header_chain, context.datadir, network, context.progress.headers, floor, limiter=context.limiter
    )
    download = HeaderDownload(proven, context.datadir, context.writer, context.pool, context.changes, context.limiter)
    feed = HeadFeed(trio.current_time())
    moving = trio.CancelScope()
    mover = Mover(context, options, following=complete)
    only = options.source.block_hash if isinstance(options.source, FixedHead) else None
    rules = FIXED if only else options.following if complete else options.rules
    mover.chooser = PivotChooser(feed, download, rules, stored, mover.moved, recent=floor is None, only=only)

    async def move(*, task_status: trio.TaskStatus[Header]) -> None:
        with moving:
            await run_pivot(mover.chooser, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run_head_source, options.source, network, feed)
        await nursery.start(run_headers, download)
        chosen = await nursery.start(move)
        mover.pivot = Pivot(
            stored if complete and stored is not None else chosen, mover.went_stale, lock=mover.lock, is_whole=complete
        )
        show_pivot(context.progress, mover.pivot.header)
        yield Chain(mover.pivot, download, moving, context.patience, mover)
        nursery.cancel_scope.cancel()


async def _fixed_pivot(context: SyncContext, source: FixedHead, stored: Header | None) -> Pivot:
    """The one block that is trusted, from the disk or from a peer."""
    header = stored
    if header is None or header.hash != source.block_hash:
        header = await fetch_header(context.pool, context.changes, source.block_hash, context.patience)
        await trio.to_thread.run_sync(move_pivot, context.datadir, header)
    context.pool.set_head(header.number, header.timestamp)
    show_pivot(context.progress, header)
    return Pivot(header)


def move_pivot(datadir: Datadir, header: Header) -> None:
    """Want the state of this block from now on. Whatever is stored is of another one, unless the roots are equal."""
    datadir.headers.put(header_key(header.number), header.raw)
    before = stored_pivot(datadir)
    batch = datadir.accounts.batch()
    batch.put(FACT_PIVOT, header.raw)
    if before is not None and before.hash != header.hash:
        batch.put(FACT_MOVES, b"%d" % (stored_moves(datadir) + 1))
        batch.delete(FACT_VERIFIED)
        if before.state_root != header.state_root:
            batch.put(FACT_MIXED, b"")
            batch.delete(FACT_HEALED)
    datadir.accounts.commit(batch, sync=True)


def stored_pivot(datadir: Datadir) -> Header | None:
    """The block whose state the directory holds, or None before the first one is known."""
    raw = datadir.accounts.get(FACT_PIVOT)
    return decode_header(raw) if raw is not None else None


def stored_moves(datadir: Datadir) -> int:
    """How often another block became the pivot, in all runs."""
    return int(datadir.accounts.get(FACT_MOVES) or b"0")


def show_pivot(progress: Progress, header: Header) -> None:
    """Put the block into what people see."""
    progress.block_number, progress.block_time = header.number, header.timestamp
    progress.block_hash, progress.state_root = f"0x{header.hash.hex()}", f"0x{header.state_root.hex()}"
