"""Which block's state is wanted: chosen some way behind a trusted head, and moved before peers forget it.

A pivot is always an ancestor of a head that somebody trusted vouches for, reached by parent hashes: the download of
headers proves the way. Peers serve the state of the newest 128 blocks, so the pivot moves when it is nearly that old,
or when those who served it answer that they have nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync.headers.chain import recent_floor
from ethsync.sync.heads import fetch_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ethsync.headers.service import HeaderDownload
    from ethsync.heads.head import HeadFeed, TrustedHead
    from ethsync.wire.headers import Header

DISTANCE = 64
"""Blocks between the pivot and the head: geth's fsMinFullBlocks (eth/downloader/downloader.go). Reorganisations end
before that, and half of the 128 blocks that peers serve is left."""

LONGEST_WAY = 2 * DISTANCE - 8
"""Blocks that the head may be before the pivot until it moves (geth eth/downloader/beaconsync.go)."""

HEADER_PATIENCE = 20.0
"""Seconds to ask for the header of a head before it is looked whether there is a newer one."""


@dataclass(frozen=True, slots=True)
class PivotRules:
    """How far behind the head a pivot is chosen, and how far before it the head may be until it moves, in blocks."""

    distance: int = DISTANCE
    longest_way: int = LONGEST_WAY


BEHIND = PivotRules()
"""For a head that moves."""

FOLLOWING = PivotRules(2, 2)
"""For a state that is kept at the head, block by block. Two behind: peers hear of a head at the same time as we do and
take a second to execute it, and a reorganisation of mainnet is one block deep as a rule. A deeper one is no harm."""

FIXED = PivotRules(0, 1 << 62)
"""For a head that is followed no further: it is the pivot itself."""


@dataclass(slots=True, eq=False)
class PivotChooser:
    """What choosing needs. `pivot`: the block chosen last, perhaps in an earlier run.

    moved: called with each new pivot; writes it down and tells who asks for state. is_stale: set by whoever finds that
    peers who served the pivot's state have nothing of it any more.
    """

    feed: HeadFeed
    headers: HeaderDownload
    rules: PivotRules
    pivot: Header | None
    moved: Callable[[Header], Awaitable[None]]
    is_stale: bool = False
    recent: bool = False
    """Whether only the newest headers are wanted."""
    only: bytes | None = None
    """The one block that may be the pivot, if there is such a one."""
    head: Header | None = None
    """The newest trusted head whose header is known."""


async def run_pivot(chooser: PivotChooser, *, task_status: trio.TaskStatus[Header] = trio.TASK_STATUS_IGNORED) -> None:
    """Follow trusted heads, and report the first pivot; then move it whenever it must be, until cancelled.

    Raises VerificationFailed if a head breaks a rule of the network.
    """
    changes = chooser.headers.changes
    started = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_follow_heads, chooser)
        while True:
            changed = changes.next()
            candidate = next_pivot(chooser)
            if candidate is not None:
                chooser.is_stale = False
                chooser.pivot = candidate
                await chooser.moved(candidate)
                continue  # while that was written down, more may have become known
            if not started and chooser.pivot is not None and _is_settled(chooser):
                started = True
                task_status.started(chooser.pivot)
            await changed.wait()


def _is_settled(chooser: PivotChooser) -> bool:
    """Whether the headers from the newest head to the pivot are proven, so that it is one chosen in their light."""
    pivot = chooser.pivot
    if pivot is None or not _is_proven(chooser) or not chooser.headers.chain.store.holds(pivot.number):
        return False
    return chooser.only in (None, pivot.hash)


def _is_proven(chooser: PivotChooser) -> bool:
    """Whether the newest head is one of the proven headers: a source that went back names one that is not the last."""
    head, store = chooser.head, chooser.headers.chain.store
    return head is not None and store.holds(head.number) and store.hash_of(head.number) == head.hash


async def _follow_heads(chooser: PivotChooser) -> None:
    """Hand each new head to the download of headers, which proves the way to it."""
    download = chooser.headers
    head: TrustedHead | None = None
    followed = b""
    while True:
        head = await chooser.feed.newer_than(head)
        while head.block_hash != followed:
            header = chooser.feed.known_header(head.block_hash) or await _fetch(download, head.block_hash)
            if header is not None:
                followed, chooser.head = header.hash, header
                if chooser.recent and download.chain.store.top is None:
                    download.chain.floor = recent_floor(header.number)
                download.pool.set_head(header.number, header.timestamp)
                download.chain.follow(header)
                download.changes.ring()
            head = chooser.feed.head or head


async def _fetch(download: HeaderDownload, block_hash: bytes) -> Header | None:
    """The header from a peer; None if nobody sends it in time: there may be a newer head then."""
    with trio.move_on_after(HEADER_PATIENCE):
        return await fetch_header(download.pool, download.changes, block_hash, float("inf"))
    return None


def next_pivot(chooser: PivotChooser) -> Header | None:
    """The block that the pivot must move to, None while it may stay or nothing better is proven yet."""
    store, rules, pivot = chooser.headers.chain.store, chooser.rules, chooser.pivot
    if store.top is None:
        return None
    number = max(0, store.top.number - rules.distance)
    candidate = store.header(number) if store.holds(number) else None
    if candidate is None or (pivot is not None and candidate.hash == pivot.hash):
        return None
    if pivot is None or _is_left_behind(chooser, pivot):
        return candidate
    # It never moves to an older block: while headers of another branch come in, the proven chain ends sooner.
    wanted = chooser.is_stale or store.top.number - pivot.number > rules.longest_way
    return candidate if wanted and candidate.number > pivot.number else None


def _is_left_behind(chooser: PivotChooser, pivot: Header) -> bool:
    """Whether the chain was reorganised below the pivot, so that it is no ancestor of the newest head."""
    store = chooser.headers.chain.store
    if store.top is not None and pivot.number > store.top.number:
        return _is_proven(chooser)  # the newest head is on another branch, which is shorter
    return store.holds(pivot.number) and store.hash_of(pivot.number) not in (None, pivot.hash)
