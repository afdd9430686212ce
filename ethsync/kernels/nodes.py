"""All nodes of a trie, or of a part of one, written out and looked up by their paths: for serving them.

What `trie.build` leaves in its scratch columns says what every branch refers to, so each node can be written without
hashing; only a branch below an extension is hashed once more, because its reference was replaced by the extension's.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.compiler import (
    BOOL,
    BYTES,
    INTS,
    LANES,
    OUT_BYTES,
    OUT_INT_ROWS,
    OUT_INTS,
    OUT_ROWS,
    OUT_WORD_ROWS,
    ROWS,
    inlined,
    kernel,
)
from ethsync.kernels.hash_queue import MAX_BLOCKS, MESSAGE_BYTES, SLOT, flush
from ethsync.kernels.memory import address, copy, load8, scratch, scratch_rows
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.kernels.sponge import STATE_WORDS
from ethsync.kernels.trie import BAD_INPUT, LEVELS, OK, SLIM_ACCOUNT, add_branch, add_extension, add_leaf, check_input

NO_ROOM = -7
EMBEDDED = 0
"""As a node's size: it stands in its parent."""

SHORTEST = 32
"""Bytes from which a node is referred to by its hash (Yellow Paper, appendix D)."""


@inlined
def written_size(at):
    """Size of the RLP list that was written at an address, its header included; it is below 2^16."""
    first = load8(at)
    if first < 0xF8:
        return first - 0xC0 + 1
    if first == 0xF8:
        return load8(at + 1) + 2
    return (load8(at + 1) << 8) + load8(at + 2) + 3


@inlined
def taken(out, counts, message, fill, whole):
    """Move the node that was just written into a queue behind the others; return its place and size.

    `whole`: also if it is short enough to stand in its parent. counts = (nodes, bytes). Size -1: there is no room.
    """
    queue = 0
    for q in range(MAX_BLOCKS):
        if fill[q] > 0:
            queue = q
    source = address(message) + queue * LANES * SLOT
    size = written_size(source)
    if size < SHORTEST and not whole:
        return np.int64(0), np.int64(EMBEDDED)
    at = counts[1]
    if at + size > out.shape[0]:
        return np.int64(0), np.int64(-1)
    copy(address(out) + at, source, size)
    counts[1] = at + size
    return at, size


@inlined
def note(counts, keys, row, depth, place, size, node_keys, node_depths, node_offsets, node_sizes):
    """Append a node at the first `depth` nibbles of a key. Returns an error code."""
    k = counts[0]
    if size < 0 or k == node_keys.shape[0]:
        return NO_ROOM
    node_keys[k, :] = 0
    whole = depth >> 1
    copy(address(node_keys) + k * 32, address(keys) + row * 32, whole)
    if depth & 1:
        node_keys[k, whole] = keys[row, whole] & 0xF0
    node_depths[k], node_offsets[k], node_sizes[k] = depth, place, size
    counts[0] = k + 1
    return OK


@kernel(
    ROWS, BYTES, BYTES, BYTES, INTS, INTS, BOOL, INTS, INTS, INTS, INTS, OUT_INT_ROWS, OUT_WORD_ROWS, OUT_BYTES,
    OUT_BYTES, OUT_ROWS, OUT_INTS, OUT_INTS, OUT_INTS, OUT_INTS,
)  # fmt: skip
def write_nodes(
    keys, paths, kinds, buf, offsets, lengths, rooted, above, depths, parents, firsts, children, refs, sizes,
    out, node_keys, node_depths, node_offsets, node_sizes, counts,
):  # fmt: skip
    """Write all nodes of one trie, sorted by their paths, a shorter path before longer ones that begin with it.

    In: entries as `trie.build` takes them, and above, depths, parents, firsts, children, refs (2n, 4), sizes (2n,) as
    it leaves them, without `rooted`; refs and sizes are used up. rooted: whether the entries are a whole trie; if not,
    they are the part of one under some path, and what leads to its highest branch is left out.
    Out: RLP of the nodes in out; node_keys (m, 32) padded paths, node_depths (m,) in nibbles, places and sizes (m,);
    EMBEDDED for one that stands in its parent. counts = (nodes, bytes). Returns 0 or an error.
    """
    n = keys.shape[0]
    counts[0] = counts[1] = 0
    start_of_all = scratch(np.int64, 1)
    start_of_all[0] = 0
    error = check_input(keys, paths, kinds, buf, offsets, lengths, start_of_all)
    if error != OK:
        return error
    if min(above.shape[0], depths.shape[0], parents.shape[0], firsts.shape[0], children.shape[0]) <= n:
        return BAD_INPUT
    if refs.shape[0] < 2 * n or sizes.shape[0] < 2 * n or children.shape[1] != 16 or node_keys.shape[1] != 32:
        return BAD_INPUT
    if min(node_depths.shape[0], node_offsets.shape[0], node_sizes.shape[0]) < node_keys.shape[0]:
        return BAD_INPUT
    message = scratch(np.uint8, MESSAGE_BYTES)
    target, fill = scratch_rows(np.int64, MAX_BLOCKS, LANES), scratch(np.int64, MAX_BLOCKS)
    state, blocks = scratch_rows(np.uint64, STATE_WORDS, LANES), scratch(np.int64, LANES)
    opened = scratch(np.int64, LEVELS)
    for i in range(n):
        # Branches of which this is the first entry, from the highest down.
        waiting = 0
        j = above[i]
        while j >= 0 and firsts[j] == i and waiting <= KEY_NIBBLES:
            opened[waiting] = j
            waiting += 1
            j = parents[j]
        while waiting > 0:
            waiting -= 1
            j = opened[waiting]
            start = depths[parents[j]] + 1 if parents[j] >= 0 else (np.int64(0) if rooted else depths[j])
            fill[:] = 0
            add_branch(n + j, children[j], message, target, fill, state, blocks, refs, sizes, False)
            place, size = taken(out, counts, message, fill, depths[j] == 0)
            if depths[j] > start:
                for queue in range(MAX_BLOCKS):
                    flush(queue, message, target, fill, state, blocks, refs)
                add_extension(n + j, keys, i, start, depths[j], True,
                              message, target, fill, state, blocks, refs, sizes)  # fmt: skip
                over, over_size = taken(out, counts, message, fill, start == 0)
                if note(counts, keys, i, start, over, over_size,
                        node_keys, node_depths, node_offsets, node_sizes) != OK:  # fmt: skip
                    return NO_ROOM
            if note(counts, keys, i, depths[j], place, size,
                    node_keys, node_depths, node_offsets, node_sizes) != OK:  # fmt: skip
                return NO_ROOM
        # The entry itself: a leaf, or an extension that leads to a node which is not here.
        if above[i] < 0 and not rooted:
            continue
        start = depths[above[i]] + 1 if above[i] >= 0 else np.int64(0)
        fill[:] = 0
        if kinds[i] <= SLIM_ACCOUNT:
            error = add_leaf(i, start, True, keys, kinds[i], buf, offsets[i], lengths[i],
                             message, target, fill, state, blocks, refs, sizes)  # fmt: skip
            if error != OK:
                return error
        elif paths[i] > start:
            copy(address(refs) + i * 32, address(buf) + offsets[i], lengths[i])
            sizes[i] = lengths[i]
            add_extension(i, keys, i, start, np.int64(paths[i]), True,
                          message, target, fill, state, blocks, refs, sizes)  # fmt: skip
        else:
            continue
        place, size = taken(out, counts, message, fill, start == 0)
        if note(counts, keys, i, start, place, size, node_keys, node_depths, node_offsets, node_sizes) != OK:
            return NO_ROOM
    return OK


@kernel(ROWS, INTS, ROWS, INTS, OUT_INTS)
def find_nodes(node_keys, node_depths, paths, depths, found):
    """found[k] = row of the node at exactly the k-th path, -1 if there is none; rows as `write_nodes` sorts them."""
    if found.shape[0] < depths.shape[0] or paths.shape[0] < depths.shape[0] or paths.shape[1] != 32:
        return BAD_INPUT
    if node_depths.shape[0] < node_keys.shape[0] or node_keys.shape[1] != 32:
        return BAD_INPUT
    for k in range(depths.shape[0]):
        low, high = 0, node_keys.shape[0]
        found[k] = -1
        while low < high:
            middle = (low + high) >> 1
            byte = 0
            while byte < 32 and node_keys[middle, byte] == paths[k, byte]:
                byte += 1
            if byte == 32:
                order = node_depths[middle] - depths[k]
            else:
                order = np.int64(node_keys[middle, byte]) - np.int64(paths[k, byte])
            if order == 0:
                found[k] = middle
                break
            if order < 0:
                low = middle + 1
            else:
                high = middle
    return OK
