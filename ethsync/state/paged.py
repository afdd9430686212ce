"""One trie that is stored as pages: reading its leaves in key order, and proving them.

Used from worker threads, any number at once: LevelDB allows it, and the caches are `functools.lru_cache`, whose
bookkeeping is atomic (two threads may compute the same entry, which does no harm).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged
from ethsync.kernels.pages import PAGE_HEADER
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.state.columns import KEY_BYTES, ZERO_KEY, Entries, Leaves, no_leaves
from ethsync.state.pages import (
    PagePath,
    Top,
    decode_pages,
    decode_top,
    entries_of_tops,
    path_of,
    stored_path,
)
from ethsync.state.prover import Branch, Child, EntryTrie, TopTrie, leaf_trie, raised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.store.leveldb import Database

UPPER_DEPTH = 4
"""Nibbles down to which the upper trie stays in memory: 65,536 entries of 80 bytes. Below it, the 16 or 256 top records
that a branch needs are read when they are asked for (mainnet has pages at 5 nibbles)."""

CACHED_PAGES = 64
"""Decoded pages kept: the end of one reply is the origin of the next. A page is about 30 KB."""

CACHED_BRANCHES = 2048
"""Branches kept, about 5 KB each with their children: 10 MB, and nearly all the upper trie of a state of 10 M."""

BLOCK_BYTES = 1 << 20
"""Keys and values per block of an iteration."""


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """A decoded page."""

    path: PagePath
    leaves: Leaves
    trie: EntryTrie


class PagedTrie:
    """Leaves of a stored trie in key order, and the source of its branches for `prover`."""

    def __init__(self, database: Database, pages: bytes, tops: bytes, depth: int, kind: int) -> None:
        """`pages`, `tops`: key prefixes of the trie's pages and top records; `depth`: of its pages, in nibbles."""
        self.depth = depth
        self.kind = kind
        self._database = database
        self._pages = pages
        self._tops = tops
        self._upper = lru_cache(1)(self._load_upper)
        self._page = lru_cache(CACHED_PAGES)(self._load_page)
        self._branch = lru_cache(CACHED_BRANCHES)(self._load_branch)

    def top(self) -> Child | None:
        """See prover.BranchSource."""
        return self._upper().top()

    def branch(self, path: str) -> Branch:
        """See prover.BranchSource. Raises DatadirDamaged."""
        return self._branch(path)

    @property
    def upper_depth(self) -> int:
        """Nibbles down to which the upper trie is in memory."""
        return self._upper().depth

    def upper_entries(self) -> Entries:
        """The tops under all paths of `upper_depth` nibbles, or of longer ones."""
        return self._upper().lowest

    def tops_under(self, path: PagePath) -> Entries:
        """The tops of all pages under a path. Raises DatadirDamaged."""
        return entries_of_tops(list(self._stored_tops(path)))

    def page_at(self, key: bytes, depth: int) -> tuple[PagePath, Leaves] | None:
        """The page that holds everything under the first `depth` nibbles of a key, None if there is none."""
        page = self._page_from(key)
        if page is None or page.path.depth > depth or path_of(key, page.path.depth) != page.path:
            return None
        return page.path, page.leaves

    def value(self, key: bytes) -> bytes | None:
        """The stored value of a key (accounts: slim form), None if no page has it. Raises DatadirDamaged."""
        page = self._page_from(key)
        if page is None:
            return None
        row = page.leaves.find(key)
        return page.leaves.value(row) if row < len(page.leaves) and page.leaves.key(row) == key else None

    def read(self, origin: bytes, limit: bytes, most: int) -> Leaves:
        """Leaves from `origin` on, ending with the first that is at or after `limit`, or that makes them more than
        `most` bytes of keys and values. Raises DatadirDamaged."""
        paths: list[PagePath] = []
        values: list[bytes] = []
        size = 0
        last = int.from_bytes(limit, "big")
        for path, value in self._stored_pages(origin):
            size += _leaf_bytes(value) if paths else 0
            paths.append(path)
            values.append(value)
            if size > most or path.first >= last:
                break
        if not paths:
            return no_leaves(self.kind)
        leaves, _ = decode_pages(paths, values, self.kind)
        leaves = leaves[leaves.find(origin) :]
        sizes = np.cumsum(leaves.lengths + KEY_BYTES)
        end = min(leaves.find(limit), int(np.searchsorted(sizes, most, side="right")))
        return leaves[: end + 1]

    def blocks(self, origin: bytes = ZERO_KEY, end: bytes | None = None) -> Iterator[Leaves]:
        """All leaves from `origin` up to but not including `end`, in key order, about 1 MiB at a time."""
        paths: list[PagePath] = []
        values: list[bytes] = []
        size = 0
        beyond = int.from_bytes(end, "big") if end is not None else None
        for path, value in self._stored_pages(origin):
            if beyond is not None and path.first >= beyond:
                break
            paths.append(path)
            values.append(value)
            size += len(value)
            if size >= BLOCK_BYTES:
                yield from self._block(paths, values, origin, end)
                paths, values, size = [], [], 0
        yield from self._block(paths, values, origin, end)

    def _block(self, paths: list[PagePath], values: list[bytes], origin: bytes, end: bytes | None) -> Iterator[Leaves]:
        if not paths:
            return
        leaves, _ = decode_pages(paths, values, self.kind)
        leaves = leaves[leaves.find(origin) : leaves.find(end) if end is not None else len(leaves)]
        if len(leaves):
            yield leaves

    def page_path(self, key: bytes) -> PagePath | None:
        """Path of the page that covers a key; None if there is none. Raises DatadirDamaged."""
        path = next((path for path, _ in self._stored_pages(key)), None)
        return path if path is not None and path.first <= int.from_bytes(key, "big") else None

    def _stored_pages(self, origin: bytes) -> Iterator[tuple[PagePath, bytes]]:
        """Pages in order, from the first that reaches `origin` on.

        Where keys are crowded, paths are longer. What is found under a path of `origin` is then a page before it, or
        the right one; so longer paths are tried until it is that, and no crowd is read from its beginning on.
        """
        first = int.from_bytes(origin, "big")
        for depth in range(self.depth, KEY_NIBBLES + 1):
            found = self._database.scan(self._pages, start=scan_start(path_of(origin, depth)))
            stored, value = next(found, (b"", b""))
            if not stored:
                return
            path = stored_path(stored)
            if path.end > first:
                yield path, value
                yield from ((stored_path(stored), value) for stored, value in found)
                return

    def _page_from(self, key: bytes) -> _Page | None:
        """The first page that reaches a key: the one that covers it, if there is one."""
        usual = self._page(path_of(key, self.depth))
        if usual is not None:
            return usual
        return next((self._page(path) for path, _ in self._stored_pages(key)), None)

    def _load_page(self, path: PagePath) -> _Page | None:
        value = self._database.get(self._pages + path.stored)
        if value is None:
            return None
        leaves, _ = decode_pages([path], [value], self.kind)
        return _Page(path, leaves, leaf_trie(leaves))

    def _load_branch(self, path: str) -> Branch:
        if len(path) < self._upper().depth:
            return self._upper().branch(path)
        low = bytes.fromhex(path.ljust(2 * KEY_BYTES, "0"))
        page = self._page_from(low)
        if page is not None and page.path.depth <= len(path):
            return page.trie.branch(path)
        under = PagePath(low, len(path))
        return EntryTrie(self.tops_under(under)).branch(path)

    def _stored_tops(self, under: PagePath) -> Iterator[Top]:
        """Top records of the pages under a path."""
        for stored, record in self._database.scan(self._tops, start=scan_start(under)):
            if stored_path(stored).first >= under.end:
                return
            yield decode_top(record)

    def _load_upper(self) -> TopTrie:
        """Read all top records, reducing them on the way to those of UPPER_DEPTH nibbles."""
        found = self._database.scan(self._tops)
        if self.depth <= UPPER_DEPTH:
            return TopTrie(entries_of_tops([decode_top(record) for _, record in found]), self.depth)
        parts = [
            raised(entries_of_tops([decode_top(record) for _, record in part]), UPPER_DEPTH)
            for _, part in groupby(found, key=lambda item: item[0][0])
        ]
        return TopTrie(joined(parts), UPPER_DEPTH)


def _leaf_bytes(page: bytes) -> int:
    """Bytes of keys and values in a page, as its header says (docs/format.md)."""
    if len(page) < PAGE_HEADER:
        raise DatadirDamaged("a page is shorter than its header")
    return KEY_BYTES * int.from_bytes(page[4:8], "little") + int.from_bytes(page[8:12], "little")


def scan_start(path: PagePath) -> bytes:
    """Where the keys of a path and of all longer ones begin: without the number of nibbles, which would sort a path
    behind some of those below it."""
    return path.stored[:-1]


def joined(parts: list[Entries]) -> Entries:
    """Entries of neighbouring parts of a trie as one."""
    if not parts:
        return entries_of_tops([])
    starts = np.cumsum([0, *(len(part.buf) for part in parts)])
    return Entries(
        np.concatenate([part.keys for part in parts]),
        np.concatenate([part.paths for part in parts]),
        np.concatenate([part.kinds for part in parts]),
        np.concatenate([part.buf for part in parts]),
        np.concatenate([part.offsets + start for part, start in zip(parts, starts.tolist(), strict=False)]),
        np.concatenate([part.lengths for part in parts]),
    )


class SmallTrie:
    """A storage trie whose leaves lie in memory, with the same ways to read it as a PagedTrie."""

    def __init__(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self._trie = leaf_trie(leaves)

    def top(self) -> Child | None:
        """See prover.BranchSource."""
        return self._trie.top()

    def branch(self, path: str) -> Branch:
        """See prover.BranchSource."""
        return self._trie.branch(path)

    def value(self, key: bytes) -> bytes | None:
        """See PagedTrie."""
        row = self.leaves.find(key)
        return self.leaves.value(row) if row < len(self.leaves) and self.leaves.key(row) == key else None

    def read(self, origin: bytes, limit: bytes, most: int) -> Leaves:
        """See PagedTrie."""
        leaves = self.leaves[self.leaves.find(origin) :]
        sizes = np.cumsum(leaves.lengths + KEY_BYTES)
        return leaves[: min(leaves.find(limit), int(np.searchsorted(sizes, most, side="right"))) + 1]

    def blocks(self, origin: bytes = ZERO_KEY, end: bytes | None = None) -> Iterator[Leaves]:
        """See PagedTrie."""
        stop = self.leaves.find(end) if end is not None else len(self.leaves)
        leaves = self.leaves[self.leaves.find(origin) : stop]
        if len(leaves):
            yield leaves
