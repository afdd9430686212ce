"""Bundles: columns ↔ the bytes that are stored. docs/format.md describes the layout.

A bundle holds the whole storage tries of the accounts under one page path, in fixed-width little-endian columns: the
accounts without the bytes that the path already says, roots, ends of the tries, slots, ends of the values, values.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from ethsync.kernels.compiler import BYTES, INTS, OUT_BYTES, OUT_INTS, OUT_ROWS, ROWS, kernel
from ethsync.kernels.memory import address, copy, copy32, outside
from ethsync.kernels.pages import get32, put32

BUNDLE_VERSION = 1
BUNDLE_HEADER = 16
"""Bytes before the columns: version, path nibbles, two zero bytes, tries, slots, bytes of all values (u32 each)."""

TRIE_BYTES = 32 + 4
"""Bytes of each trie besides its account: root and end."""

SLOT_BYTES = 32 + 4
"""Bytes of each slot besides its value: key and end."""

# Error codes.
DAMAGED = -1
NO_ROOM = -2


@kernel(ROWS, ROWS, INTS, ROWS, BYTES, INTS, INTS, INTS, INTS, OUT_BYTES, OUT_INTS)
def encode_bundles(accounts, roots, starts, keys, buf, offsets, lengths, firsts, depths, out, places):
    """Write bundles one after another. Bundle g has the tries firsts[g] to firsts[g + 1], under depths[g] nibbles.

    In: accounts, roots (t, 32); starts (t + 1,) first slot of each trie; keys (n, 32), offsets, lengths (n,) of the
    slots; firsts (g + 1,); depths (g,). Out: places (g + 1,) of the bundles. Returns the bytes written, or an error.
    """
    tries, slots, bundles = accounts.shape[0], keys.shape[0], depths.shape[0]
    if roots.shape[0] != tries or starts.shape[0] != tries + 1 or firsts.shape[0] != bundles + 1:
        return DAMAGED
    if offsets.shape[0] != slots or lengths.shape[0] != slots:
        return DAMAGED
    if accounts.shape[1] != 32 or roots.shape[1] != 32 or keys.shape[1] != 32 or places.shape[0] <= bundles:
        return DAMAGED
    at = 0
    for g in range(bundles):
        first, last = firsts[g], firsts[g + 1]
        if not 0 <= first <= last <= tries or not 0 <= depths[g] <= 64:
            return DAMAGED
        begin, end = starts[first], starts[last]
        if not 0 <= begin <= end <= slots:
            return DAMAGED
        for t in range(first, last):
            if not begin <= starts[t] < starts[t + 1] <= end:
                return DAMAGED
        total = 0
        for i in range(begin, end):
            if outside(buf, offsets[i], lengths[i]):
                return DAMAGED
            total += lengths[i]
        skip = depths[g] // 2
        width = 32 - skip
        if (
            at + BUNDLE_HEADER + (last - first) * (width + TRIE_BYTES) + (end - begin) * SLOT_BYTES + total
            > out.shape[0]
        ):
            return NO_ROOM
        places[g] = at
        out[at], out[at + 1], out[at + 2], out[at + 3] = BUNDLE_VERSION, depths[g], 0, 0
        put32(out, at + 4, last - first)
        put32(out, at + 8, end - begin)
        put32(out, at + 12, total)
        at += BUNDLE_HEADER
        for t in range(first, last):
            copy(address(out) + at, address(accounts) + 32 * t + skip, width)
            at += width
        copy(address(out) + at, address(roots) + 32 * first, 32 * (last - first))
        at += 32 * (last - first)
        for t in range(first, last):
            put32(out, at, starts[t + 1] - begin)
            at += 4
        copy(address(out) + at, address(keys) + 32 * begin, 32 * (end - begin))
        at += 32 * (end - begin)
        total = 0
        for i in range(begin, end):
            total += lengths[i]
            put32(out, at, total)
            at += 4
        for i in range(begin, end):
            copy(address(out) + at, address(buf) + offsets[i], lengths[i])
            at += lengths[i]
    places[bundles] = at
    return at


@kernel(BYTES, INTS, ROWS, INTS, OUT_ROWS, OUT_ROWS, OUT_INTS, OUT_ROWS, OUT_INTS, OUT_INTS, OUT_INTS)
def decode_bundles(buf, places, paths, depths, accounts, roots, starts, keys, offsets, lengths, firsts):
    """Read bundles that stand one after another in buf; places (g + 1,) delimits them, paths (g, 32) are padded.

    Out: as `encode_bundles` takes them. Returns the number of slots, or an error minus 16 times the number of the
    bundle.
    """
    bundles = depths.shape[0]
    if places.shape[0] != bundles + 1 or paths.shape[0] != bundles or firsts.shape[0] <= bundles:
        return NO_ROOM
    if paths.shape[1] != 32 or accounts.shape[1] != 32 or roots.shape[1] != 32 or keys.shape[1] != 32:
        return NO_ROOM
    trie_room = min(accounts.shape[0], roots.shape[0], starts.shape[0] - 1)
    slot_room = min(keys.shape[0], offsets.shape[0], lengths.shape[0])
    if trie_room < 0:
        return NO_ROOM
    t = 0
    n = 0
    for g in range(bundles):
        at, end = places[g], places[g + 1]
        if at < 0 or end > buf.shape[0] or at + BUNDLE_HEADER > end:
            return DAMAGED - 16 * g
        if buf[at] != BUNDLE_VERSION or buf[at + 1] != depths[g] or not 0 <= depths[g] <= 64:
            return DAMAGED - 16 * g
        tries, slots, total = get32(buf, at + 4), get32(buf, at + 8), get32(buf, at + 12)
        skip = depths[g] // 2
        width = 32 - skip
        at += BUNDLE_HEADER
        if at + tries * (width + TRIE_BYTES) + slots * SLOT_BYTES + total != end:
            return DAMAGED - 16 * g
        if t + tries > trie_room or n + slots > slot_room:
            return NO_ROOM - 16 * g
        firsts[g] = t
        tails = at + tries * (width + 32)
        values = end - total
        before = 0
        for k in range(tries):
            target = address(accounts) + 32 * (t + k)
            copy(target, address(paths) + 32 * g, skip)
            copy(target + skip, address(buf) + at + k * width, width)
            copy32(address(roots) + 32 * (t + k), address(buf) + at + tries * width + 32 * k)
            starts[t + k] = n + before
            after = get32(buf, tails + 4 * k)
            if after <= before or after > slots:
                return DAMAGED - 16 * g
            before = after
        if before != slots:
            return DAMAGED - 16 * g
        copy(address(keys) + 32 * n, address(buf) + tails + 4 * tries, 32 * slots)
        tails += 4 * tries + 32 * slots
        before = 0
        for k in range(slots):
            after = get32(buf, tails + 4 * k)
            if after < before or after > total:
                return DAMAGED - 16 * g
            offsets[n + k], lengths[n + k] = values + before, after - before
            before = after
        if before != total:
            return DAMAGED - 16 * g
        t += tries
        n += slots
    firsts[bundles] = t
    starts[t] = n
    return n
