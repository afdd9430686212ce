"""The way down from one proven header to a floor, in pages that many peers bring at once. Pure bookkeeping.

The highest header that is missing is asked for by its hash, which its child names: what comes is proven or a lie. Pages
further down are asked for by number at the same time. They become islands: held together, written with their markers,
and not part of the chain until the way down reaches them and their highest header has the hash that is due. An island
that has not is given up, and whoever brought it is named.

Only pages well below the head are asked for by number: near it honest nodes may differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ethsync.headers.segment import HeaderQuery, Segment, are_family, check_family
from ethsync.peers.track import Outcome
from ethsync.store.header_pages import PAGE, HeaderMarker, page_first
from ethsync.store.headers import Link

if TYPE_CHECKING:
    from ethsync.wire.eth import GetBlockHeaders

SETTLED = 1024
"""Blocks below the head from which on nodes of one chain do not differ: finality comes after 64 to 96 blocks (two to
three epochs), and this is ten times as many."""

LIVE = 32
"""Pages under way at the most, each with up to 1,023 headers in hand: 20 MB."""

STALLED = 2.0
"""Seconds after which somebody else is asked as well for what everything waits for: the shortest timeout there is
(`ethsync.peers.rtt`), while the first one for an unknown peer is 15."""

MOST_AT_ONCE = 4
"""Peers asked for the same then."""

WINDOW = 1024 * PAGE
"""Headers below the proven ones that may become islands: a million, 600 MB that a liar could have us write in vain."""


@dataclass(slots=True, eq=False)
class Slice:
    """A page, or the part of one at an end of the way, on its way: headers from `low` to `high`.

    Parts come from the top down; `needed` is the highest number still to come. `peers` brought the parts, by number.
    """

    low: int
    high: int
    needed: int = field(init=False)
    parts: list[Segment] = field(default_factory=list)
    peers: list[int] = field(default_factory=list)
    jobs: list[HeaderJob] = field(default_factory=list)
    """Requests for what is needed next; those for what has come meanwhile are forgotten."""
    anchored: bool = False
    """Whether the parts are proven, as is the hash of what is needed next."""
    objectors: list[int] = field(default_factory=list)
    """Peers that contradicted the parts in hand. It waits until its highest hash is proven, which shows who lied."""

    def __post_init__(self) -> None:
        self.needed = self.high

    @property
    def is_complete(self) -> bool:
        """Whether every header is in hand."""
        return self.needed < self.low

    @property
    def is_page(self) -> bool:
        """Whether this is a whole page."""
        return self.low % PAGE == 0 and self.high == self.low + PAGE - 1

    def add(self, segment: Segment, peer: int) -> None:
        """Take the headers that are needed next."""
        self.parts.append(segment)
        self.peers.append(peer)
        self.needed = segment.first - 1
        self.jobs.clear()

    def clear(self) -> None:
        """Forget all parts."""
        self.parts, self.peers, self.needed = [], [], self.high

    def following(self, above: Link) -> Link:
        """What is due for the highest number still to come; `above` is what is due for `high`."""
        if not self.parts:
            return above
        return Link(self.needed, self.parts[-1].parent, self.parts[-1].bottom)


@dataclass(frozen=True, slots=True, eq=False)
class HeaderJob:
    """One request for headers of a slice, made of a peer (by number) at a time in seconds."""

    descent: Descent
    slice: Slice
    query: HeaderQuery
    peer: int
    since: float

    def make(self, request_id: int) -> GetBlockHeaders:
        """The request."""
        return self.query.make(request_id)


@dataclass(frozen=True, slots=True)
class Refuted:
    """Headers that are not on the chain, with the highest of their numbers, and the peers that said they were.

    `pages`: first numbers of pages that were written and must be removed.
    """

    number: int
    peers: frozenset[int]
    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FinishedPage:
    """A page to be written, from its parts in ascending order."""

    marker: HeaderMarker
    parts: list[Segment]


class Descent:
    """Prove the headers from `front` down to `floor`.

    What is to be done about it collects in `pages` (to write), `edges` (proven headers that are no page), `joined`
    (pages that were stored, and are proven now) and `refuted`; whoever drives this empties them.
    """

    def __init__(self, front: Link, floor: int, head: int, islands: dict[int, HeaderMarker]) -> None:
        """`head` is the number of the trusted header; `islands`, shared with the store, pages by their first number."""
        self.front = front
        self.floor = floor
        self.pages: list[FinishedPage] = []
        self.edges: list[Segment] = []
        self.joined: list[HeaderMarker] = []
        self.refuted: list[Refuted] = []
        self._limit = front.number
        self._settled = head - SETTLED
        self._islands = islands
        self._live: dict[int, Slice] = {}
        self._brought: dict[int, tuple[int, ...]] = {}
        self._reopened: list[int] = []
        self._next = page_first(front.number)
        self.advance()

    @property
    def done(self) -> bool:
        """Whether everything is proven."""
        return self.front.number < self.floor

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return sum(len(each.jobs) for each in self._live.values())

    def lower(self, floor: int) -> None:
        """Go further down than was meant at first, once everything above is proven."""
        self.floor, self._limit = floor, self.front.number
        self._next = page_first(self._limit)
        self.advance()

    # Asking.

    def ready(self) -> int:
        """How many requests could be made now."""
        return len(self._open())

    def take(self, limit: int, peer: int, now: float) -> HeaderJob:
        """The next request, for `limit` headers at the most; only while `ready()` > 0."""
        return self._ask(self._open()[0], limit, peer, now)

    def stalled(self) -> tuple[float, frozenset[int]]:
        """When another peer should be asked for what is needed first, and who has been; infinity: no one."""
        front = self._live.get(page_first(self.front.number)) if not self.done else None
        if front is None or not 0 < len(front.jobs) < MOST_AT_ONCE:
            return float("inf"), frozenset()
        return max(job.since for job in front.jobs) + STALLED, frozenset(job.peer for job in front.jobs)

    def repeat(self, limit: int, peer: int, now: float) -> HeaderJob:
        """Ask one more peer for what is needed first; see `stalled`."""
        return self._ask(self._live[page_first(self.front.number)], limit, peer, now)

    def _ask(self, chosen: Slice, limit: int, peer: int, now: float) -> HeaderJob:
        link = chosen.following(self.front)
        proven = link.hash if chosen.anchored else None
        query = HeaderQuery(chosen.needed, min(limit, chosen.needed - chosen.low + 1), proven)
        job = HeaderJob(self, chosen, query, peer, now)
        chosen.jobs.append(job)
        return job

    def give_back(self, job: HeaderJob) -> None:
        """Nothing came of a request."""
        if job in job.slice.jobs:
            job.slice.jobs.remove(job)

    def _open(self) -> list[Slice]:
        """Slices that nobody is asked for, highest first; those by number only where nodes do not differ."""
        self._refill()
        found = [each for each in self._live.values() if not each.jobs and not each.is_complete]
        allowed = [each for each in found if each.anchored or (not each.objectors and each.high <= self._settled)]
        return sorted(allowed, key=lambda each: -each.high)

    def _refill(self) -> None:
        """Begin with more pages, highest first, while there is room."""
        lowest = max(page_first(self.floor), self.front.number - WINDOW)
        while len(self._live) < LIVE:
            if self._reopened:
                page = -heappop(self._reopened)
            elif self._next >= lowest and not self.done:
                page, self._next = self._next, self._next - PAGE
            else:
                return
            if page <= self.front.number and page not in self._live:
                begun = self._slice(page)
                if not (begun.is_page and page in self._islands):
                    self._live[page] = begun

    def _slice(self, page: int) -> Slice:
        return Slice(max(page, self.floor), min(page + PAGE - 1, self._limit))

    # Answers.

    def accept(self, job: HeaderJob, segment: Segment) -> Outcome:
        """Use headers that a peer sent for a job, late ones too: SERVED, or DUPLICATE if they are of no use.

        Who sent headers of another chain is named in `refuted` when that is known. Raises VerificationFailed.
        """
        self.give_back(job)
        each = job.slice
        if self._live.get(page_first(each.low)) is not each or segment.last != each.needed:
            return Outcome.DUPLICATE
        due = each.following(self.front)
        if each.anchored:
            if segment.hash != due.hash:  # asked for by number, before the hash was known
                self.refuted.append(Refuted(segment.last, frozenset({job.peer}), ()))
                return Outcome.DUPLICATE
            check_family(due, segment.top)
        elif each.parts and not (segment.hash == due.hash and are_family(due, segment.top)):
            each.objectors.append(job.peer)
            return Outcome.DUPLICATE
        each.add(segment, job.peer)
        if each.is_complete and each.is_page:
            self._finish(each)
        self.advance()
        return Outcome.SERVED

    def _finish(self, each: Slice) -> None:
        """A page is complete: it becomes an island, if only for a moment."""
        parts = each.parts[::-1]
        marker = HeaderMarker(each.low, parts[-1].hash, parts[0].parent, parts[0].bottom, parts[-1].top)
        del self._live[each.low]
        self._islands[each.low] = marker
        self._brought[each.low] = tuple(each.peers)
        self.pages.append(FinishedPage(marker, parts))

    # Proving.

    def advance(self) -> None:
        """Prove what hangs on the front. Raises VerificationFailed."""
        while not self.done:
            page = page_first(self.front.number)
            if page in self._islands and self._slice(page).is_page:
                if not self._join(page):
                    continue
            elif not self._descend_slice(page):
                return

    def _join(self, page: int) -> bool:
        """Prove the island at the front, or give it up."""
        marker = self._islands[page]
        if marker.hash != self.front.hash:
            self._refute(page)
            return False
        check_family(self.front, marker.top)
        del self._islands[page]
        self._brought.pop(page, None)
        self.joined.append(marker)
        self.front = Link(page - 1, marker.parent, marker.bottom)
        return True

    def _descend_slice(self, page: int) -> bool:
        """Prove what is in hand of the slice at the front; whether it was all of it."""
        each = self._live.setdefault(page, self._slice(page))
        if not each.anchored:
            each.anchored = True
            wrong = each.peers if each.parts and each.parts[0].hash != self.front.hash else each.objectors
            if wrong:
                self.refuted.append(Refuted(each.high, frozenset(wrong), ()))
            if wrong is each.peers:
                each.clear()
            elif each.parts:
                check_family(self.front, each.parts[0].top)
        if not each.is_complete:
            return False
        del self._live[page]
        self.edges += each.parts
        self.front = each.following(self.front)
        return True

    def _refute(self, page: int) -> None:
        """Give up an island, and all others of those who brought it: what they say is not worth waiting for."""
        peers = frozenset(self._brought.get(page, ()))
        pages = [page, *(other for other, brought in self._brought.items() if other != page and peers & {*brought})]
        for each in pages:
            self._islands.pop(each, None)
            self._brought.pop(each, None)
            heappush(self._reopened, -each)
        self.refuted.append(Refuted(page + PAGE - 1, peers, tuple(pages)))
