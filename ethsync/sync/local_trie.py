"""A stored trie as healing needs it: the references above the pages in memory, those inside them from their leaves."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Ints, Leaves, entries_of, no_leaves
from ethsync.state.difference import Difference, Wanted, compare, joined
from ethsync.state.pages import PagePath, decode_pages, decode_top, entries_of_tops, stored_path
from ethsync.state.tries import build, structure
from ethsync.store.schema import ACCOUNT_PAGE, STORAGE_PAGE, TOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.state.replies import Blobs
    from ethsync.store.datadir import Datadir
    from ethsync.store.leveldb import Database

PAGES_AT_ONCE = 128
"""Pages decoded and hashed together: with 384 leaves each some 16 MB of columns."""


class LocalTrie:
    """One trie as its pages and top records are when it is opened. Used from worker threads, one after another."""

    def __init__(self, database: Database, pages: bytes, tops: bytes, depth: int, kind: int) -> None:
        """`pages`, `tops`: key prefixes of the trie's pages and top records; `depth`: of its pages, in nibbles.

        Reads all top records: on mainnet a million, 45 MB. Raises DatadirDamaged.
        """
        self.pages, self.tops, self.depth, self.kind = pages, tops, depth, kind
        self.database = database
        found = [(key, decode_top(record)) for key, record in database.scan(tops)]
        self._stored = [key[:-1] for key, _ in found]
        self._depths = [key[-1] for key, _ in found]
        entries = entries_of_tops([top for _, top in found])
        self._upper = structure(entries)
        self.root = build(entries)[0].tobytes() if found else EMPTY_TRIE_ROOT
        """Root of the trie that these pages make."""

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

    def covering(self, prefix: bytes, depth: int) -> int:
        """Number of the page that holds everything under the first `depth` nibbles of a key; -1 if none does."""
        page = bisect_right(self._stored, prefix) - 1
        if page < 0 or self._depths[page] > depth:
            return -1
        return page if self._stored[page].hex()[: self._depths[page]] == prefix.hex()[: self._depths[page]] else -1

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

    def compare(self, blobs: Blobs, places: Ints, at: Wanted) -> Difference:
        """Compare nodes, whose hashes have been checked, with this trie. Raises MalformedMessage, DatadirDamaged."""
        offsets, lengths = blobs.offsets[places], blobs.lengths[places]
        pages = np.array(
            [self.covering(path.tobytes(), depth) for path, depth in zip(at.paths, at.depths.tolist(), strict=True)],
            np.int64,
        )
        parts = []
        above = np.flatnonzero(pages < 0)
        if len(above):
            parts.append(compare(blobs.buf, offsets[above], lengths[above], at.rows(above), self._upper, self.kind))
        needed = np.unique(pages[pages >= 0])
        for k in range(0, len(needed), PAGES_AT_ONCE):
            chunk = needed[k : k + PAGES_AT_ONCE]
            leaves, starts = self.read(chunk.tolist())
            inside = np.flatnonzero((pages >= chunk[0]) & (pages <= chunk[-1]))
            local = structure(entries_of(leaves), starts[:-1])
            parts.append(compare(blobs.buf, offsets[inside], lengths[inside], at.rows(inside), local, self.kind))
        return joined(parts, self.kind)


def local_accounts(datadir: Datadir, depth: int) -> LocalTrie:
    """The account trie of a data directory."""
    return LocalTrie(datadir.accounts, ACCOUNT_PAGE, TOP, depth, SLIM_ACCOUNT)


def local_storage(datadir: Datadir, account: bytes, depth: int) -> LocalTrie:
    """The storage of a contract with pages of its own."""
    return LocalTrie(datadir.storage, STORAGE_PAGE + account, TOP + account, depth, LEAF)
