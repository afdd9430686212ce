"""What a remote trie has that a local one has not: nodes of the one compared with leaves or page tops of the other.

Pure functions over columns. A node is at a *path*: nibbles from the root, padded with zeros to 32 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import Disproved, LocalProtocolError, MalformedMessage
from ethsync.kernels import difference as kernel
from ethsync.kernels import keccak
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Leaves, join, no_leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.arrays import Bytes, Ints
    from ethsync.state.replies import Blobs
    from ethsync.state.tries import Structure

SMALLEST_LEAF = 3
"""Bytes of the shortest leaf node: a list of two strings of a byte each. Short ones stand inside their parents."""

_SHARES = 16.0 ** -np.arange(KEY_NIBBLES + 1)
"""Of the key space, by the number of nibbles above a subtree."""


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Nodes of a trie to fetch: paths (w, 32) padded with zeros, depths (w,) in nibbles, hashes (w, 32)."""

    paths: Bytes
    depths: Ints
    hashes: Bytes

    def __len__(self) -> int:
        return len(self.depths)

    def rows(self, which: Ints) -> Wanted:
        """Some of them, in the order given."""
        return Wanted(self.paths[which], self.depths[which], self.hashes[which])

    def part(self, first: int, last: int) -> Wanted:
        """Those from `first` up to but not including `last`."""
        return Wanted(self.paths[first:last], self.depths[first:last], self.hashes[first:last])


def join_wanted(parts: Sequence[Wanted]) -> Wanted:
    """Nodes of several, one after another."""
    return Wanted(
        np.concatenate([np.empty((0, 32), np.uint8), *(part.paths for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.depths for part in parts)]),
        np.concatenate([np.empty((0, 32), np.uint8), *(part.hashes for part in parts)]),
    )


def root_wanted(root: bytes) -> Wanted:
    """The root node, from which every walk begins."""
    return Wanted(np.zeros((1, 32), np.uint8), np.zeros(1, np.int64), np.frombuffer(root, np.uint8).reshape(1, 32))


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """What nodes of the remote trie say about the local one.

    wanted: nodes below that differ. leaves: leaves of the remote trie that were seen, in the order of the nodes, as
    they are stored; some may be held already. cleared (c, 32), cleared_depths (c, 2): under the first so many nibbles
    only what lies under the second number of them stays, nothing if that is 0. equal: share of the key space, 0 to 1,
    that needs nothing more once the leaves are stored.
    """

    wanted: Wanted
    leaves: Leaves
    cleared: Bytes
    cleared_depths: Ints
    equal: float


def compare(buf: Bytes, offsets: Ints, lengths: Ints, at: Wanted, local: Structure, kind: int) -> Difference:
    """Compare nodes, whose hashes have been checked, with the local trie. Raises MalformedMessage.

    at: where the nodes belong. kind: what the local leaves are, `SLIM_ACCOUNT` or `LEAF`.
    """
    b = len(offsets)
    room = 16 * b
    wanted, depths, hashes = np.empty((room, 32), np.uint8), np.empty(room, np.int64), np.empty((room, 32), np.uint8)
    seen = int(lengths.sum()) // SMALLEST_LEAF
    keys, places, sizes = np.empty((seen, 32), np.uint8), np.empty(seen, np.int64), np.empty(seen, np.int64)
    # Each clearing takes away a local entry at least, and no two of them the same.
    cleared = np.empty((len(local.keys) + b, 32), np.uint8)
    cleared_depths = np.empty((len(cleared), 2), np.int64)
    equal, counts = np.zeros(KEY_NIBBLES + 1, np.int64), np.zeros(3, np.int64)
    code = kernel.compare(
        buf, offsets, lengths, at.paths, at.depths, local.keys, local.above, local.depths, local.parents,
        local.children, local.references, local.sizes, wanted, depths, hashes, keys, places, sizes, cleared,
        cleared_depths, equal, counts,
    )  # fmt: skip
    if code == kernel.BAD_INPUT:
        raise LocalProtocolError("nodes and paths do not fit together")
    if code < 0:
        raise MalformedMessage(f"node {-code // 16} of the reply is not a trie node")
    w, n, c = counts.tolist()
    leaves = Leaves(keys[:n], buf, places[:n], sizes[:n], LEAF)
    return Difference(
        Wanted(wanted[:w], depths[:w], hashes[:w]),
        slim(leaves) if kind == SLIM_ACCOUNT else leaves,
        cleared[:c],
        cleared_depths[:c],
        float(equal @ _SHARES),
    )


def slim(leaves: Leaves) -> Leaves:
    """Accounts from trie leaves, as they are stored. Raises MalformedMessage."""
    out = np.empty(int(leaves.lengths.sum()), np.uint8)
    offsets, lengths = np.empty(len(leaves), np.int64), np.empty(len(leaves), np.int64)
    code = kernel.slim_accounts(leaves.buf, leaves.offsets, leaves.lengths, out, offsets, lengths)
    if code < 0:
        raise MalformedMessage("a leaf of the account trie is not an account")
    return Leaves(leaves.keys, out[:code], offsets, lengths, SLIM_ACCOUNT)


def match_nodes(blobs: Blobs, wanted: Wanted) -> tuple[Ints, Ints]:
    """Rows of the wanted nodes that came, and the blobs that they are: matched by their hashes, in order.

    Peers leave out what they do not have; some send an empty string for it (geth). Raises Disproved for a node that
    was not asked for.
    """
    full = np.flatnonzero(blobs.lengths)
    digests = np.empty((len(full), 32), np.uint8)
    if keccak.hash_many(blobs.buf, blobs.offsets[full], blobs.lengths[full], digests) < 0:
        raise LocalProtocolError("nodes lie outside their message")
    if len(full) <= len(wanted) and (digests == wanted.hashes[: len(full)]).all():
        return np.arange(len(full)), full
    rows: list[int] = []
    names, hashes = digests.tobytes(), wanted.hashes.tobytes()
    at = 0
    for k in range(len(full)):
        name = names[32 * k : 32 * k + 32]
        while at < len(wanted) and hashes[32 * at : 32 * at + 32] != name:
            at += 1
        if at == len(wanted):
            raise Disproved(f"a trie node with hash {name.hex()} was sent, which was not asked for")
        rows.append(at)
        at += 1
    return np.array(rows, np.int64), full


def joined(parts: Sequence[Difference], kind: int) -> Difference:
    """What several calls found, as one."""
    return Difference(
        join_wanted([part.wanted for part in parts]),
        join([no_leaves(kind), *(part.leaves for part in parts)]),
        np.concatenate([np.empty((0, 32), np.uint8), *(part.cleared for part in parts)]),
        np.concatenate([np.empty((0, 2), np.int64), *(part.cleared_depths for part in parts)]),
        sum(part.equal for part in parts),
    )
