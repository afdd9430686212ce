"""The chain below the trusted head: where it stands, what to ask for next, and what to write.

Two ways down at most are under way. The *backfill* leads from the lowest proven header to the floor: genesis, or as far
as is wanted. The *extension* leads from a new head down to the one before it; until it arrives the old chain is shown,
and the two do not touch each other's pages. A new head whose ancestors are others than the stored ones cuts the stored
chain from the top until they meet.

Nothing here waits or writes: changes collect in `outbox`, in the order in which they must be written.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ethsync.headers.descent import Descent, FinishedPage, HeaderJob, Refuted
from ethsync.headers.segment import Segment, broken_chain, check_family, segment_of
from ethsync.kernels.headers import LENGTH, OFFSET
from ethsync.peers.track import Outcome
from ethsync.store.header_index import run_first
from ethsync.store.header_pages import MOST_DIFFICULTY, PAGE, Edge, HeaderMarker, build_page, encode_page, page_first
from ethsync.store.headers import Change, HeaderStore, Link
from ethsync.wire.headers import decode_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ethsync.arrays import Bytes
    from ethsync.counters import Counters
    from ethsync.headers.rules import ChainRules
    from ethsync.wire.headers import Header

MOST_ASKED = 16
"""Requests under way for all peers together: 16 replies of a thousand headers are 10 MB."""

CUT = 64
"""Headers given up at a time when the head is on another branch: most reorganisations are shorter (finality: 64)."""

RECENT = 8 * PAGE
"""How far back `--headers recent` goes: what contracts can see of the past (EIP-2935: 8,191 block hashes)."""


def recent_floor(head: int) -> int:
    """The lowest header that is wanted with `--headers recent`."""
    return max(0, page_first(head - RECENT))


class Writing(NamedTuple):
    """A batch for the headers' database, and what to call once it is written."""

    change: Change
    done: Callable[[], None]


@dataclass(slots=True, eq=False)
class ProvenChain:
    """See the module. `store` shows what is proven; `floor` is the lowest header wanted.

    `counters`: `items` are proven headers, `owed` those that are missing.
    """

    store: HeaderStore
    rules: ChainRules
    counters: Counters
    floor: int = 0
    outbox: deque[Writing] = field(default_factory=deque)
    refuted: deque[Refuted] = field(default_factory=deque)
    """Peers to be told off; emptied by whoever knows them."""
    mergeable: deque[int] = field(default_factory=deque)
    """Large runs of the index that can be made."""
    unwritten: int = 0
    """Batches that are not on the disk yet."""
    _backfill: Descent | None = None
    _extension: Descent | None = None
    _head: Segment | None = None
    _edges: list[Segment] = field(default_factory=list)
    _passed: list[HeaderMarker] = field(default_factory=list)
    _pending: Header | None = None

    def __post_init__(self) -> None:
        if self.store.top is not None:
            self._note_floor()
            self._open_backfill()
            self.counters.kept_items = self.counters.items
        for first in {run_first(page) for page in self.store.indexed}:
            self._note_mergeable(first)

    # Where it stands.

    @property
    def done(self) -> bool:
        """Whether everything from the latest head down to the floor is proven and on the disk."""
        idle = self._extension is None and self._pending is None and not self.outbox and not self.unwritten
        return idle and self.store.top is not None and self.left == 0

    @property
    def left(self) -> int:
        """Headers that are missing, as far as is known."""
        ways = [way for way in (self._backfill, self._extension) if way is not None]
        return sum(max(0, way.front.number - way.floor + 1) for way in ways)

    # Heads.

    def follow(self, head: Header) -> None:
        """Trust this header from now on. One that is known already, or older than all that is stored, changes nothing.

        Raises VerificationFailed if it breaks a rule.
        """
        if self._extension is not None:
            self._pending = head
        elif self.store.top is None:
            self._begin(head)
        else:
            self._extend(head)
        self._count()

    @property
    def waiting(self) -> bool:
        """Whether a newer head waits for the extension to a former one to arrive."""
        return self._pending is not None

    def hurry(self) -> None:
        """Give up the way to a former head for the newest one. The pages that it brought are kept as islands."""
        if self._pending is not None and self._extension is not None:
            self._leave_extension()
            self._next_head()

    def _begin(self, head: Header) -> None:
        segment = self._trusted(head)
        self._note_floor()
        self.store.below = Link(head.number - 1, head.parent_hash, segment.bottom)
        self._keep([segment], Link(head.number, head.hash))
        self._open_backfill()

    def _trusted(self, head: Header) -> Segment:
        if head.number == 0 and head.hash != self.rules.genesis_hash:
            raise broken_chain(f"header 0 is 0x{head.hash.hex()} and not the genesis of this network")
        return segment_of(head.raw)

    def _note_floor(self) -> None:
        """Write down what is wanted, before the chain that it is about."""
        if self.store.floor != self.floor:
            self._write(self.store.set_floor(self.floor))

    def _open_backfill(self) -> None:
        if self.store.top is None or self.store.below is None:
            raise AssertionError("the backfill begins below a trusted header")
        self._backfill = Descent(self.store.below, self.floor, self.store.top.number, self.store.islands)
        self._collect(self._backfill)
        self._count()

    def _extend(self, head: Header) -> None:
        """Begin the way from a new head down to the stored chain."""
        top = self.store.top
        if top is None or (head.number <= top.number and not self._cut_below(head)):
            return
        if self.store.top is None:
            self._begin(head)
            return
        self._head = self._trusted(head)
        link = Link(head.number - 1, head.parent_hash, self._head.bottom)
        self._extension = Descent(link, self.store.top.number + 1, head.number, self.store.islands)
        self._collect(self._extension)
        self._try_to_join()

    def _cut_below(self, head: Header) -> bool:
        """Make room for a head that is not above the stored one; False if it is one of ours, or too old to tell."""
        if not self.store.holds(head.number) or self.store.hash_of(head.number) in (None, head.hash):
            return False
        while self.store.top is not None and self.store.top.number >= head.number:
            self._cut()
        return True

    def _cut(self) -> None:
        """Give up headers from the top of the stored chain: some that stand alone, or a page."""
        top = self.store.top
        if top is None:
            return
        if top.number in self.store.singles:
            cut = top.number
            while cut - 1 in self.store.singles and cut > top.number - CUT + 1:
                cut -= 1
            raw = self.store.singles[cut]
            change = self.store.drop_singles(range(cut, top.number + 1))
        else:
            cut = page_first(top.number)
            raw = self.store.raw(cut) or b""
            change = self.store.drop_page(cut)
        if cut <= self.store.low or not raw:
            self._give_up_chain(change)
            return
        change.puts += self.store.set_top(Link(cut - 1, decode_header(raw).parent_hash)).puts
        self._write(change)

    def _give_up_chain(self, change: Change) -> None:
        """Nothing of the stored chain is true: its pages are islands again."""
        change.deletes += self.store.drop_singles(list(self.store.singles)).deletes + self.store.clear_top().deletes
        self._write(change)
        self.store.islands.update(self.store.read_markers())
        self._backfill = None

    def _leave_extension(self) -> None:
        self.store.islands.update({marker.first: marker for marker in self._passed})
        self._extension, self._edges, self._passed = None, [], []

    def _next_head(self) -> None:
        head, self._pending = self._pending, None
        if head is not None:
            self.follow(head)

    # Work.

    def ready(self) -> int:
        """How many requests could be made now."""
        ways = [way for way in (self._extension, self._backfill) if way is not None]
        return max(0, min(sum(way.ready() for way in ways), MOST_ASKED - sum(way.in_flight for way in ways)))

    def take(self, limit: int, peer: int, now: float) -> HeaderJob:
        """The next request, for `limit` headers at the most; only while `ready()` > 0."""
        extension, backfill = self._extension, self._backfill
        way = extension if extension is not None and extension.ready() else backfill
        if way is None:
            raise AssertionError("asked for work where none is ready")
        job = way.take(limit, peer, now)
        self._count()
        return job

    def stalled(self) -> tuple[float, frozenset[int]]:
        """When another peer should be asked for what is needed first, and who has been; see `Descent.stalled`."""
        way = self._extension or self._backfill
        return way.stalled() if way is not None else (float("inf"), frozenset())

    def repeat(self, limit: int, peer: int, now: float) -> HeaderJob:
        """Ask one more peer for what is needed first, once it is `stalled`."""
        way = self._extension or self._backfill
        if way is None:
            raise AssertionError("nothing is stalled where nothing is asked for")
        return way.repeat(limit, peer, now)

    def give_back(self, job: HeaderJob) -> None:
        """Nothing came of a request."""
        job.descent.give_back(job)
        self._count()

    def accept(self, job: HeaderJob, segment: Segment) -> Outcome:
        """Use checked headers. Raises VerificationFailed if the proven chain breaks a rule."""
        if job.descent not in (self._backfill, self._extension):
            return Outcome.DUPLICATE  # from a way that was given up
        outcome = job.descent.accept(job, segment)
        if outcome is Outcome.SERVED:
            self.counters.bytes += segment.nbytes
        self._collect(job.descent)
        self._try_to_join()
        self._count()
        return outcome

    def _collect(self, way: Descent) -> None:
        """Do what a way down says is to be done."""
        pages, way.pages = way.pages, []
        joined, way.joined = way.joined, []
        edges, way.edges = way.edges, []
        refuted, way.refuted = way.refuted, []
        for page in pages:
            self._write_page(page)
        for each in refuted:
            self.refuted.append(each)
            for first in each.pages:
                self._write(self.store.drop_page(first))
        if way is self._extension:
            self._passed += joined
            self._edges += edges
            return
        self.store.below = way.front
        if edges:
            self._keep(edges)
        for marker in joined:
            self._note_mergeable(marker.first)

    def _write_page(self, page: FinishedPage) -> None:
        """Write a page. If it is joined already, its marker must not be an island again."""
        first = page.marker.first
        is_island = first in self.store.islands
        hashes = _hashes(page.parts)
        change = self.store.put_page(page.marker, _packed(page.parts), hashes)
        if not is_island:
            del self.store.islands[first]
        self._write(change, partial(self._page_written, first))

    def _try_to_join(self) -> None:
        """Once the extension has arrived at the stored chain: one chain, or two."""
        while self._extension is not None and self._extension.done and self.store.top is not None:
            front, top = self._extension.front, self.store.top
            if front.hash == top.hash:
                self._join(front, top)
                return
            self._cut()
            if self.store.top is not None:
                self._extension.lower(self.store.top.number + 1)
                self._collect(self._extension)
        if self._extension is not None and self.store.top is None and self._head is not None:
            head = decode_header(self._head.raw(self._head.last))
            self._leave_extension()
            self._begin(head)

    def _join(self, front: Link, top: Link) -> None:
        stored = self.store.header(top.number)
        if stored is not None:
            check_family(front, Edge(stored.timestamp, min(MOST_DIFFICULTY, stored.difficulty)))
        if self._head is None:
            raise AssertionError("an extension has a head")
        self._keep([*self._edges, self._head], Link(self._head.last, self._head.hash))
        passed, self._edges, self._passed, self._extension = self._passed, [], [], None
        for marker in passed:
            self._note_mergeable(marker.first)
        self._next_head()

    # Writing.

    def _keep(self, parts: Iterable[Segment], top: Link | None = None) -> None:
        """Store proven headers one by one, or as a page if it is complete with them; in one batch with `top`."""
        fresh = {number: (raw, found) for part in parts for number, raw, found in part.headers()}
        change = self.store.set_top(top) if top is not None else Change()
        folded = []
        for first in sorted({page_first(number) for number in fresh}):
            numbers = range(first, first + PAGE)
            if all(number in fresh or number in self.store.singles for number in numbers):
                self._fold(
                    [fresh.pop(number)[0] if number in fresh else self.store.singles[number] for number in numbers],
                    change,
                )
                folded.append(first)
        change.puts += self.store.put_singles((number, *each) for number, each in fresh.items()).puts

        def written() -> None:
            for first in folded:
                self._page_written(first)

        self._write(change, written)

    def _fold(self, raws: list[bytes], change: Change) -> None:
        """Make a page of headers that stood alone."""
        marker, page, hashes = build_page(raws)
        change.puts += self.store.put_page(marker, page, hashes).puts
        change.deletes += self.store.drop_singles(range(marker.first, marker.last + 1)).deletes
        self.store.show(marker.first, page)

    def _write(self, change: Change, then: Callable[[], None] = lambda: None) -> None:
        self.unwritten += 1
        self.outbox.append(Writing(change, partial(self._written, then)))

    def _written(self, then: Callable[[], None]) -> None:
        self.unwritten -= 1
        then()

    def _page_written(self, first: int) -> None:
        self.store.written(first)
        self._note_mergeable(first)

    def _note_mergeable(self, number: int) -> None:
        first = run_first(number)
        if first not in self.mergeable and self.store.mergeable(first):
            self.mergeable.append(first)

    def merge_written(self, first: int, change: Change) -> None:
        """Have a large run written that was made by `HeaderStore.merge`."""
        self._write(change, partial(self.store.merged_run, first))

    def _count(self) -> None:
        top = self.store.top
        self.counters.items = 0 if top is None else top.number - self.store.low + 1
        self.counters.owed = self.left
        self.counters.in_flight = sum(way.in_flight for way in (self._backfill, self._extension) if way is not None)


def _hashes(parts: list[Segment]) -> Bytes:
    return np.concatenate([part.hashes for part in parts])


def _packed(parts: list[Segment]) -> bytes:
    columns = [(part.buf, part.rows[:, OFFSET], part.rows[:, LENGTH]) for part in parts]
    return encode_page([(buf, np.ascontiguousarray(at), np.ascontiguousarray(sizes)) for buf, at, sizes in columns])
