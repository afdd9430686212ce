"""Writing tries as pages, slice by slice, with plain batches: for state that is made here and not synced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import LocalProtocolError
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.state.columns import entries_of
from ethsync.state.paged import joined
from ethsync.state.pages import MOST_LEAVES, encode_pages, entries_of_tops, path_of, tops_of
from ethsync.state.tries import build

if TYPE_CHECKING:
    from ethsync.state.columns import Entries, Leaves
    from ethsync.state.pages import PagePath
    from ethsync.store.leveldb import Database

BATCH_BYTES = 4 << 20
"""Bytes per batch: a quarter of LevelDB's write buffer."""


class Batch:
    """Puts into one database, written whenever enough have come together, and at the end by `write`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batch = database.batch()
        self._size = 0

    def put(self, key: bytes, value: bytes) -> None:
        """Add one key. Raises DiskFull, DatadirDamaged when this writes."""
        self._batch.put(key, value)
        self._size += len(key) + len(value)
        if self._size >= BATCH_BYTES:
            self.write()

    def write(self) -> None:
        """Write what has come together."""
        self._database.commit(self._batch)
        self._batch = self._database.batch()
        self._size = 0


class PageWriter:
    """Writes one trie: slices of its leaves in key order, cut at page borders."""

    def __init__(self, batch: Batch, pages: bytes, tops: bytes, depth: int) -> None:
        """`pages`, `tops`: key prefixes, as of state.paged.PagedTrie; `depth`: of the pages, in nibbles."""
        self.depth = depth
        self.leaves = 0
        self.size = 0
        self._batch = batch
        self._pages = pages
        self._tops = tops
        self._upper: list[Entries] = []

    def add(self, leaves: Leaves) -> list[tuple[PagePath, int, int]]:
        """Write the pages of a slice; return for each its path and its rows [first, last)."""
        _, tops = build(entries_of(leaves), page_depth=self.depth, rooted=False)
        rows = tops.firsts.tolist()
        values = encode_pages(leaves, tops.firsts, self.depth)
        records = tops_of(tops, leaves)
        places = []
        for first, last, value, record in zip(rows, rows[1:], values, records, strict=False):
            if last - first > MOST_LEAVES:
                raise LocalProtocolError("random keys do not fill a page like this")
            path = path_of(leaves.key(first), self.depth)
            self._batch.put(self._pages + path.stored, value)
            self._batch.put(self._tops + path.stored, record.encode())
            places.append((path, first, last))
        self._upper.append(entries_of_tops(records))
        self.leaves += len(leaves)
        self.size += leaves.nbytes
        return places

    def root(self) -> bytes:
        """Root of the trie, after its last slice."""
        return build(joined(self._upper))[0].tobytes() if self._upper else EMPTY_TRIE_ROOT
