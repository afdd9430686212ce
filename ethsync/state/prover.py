"""Merkle proofs from leaves: the nodes on the path to a key, recomputed because no trie node is stored.

A trie is walked from branch to branch. What a branch needs to be written is its children's references, and one kernel
call over everything below it gives them. So a *source* of branches is all that a proof asks for: the leaves of a page
or of a small trie are one (`EntryTrie`), the top records of pages are another (`TopTrie`).

Paths are strings of hexadecimal digits: comparing and cutting strings is the quickest way to handle nibbles in Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ethsync.errors import LocalProtocolError
from ethsync.hashing import keccak256
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.state.account import decode_slim
from ethsync.state.columns import Entries, Leaves, entries_of
from ethsync.state.tries import build, top_entries
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Sequence

EMPTY_STRING = b"\x80"

NODE_HASH = 32
"""A node of at least so many bytes is referred to by its hash, a shorter one stands in its parent (Yellow Paper,
appendix D)."""


@dataclass(frozen=True, slots=True)
class Child:
    """What hangs below a branch, or is the top of a trie: a branch, or a leaf.

    path: hexadecimal digits from the root of the trie to the branch, those of an extension above it included; 64 of
    them for a leaf. reference: hash or short RLP of the branch; the value of the leaf.
    """

    path: str
    reference: bytes

    @property
    def is_leaf(self) -> bool:
        """Whether this is a leaf."""
        return len(self.path) == KEY_NIBBLES

    def node(self, start: int) -> bytes | None:
        """RLP of the leaf or extension whose path begins at nibble `start`; None if the branch itself is there."""
        path = rlp.encode_bytes(hex_prefix(self.path[start:], leaf=self.is_leaf))
        if self.is_leaf:
            return rlp.encode_list((path, rlp.encode_bytes(self.reference)))
        return rlp.encode_list((path, quoted(self.reference))) if len(self.path) > start else None

    def below(self, start: int) -> bytes:
        """How the branch whose children's paths begin at nibble `start` refers to this."""
        node = self.node(start)
        return quoted(self.reference) if node is None else as_reference(node)


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch node: its RLP, and its 16 children."""

    node: bytes
    children: tuple[Child | None, ...]


class BranchSource(Protocol):
    """A trie, as far as a proof needs it."""

    def top(self) -> Child | None:
        """The highest branch, or the only leaf; None if the trie is empty."""

    def branch(self, path: str) -> Branch:
        """The branch at a path that `top` or another branch has named."""


def hex_prefix(path: str, *, leaf: bool) -> bytes:
    """Hex-prefix encoding of a path (Yellow Paper, appendix C)."""
    flag = 2 if leaf else 0
    return bytes.fromhex(f"{flag + 1:x}{path}" if len(path) % 2 else f"{flag:x}0{path}")


def quoted(reference: bytes) -> bytes:
    """A reference as an item of its parent: a hash as a string, a short node as it is."""
    return b"\xa0" + reference if len(reference) == NODE_HASH else reference


def as_reference(node: bytes) -> bytes:
    """How a parent refers to a node, as an item of the parent."""
    return b"\xa0" + keccak256(node) if len(node) >= NODE_HASH else node


def path_nodes(source: BranchSource, key: bytes) -> list[bytes]:
    """Nodes on the path to a 32-byte key from the root down, as far as the trie has them: a Merkle proof.

    It shows the key's value, or that the key is absent. Nodes that stand in their parents are left out; an empty trie
    has no nodes.
    """
    wanted = key.hex()
    found: list[bytes] = []
    child, start = source.top(), 0
    while child is not None:
        node = child.node(start)
        if node is not None:
            _keep(found, node)
        depth = len(child.path)
        if child.is_leaf or child.path[start:depth] != wanted[start:depth]:
            break
        branch = source.branch(child.path)
        _keep(found, branch.node)
        child, start = branch.children[int(wanted[depth], 16)], depth + 1
    return found


def _keep(found: list[bytes], node: bytes) -> None:
    """The root is always a node of its own, others if they are long enough."""
    if len(node) >= NODE_HASH or not found:
        found.append(node)


class EmbeddedNode(LocalProtocolError):
    """A node that has no hash of its own, because it stands in its parent."""


def node_at(source: BranchSource, path: str) -> bytes | None:
    """RLP of the node at exactly this path; None if the trie has none there. Raises EmbeddedNode."""
    child, start = source.top(), 0
    while child is not None:
        node = child.node(start)
        depth = len(child.path)
        if node is not None and start == len(path):
            return _whole(node, path)
        if child.is_leaf or depth > len(path) or child.path[start:depth] != path[start:depth]:
            return None
        branch = source.branch(child.path)
        if depth == len(path):
            return _whole(branch.node, path)
        child, start = branch.children[int(path[depth], 16)], depth + 1
    return None


def _whole(node: bytes, path: str) -> bytes:
    if len(node) < NODE_HASH and path:
        raise EmbeddedNode(f"the node at {path} stands in its parent")
    return node


class EntryTrie:
    """Branches over sorted entries that lie in memory: leaves, or tops of pages. Each call hashes what is below."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries

    def top(self) -> Child | None:
        """See BranchSource."""
        if not len(self.entries):
            return None
        return children_of(self.entries, 0)[0]

    def branch(self, path: str) -> Branch:
        """See BranchSource."""
        first, last = rows_under(self.entries, path)
        return branch_of(children_of(part_of(self.entries, first, last), len(path) + 1), len(path))


def leaf_trie(leaves: Leaves) -> EntryTrie:
    """A trie, or the part of one in a page, from all its leaves."""
    return EntryTrie(entries_of(leaves))


def part_of(entries: Entries, first: int, last: int) -> Entries:
    """Rows [first, last) of entries."""
    return Entries(
        entries.keys[first:last], entries.paths[first:last], entries.kinds[first:last], entries.buf,
        entries.offsets[first:last], entries.lengths[first:last],
    )  # fmt: skip


def rows_under(entries: Entries, path: str) -> tuple[int, int]:
    """Rows of the entries under a path, by binary search."""
    low = bytes.fromhex(path.ljust(KEY_NIBBLES, "0"))
    high = bytes.fromhex(path.ljust(KEY_NIBBLES, "f"))
    first = _row_at(entries, low)
    last = _row_at(entries, high)
    return first, last + (last < len(entries) and entries.keys[last].tobytes() == high)


def _row_at(entries: Entries, key: bytes) -> int:
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        if entries.keys[middle].tobytes() < key:
            low = middle + 1
        else:
            high = middle
    return low


def children_of(entries: Entries, depth: int) -> list[Child]:
    """The top branch or leaf under each path of `depth` nibbles. Raises TrieError."""
    _, tops = build(entries, page_depth=depth, rooted=False)
    firsts, depths, sizes = tops.firsts.tolist(), tops.depths.tolist(), tops.sizes.tolist()
    found = []
    for group, (row, below, size) in enumerate(zip(firsts, depths, sizes, strict=False)):
        key = entries.keys[row].tobytes().hex()
        found.append(Child(key[:below], tops.references[group, :size].tobytes()) if size else _leaf(entries, row, key))
    return found


def _leaf(entries: Entries, row: int, key: str) -> Child:
    at = int(entries.offsets[row])
    value = entries.buf[at : at + int(entries.lengths[row])].tobytes()
    return Child(key, decode_slim(value).full() if entries.kinds[row] == SLIM_ACCOUNT else value)


def branch_of(children: Sequence[Child], depth: int) -> Branch:
    """The branch at `depth` with these children."""
    slots: list[Child | None] = [None] * 16
    for child in children:
        slots[int(child.path[depth], 16)] = child
    items = [EMPTY_STRING if child is None else child.below(depth + 1) for child in slots]
    return Branch(rlp.encode_list((*items, EMPTY_STRING)), tuple(slots))


class TopTrie:
    """The upper part of a trie whose pages are stored: everything down to `depth` nibbles, in memory.

    levels[k] are the entries under all paths of k nibbles, so that a branch costs a look at 16 of them and no hashing
    of more. All levels take 16/15 of the space of the lowest, about 80 bytes per entry.
    """

    def __init__(self, lowest: Entries, depth: int) -> None:
        """`lowest`: the tops under the paths of `depth` nibbles, or of longer ones."""
        levels = [lowest]
        for level in range(depth - 1, -1, -1):
            levels.append(raised(levels[-1], level))
        self.depth = depth
        self._levels = levels[::-1]

    @property
    def lowest(self) -> Entries:
        """The entries from which this was made."""
        return self._levels[-1]

    def top(self) -> Child | None:
        """See BranchSource."""
        if not len(self._levels[0]):
            return None
        return children_of(self._levels[0], 0)[0]

    def branch(self, path: str) -> Branch:
        """See BranchSource. The path has fewer than `depth` nibbles."""
        level = self._levels[len(path) + 1]
        first, last = rows_under(level, path)
        return branch_of(children_of(part_of(level, first, last), len(path) + 1), len(path))


def raised(entries: Entries, depth: int) -> Entries:
    """The tops of entries under paths of `depth` nibbles, as entries themselves. Raises TrieError."""
    if not len(entries):
        return entries
    _, tops = build(entries, page_depth=depth, rooted=False)
    rows = tops.firsts[:-1]
    singles = np.flatnonzero(tops.sizes == 0)
    values = [b""] * len(tops)
    for group in singles.tolist():
        values[group] = _leaf(entries, int(rows[group]), "").reference
    return top_entries(tops, np.ascontiguousarray(entries.keys[rows]), values)
