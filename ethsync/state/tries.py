"""Roots and page tops of Merkle Patricia tries, by way of one kernel (`ethsync.kernels.trie.build`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import EthsyncError
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.kernels import trie
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.kernels.trie import BRANCH, LEAF, NO_DEPTH
from ethsync.state.columns import Entries, Leaves, entries_of, leaves_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ethsync.arrays import Bytes, Ints

_WORDS = {
    trie.BAD_ORDER: "keys are not strictly ascending, or one path is the beginning of another",
    trie.BAD_VALUE: "a value is empty, too long or outside its buffer",
    trie.BAD_ACCOUNT: "an account is not canonical",
    trie.BAD_REFERENCE: "a node reference has an impossible length",
    trie.MISPLACED_REFERENCE: "a node of unknown kind would have to move under another parent",
    trie.BAD_INPUT: "columns do not fit together",
}


class TrieError(EthsyncError):
    """Entries from which no trie can be built. Callers turn it into the fault of whoever supplied them."""


@dataclass(frozen=True, slots=True, eq=False)
class Tops:
    """The top nodes of g groups of entries, each group being all the entries under one path.

    firsts: (g + 1,) int64, first entry of each group, then the number of entries. depths: (g,) int64, nibbles that
    lead to the top branch; 64 where the group is one leaf. references: (g, 32) uint8 with sizes (g,) uint8: 32 for a
    hash, less for an embedded node, 0 for a single leaf.
    """

    firsts: Ints
    depths: Ints
    references: Bytes
    sizes: Bytes

    def __len__(self) -> int:
        return len(self.depths)

    def reference(self, group: int) -> bytes:
        """Reference of the group's top branch; empty for a single leaf."""
        return self.references[group, : int(self.sizes[group])].tobytes()


def build(
    entries: Entries, starts: Ints | None = None, *, page_depth: int = NO_DEPTH, rooted: bool = True
) -> tuple[Bytes, Tops]:
    """Build one trie, or a forest whose tries begin at the entries `starts` (ascending, the first is 0).

    Returns the roots (t, 32), empty unless `rooted`, and the top nodes under paths of `page_depth` nibbles (none with
    NO_DEPTH; one group per trie with 0). Raises TrieError.
    """
    n = len(entries)
    if starts is None:
        starts = np.zeros(1, np.int64)
    groups = n if page_depth < NO_DEPTH else 0
    roots = np.empty((len(starts) if rooted else 0, 32), np.uint8)
    refs = np.empty((2 * n, 4), np.uint64)
    firsts, depths = np.empty(groups, np.int64), np.empty(groups, np.int64)
    references, sizes = np.empty((groups, 4), np.uint64), np.empty(groups, np.uint8)
    code = trie.build(
        entries.keys, entries.paths, entries.kinds, entries.buf, entries.offsets, entries.lengths, starts, page_depth,
        rooted, refs, np.empty(2 * n, np.uint8), np.empty((n + 1, 24), np.int64), firsts, depths, references, sizes,
        roots,
    )  # fmt: skip
    if code < 0:
        raise TrieError(_WORDS[code])
    tops = Tops(
        np.append(firsts[:code], n), depths[:code].copy(), references[:code].view(np.uint8).copy(), sizes[:code].copy()
    )
    return roots, tops


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """All nodes of a forest over n entries, for looking up what a branch at some path refers to.

    above: (n,) the branch above each entry, -1 for none. depths, parents, firsts: per branch, its nibbles, the branch
    above it and its first entry. children: (m, 16) rows of the references, -1 for none: below n that of an entry, else
    n plus that of a branch. references: (2n, 4) uint64 with sizes (2n,) uint8, each as the parent has it, an extension
    between them included.
    """

    keys: Bytes
    above: Ints
    depths: Ints
    parents: Ints
    firsts: Ints
    children: Ints
    references: NDArray[np.uint64]
    sizes: Bytes

    def compact(self) -> Structure:
        """Copy into arrays of exactly the needed size: a quarter of what building it takes."""
        n, m = len(self.keys), 0
        more = int(self.above[:n].max(initial=-1)) + 1
        while more > m:  # every branch is above an entry, or above such a branch
            m, more = more, int(self.parents[:more].max(initial=-1)) + 1
        return Structure(
            self.keys, self.above[:n].copy(), self.depths[:m].copy(), self.parents[:m].copy(), self.firsts[:m].copy(),
            self.children[:m].copy(), self.references[: n + m].copy(), self.sizes[: n + m].copy(),
        )  # fmt: skip

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in self.__slots__)


def structure(entries: Entries, starts: Ints | None = None) -> Structure:
    """Build a forest, as `build` does, and keep its nodes. Raises TrieError."""
    n = len(entries)
    if starts is None:
        starts = np.zeros(1, np.int64)
    references, sizes = np.empty((2 * n, 4), np.uint64), np.empty(2 * n, np.uint8)
    work = np.empty((n + 1, 24), np.int64)
    code = 0
    if n:
        code = trie.build(
            entries.keys, entries.paths, entries.kinds, entries.buf, entries.offsets, entries.lengths, starts, NO_DEPTH,
            False, references, sizes, work, np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4), np.uint64),
            np.empty(0, np.uint8), np.empty((0, 32), np.uint8),
        )  # fmt: skip
    if code < 0:
        raise TrieError(_WORDS[code])
    columns = work.reshape(24, n + 1)
    return Structure(
        entries.keys, columns[trie.ABOVE], columns[trie.DEPTHS], columns[trie.PARENTS], columns[trie.FIRSTS],
        work.reshape(-1)[trie.CHILDREN * (n + 1) :].reshape(n + 1, 16), references, sizes,
    )  # fmt: skip


def root(leaves: Leaves) -> bytes:
    """Root hash of the trie of these leaves; the empty trie has a root too. Raises TrieError."""
    if not len(leaves):
        return EMPTY_TRIE_ROOT
    return build(entries_of(leaves))[0].tobytes()


def roots(leaves: Leaves, starts: Ints) -> Bytes:
    """Roots (t, 32) of many tries at once; trie k has the leaves from starts[k] on, none is empty. Raises TrieError."""
    return build(entries_of(leaves), starts)[0]


def root_of(keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """Root hash from sorted 32-byte keys and leaf values as Python bytes. Raises TrieError."""
    return root(leaves_of(keys, values))


def page_tops(leaves: Leaves, starts: Ints) -> Tops:
    """Top nodes of many pages at once; page k has the leaves from starts[k] on. Raises TrieError."""
    return build(entries_of(leaves), starts, page_depth=0, rooted=False)[1]


def top_entries(tops: Tops, keys: Bytes, leaf_values: Sequence[bytes]) -> Entries:
    """Entries of the upper trie from top nodes: a branch at its depth, or a single leaf with its full value.

    keys: (g, 32), the first key of each group. leaf_values: per group, the trie leaf value if the group is one leaf.
    """
    g = len(tops)
    single = tops.sizes == 0
    kinds = np.where(single, LEAF, BRANCH).astype(np.uint8)
    tail = b"".join(leaf_values)
    buf = np.concatenate([tops.references.reshape(-1), np.frombuffer(tail, np.uint8)])
    value_sizes = np.fromiter((len(value) for value in leaf_values), np.int64, g)
    offsets = np.where(single, 32 * g + np.cumsum(value_sizes) - value_sizes, 32 * np.arange(g))
    lengths = np.where(single, value_sizes, tops.sizes).astype(np.int64)
    paths = np.where(single, KEY_NIBBLES, tops.depths).astype(np.uint8)
    return Entries(masked(keys, paths), paths, kinds, buf, offsets, lengths)


def masked(keys: Bytes, paths: Bytes) -> Bytes:
    """Copy keys (n, 32) with everything after the first paths[i] nibbles set to zero."""
    position = 2 * np.arange(32)
    depth = paths.astype(np.int64)[:, None]
    mask = np.where(position + 2 <= depth, 0xFF, np.where(position + 1 == depth, 0xF0, 0)).astype(np.uint8)
    return keys & mask
