"""The two edges of a range proof → the entries of the trie that lie outside the range.

A range proof (devp2p caps/snap.md; go-ethereum trie/proof.go for what peers send) carries the nodes on the paths to
the first and the last key. Whatever hangs off these paths outside the range becomes an entry for `trie.build`;
everything inside must come from the reply itself. Nodes are found by hash, so their order and extra nodes are of no
account, and a child that the proof lacks is left to be rebuilt from the leaves: the root decides.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.compiler import (
    BOOL,
    BYTES,
    INTS,
    OUT_BYTES,
    OUT_INT_ROWS,
    OUT_INTS,
    OUT_ROWS,
    ROWS,
    inlined,
    kernel,
)
from ethsync.kernels.memory import outside
from ethsync.kernels.paths import KEY_NIBBLES, nibble
from ethsync.kernels.rlp import item
from ethsync.kernels.trie import BRANCH, LEAF, UNKNOWN

# Error codes; `proofs.py` puts them into words.
MALFORMED_NODE = -1
MISSING_ROOT = -2
TOO_DEEP = -3
NO_ROOM = -4

MOST_ENTRIES = 2 * KEY_NIBBLES * 16
"""No pair of edges has more siblings: 64 levels, 15 other children, two edges."""

ABSENT = -1  # no such node


@inlined
def find_node(nodes, wanted, buf):
    """Return the number of the proof node with the hash that stands at buf[wanted:wanted + 32], or ABSENT."""
    for k in range(nodes.shape[0]):
        same = True
        for b in range(32):
            if nodes[k, b] != buf[wanted + b]:
                same = False
                break
        if same:
            return k
    return ABSENT


@inlined
def read_node(buf, at, end, starts, sizes, lists):
    """Read the list node in buf[at:end]: payload starts, sizes, whether lists. Returns 17, 2 or MALFORMED_NODE."""
    start, size, listed = item(buf, at, end)
    if start < 0 or not listed or start + size != end:
        return MALFORMED_NODE
    count = 0
    at = start
    while at < end:
        start, size, listed = item(buf, at, end)
        if start < 0 or count == 17:
            return MALFORMED_NODE
        starts[count], sizes[count], lists[count] = start, size, at if listed else -1
        count += 1
        at = start + size
    if count == 17:
        if sizes[16] != 0 or lists[16] >= 0:
            return MALFORMED_NODE
        for c in range(16):
            if lists[c] < 0 and sizes[c] != 0 and sizes[c] != 32:
                return MALFORMED_NODE
        return 17
    if count == 2 and lists[0] < 0 and sizes[0] > 0:
        return 2
    return MALFORMED_NODE


@inlined
def read_path(buf, at, size, depth, path):
    """Decode a hex-prefix path into path[depth:]; return (end depth, is leaf), end -1 if it is malformed."""
    first = np.int64(buf[at])
    flag = first >> 4
    if flag > 3 or (flag & 1 == 0 and first & 15 != 0):
        return -1, False
    end = depth + 2 * (size - 1) + (flag & 1)
    if end > KEY_NIBBLES:
        return -1, False
    if flag & 1:
        path[depth] = first & 15
        depth += 1
    for k in range(1, size):
        byte = np.int64(buf[at + k])
        path[depth] = byte >> 4
        path[depth + 1] = byte & 15
        depth += 2
    return end, flag >= 2


@inlined
def emit(n, kind, path, depth, offset, length, keys, paths, kinds, offsets, lengths):
    """Append an entry; return the new count, or NO_ROOM."""
    if n >= keys.shape[0]:
        return NO_ROOM
    keys[n, :] = 0
    for d in range(depth):
        keys[n, d >> 1] |= np.uint8(path[d] << (0 if d & 1 else 4))
    paths[n], kinds[n], offsets[n], lengths[n] = depth, kind, offset, length
    return n + 1


@inlined
def emit_child(n, buf, c, depth, path, starts, sizes, lists, columns, keys, paths, kinds, offsets, lengths):
    """Append child c of a branch at `depth` (path[:depth + 1] leads to it). Returns the new count or an error."""
    if lists[c] < 0:
        if sizes[c] == 0:
            return n
        return emit(n, UNKNOWN, path, depth + 1, starts[c], sizes[c], keys, paths, kinds, offsets, lengths)
    begin, end = lists[c], starts[c] + sizes[c]
    if end - begin >= 32:
        return MALFORMED_NODE
    inner_starts, inner_sizes, inner_lists = columns[0], columns[1], columns[2]
    count = read_node(buf, begin, end, inner_starts, inner_sizes, inner_lists)
    if count == MALFORMED_NODE:
        return MALFORMED_NODE
    if count == 17:
        return emit(n, BRANCH, path, depth + 1, begin, end - begin, keys, paths, kinds, offsets, lengths)
    return emit_short(n, buf, depth + 1, path, inner_starts, inner_sizes, inner_lists,
                      keys, paths, kinds, offsets, lengths)  # fmt: skip


@inlined
def emit_short(n, buf, depth, path, starts, sizes, lists, keys, paths, kinds, offsets, lengths):
    """Append the two-item node at `depth` as what hangs below it: a leaf, or the branch under an extension."""
    stop, is_leaf = read_path(buf, starts[0], sizes[0], depth, path)
    if stop < 0 or is_leaf != (stop == KEY_NIBBLES):
        return MALFORMED_NODE
    if is_leaf:
        if lists[1] >= 0 or sizes[1] == 0:
            return MALFORMED_NODE
        return emit(n, LEAF, path, stop, starts[1], sizes[1], keys, paths, kinds, offsets, lengths)
    if stop == depth:
        return MALFORMED_NODE
    at, size = starts[1], sizes[1]
    if lists[1] >= 0:
        at, size = lists[1], starts[1] + sizes[1] - lists[1]
        if size >= 32:
            return MALFORMED_NODE
    elif size != 32:
        return MALFORMED_NODE
    return emit(n, BRANCH, path, stop, at, size, keys, paths, kinds, offsets, lengths)


@inlined
def compare(path, keys, row, start, end):
    """Sign of path[start:end] against the same nibbles of a key."""
    for d in range(start, end):
        other = nibble(keys, row, d)
        if path[d] != other:
            return -1 if path[d] < other else 1
    return 0


@kernel(
    BYTES, INTS, INTS, ROWS, ROWS, BOOL,
    OUT_INT_ROWS, OUT_ROWS, OUT_BYTES, OUT_BYTES, OUT_INTS, OUT_INTS,
)  # fmt: skip
def edge(buf, node_offsets, node_lengths, nodes, ends, right, work, keys, paths, kinds, offsets, lengths):
    """Walk one edge of a proof; write the entries on its outer side: left of the key, or right of it.

    In: proof nodes in buf with their hashes nodes (p, 32); ends (2, 32): root hash, key. Scratch: work (7, 64) int64.
    Out: entry columns with room for MOST_ENTRIES / 2. Entries come out in ascending order on the left, descending on
    the right. Returns their number, or an error code. An entry equal to the key counts as inside.
    """
    if work.shape[0] < 7 or work.shape[1] != KEY_NIBBLES or ends.shape[0] != 2 or ends.shape[1] != 32:
        return NO_ROOM
    if node_lengths.shape[0] != nodes.shape[0] or node_offsets.shape[0] != nodes.shape[0] or nodes.shape[1] != 32:
        return NO_ROOM
    if min(paths.shape[0], kinds.shape[0], offsets.shape[0], lengths.shape[0]) < keys.shape[0] or keys.shape[1] != 32:
        return NO_ROOM
    for k in range(nodes.shape[0]):
        if outside(buf, node_offsets[k], node_lengths[k]):
            return MALFORMED_NODE
    path, starts, sizes, lists = work[0], work[1], work[2], work[3]
    current = ABSENT
    for k in range(nodes.shape[0]):
        same = True
        for b in range(32):
            if nodes[k, b] != ends[0, b]:
                same = False
        if same:
            current = k
    if current == ABSENT:
        return MISSING_ROOT
    at, end = node_offsets[current], node_offsets[current] + node_lengths[current]
    depth = np.int64(0)
    n = np.int64(0)
    while True:
        count = read_node(buf, at, end, starts, sizes, lists)
        if count == MALFORMED_NODE:
            return MALFORMED_NODE
        child = np.int64(1)
        if count == 17:
            if depth >= KEY_NIBBLES:
                return TOO_DEEP
            child = nibble(ends, 1, depth)
            for step in range(15 - child if right else child):
                c = 15 - step if right else step
                path[depth] = c
                n = emit_child(n, buf, c, depth, path, starts, sizes, lists, work[4:],
                               keys, paths, kinds, offsets, lengths)  # fmt: skip
                if n < 0:
                    return n
            path[depth] = child
            depth += 1
        else:
            stop, is_leaf = read_path(buf, starts[0], sizes[0], depth, path)
            if stop < 0:
                return MALFORMED_NODE
            side = compare(path, ends, 1, depth, stop)
            if is_leaf or side != 0:
                beyond = side > 0 if right else side < 0
                if not beyond:
                    return n
                return emit_short(n, buf, depth, path, starts, sizes, lists, keys, paths, kinds, offsets, lengths)
            if stop == depth or stop == KEY_NIBBLES:
                return MALFORMED_NODE
            depth = stop
        if lists[child] >= 0:
            at, end = lists[child], starts[child] + sizes[child]
            if end - at >= 32:
                return MALFORMED_NODE
            continue
        if sizes[child] == 0 and count == 17:
            return n
        if sizes[child] != 32:
            return MALFORMED_NODE
        current = find_node(nodes, starts[child], buf)
        if current == ABSENT:
            return n
        at, end = node_offsets[current], node_offsets[current] + node_lengths[current]
