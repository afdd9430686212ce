"""A stored trie as healing needs it: the references above the pages in memory, those inside them from their leaves."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ethsync.errors import DatadirDamaged, LocalProtocolError
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.kernels import rlp
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Entries, Leaves, entries_of, in_order, no_leaves
from ethsync.state.difference import Difference, Wanted, compare, joined, slim
from ethsync.state.paged import joined as joined_entries
from ethsync.state.pages import PagePath, decode_pages, decode_top, entries_of_tops, stored_path
from ethsync.state.tries import build, masked, structure
from ethsync.store.schema import ACCOUNT_PAGE, STORAGE_PAGE, TOP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ethsync.arrays import Ints
    from ethsync.state.pages import Top
    from ethsync.state.replies import Blobs
    from ethsync.state.tries import Structure
    from ethsync.store.datadir import Datadir

KEPT_BYTES = 96 << 20
"""Pages kept with the references in them, some 100 bytes per leaf: those of the regions that are under way at a time
(`walk.Openings`), because nodes of a page are asked for level by level."""


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """A page with all its references."""

    leaves: Leaves
    nodes: Structure

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about."""
        return self.leaves.buf.nbytes + self.nodes.nbytes


class PageCache:
    """Pages of several tries with the references in them; those used last are kept. Used from worker threads."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._kept: OrderedDict[tuple[LocalTrie, int], _Page] = OrderedDict()
        self._size = 0

    @property
    def room(self) -> int | None:
        """How many pages like those that are kept find room; None if there are none yet."""
        with self._lock:
            return self._most_bytes * len(self._kept) // self._size if self._kept else None

    def structure(self, trie: LocalTrie, page: int) -> Structure:
        """The references in a page, by its number. Raises DatadirDamaged."""
        key = trie, page
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found.nodes
        leaves, _ = trie.read([page])
        found = _Page(leaves, structure(entries_of(leaves)).compact())
        with self._lock:
            if key not in self._kept:
                self._kept[key] = found
                self._size += found.nbytes
            while self._size > self._most_bytes and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].nbytes
        return found.nodes


class Pages(Protocol):
    """Where pages and top records are: a database, or memory."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        ...

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Keys without the prefix and values, in key order."""
        ...


class LocalTrie:
    """One trie as its pages and top records are when it is opened. Used from worker threads."""

    def __init__(self, database: Pages, pages: bytes, tops: bytes, depth: int, kind: int) -> None:
        """`pages`, `tops`: key prefixes of the trie's pages and top records; `depth`: of its pages, in nibbles.

        Reads all top records: on mainnet a million, 45 MB. Raises DatadirDamaged.
        """
        self.pages, self.tops, self.depth, self.kind = pages, tops, depth, kind
        self.database = database
        found = [(key, decode_top(record)) for key, record in database.scan(tops)]
        self._hold([key for key, _ in found], entries_of_tops([top for _, top in found]))

    def _hold(self, stored: list[bytes], entries: Entries) -> None:
        self._stored = [key[:-1] for key in stored]
        self._depths = np.fromiter((key[-1] for key in stored), np.int64, len(stored))
        self._prefixes = np.array(self._stored, "S32")
        self._entries = entries
        self._upper = structure(entries)
        self.root = build(entries)[0].tobytes() if stored else EMPTY_TRIE_ROOT
        """Root of the trie that these pages make."""

    def changed(self, tops: Mapping[PagePath, Top | None]) -> LocalTrie:
        """The same trie with other tops of some pages, with pages more or less (None); these are to be stored too."""
        n = len(self)
        places = {path: bisect_left(self._stored, path.stored[:-1]) for path in sorted(tops)}
        there = [row for path, row in places.items() if row < n and self.path(row) == path]
        come = [(places[path], path, top) for path in places if (top := tops[path]) is not None]
        order = np.insert(np.arange(n), [row for row, _, _ in come], n + np.arange(len(come)))
        order = order[~np.isin(order, there)]
        stored = [*(self._stored[row] + bytes([self._depths[row]]) for row in range(n))]
        stored += [path.stored for _, path, _ in come]
        new = object.__new__(LocalTrie)
        new.pages, new.tops, new.depth, new.kind = self.pages, self.tops, self.depth, self.kind
        new.database = self.database
        entries = joined_entries([self._entries, entries_of_tops([top for _, _, top in come])])
        new._hold([stored[row] for row in order.tolist()], entries_at(entries, order))
        return new

    def __len__(self) -> int:
        return len(self._stored)

    def path(self, page: int) -> PagePath:
        """Path of a page by its number, in key order."""
        return stored_path(self._stored[page] + bytes([self._depths[page]]))

    def under(self, path: PagePath) -> range:
        """Numbers of the pages under a path."""
        first = bisect_left(self._stored, path.prefix[: (path.depth + 1) // 2])
        end = first
        while end < len(self._stored) and self.path(end).first < path.end:
            end += 1
        return range(first, end)

    def covering(self, at: Wanted) -> Ints:
        """Numbers of the pages that hold everything under these paths; -1 where none does."""
        if not len(self._stored):
            return np.full(len(at), -1)
        pages = np.searchsorted(self._prefixes, in_order(at.paths), "right") - 1
        depths = self._depths[pages]
        beginnings = in_order(masked(at.paths, depths.astype(np.uint8)))
        found: Ints = np.where((pages >= 0) & (depths <= at.depths) & (beginnings == self._prefixes[pages]), pages, -1)
        return found

    def read(self, pages: Sequence[int]) -> tuple[Leaves, Ints]:
        """Leaves of some pages, and the first row of each, then their number. Raises DatadirDamaged."""
        paths = [self.path(page) for page in pages]
        if not paths:
            return no_leaves(self.kind), np.zeros(1, np.int64)
        values = []
        for path in paths:
            value = self.database.get(self.pages + path.stored)
            if value is None:
                raise DatadirDamaged(f"page {path} is missing", hint="run `ethsync verify` for the whole picture")
            values.append(value)
        return decode_pages(paths, values, self.kind)

    def compare(self, blobs: Blobs, places: Ints, at: Wanted, cache: PageCache) -> Difference:
        """Compare nodes, whose hashes have been checked, with this trie. Raises MalformedMessage, DatadirDamaged."""
        pages = self.covering(at)
        order = np.argsort(pages, kind="stable")
        pages, places, at = pages[order], places[order], at.rows(order)
        offsets, lengths = blobs.offsets[places], blobs.lengths[places]
        cuts = [0, *(np.flatnonzero(np.diff(pages)) + 1).tolist(), len(at)]
        parts = []
        for first, last in pairwise(cuts):
            if first < last:
                nodes = self._upper if pages[first] < 0 else cache.structure(self, int(pages[first]))
                here = slice(first, last)
                parts.append(compare(blobs.buf, offsets[here], lengths[here], at.part(first, last), nodes, LEAF))
        found = joined(parts, LEAF)
        return replace(found, leaves=slim(found.leaves)) if self.kind == SLIM_ACCOUNT else found


def entries_at(entries: Entries, rows: Ints) -> Entries:
    """Some entries, in the order given, in a buffer of their own."""
    offsets, lengths = entries.offsets[rows], entries.lengths[rows]
    buf, places = np.empty(int(lengths.sum()), np.uint8), np.empty(len(rows), np.int64)
    if rlp.gather(entries.buf, offsets, lengths, buf, places) < 0:
        raise LocalProtocolError("entries point outside their buffer")
    return Entries(entries.keys[rows], entries.paths[rows], entries.kinds[rows], buf, places, lengths)


def local_accounts(datadir: Datadir, depth: int) -> LocalTrie:
    """The account trie of a data directory."""
    return LocalTrie(datadir.accounts, ACCOUNT_PAGE, TOP, depth, SLIM_ACCOUNT)


def local_storage(datadir: Datadir, account: bytes, depth: int) -> LocalTrie:
    """The storage of a contract with pages of its own."""
    return LocalTrie(datadir.storage, STORAGE_PAGE + account, TOP + account, depth, LEAF)
