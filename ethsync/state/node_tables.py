"""Trie nodes by their paths, for serving them: all nodes of a part of a trie are made together and kept for a while.

Peers that heal ask for nodes in the order of their paths, so what one asks for lies in few pages. A page's nodes take
about 80 microseconds to make together, and one alone not much less: everything below it has to be hashed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import LocalProtocolError
from ethsync.kernels import nodes as kernel
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.state.columns import KEY_BYTES, Entries, Leaves, entries_of
from ethsync.state.paged import SmallTrie
from ethsync.state.pages import PagePath, path_of
from ethsync.state.tries import masked, structure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ethsync.arrays import Bytes, Ints
    from ethsync.state.paged import PagedTrie
    from ethsync.state.view import StorageTrie

CACHED_BYTES = 128 << 20
"""Bytes of tables kept: the nodes of some 1,500 pages of 384 accounts. Who heals goes through a window of pages."""

ENTRY_BYTES = 340
"""At most so much is written per entry besides its value: a leaf takes up to 110 bytes more (path, headers, two hashes
that the slim form leaves out), a branch 53 and its children 33 each, an extension 72; there is a branch per entry at
most, an extension per branch and per entry."""

NO_NODE = 255
"""As a depth: longer than any path."""


@dataclass(frozen=True, slots=True, eq=False)
class NodePaths:
    """Paths of nodes: paths (p, 32) padded with zeros, depths (p,) in nibbles."""

    paths: Bytes
    depths: Ints

    def __len__(self) -> int:
        return len(self.depths)

    def __getitem__(self, part: slice) -> NodePaths:
        return NodePaths(self.paths[part], self.depths[part])


def read_compact_paths(encoded: Sequence[bytes]) -> NodePaths:
    """Read hex-prefix encoded paths (Yellow Paper, appendix C), those of leaves too; empty bytes are the root.

    As in geth no bits are checked but the one that says whether the number of nibbles is odd.
    """
    width = KEY_BYTES + 1
    rows = np.frombuffer(b"".join([path[:width].ljust(width, b"\0") for path in encoded]), np.uint8)
    rows = rows.reshape(-1, width)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    odd = (rows[:, 0] & 0x10) > 0
    depths = np.where(lengths > width, NO_NODE, np.maximum(2 * lengths - 2 + odd, 0))
    shifted = (rows[:, :-1] << np.uint8(4)) | (rows[:, 1:] >> np.uint8(4))
    return NodePaths(np.ascontiguousarray(np.where(odd[:, None], shifted, rows[:, 1:])), depths)


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """The nodes of a trie, or of the part of one under some path, sorted by their paths.

    keys: (m, 32) padded paths; depths: (m,) nibbles; offsets, sizes: (m + 1,) places in data, size 0 for a node that
    stands in its parent; the last is for what is not there.
    """

    keys: Bytes
    depths: Ints
    offsets: Ints
    sizes: Ints
    data: bytes

    @property
    def nbytes(self) -> int:
        """Bytes that this takes in memory, about."""
        return len(self.data) + len(self.depths) * (KEY_BYTES + 3 * 8)

    def find(self, wanted: NodePaths) -> Ints:
        """Rows of the nodes at exactly these paths, -1 where there is none."""
        found = np.empty(len(wanted), np.int64)
        if kernel.find_nodes(self.keys, self.depths, wanted.paths, wanted.depths, found) < 0:
            raise LocalProtocolError("paths and nodes do not fit together")
        return found

    def nodes(self, rows: Ints) -> Iterator[bytes | None]:
        """RLP of the nodes in some rows: None for one that stands in its parent, empty for the row -1."""
        for row, start, size in zip(rows.tolist(), self.offsets[rows].tolist(), self.sizes[rows].tolist(), strict=True):
            yield (self.data[start : start + size] or None) if row >= 0 else b""


def node_table(entries: Entries, *, rooted: bool) -> NodeTable:
    """All nodes over these entries.

    rooted: whether they are a whole trie. If not, they are all entries under some path, and what is above their highest
    branch is left out. Raises TrieError.
    """
    n = len(entries)
    local = structure(entries)
    keys, depths = np.empty((3 * n, KEY_BYTES), np.uint8), np.empty(3 * n, np.int64)
    offsets, sizes = np.empty(3 * n, np.int64), np.empty(3 * n, np.int64)
    out = np.empty(int(entries.lengths.sum()) + ENTRY_BYTES * n, np.uint8)
    counts = np.zeros(2, np.int64)
    code = 0
    if n:
        code = kernel.write_nodes(
            entries.keys, entries.paths, entries.kinds, entries.buf, entries.offsets, entries.lengths, rooted,
            local.above, local.depths, local.parents, local.firsts, local.children, local.references, local.sizes,
            out, keys, depths, offsets, sizes, counts,
        )  # fmt: skip
    if code < 0:
        raise LocalProtocolError("nodes do not fit where they should")
    m, size = counts.tolist()
    return NodeTable(
        keys[:m].copy(), depths[:m].copy(), np.append(offsets[:m], 0), np.append(sizes[:m], 0), out[:size].tobytes()
    )


class NodeTables:
    """Nodes of the tries of some states, with the tables that were used last. Used from worker threads."""

    def __init__(self, most: int = CACHED_BYTES) -> None:
        """`most`: bytes of tables kept."""
        self._most = most
        self._size = 0
        self._tables: OrderedDict[tuple[bytes, PagePath | None], NodeTable] = OrderedDict()
        self._lock = Lock()

    def nodes(self, name: bytes, trie: StorageTrie, paths: NodePaths) -> Iterator[bytes | None]:
        """The nodes at these paths of a trie, one by one: empty where there is none, None for one in its parent.

        name: tells the trie from all others. A table is made when the first node that it may have is
        taken, so whoever takes no more costs no more. Raises DatadirDamaged.
        """
        if isinstance(trie, SmallTrie):
            small = trie.leaves
            return _nodes(self._table(name, None, lambda: node_table(entries_of(small), rooted=True)), paths)
        upper = self._table(name, None, lambda: node_table(trie.upper_entries(), rooted=True))
        if trie.upper_depth < trie.depth:
            return _search(upper, paths, trie.upper_depth, partial(self._between, name, trie))
        return _search(upper, paths, trie.depth, partial(self._in_page, name, trie))

    def _between(self, name: bytes, trie: PagedTrie, paths: NodePaths) -> Iterator[bytes | None]:
        """Nodes under one path that ends between the upper part of a trie and its pages."""
        under = path_of(paths.paths[0].tobytes(), trie.upper_depth)
        table = self._table(name, under, lambda: node_table(trie.tops_under(under), rooted=False))
        return _search(table, paths, trie.depth, partial(self._in_page, name, trie))

    def _in_page(self, name: bytes, trie: PagedTrie, paths: NodePaths) -> Iterator[bytes | None]:
        """Nodes under one path of the page depth."""
        usual = path_of(paths.paths[0].tobytes(), trie.depth)
        table = self._known(name, usual)
        if table is None:
            found = trie.page_at(usual.prefix, usual.depth)
            if found is None:  # keys are crowded here, so that pages have longer paths; or there are none
                return self._in_crowd(name, trie, paths)
            table = self._table(name, usual, partial(_page_table, found[1]))
        return _nodes(table, paths)

    def _in_crowd(self, name: bytes, trie: PagedTrie, paths: NodePaths) -> Iterator[bytes | None]:
        for row, depth in enumerate(paths.depths.tolist()):
            found = trie.page_at(paths.paths[row].tobytes(), depth)
            if found is None:
                yield b""
                continue
            path, leaves = found
            yield from _nodes(self._table(name, path, partial(_page_table, leaves)), paths[row : row + 1])

    def _known(self, name: bytes, path: PagePath | None) -> NodeTable | None:
        with self._lock:
            table = self._tables.get((name, path))
            if table is not None:
                self._tables.move_to_end((name, path))
            return table

    def _table(self, name: bytes, path: PagePath | None, make: Callable[[], NodeTable]) -> NodeTable:
        """The table under a path of a trie, None for that of its upper part. Two threads may make the same one."""
        table = self._known(name, path)
        if table is None:
            table = make()
            with self._lock:
                before = self._tables.pop((name, path), None)
                self._size += table.nbytes - (before.nbytes if before is not None else 0)
                self._tables[name, path] = table
                while self._size > self._most and len(self._tables) > 1:
                    self._size -= self._tables.popitem(last=False)[1].nbytes
        return table


def _page_table(leaves: Leaves) -> NodeTable:
    return node_table(entries_of(leaves), rooted=False)


def _nodes(table: NodeTable, paths: NodePaths) -> Iterator[bytes | None]:
    """Nodes of a table by their paths."""
    return table.nodes(table.find(paths))


def _search(
    table: NodeTable, paths: NodePaths, depth: int, below: Callable[[NodePaths], Iterator[bytes | None]]
) -> Iterator[bytes | None]:
    """Nodes of a table; those that it has not and that may lie under paths of `depth` nibbles from `below` these."""
    rows = table.find(paths)
    absent = (rows < 0) & (paths.depths >= depth) & (paths.depths <= KEY_NIBBLES)
    places = masked(paths.paths, np.full(len(paths), depth, np.uint8))
    ends = (absent[1:] != absent[:-1]) | (absent[1:] & (places[1:] != places[:-1]).any(axis=1))
    cuts = [0, *(np.flatnonzero(ends) + 1).tolist(), len(paths)]
    for first, last in pairwise(cuts):
        if absent[first]:
            yield from below(paths[first:last])
        else:
            yield from table.nodes(rows[first:last])
