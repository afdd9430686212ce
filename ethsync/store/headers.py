"""The stored chain of headers: what of it is proven, look-ups by number and by hash, and changes as batches.

Headers are proven from the trusted head downwards, but pages may come in any order. `TOP` says which header is trusted;
what hangs on it by hash links is found from the markers of the pages whenever the store is opened, and nothing else is
shown. So no checkpoint can be ahead of its data: there is none besides the data.

Complete pages are stored as such. Above the last one, and where the first trusted head was, headers stand alone until
their page is complete.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.store import header_index
from ethsync.store.header_index import RUN, run_first
from ethsync.store.header_pages import (
    MOST_DIFFICULTY,
    PAGE,
    Edge,
    HeaderMarker,
    HeaderPage,
    decode_header_marker,
    decode_page,
)
from ethsync.store.schema import (
    FACT_FLOOR,
    FACT_TOP,
    HEADER,
    HEADER_INDEX,
    HEADER_MARKER,
    HEADER_PAGE,
    header_key,
)
from ethsync.wire.headers import Header, decode_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ethsync.arrays import Bytes
    from ethsync.store.leveldb import Database

CACHED_PAGES = 8
"""Pages kept after a look-up, 5 MB: who asks for one header asks for its neighbours."""


@dataclass(frozen=True, slots=True)
class Link:
    """The hash that the header `number` must have, and the edge of the child that names it (None: it is trusted)."""

    number: int
    hash: bytes
    child: Edge | None = None


@dataclass(slots=True)
class Change:
    """Puts and deletes that belong into one batch."""

    puts: list[tuple[bytes, bytes]] = field(default_factory=list)
    deletes: list[bytes] = field(default_factory=list)


class HeaderStore:
    """The headers in a database, as far as they are proven. Changes take effect here when they are made; whoever makes
    them has them written, in order."""

    def __init__(self, database: Database, check: Callable[[Link, Edge], None] = lambda link, edge: None) -> None:
        """Read what is there: on mainnet 25,000 markers, a tenth of a second. Raises DatadirDamaged.

        `check` is called with each link between pages, or single headers, and the edge of the header that it leads to;
        it raises if these two cannot be parent and child.
        """
        self.database = database
        self._check = check
        self.singles: dict[int, bytes] = {}
        """Proven headers that stand alone: fewer than two pages of them."""
        self.islands: dict[int, HeaderMarker] = {}
        """Stored pages, by their first number, that do not hang on the trusted header, or not yet."""
        self.top: Link | None = None
        self.floor = 0
        """The lowest header that is wanted, as whoever downloads them said last."""
        self.below: Link | None = None
        """What the lowest proven header names as its parent; None if nothing is proven. Number -1: all is there."""
        self.indexed: set[int] = set()
        """Pages whose index is a run of its own."""
        self.merged: set[int] = set()
        """First numbers of the large runs."""
        self._hashes: dict[bytes, int] = {}
        self._cache: OrderedDict[int, HeaderPage] = OrderedDict()
        self._read()

    # What is there.

    def _read(self) -> None:
        self.islands = self.read_markers()
        self.indexed = {_number(key) for key, _ in self.database.scan(HEADER_INDEX, keys_only=True)}
        last = max(self.islands, default=-1)
        first_buckets = {first: header_index.run_key(first, bytes(32)) for first in range(0, last + 1, RUN)}
        self.merged = {first for first, key in first_buckets.items() if self.database.get(key) is not None}
        self.floor = int(self.database.get(FACT_FLOOR) or b"0")
        value = self.database.get(FACT_TOP)
        if value is None:
            return
        if len(value) != 40:
            raise DatadirDamaged(f"{self.database.path} does not say which header is trusted")
        self.top = Link(int.from_bytes(value[:8], "big"), value[8:])
        self.below = self.top
        self._join()

    def read_markers(self) -> dict[int, HeaderMarker]:
        """The markers of all pages on the disk, by their first number. Raises DatadirDamaged."""
        markers = ((_number(key), value) for key, value in self.database.scan(HEADER_MARKER))
        return {first: decode_header_marker(first, value) for first, value in markers}

    def _join(self) -> None:
        """Prove what hangs on the lowest proven header: single headers and pages."""
        alone = {_number(key): raw for key, raw in self.database.scan(HEADER)}
        while self.below is not None and self.below.number >= 0:
            number, marker = self.below.number, self.islands.get(self.below.number - PAGE + 1)
            raw = alone.get(number, b"")
            if marker is not None and marker.hash == self.below.hash:
                self._check(self.below, marker.top)
                del self.islands[marker.first]
                self.below = Link(marker.first - 1, marker.parent, marker.bottom)
            elif keccak256(raw) == self.below.hash:
                header = _decoded(raw, number)
                edge = Edge(header.timestamp, min(MOST_DIFFICULTY, header.difficulty))
                self._check(self.below, edge)
                self._remember(number, raw, self.below.hash)
                self.below = Link(number - 1, header.parent_hash, edge)
            else:
                return

    @property
    def low(self) -> int:
        """Number of the lowest proven header; above `top` if there is none."""
        return self.below.number + 1 if self.below is not None else 0

    @property
    def missing(self) -> int:
        """Headers below the lowest proven one that are wanted."""
        return max(0, self.low - self.floor)

    def holds(self, number: int) -> bool:
        """Whether a header is proven."""
        return self.top is not None and self.low <= number <= self.top.number

    # Look-ups.

    def raw(self, number: int) -> bytes | None:
        """The proven header with this number as its bytes; None if there is none, or not on the disk yet.

        Raises DatadirDamaged.
        """
        if not self.holds(number):
            return None
        if number in self.singles:
            return self.singles[number]
        page = self._page(number // PAGE * PAGE)
        return page.raw(number) if page is not None else None

    def header(self, number: int) -> Header | None:
        """The proven header with this number; see `raw`."""
        raw = self.raw(number)
        return _decoded(raw, number) if raw is not None else None

    def number_of(self, block_hash: bytes) -> int | None:
        """The number of the proven header with this hash, confirmed against the header itself.

        Raises DatadirDamaged.
        """
        for number in self._candidates(block_hash):
            raw = self.raw(number)
            if raw is not None and keccak256(raw) == block_hash:
                return number
        return None

    def by_hash(self, block_hash: bytes) -> Header | None:
        """The proven header with this hash. Raises DatadirDamaged."""
        number = self.number_of(block_hash)
        return None if number is None else self.header(number)

    def hash_of(self, number: int) -> bytes | None:
        """The hash of the proven header with this number."""
        raw = self.raw(number)
        return keccak256(raw) if raw is not None else None

    def _candidates(self, block_hash: bytes) -> Iterable[int]:
        if block_hash in self._hashes:
            yield self._hashes[block_hash]
        for first in sorted(self.merged, reverse=True):
            value = self.database.get(header_index.run_key(first, block_hash))
            yield from (first + place for place in header_index.find_places(value or b"", block_hash))
        for first in sorted(self.indexed, reverse=True):
            value = self.database.get(header_index.page_index_key(first))
            yield from (first + place for place in header_index.find_places(value or b"", block_hash))

    def _page(self, first: int) -> HeaderPage | None:
        page = self._cache.get(first)
        if page is None:
            value = self.database.get(header_key(first, HEADER_PAGE))
            if value is None:
                return None
            page = decode_page(first, value)
            self._keep_in_cache(page)
        self._cache.move_to_end(first)
        return page

    def _keep_in_cache(self, page: HeaderPage) -> None:
        self._cache[page.first] = page
        if len(self._cache) > CACHED_PAGES:
            self._cache.popitem(last=False)

    # Changes.

    def put_page(self, marker: HeaderMarker, page: bytes, hashes: Bytes) -> Change:
        """Store a page with its marker and index. It is an island until it is found to hang on the chain."""
        first = marker.first
        self.islands[first] = marker
        self._cache.pop(first, None)
        return Change(
            [
                (header_index.page_index_key(first), header_index.encode_page_index(hashes)),
                (header_key(first, HEADER_MARKER), marker.encode()),
                (header_key(first, HEADER_PAGE), page),
            ]
        )

    def drop_page(self, first: int) -> Change:
        """Remove a page that is not part of the chain. What large runs say of it is never confirmed."""
        self.islands.pop(first, None)
        self._cache.pop(first, None)
        self.indexed.discard(first)
        keys = [header_index.page_index_key(first), header_key(first, HEADER_MARKER), header_key(first, HEADER_PAGE)]
        return Change(deletes=keys)

    def put_singles(self, headers: Iterable[tuple[int, bytes, bytes]]) -> Change:
        """Store headers one by one: number, bytes and hash of each."""
        puts = []
        for number, raw, block_hash in headers:
            self._remember(number, raw, block_hash)
            puts.append((header_key(number), raw))
        return Change(puts)

    def drop_singles(self, numbers: Iterable[int]) -> Change:
        """Remove headers that stood alone."""
        deletes = []
        for number in numbers:
            raw = self.singles.pop(number, None)
            if raw is not None:
                del self._hashes[keccak256(raw)]
                deletes.append(header_key(number))
        return Change(deletes=deletes)

    def set_top(self, top: Link) -> Change:
        """Trust this header, from which everything must hang that is shown. It is in the same batch, or stored."""
        self.top = top
        return Change([(FACT_TOP, top.number.to_bytes(8, "big") + top.hash)])

    def set_floor(self, floor: int) -> Change:
        """Want no headers below this one, so that whoever reads the store knows how many are missing."""
        self.floor = floor
        return Change([(FACT_FLOOR, b"%d" % floor)])

    def clear_top(self) -> Change:
        """Trust no header any more. The pages stay, as islands."""
        self.top = self.below = None
        return Change(deletes=[FACT_TOP])

    def show(self, first: int, page: bytes) -> None:
        """A proven page is on its way to the disk: look-ups find it from now on."""
        self.islands.pop(first, None)
        self._keep_in_cache(decode_page(first, page))

    # The index.

    def written(self, first: int) -> None:
        """A page has reached the disk, and its index with it."""
        self.indexed.add(first)

    def mergeable(self, number: int) -> bool:
        """Whether all pages of the large run around a number are proven, and on the disk with their indices."""
        first = run_first(number)
        if not (self.holds(first) and self.holds(first + RUN - 1)):
            return False
        return self.indexed.issuperset(range(first, first + RUN, PAGE))

    def merge(self, first: int) -> Change:
        """Make a large run, which `merged_run` brings into force. Reads 3 MB: run it in a thread.

        Raises DatadirDamaged.
        """
        runs = {}
        for page in range(first, first + RUN, PAGE):
            value = self.database.get(header_index.page_index_key(page))
            if value is None:
                raise DatadirDamaged(f"the index of the headers from {page} on is missing in {self.database.path}")
            runs[page] = value
        return Change(header_index.merge(first, runs), [header_index.page_index_key(page) for page in runs])

    def merged_run(self, first: int) -> None:
        """A large run has reached the disk."""
        self.merged.add(first)
        self.indexed.difference_update(range(first, first + RUN, PAGE))

    def _remember(self, number: int, raw: bytes, block_hash: bytes) -> None:
        self.singles[number] = raw
        self._hashes[block_hash] = number


def _number(key: bytes) -> int:
    if len(key) != 8:
        raise DatadirDamaged("a key of the headers is damaged")
    return int.from_bytes(key, "big")


def _decoded(raw: bytes, number: int) -> Header:
    try:
        header = decode_header(raw)
    except MalformedMessage as error:
        raise DatadirDamaged(f"the stored header {number} is damaged: {error}") from error
    if header.number != number:
        raise DatadirDamaged(f"the stored header {number} has number {header.number}")
    return header
