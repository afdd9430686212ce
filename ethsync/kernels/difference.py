"""Nodes of a remote trie, compared with a local one: what differs, what must still be fetched, what is equal.

Healing (devp2p caps/snap.md, "Synchronization algorithm") walks a trie from its root down and goes only where the
references differ. The local side is what `trie.build` leaves in its scratch columns: entries, branches, and the
reference that each of them has in its parent.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.account import BALANCE_BYTES, EMPTY_HASHES, NONCE_BYTES, canonical_integer_end
from ethsync.kernels.compiler import (
    BYTES,
    INTS,
    OUT_BYTES,
    OUT_INT_ROWS,
    OUT_INTS,
    OUT_ROWS,
    OUT_WORD_ROWS,
    ROWS,
    inlined,
    kernel,
)
from ethsync.kernels.memory import address, copy, load8, outside, scratch, scratch_rows
from ethsync.kernels.paths import KEY_NIBBLES, nibble
from ethsync.kernels.proof import read_node, read_path
from ethsync.kernels.rlp import item

# Error codes.
OK = 0
BAD_INPUT = -1
MALFORMED_NODE = -2
NO_ROOM = -3

MOST_EMBEDDED = 256
"""Nodes inside nodes that wait to be looked at. One under 32 bytes holds less than 32 others."""

WANTED, LEAVES, CLEARED = 0, 1, 2  # places in `counts`


@inlined
def compare_prefix(keys, row, path, depth):
    """-1, 0, 1 as the first `depth` nibbles of a key come before, are, or come after those of a path."""
    for d in range(depth):
        mine = nibble(keys, row, d)
        if mine != path[d]:
            return -1 if mine < path[d] else 1
    return 0


@inlined
def first_row(keys, path, depth, after):
    """The first row under a path (`after` 0), or behind all under it (`after` 1)."""
    low, high = 0, keys.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if compare_prefix(keys, middle, path, depth) < after:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def branch_at(path, depth, keys, above, depths, parents):
    """Number of the local branch at exactly this path, or -1."""
    row = first_row(keys, path, depth, 0)
    if row == keys.shape[0] or compare_prefix(keys, row, path, depth) != 0:
        return -1
    branch = above[row]
    while branch >= 0 and depths[branch] > depth:
        branch = parents[branch]
    return branch if branch >= 0 and depths[branch] == depth else -1


@inlined
def same_reference(row, refs, sizes, buf, at, size):
    """Whether the local child `row` is referred to by these bytes."""
    if row < 0 or sizes[row] != size:
        return False
    mine = address(refs) + row * 32
    for k in range(size):
        if load8(mine + k) != np.int64(buf[at + k]):
            return False
    return True


@inlined
def write_path(rows, row, path, depth):
    """Nibbles as the beginning of a row of 32 bytes, zero after them."""
    rows[row, :] = 0
    for d in range(depth):
        rows[row, d >> 1] |= np.uint8(path[d] << (0 if d & 1 else 4))


@inlined
def clear(path, depth, kept, keys, cleared, cleared_depths, counts):
    """Note that of the local entries under path[:depth] only those under path[:kept] may stay; kept 0 for none."""
    first, last = first_row(keys, path, depth, 0), first_row(keys, path, depth, 1)
    inside = last - first
    if kept > 0:
        inside -= first_row(keys, path, kept, 1) - first_row(keys, path, kept, 0)
    if inside == 0:
        return OK
    n = counts[CLEARED]
    if n == cleared.shape[0]:
        return NO_ROOM
    write_path(cleared, n, path, max(depth, kept))
    cleared_depths[n, 0], cleared_depths[n, 1] = depth, kept
    counts[CLEARED] = n + 1
    return OK


@inlined
def want(path, depth, buf, at, wanted, wanted_depths, wanted_hashes, counts):
    n = counts[WANTED]
    if n == wanted.shape[0]:
        return NO_ROOM
    write_path(wanted, n, path, depth)
    wanted_depths[n] = depth
    for k in range(32):
        wanted_hashes[n, k] = buf[at + k]
    counts[WANTED] = n + 1
    return OK


@kernel(
    BYTES, INTS, INTS, ROWS, INTS, ROWS, INTS, INTS, INTS, OUT_INT_ROWS, OUT_WORD_ROWS, BYTES,
    OUT_ROWS, OUT_INTS, OUT_ROWS, OUT_ROWS, OUT_INTS, OUT_INTS, OUT_ROWS, OUT_INT_ROWS, OUT_INTS, OUT_INTS,
)  # fmt: skip
def compare(
    buf, offsets, lengths, node_paths, node_depths, keys, above, depths, parents, children, refs, sizes,
    wanted, wanted_depths, wanted_hashes, leaf_keys, leaf_offsets, leaf_lengths, cleared, cleared_depths, equal, counts,
):  # fmt: skip
    """Compare remote nodes with the local trie.

    In: nodes at (offsets, lengths) (b,) of buf, their paths (b, 32) padded with zeros and node_depths (b,) in nibbles;
    keys (n, 32) and above, depths, parents, children, refs, sizes as `trie.build` leaves them for the local entries.
    Out: wanted (w, 32), wanted_depths, wanted_hashes: nodes to fetch. leaf_keys (l, 32), leaf_offsets, leaf_lengths:
    leaves of the remote trie that were seen, places of their values in buf. cleared (c, 32), cleared_depths (c, 2): the
    local entries under the first so many nibbles go, but for those under the second number of them (0: all go).
    equal (64 + 1,): how many subtrees at each depth need nothing more. counts = (wanted, leaves, cleared).
    Returns 0, or an error minus 16 times the number of the node.
    """
    counts[:3] = 0
    equal[:] = 0
    if offsets.shape[0] != lengths.shape[0] or node_paths.shape[0] != offsets.shape[0] or node_paths.shape[1] != 32:
        return BAD_INPUT
    if node_depths.shape[0] != offsets.shape[0] or equal.shape[0] <= KEY_NIBBLES or keys.shape[1] != 32:
        return BAD_INPUT
    waiting = scratch_rows(np.int64, MOST_EMBEDDED, 3)
    paths, path = scratch_rows(np.int64, MOST_EMBEDDED, KEY_NIBBLES), scratch(np.int64, KEY_NIBBLES)
    starts, item_sizes, lists = scratch(np.int64, 17), scratch(np.int64, 17), scratch(np.int64, 17)
    for i in range(offsets.shape[0]):
        if outside(buf, offsets[i], lengths[i]) or not 0 <= node_depths[i] <= KEY_NIBBLES:
            return BAD_INPUT - 16 * i
        waiting[0, 0], waiting[0, 1], waiting[0, 2] = offsets[i], offsets[i] + lengths[i], node_depths[i]
        for d in range(node_depths[i]):
            paths[0, d] = nibble(node_paths, i, d)
        more = 1
        while more > 0:
            more -= 1
            at, end, depth = waiting[more, 0], waiting[more, 1], waiting[more, 2]
            for d in range(depth):
                path[d] = paths[more, d]
            count = read_node(buf, at, end, starts, item_sizes, lists)
            first_child, last_child = 0, 16
            below = depth + 1
            branch = np.int64(-1)
            if count == 17:
                if depth == KEY_NIBBLES:
                    return MALFORMED_NODE - 16 * i
                branch = branch_at(path, depth, keys, above, depths, parents)
            elif count == 2:
                if depth == KEY_NIBBLES and item_sizes[0] != 1:
                    return MALFORMED_NODE - 16 * i
                stop, is_leaf = read_path(buf, starts[0], item_sizes[0], depth, path)
                if stop < 0 or is_leaf != (stop == KEY_NIBBLES) or (not is_leaf and stop == depth):
                    return MALFORMED_NODE - 16 * i
                if clear(path, depth, stop, keys, cleared, cleared_depths, counts) != OK:
                    return NO_ROOM - 16 * i
                equal[depth] += 1
                if is_leaf:
                    n = counts[LEAVES]
                    if lists[1] >= 0 or item_sizes[1] == 0:
                        return MALFORMED_NODE - 16 * i
                    if n == leaf_keys.shape[0]:
                        return NO_ROOM - 16 * i
                    write_path(leaf_keys, n, path, KEY_NIBBLES)
                    leaf_offsets[n], leaf_lengths[n] = starts[1], item_sizes[1]
                    counts[LEAVES] = n + 1
                    continue
                equal[stop] -= 1
                if lists[1] < 0 and item_sizes[1] != 32:
                    return MALFORMED_NODE - 16 * i
                first_child, last_child, below = 1, 2, stop
            else:
                return MALFORMED_NODE - 16 * i
            for c in range(first_child, last_child):
                row = np.int64(-1)
                if count == 17:
                    path[depth] = c
                    if lists[c] < 0 and item_sizes[c] == 0:
                        if clear(path, below, 0, keys, cleared, cleared_depths, counts) != OK:
                            return NO_ROOM - 16 * i
                        equal[below] += 1
                        continue
                    row = children[branch, c] if branch >= 0 else np.int64(-1)
                begin = starts[c] if lists[c] < 0 else lists[c]
                stop_at = starts[c] + item_sizes[c]
                if lists[c] >= 0 and stop_at - begin >= 32:
                    return MALFORMED_NODE - 16 * i
                if same_reference(row, refs, sizes, buf, begin, stop_at - begin):
                    equal[below] += 1
                elif lists[c] < 0:
                    if want(path, below, buf, begin, wanted, wanted_depths, wanted_hashes, counts) != OK:
                        return NO_ROOM - 16 * i
                else:
                    if more == MOST_EMBEDDED:
                        return NO_ROOM - 16 * i
                    waiting[more, 0], waiting[more, 1], waiting[more, 2] = begin, stop_at, below
                    for d in range(below):
                        paths[more, d] = path[d]
                    more += 1
    return OK


@inlined
def hash_of_empty(buf, at, which):
    """Whether the 32 bytes at `at` are the root of the empty trie (0) or the hash of empty code (1)."""
    for k in range(32):
        if buf[at + k] != EMPTY_HASHES[32 * which + k]:
            return False
    return True


@kernel(BYTES, INTS, INTS, OUT_BYTES, OUT_INTS, OUT_INTS)
def slim_accounts(buf, offsets, lengths, out, out_offsets, out_lengths):
    """Accounts as trie leaves have them → snap's slim form, one after another in `out`.

    `out` has room for as many bytes as all of them take. Returns the bytes written, or MALFORMED_NODE - 16 * row.
    """
    at = np.int64(0)
    if out_offsets.shape[0] < offsets.shape[0] or out_lengths.shape[0] < offsets.shape[0]:
        return BAD_INPUT
    for i in range(offsets.shape[0]):
        if outside(buf, offsets[i], lengths[i]):
            return BAD_INPUT - 16 * i
        end = offsets[i] + lengths[i]
        begin, size, listed = item(buf, offsets[i], end)
        if begin < 0 or not listed or begin + size != end:
            return MALFORMED_NODE - 16 * i
        middle = canonical_integer_end(buf, begin, end, NONCE_BYTES)
        if middle > 0:
            middle = canonical_integer_end(buf, middle, end, BALANCE_BYTES)
        if middle < 0 or middle + 66 != end or buf[middle] != 0xA0 or buf[middle + 33] != 0xA0:
            return MALFORMED_NODE - 16 * i
        no_root, no_code = hash_of_empty(buf, middle + 1, 0), hash_of_empty(buf, middle + 34, 1)
        payload = middle - begin + (1 if no_root else 33) + (1 if no_code else 33)
        head = 1 if payload < 56 else 2
        if at + head + payload > out.shape[0]:
            return NO_ROOM
        out_offsets[i], out_lengths[i] = at, head + payload
        if head == 1:
            out[at] = 0xC0 + payload
        else:
            out[at], out[at + 1] = 0xF8, payload
        at += head
        target, source = address(out), address(buf)
        copy(target + at, source + begin, middle - begin)
        at += middle - begin
        if no_root:
            out[at] = 0x80
            at += 1
        else:
            copy(target + at, source + middle, 33)
            at += 33
        if no_code:
            out[at] = 0x80
            at += 1
        else:
            copy(target + at, source + middle + 33, 33)
            at += 33
    return at


@inlined
def same_bytes(buf, at, size, other, place, length):
    """Whether buf[at : at + size] is other[place : place + length]."""
    if size != length:
        return False
    for k in range(size):
        if buf[at + k] != other[place + k]:
            return False
    return True


@kernel(ROWS, BYTES, INTS, INTS, OUT_BYTES, ROWS, BYTES, INTS, INTS, OUT_BYTES, OUT_INTS)
def merge_leaves(
    keys, buf, offsets, lengths, stays, new_keys, new_buf, new_offsets, new_lengths, fresh, source
):  # fmt: skip
    """Merge leaves with others that add to them or take their places; both are in key order, without equal keys.

    In: leaves (n,) and new ones (p,), columns and places of values. In and out: stays (n,) uint8, 0 for a leaf that
    goes anyway; one whose value changes goes too. Out: fresh (p,) uint8: whether a new leaf says anything new; source
    (n + p,): for each leaf of the result its row, the new ones numbered from n on. Returns how many there are.
    """
    n, p = keys.shape[0], new_keys.shape[0]
    if min(offsets.shape[0], lengths.shape[0], stays.shape[0]) < n or keys.shape[1] != 32 or new_keys.shape[1] != 32:
        return BAD_INPUT
    if min(new_offsets.shape[0], new_lengths.shape[0], fresh.shape[0]) < p or source.shape[0] < n + p:
        return BAD_INPUT
    count = np.int64(0)
    i = np.int64(0)
    for k in range(p):
        if outside(new_buf, new_offsets[k], new_lengths[k]):
            return BAD_INPUT
        order = np.int64(1)
        while i < n:
            byte = 0
            while byte < 32 and keys[i, byte] == new_keys[k, byte]:
                byte += 1
            order = np.int64(0) if byte == 32 else np.int64(keys[i, byte]) - np.int64(new_keys[k, byte])
            if order >= 0:
                break
            if stays[i]:
                source[count] = i
                count += 1
            i += 1
        fresh[k] = 1
        if i < n and order == 0:
            if outside(buf, offsets[i], lengths[i]):
                return BAD_INPUT
            if stays[i] and same_bytes(buf, offsets[i], lengths[i], new_buf, new_offsets[k], new_lengths[k]):
                fresh[k] = 0
            else:
                stays[i] = 0
        if fresh[k]:
            source[count] = n + k
            count += 1
    while i < n:
        if stays[i]:
            source[count] = i
            count += 1
        i += 1
    return count
