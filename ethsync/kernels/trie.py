"""Sorted entries → root of a Merkle Patricia trie, level by level on flat arrays.

An *entry* is a leaf (32-byte key and value) or an opaque reference to a node at some path. Many tries are built in one
call (a *forest*): leaves are hashed in key order, then branches by falling depth, so that the lanes of the hash
function are nearly always full. Nodes under 32 bytes are embedded in their parents (Yellow Paper, appendix D).

Where the page depth cuts the trie, the *top node* under each cut is reported: depth and reference of the highest
branch there, without the extension that may lead to it. That is all a parent needs to know about a page.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.account import EMPTY_HASHES, slim_span
from ethsync.kernels.compiler import (
    BOOL,
    BYTES,
    INT,
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
from ethsync.kernels.hash_queue import LONGEST_NODE, MAX_BLOCKS, MESSAGE_BYTES, claim, flush_all, settle
from ethsync.kernels.memory import (
    address,
    copy,
    copy32,
    copy64,
    first_difference,
    int_rows_at,
    ints_at,
    load8,
    outside,
    scratch,
    scratch_rows,
    store8,
)
from ethsync.kernels.paths import KEY_NIBBLES, hex_prefix_size, nibble, write_hex_prefix
from ethsync.kernels.rlp import header_size, write_header
from ethsync.kernels.sponge import STATE_WORDS

# Kinds of entries.
LEAF = 0  # value bytes at (offset, length) are the leaf's value
SLIM_ACCOUNT = 1  # value bytes are an account in snap's slim form; the leaf's value is the full form
BRANCH = 2  # value bytes are the reference of a branch node: its hash, or its RLP if shorter than 32 bytes
UNKNOWN = 3  # the same for a node of unknown kind: it cannot be moved under another parent

# Error codes; `tries.py` puts them into words.
OK = 0
BAD_ORDER = -1
BAD_VALUE = -2
BAD_ACCOUNT = -3
BAD_REFERENCE = -4
MISPLACED_REFERENCE = -5
BAD_INPUT = -6

NO_DEPTH = 65
"""As page depth: report no top nodes."""

ABOVE, DEPTHS, PARENTS, FIRSTS, CHILDREN = 1, 2, 3, 4, 8
"""Columns of the scratch array in which `build` leaves the branches; the 16 children of each take the rest of it."""

LEVELS = KEY_NIBBLES + 2  # depths 0 to 64, and one more where those below a depth are summed up
SLIM_TAIL = 66  # storage root and code hash as RLP strings of 32 bytes: 2 * 33


@inlined
def spill(at, buf, offset, length):
    """Copy a value that lies inside the buffer; bytes behind it come along if that saves a call."""
    if length <= 64 <= buf.shape[0] - offset:
        copy64(at, address(buf) + offset)
    else:
        copy(at, address(buf) + offset, length)


@inlined
def write_reference(at, row, refs, sizes):
    """Write a child's reference into its parent: a hash as a 32-byte string, an embedded node as it is."""
    source = address(refs) + row * 32
    size = np.int64(sizes[row])
    if size == 32:
        store8(at, 0xA0)
        copy32(at + 1, source)
        return at + 33
    copy(at, source, size)
    return at + size


@inlined
def reference_size(row, sizes):
    """Bytes that `write_reference` writes."""
    size = np.int64(sizes[row])
    return 33 if size == 32 else size


@inlined
def add_extension(row, keys, key_row, start, end, force, message, target, fill, state, blocks, refs, sizes):
    """Replace the reference at `row` by that of an extension over nibbles [start, end) which leads to it."""
    payload = hex_prefix_size(end - start) + reference_size(row, sizes)
    size = header_size(payload) + payload
    at = claim(size, message, target, fill, state, blocks, refs)
    o = write_header(at, payload, 0xC0)
    o = write_hex_prefix(o, keys, key_row, start, end, 0)
    write_reference(o, row, refs, sizes)
    settle(at, size, row, force, target, fill, refs, sizes)


@inlined
def add_leaf(i, start, force, keys, kind, buf, offset, length, message, target, fill, state, blocks, refs, sizes):
    """Write the leaf node of entry i, whose path begins at nibble `start`. Returns an error code."""
    path = hex_prefix_size(KEY_NIBBLES - start)
    source = address(buf) + offset
    if kind == SLIM_ACCOUNT:
        begin, middle, root, code = slim_span(buf, offset, length)
        if begin < 0:
            return BAD_ACCOUNT
        payload = middle - begin + SLIM_TAIL
        value = payload + 2  # the payload is 68 bytes at least and 108 at most
        body = path + 2 + value
        size = header_size(body) + body
        at = claim(size, message, target, fill, state, blocks, refs)
        o = write_header(at, body, 0xC0)
        o = write_hex_prefix(o, keys, i, start, KEY_NIBBLES, 0x20)
        o = write_header(o, value, 0x80)
        o = write_header(o, payload, 0xC0)
        spill(o, buf, begin, middle - begin)
        o += middle - begin
        store8(o, 0xA0)
        if root >= 0:
            copy32(o + 1, address(buf) + root)
        else:
            copy32(o + 1, address(EMPTY_HASHES))
        store8(o + 33, 0xA0)
        if code >= 0:
            copy32(o + 34, address(buf) + code)
        else:
            copy32(o + 34, address(EMPTY_HASHES) + 32)
    else:
        bare = length == 1 and load8(source) < 0x80
        body = path + length + (0 if bare else header_size(length))
        size = header_size(body) + body
        if size > LONGEST_NODE:
            return BAD_VALUE
        at = claim(size, message, target, fill, state, blocks, refs)
        o = write_header(at, body, 0xC0)
        o = write_hex_prefix(o, keys, i, start, KEY_NIBBLES, 0x20)
        if not bare:
            o = write_header(o, length, 0x80)
        spill(o, buf, offset, length)
    settle(at, size, i, force, target, fill, refs, sizes)
    return OK


@inlined
def add_branch(row, children, message, target, fill, state, blocks, refs, sizes, force):
    """Write a branch node from its 16 children (rows of references, or -1)."""
    payload = 1
    hashed = True
    for c in range(16):
        present = children[c] >= 0
        reference = reference_size(children[c] if present else row, sizes)
        payload += reference if present else 1
        hashed &= reference == 33 or not present
    size = header_size(payload) + payload
    at = claim(size, message, target, fill, state, blocks, refs)
    o = write_header(at, payload, 0xC0)
    if hashed:
        # Which children there are is chance: no branches, which the processor would guess wrong.
        for c in range(16):
            present = children[c] >= 0
            store8(o, 0xA0 if present else 0x80)
            copy32(o + 1, address(refs) + (children[c] if present else row) * 32)
            o += 33 if present else 1
    else:
        for c in range(16):
            if children[c] < 0:
                store8(o, 0x80)
                o += 1
            else:
                o = write_reference(o, children[c], refs, sizes)
    store8(o, 0x80)
    settle(at, size, row, force, target, fill, refs, sizes)


@inlined
def common_prefix(keys, paths, starts, shared):
    """shared[i] = nibbles that entries i - 1 and i have in common, -1 at the first entry of each trie. Or an error."""
    n = keys.shape[0]
    trie = 0
    for i in range(n + 1):
        while trie < starts.shape[0] and starts[trie] < i:
            trie += 1
        if i == n or (trie < starts.shape[0] and starts[trie] == i):
            shared[i] = -1
            continue
        byte = first_difference(address(keys) + (i - 1) * 32, address(keys) + i * 32)
        if byte == 32 or keys[i - 1, byte] > keys[i, byte]:
            return BAD_ORDER
        depth = 2 * byte
        if keys[i - 1, byte] >> 4 == keys[i, byte] >> 4:
            depth += 1
        if depth >= paths[i - 1] or depth >= paths[i]:
            return BAD_ORDER
        shared[i] = depth
    return OK


@inlined
def find_branches(n, shared, above, depths, parents, firsts):
    """Find the branch nodes of all tries: depth, parent and first entry of each; `above` is the parent of entries."""
    stack = scratch(np.int64, LEVELS)
    top = 0
    count = 0
    for i in range(n):
        left, right = shared[i], shared[i + 1]
        if right > left:
            depths[count], firsts[count] = right, i
            parents[count] = stack[top - 1] if top > 0 else -1
            stack[top] = count
            top += 1
            above[i] = count
            count += 1
            continue
        above[i] = stack[top - 1] if top > 0 else -1
        last = np.int64(-1)
        while top > 0 and depths[stack[top - 1]] > right:
            last = stack[top - 1]
            top -= 1
        if right >= 0 and (top == 0 or depths[stack[top - 1]] < right):
            depths[count], firsts[count] = right, firsts[last]
            parents[count] = parents[last]
            parents[last] = count
            stack[top] = count
            top += 1
            count += 1
    return count


@inlined
def check_input(keys, paths, kinds, buf, offsets, lengths, starts):
    """Whether arrays fit together and no place lies outside the buffer; the order of keys is not looked at."""
    n = keys.shape[0]
    if paths.shape[0] != n or kinds.shape[0] != n or offsets.shape[0] != n or lengths.shape[0] != n:
        return BAD_INPUT
    if keys.shape[1] != 32 or n == 0 or starts.shape[0] == 0 or starts[0] != 0:
        return BAD_INPUT
    for t in range(1, starts.shape[0]):
        if starts[t] <= starts[t - 1] or starts[t] >= n:
            return BAD_INPUT
    for i in range(n):
        if lengths[i] == 0 or outside(buf, offsets[i], lengths[i]):
            return BAD_VALUE
        if kinds[i] <= SLIM_ACCOUNT:
            if paths[i] != KEY_NIBBLES:
                return BAD_INPUT
        elif lengths[i] > 32 or paths[i] > KEY_NIBBLES:
            return BAD_REFERENCE
    return OK


@kernel(
    ROWS, BYTES, BYTES, BYTES, INTS, INTS, INTS, INT, BOOL,
    OUT_WORD_ROWS, OUT_BYTES, OUT_INT_ROWS, OUT_INTS, OUT_INTS, OUT_WORD_ROWS, OUT_BYTES, OUT_ROWS,
)  # fmt: skip
def build(
    keys, paths, kinds, buf, offsets, lengths, starts, page_depth, rooted,
    refs, sizes, work, group_first, group_depth, group_ref, group_size, roots,
):  # fmt: skip
    """Build a forest; write its roots and the top nodes of its pages.

    In: keys (n, 32); paths (n,) path lengths in nibbles (64 for leaves); kinds (n,); offsets, lengths (n,) of values in
    buf; starts (t,) first entry of each trie, ascending from 0; page_depth in nibbles, 0 for one page per trie,
    NO_DEPTH for none; rooted: whether to compute roots.
    Scratch: refs (2n, 4) uint64, sizes (2n,) uint8, work (n + 1, 24) int64. They are left as they were last: the
    reference of each entry and branch as its parent has it, and the branches in the columns named above.
    Out: roots (t, 32) if rooted; per group of entries under one path of page_depth nibbles: group_first (first entry),
    group_depth (depth of the top branch, 64 for a single leaf, the path length of a single reference), group_ref
    (n, 4) uint64 with group_size (reference of the top branch; size 0 for a single leaf).
    Returns the number of groups, or an error code. Entries must be sorted and prefix-free within each trie.
    """
    n = keys.shape[0]
    error = check_input(keys, paths, kinds, buf, offsets, lengths, starts)
    if error != OK:
        return error
    if refs.shape[0] < 2 * n or sizes.shape[0] < 2 * n or work.shape[0] <= n or work.shape[1] != 24:
        return BAD_INPUT
    rows = work.shape[0]
    columns = ints_at(address(work), rows * 24)
    shared, firsts = columns[:rows], columns[FIRSTS * rows : (FIRSTS + 1) * rows]
    above, depths = columns[ABOVE * rows : (ABOVE + 1) * rows], columns[DEPTHS * rows : (DEPTHS + 1) * rows]
    parents = columns[PARENTS * rows : (PARENTS + 1) * rows]
    order, group_of = columns[5 * rows : 6 * rows], columns[6 * rows : 7 * rows]
    children = int_rows_at(address(columns) + CHILDREN * rows * 8, rows, 16)

    error = common_prefix(keys, paths, starts, shared)
    if error != OK:
        return error
    count = find_branches(n, shared, above, depths, parents, firsts)
    children[:count] = -1
    for i in range(n):
        if above[i] >= 0:
            children[above[i], nibble(keys, i, depths[above[i]])] = i
    for j in range(count):
        if parents[j] >= 0:
            children[parents[j], nibble(keys, firsts[j], depths[parents[j]])] = n + j

    groups = 0
    if page_depth < NO_DEPTH:
        if group_first.shape[0] < n or group_depth.shape[0] < n or group_ref.shape[0] < n or group_size.shape[0] < n:
            return BAD_INPUT
        for i in range(n):
            if shared[i] < page_depth:
                group_first[groups] = i
                groups += 1
            group_of[i] = groups - 1

    message = scratch(np.uint8, MESSAGE_BYTES)
    target, fill = scratch_rows(np.int64, MAX_BLOCKS, LANES), scratch(np.int64, MAX_BLOCKS)
    state, blocks = scratch_rows(np.uint64, STATE_WORDS, LANES), scratch(np.int64, LANES)
    fill[:] = 0

    # Entries: hash the leaves, take the references as they are.
    for i in range(n):
        depth = depths[above[i]] if above[i] >= 0 else np.int64(-1)
        single = page_depth < NO_DEPTH and depth < page_depth
        if kinds[i] <= SLIM_ACCOUNT:
            if single:
                group_depth[group_of[i]] = KEY_NIBBLES
                group_size[group_of[i]] = 0
            if depth < 0 and not rooted:
                continue
            error = add_leaf(i, depth + 1, depth < 0, keys, kinds[i], buf, offsets[i], lengths[i],
                             message, target, fill, state, blocks, refs, sizes)  # fmt: skip
            if error != OK:
                return error
            continue
        if kinds[i] == UNKNOWN and paths[i] != depth + 1:
            return MISPLACED_REFERENCE
        copy(address(refs) + i * 32, address(buf) + offsets[i], lengths[i])
        sizes[i] = lengths[i]
        if single:
            g = group_of[i]
            group_depth[g], group_size[g] = paths[i], sizes[i]
            for word in range(4):
                group_ref[g, word] = refs[i, word]
        if depth < 0 and not rooted:
            continue
        if paths[i] > depth + 1:
            add_extension(i, keys, i, depth + 1, np.int64(paths[i]), depth < 0,
                          message, target, fill, state, blocks, refs, sizes)  # fmt: skip
        elif depth < 0 and sizes[i] != 32:
            return BAD_REFERENCE
    flush_all(message, target, fill, state, blocks, refs)

    # Branches, deepest first; the order within a depth does not matter (counting sort).
    level, place = scratch(np.int64, LEVELS), scratch(np.int64, LEVELS)
    level[:] = 0
    for j in range(count):
        level[depths[j] + 1] += 1
    place[0] = level[0]
    for depth in range(KEY_NIBBLES + 1):
        level[depth + 1] += level[depth]
        place[depth + 1] = level[depth + 1]
    for j in range(count):
        order[place[depths[j]]] = j
        place[depths[j]] += 1
    for depth in range(KEY_NIBBLES - 1, -1, -1):
        for k in range(level[depth], level[depth + 1]):
            j = order[k]
            force = parents[j] < 0 and rooted and depth == 0
            add_branch(n + j, children[j], message, target, fill, state, blocks, refs, sizes, force)
        flush_all(message, target, fill, state, blocks, refs)
        for k in range(level[depth], level[depth + 1]):
            j = order[k]
            over = depths[parents[j]] if parents[j] >= 0 else np.int64(-1)
            if over < page_depth <= depth:
                g = group_of[firsts[j]]
                group_depth[g], group_size[g] = depth, sizes[n + j]
                for word in range(4):
                    group_ref[g, word] = refs[n + j, word]
            if depth > over + 1 and (over >= 0 or rooted):
                add_extension(n + j, keys, firsts[j], over + 1, depth, over < 0,
                              message, target, fill, state, blocks, refs, sizes)  # fmt: skip
        flush_all(message, target, fill, state, blocks, refs)

    if rooted:
        if roots.shape[0] < starts.shape[0]:
            return BAD_INPUT
        root_words = roots.view(np.uint64)
        for t in range(starts.shape[0]):
            row = starts[t]
            if above[row] >= 0:
                row = above[row]
                while parents[row] >= 0:
                    row = parents[row]
                row += n
            for word in range(4):
                root_words[t, word] = refs[row, word]
    return groups
