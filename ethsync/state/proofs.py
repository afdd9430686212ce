"""Range proofs: is this reply exactly what the trie with a trusted root holds from `origin` on?

The leaves of the reply and what the two edge paths show outside the range must build the trusted root. Nothing inside
the range comes from the proof, so a gap, a changed value or an invented leaf gives another root (devp2p caps/snap.md;
the cases follow go-ethereum's trie/proof_test.go).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import CutShort, Disproved, LocalProtocolError, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.kernels import keccak, proof
from ethsync.kernels.trie import NO_DEPTH
from ethsync.state.columns import ZERO_KEY, Entries, Leaves, entries_of
from ethsync.state.tries import Tops, TrieError, build

if TYPE_CHECKING:
    from ethsync.arrays import Bytes, Ints
    from ethsync.state.replies import ProofNodes


@dataclass(frozen=True, slots=True, eq=False)
class Proven:
    """A proven range.

    leaves: all leaves of the trie from the origin to the last key. more: whether the trie goes on after them.
    groups: (g + 1,) int64, rows at which the leaves enter another page, and their number. tops: top node of each
    group, as of these leaves alone; wrong for the first group if `open_left`, for the last if `open_right`, because
    then the trie has more under the same page path before or after the range.
    """

    leaves: Leaves
    more: bool
    groups: Ints
    tops: Tops
    open_left: bool
    open_right: bool


def verify_range(
    root: bytes, origin: bytes, leaves: Leaves, nodes: ProofNodes, *, page_depth: int = NO_DEPTH
) -> Proven:
    """Prove that `leaves` are all the leaves of the trie `root` from `origin` to the last of them, or to its end.

    Without proof nodes the leaves must be the whole trie and origin zero. Without leaves the proof must show that
    nothing is at or after the origin. Raises MalformedMessage for bytes that make no sense, Disproved if the root
    is not met, CutShort if there are no leaves where the proof shows some.
    """
    if len(leaves) and leaves.key(0) < origin:
        raise MalformedMessage("the reply begins before the origin that was asked for")
    if not len(nodes):
        if origin != ZERO_KEY:
            raise MalformedMessage("a part of a trie was sent without a proof")
        return _verify_whole(root, leaves, page_depth)
    hashes = np.empty((len(nodes), 32), np.uint8)
    if keccak.hash_many(nodes.buf, nodes.offsets, nodes.lengths, hashes) < 0:
        raise LocalProtocolError("proof nodes lie outside their message")
    last = leaves.key(-1) if len(leaves) else origin
    left = _edge(root, origin, nodes, hashes, right=False)
    right = _edge(root, last, nodes, hashes, right=True)
    if not len(leaves) and len(right):
        raise CutShort("an empty reply hides leaves: its own proof shows that the trie goes on")
    entries = _joined(left, leaves, right)
    if not len(entries):
        if root != EMPTY_TRIE_ROOT:
            raise Disproved("the reply says that the trie is empty, its root says that it is not")
        return _verify_whole(root, leaves, page_depth)
    try:
        roots, tops = build(entries, page_depth=page_depth)
    except TrieError as error:
        raise MalformedMessage(f"the reply cannot be a part of any trie: {error}") from error
    if roots.tobytes() != root:
        raise Disproved(f"the range from {origin.hex()} gives root {roots.tobytes().hex()} instead of {root.hex()}")
    return _cut(leaves, tops, len(left), len(right))


def _verify_whole(root: bytes, leaves: Leaves, page_depth: int) -> Proven:
    if not len(leaves):
        if root != EMPTY_TRIE_ROOT:
            raise Disproved("an empty reply without proof for a trie that is not empty")
        empty = Tops(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty((0, 32), np.uint8), np.empty(0, np.uint8))
        return Proven(leaves, False, empty.firsts, empty, False, False)
    try:
        roots, tops = build(entries_of(leaves), page_depth=page_depth)
    except TrieError as error:
        raise MalformedMessage(f"the reply cannot be a trie: {error}") from error
    if roots.tobytes() != root:
        raise Disproved(f"the whole trie gives root {roots.tobytes().hex()} instead of {root.hex()}")
    groups = tops.firsts if len(tops) else np.array([0, len(leaves)], np.int64)
    return Proven(leaves, False, groups, tops, False, False)


def _cut(leaves: Leaves, tops: Tops, left: int, right: int) -> Proven:
    """Restrict the groups of left entries, leaves and right entries to the leaves."""
    n = len(leaves)
    firsts = tops.firsts - left
    inside = (firsts[1:] > 0) & (firsts[:-1] < n)
    if not inside.any():
        empty = Tops(np.zeros(1, np.int64), tops.depths[:0], tops.references[:0], tops.sizes[:0])
        return Proven(leaves, right > 0, np.array([0, n] if n else [0]), empty, left > 0, right > 0)
    first, last = int(inside.argmax()), len(inside) - int(inside[::-1].argmax())
    groups = np.clip(firsts[first : last + 1], 0, n)
    kept = Tops(groups, tops.depths[first:last], tops.references[first:last], tops.sizes[first:last])
    return Proven(leaves, right > 0, groups, kept, bool(firsts[first] < 0), bool(firsts[last] > n))


def _edge(root: bytes, key: bytes, nodes: ProofNodes, hashes: Bytes, *, right: bool) -> Entries:
    """What the path to `key` shows on its left, or on its right, in ascending order."""
    room = proof.MOST_ENTRIES // 2
    keys, paths, kinds = np.empty((room, 32), np.uint8), np.empty(room, np.uint8), np.empty(room, np.uint8)
    offsets, lengths = np.empty(room, np.int64), np.empty(room, np.int64)
    ends = np.frombuffer(root + key, np.uint8).reshape(2, 32)
    n = proof.edge(
        nodes.buf, nodes.offsets, nodes.lengths, hashes, ends, right, np.empty((7, 64), np.int64),
        keys, paths, kinds, offsets, lengths,
    )  # fmt: skip
    if n == proof.MISSING_ROOT:
        raise Disproved("the proof does not begin at the root that was asked for")
    if n < 0:
        raise MalformedMessage("the proof has a node that is not a trie node")
    step = -1 if right else 1
    return Entries(
        np.ascontiguousarray(keys[:n][::step]),
        np.ascontiguousarray(paths[:n][::step]),
        np.ascontiguousarray(kinds[:n][::step]),
        nodes.buf,
        np.ascontiguousarray(offsets[:n][::step]),
        np.ascontiguousarray(lengths[:n][::step]),
    )


def _joined(left: Entries, leaves: Leaves, right: Entries) -> Entries:
    """All entries in ascending order. The leaves and the proof may stand in different buffers."""
    middle = entries_of(leaves)
    buf, shift = left.buf, 0
    if leaves.buf is not left.buf:
        buf, shift = np.concatenate([left.buf, leaves.buf]), len(left.buf)
    return Entries(
        np.concatenate([left.keys, middle.keys, right.keys]),
        np.concatenate([left.paths, middle.paths, right.paths]),
        np.concatenate([left.kinds, middle.kinds, right.kinds]),
        buf,
        np.concatenate([left.offsets, middle.offsets + shift, right.offsets]),
        np.concatenate([left.lengths, middle.lengths, right.lengths]),
    )
