"""Snap replies as they come off the wire → columns. Strict: every list and string must be canonical RLP.

RLP is defined in the Yellow Paper, appendix B; the messages in devp2p caps/snap.md. Scanners never copy: they report
where keys and values stand in the message.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.account import EMPTY_HASHES, canonical_integer_end, slim_span
from ethsync.kernels.compiler import BOOL, BYTES, INTS, OUT_BYTES, OUT_INTS, OUT_ROWS, ROWS, inlined, kernel
from ethsync.kernels.memory import address, copy, copy32, load8, outside, store8

# Error codes.
MALFORMED = -1
TOO_MANY = -2

SLOT_VALUE_BYTES = 32  # a storage value is a scalar below 2^256 (Yellow Paper 4.1)


@inlined
def item(buf, at, end):
    """Read one RLP item at `at`: (start of its payload, size of the payload, whether it is a list); start -1 if bad."""
    if at >= end:
        return -1, 0, False
    first = np.int64(buf[at])
    if first < 0x80:
        return at, 1, False
    listed = first >= 0xC0
    base = first - (0xC0 if listed else 0x80)
    if base < 56:
        start = at + 1
        size = base
        if not listed and size == 1 and (start >= end or buf[start] < 0x80):
            return -1, 0, False
    else:
        width = base - 55
        if width > 4 or at + 1 + width > end or buf[at + 1] == 0:
            return -1, 0, False
        size = np.int64(0)
        for k in range(width):
            size = (size << 8) | np.int64(buf[at + 1 + k])
        if size < 56:
            return -1, 0, False
        start = at + 1 + width
    if start + size > end:
        return -1, 0, False
    return start, size, listed


@inlined
def message_start(buf, counts):
    """Open a message [request id, ...]: write the id to counts[0]; return the start of the rest, or -1."""
    start, size, listed = item(buf, 0, buf.shape[0])
    if start < 0 or not listed or start + size != buf.shape[0]:
        return -1
    at, width, listed = item(buf, start, buf.shape[0])
    if at < 0 or listed or width > 8 or (width > 0 and buf[at] == 0):
        return -1
    number = np.int64(0)
    for k in range(width):
        number = (number << 8) | np.int64(buf[at + k])
    counts[0] = number
    return at + width


@inlined
def first_list(buf, counts):
    """Open a message as `message_start` does, and the list that follows the request id: its (start, end) or -1s."""
    at = message_start(buf, counts)
    if at < 0:
        return -1, -1
    start, size, listed = item(buf, at, buf.shape[0])
    if start < 0 or not listed:
        return -1, -1
    return start, start + size


@inlined
def strings(buf, at, end, offsets, lengths):
    """Read the list of strings that fills buf[at:end]; return how many there are, or an error."""
    start, size, listed = item(buf, at, end)
    if start < 0 or not listed or start + size != end:
        return MALFORMED
    at = start
    count = np.int64(0)
    while at < end:
        start, size, listed = item(buf, at, end)
        if start < 0 or listed:
            return MALFORMED
        if count == offsets.shape[0] or count == lengths.shape[0]:
            return TOO_MANY
        offsets[count], lengths[count] = start, size
        count += 1
        at = start + size
    return count


@inlined
def hashed_pair(buf, at, end):
    """Open a pair [32-byte hash, …] at `at`: (offset of the hash, offset of what follows, end of the pair) or -1s."""
    start, size, listed = item(buf, at, end)
    if start < 0 or not listed or size < 34 or buf[start] != 0xA0:
        return -1, 0, 0
    return start + 1, start + 33, start + size


@kernel(BYTES, OUT_ROWS, OUT_INTS, OUT_INTS, OUT_INTS, OUT_INTS, OUT_INTS)
def scan_account_range(buf, keys, offsets, lengths, proof_offsets, proof_lengths, counts):
    """AccountRange [id, [[hash, slim account]…], [proof node…]] → columns.

    counts = (request id, accounts, proof nodes). Slim accounts are delimited here and parsed by the trie kernel.
    Returns 0, MALFORMED, or TOO_MANY if a column is too short.
    """
    at, end = first_list(buf, counts)
    if at < 0:
        return MALFORMED
    count = np.int64(0)
    room = min(keys.shape[0], offsets.shape[0], lengths.shape[0])
    if keys.shape[1] != 32:
        return TOO_MANY
    while at < end:
        key, body, stop = hashed_pair(buf, at, end)
        if key < 0:
            return MALFORMED
        start, size, listed = item(buf, body, stop)
        if start < 0 or not listed or start + size != stop:
            return MALFORMED
        if count == room:
            return TOO_MANY
        copy32(address(keys) + count * 32, address(buf) + key)
        offsets[count], lengths[count] = body, stop - body
        count += 1
        at = stop
    counts[1] = count
    counts[2] = strings(buf, end, buf.shape[0], proof_offsets, proof_lengths)
    return min(counts[2], 0)


@kernel(BYTES, OUT_ROWS, OUT_INTS, OUT_INTS, OUT_INTS, OUT_INTS, OUT_INTS, OUT_INTS)
def scan_storage_ranges(buf, keys, offsets, lengths, sets, proof_offsets, proof_lengths, counts):
    """StorageRanges [id, [[[hash, value]…]…], [proof node…]] → columns.

    sets[k] = first slot of the k-th set; counts = (request id, slots, proof nodes, sets). Values are canonical, not
    zero, at most 33 bytes. Returns 0, MALFORMED, or TOO_MANY if a column is too short.
    """
    at, end = first_list(buf, counts)
    if at < 0:
        return MALFORMED
    count = np.int64(0)
    number = np.int64(0)
    room = min(keys.shape[0], offsets.shape[0], lengths.shape[0])
    if keys.shape[1] != 32:
        return TOO_MANY
    while at < end:
        start, size, listed = item(buf, at, end)
        if start < 0 or not listed:
            return MALFORMED
        if number == sets.shape[0]:
            return TOO_MANY
        sets[number] = count
        number += 1
        at, last = start, start + size
        while at < last:
            key, body, stop = hashed_pair(buf, at, last)
            if key < 0:
                return MALFORMED
            start, size, listed = item(buf, body, stop)
            if start < 0 or listed or start + size != stop or size == 0 or buf[start] == 0x80:
                return MALFORMED
            if canonical_integer_end(buf, start, stop, SLOT_VALUE_BYTES) != stop:
                return MALFORMED
            if count == room:
                return TOO_MANY
            copy32(address(keys) + count * 32, address(buf) + key)
            offsets[count], lengths[count] = start, size
            count += 1
            at = stop
    counts[1] = count
    counts[3] = number
    counts[2] = strings(buf, end, buf.shape[0], proof_offsets, proof_lengths)
    return min(counts[2], 0)


@kernel(BYTES, OUT_INTS, OUT_INTS, OUT_INTS)
def scan_blobs(buf, offsets, lengths, counts):
    """ByteCodes, TrieNodes [id, [blob…]] → where the blobs stand; counts = (request id, blobs). Returns 0 or error."""
    at = message_start(buf, counts)
    if at < 0:
        return MALFORMED
    counts[1] = strings(buf, at, buf.shape[0], offsets, lengths)
    return min(counts[1], 0)


@inlined
def same_hash(buf, at, constant):
    """Whether the hash at buf[at:] is the one at `constant` in EMPTY_HASHES."""
    for k in range(32):
        if buf[at + k] != EMPTY_HASHES[constant + k]:
            return False
    return True


@kernel(BYTES, INTS, INTS, OUT_INTS, OUT_ROWS, OUT_INTS, OUT_ROWS, OUT_INTS)
def account_needs(buf, offsets, lengths, storage_rows, storage_roots, code_rows, code_hashes, counts):
    """Which accounts have storage or code, with storage root and code hash. counts = (with storage, with code).

    All outputs have room for every account. Returns 0, or MALFORMED if an account is not a canonical slim account.
    """
    n = offsets.shape[0]
    counts[0] = counts[1] = 0
    if min(storage_rows.shape[0], storage_roots.shape[0], code_rows.shape[0], code_hashes.shape[0]) < n:
        return TOO_MANY
    if storage_roots.shape[1] != 32 or code_hashes.shape[1] != 32:
        return TOO_MANY
    for i in range(n):
        if outside(buf, offsets[i], lengths[i]):
            return MALFORMED
        begin, _, root, code = slim_span(buf, offsets[i], lengths[i])
        if begin < 0:
            return MALFORMED
        if root >= 0 and not same_hash(buf, root, 0):
            storage_rows[counts[0]] = i
            copy32(address(storage_roots) + 32 * counts[0], address(buf) + root)
            counts[0] += 1
        if code >= 0 and not same_hash(buf, code, 32):
            code_rows[counts[1]] = i
            copy32(address(code_hashes) + 32 * counts[1], address(buf) + code)
            counts[1] += 1
    return 0


@inlined
def header_size(payload):
    """Size of the RLP header of a list, or of a string that needs one, of fewer than 2^16 bytes."""
    return 1 if payload < 56 else (2 if payload < 256 else 3)


@inlined
def write_header(at, size, base):
    """Write an RLP header (base 0x80 string, 0xC0 list) for fewer than 2^16 bytes; return the address after it."""
    if size < 56:
        store8(at, base + size)
        return at + 1
    if size < 256:
        store8(at, base + 56)
        store8(at + 1, size)
        return at + 2
    store8(at, base + 57)
    store8(at + 1, size >> 8)
    store8(at + 2, size & 255)
    return at + 3


LONGEST_VALUE = 0xFF00
PAIR_OVERHEAD = 3 + 33 + 3
"""Most bytes that [hash, value] takes beyond its value: list header, hash, string header."""


@kernel(ROWS, BYTES, INTS, INTS, BOOL, OUT_BYTES)
def write_pairs(keys, buf, offsets, lengths, values_are_lists, out):
    """Write the items [hash, value] of an AccountRange (values are lists) or StorageRanges (strings) one after another.

    `out` has room for sum(lengths) + n * PAIR_OVERHEAD. Returns the bytes written, or an error.
    """
    n = keys.shape[0]
    need = np.int64(0)
    if offsets.shape[0] != n or lengths.shape[0] != n or keys.shape[1] != 32:
        return TOO_MANY
    for i in range(n):
        if lengths[i] == 0 or lengths[i] > LONGEST_VALUE or outside(buf, offsets[i], lengths[i]):
            return MALFORMED
        need += lengths[i] + PAIR_OVERHEAD
    if out.shape[0] < need:
        return TOO_MANY
    base = address(out)
    at = base
    for i in range(n):
        source = address(buf) + offsets[i]
        size = lengths[i]
        bare = values_are_lists or (size == 1 and load8(source) < 0x80)
        header = 0 if bare else header_size(size)
        at = write_header(at, 33 + header + size, 0xC0)
        store8(at, 0xA0)
        copy32(at + 1, address(keys) + i * 32)
        at += 33
        if not bare:
            at = write_header(at, size, 0x80)
        copy(at, source, size)
        at += size
    return at - base


@kernel(BYTES, INTS, INTS, OUT_BYTES, OUT_INTS)
def gather(buf, offsets, lengths, out, starts):
    """Copy scattered values into `out` one after another; starts[i]: where the i-th begins. Returns bytes or error."""
    at = np.int64(0)
    if lengths.shape[0] != offsets.shape[0] or starts.shape[0] < offsets.shape[0]:
        return TOO_MANY
    for i in range(offsets.shape[0]):
        if outside(buf, offsets[i], lengths[i]):
            return MALFORMED
        if at + lengths[i] > out.shape[0]:
            return TOO_MANY
        starts[i] = at
        copy(address(out) + at, address(buf) + offsets[i], lengths[i])
        at += lengths[i]
    return at
