"""Leaf pages and bundles: columns ↔ the bytes that are stored. docs/format.md describes the layout.

A page holds the leaves under one path of a trie; a bundle holds many whole storage tries. Both are fixed-width
little-endian columns, so that a reader needs no parsing: keys without the bytes that the path already says, the end
offset of each value, the values.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.compiler import BYTES, INT, INTS, OUT_BYTES, OUT_INTS, OUT_ROWS, ROWS, inlined, kernel
from ethsync.kernels.memory import address, copy, outside

PAGE_VERSION = 1
PAGE_HEADER = 12
"""Bytes before the columns: version, path nibbles, two zero bytes, leaf count (u32), bytes of all values (u32)."""

# Error codes.
DAMAGED = -1
NO_ROOM = -2
UNEXPECTED_VERSION = -3


@inlined
def put32(out, at, value):
    for k in range(4):
        out[at + k] = (value >> (8 * k)) & 255


@inlined
def get32(buf, at):
    value = np.int64(0)
    for k in range(4):
        value |= np.int64(buf[at + k]) << (8 * k)
    return value


@kernel(ROWS, BYTES, INTS, INTS, INTS, INT, OUT_BYTES, OUT_INTS)
def encode_pages(keys, buf, offsets, lengths, firsts, depth, out, starts):
    """Write one page per group of leaves; firsts (g + 1,) delimits the groups, starts (g + 1,) gets the pages' places.

    All leaves of a group share the first `depth` nibbles. Returns the bytes written, or NO_ROOM / DAMAGED.
    """
    n = keys.shape[0]
    if keys.shape[1] != 32 or offsets.shape[0] != n or lengths.shape[0] != n or not 0 <= depth <= 64:
        return DAMAGED
    if firsts.shape[0] == 0 or starts.shape[0] < firsts.shape[0]:
        return NO_ROOM
    skip = depth // 2
    width = 32 - skip
    at = np.int64(0)
    for g in range(firsts.shape[0] - 1):
        first, last = firsts[g], firsts[g + 1]
        if not 0 <= first < last <= n:
            return DAMAGED
        total = np.int64(0)
        for i in range(first, last):
            if outside(buf, offsets[i], lengths[i]):
                return DAMAGED
            total += lengths[i]
        count = last - first
        if at + PAGE_HEADER + count * (width + 4) + total > out.shape[0]:
            return NO_ROOM
        starts[g] = at
        out[at], out[at + 1], out[at + 2], out[at + 3] = PAGE_VERSION, depth, 0, 0
        put32(out, at + 4, count)
        put32(out, at + 8, total)
        at += PAGE_HEADER
        for i in range(first, last):
            copy(address(out) + at, address(keys) + i * 32 + skip, width)
            at += width
        end = np.int64(0)
        for i in range(first, last):
            end += lengths[i]
            put32(out, at, end)
            at += 4
        for i in range(first, last):
            copy(address(out) + at, address(buf) + offsets[i], lengths[i])
            at += lengths[i]
    starts[firsts.shape[0] - 1] = at
    return at


@kernel(BYTES, INTS, ROWS, OUT_ROWS, OUT_INTS, OUT_INTS, OUT_INTS)
def decode_pages(buf, starts, paths, keys, offsets, lengths, firsts):
    """Read pages that stand one after another in buf; starts (g + 1,) delimits them, paths (g, 32) are padded.

    Out: keys (n, 32), places of values in buf, firsts (g + 1,). Returns the number of leaves, or an error minus 16
    times the number of the page: NO_ROOM, DAMAGED, UNEXPECTED_VERSION.
    """
    n = np.int64(0)
    pages = starts.shape[0] - 1
    if firsts.shape[0] <= pages or paths.shape[0] < pages or paths.shape[1] != 32 or keys.shape[1] != 32:
        return NO_ROOM
    room = min(keys.shape[0], offsets.shape[0], lengths.shape[0])
    for g in range(pages):
        at, end = starts[g], starts[g + 1]
        if at < 0 or end > buf.shape[0] or at + PAGE_HEADER > end:
            return DAMAGED - 16 * g
        if buf[at] != PAGE_VERSION:
            return UNEXPECTED_VERSION - 16 * g
        if buf[at + 2] != 0 or buf[at + 3] != 0:
            return DAMAGED - 16 * g
        depth = np.int64(buf[at + 1])
        count, total = get32(buf, at + 4), get32(buf, at + 8)
        if depth > 64 or count == 0:
            return DAMAGED - 16 * g
        skip = depth // 2
        width = 32 - skip
        if at + PAGE_HEADER + count * (width + 4) + total != end:
            return DAMAGED - 16 * g
        if n + count > room:
            return NO_ROOM - 16 * g
        firsts[g] = n
        suffix = at + PAGE_HEADER
        tail = suffix + count * width
        values = tail + 4 * count
        before = np.int64(0)
        for k in range(count):
            target = address(keys) + n * 32
            copy(target, address(paths) + g * 32, skip)
            copy(target + skip, address(buf) + suffix + k * width, width)
            if depth & 1 and keys[n, skip] >> 4 != paths[g, skip] >> 4:
                return DAMAGED - 16 * g
            after = get32(buf, tail + 4 * k)
            if after < before or after > total:
                return DAMAGED - 16 * g
            offsets[n], lengths[n] = values + before, after - before
            before = after
            n += 1
        if before != total:
            return DAMAGED - 16 * g
    firsts[pages] = n
    return n
