"""Stored values → columns of numbers, for those who compute with the state."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.account import EMPTY_HASHES, canonical_integer_end, slim_span
from ethsync.kernels.compiler import BYTES, INTS, OUT_ROWS, OUT_WORDS, inlined, kernel
from ethsync.kernels.memory import address, copy32, outside

# Error codes.
MALFORMED = -1
NO_ROOM = -2


@inlined
def write_integer(buf, at, end, row):
    """Write the RLP integer in buf[at:end] big-endian into a zeroed row of 32 bytes."""
    size = end - at
    if size > 1:
        at += 1
        size -= 1
    elif buf[at] == 0x80:
        return
    for k in range(size):
        row[32 - size + k] = buf[at + k]


@kernel(BYTES, INTS, INTS, OUT_WORDS, OUT_ROWS, OUT_ROWS, OUT_ROWS)
def account_columns(buf, offsets, lengths, nonces, balances, roots, codes):
    """Slim accounts → nonces (n,) uint64; balances, storage roots, code hashes (n, 32). Returns 0 or an error."""
    n = offsets.shape[0]
    if lengths.shape[0] != n or min(nonces.shape[0], balances.shape[0], roots.shape[0], codes.shape[0]) < n:
        return NO_ROOM
    if balances.shape[1] != 32 or roots.shape[1] != 32 or codes.shape[1] != 32:
        return NO_ROOM
    empty = address(EMPTY_HASHES)
    source = address(buf)
    for i in range(n):
        if outside(buf, offsets[i], lengths[i]):
            return MALFORMED
        begin, middle, root, code = slim_span(buf, offsets[i], lengths[i])
        if begin < 0:
            return MALFORMED
        end = canonical_integer_end(buf, begin, middle, 8)
        nonce = np.uint64(0)
        if end - begin > 1:
            for k in range(begin + 1, end):
                nonce = (nonce << np.uint64(8)) | np.uint64(buf[k])
        elif buf[begin] != 0x80:
            nonce = np.uint64(buf[begin])
        nonces[i] = nonce
        balances[i, :] = 0
        write_integer(buf, end, middle, balances[i])
        copy32(address(roots) + 32 * i, source + root if root >= 0 else empty)
        copy32(address(codes) + 32 * i, source + code if code >= 0 else empty + 32)
    return 0


@kernel(BYTES, INTS, INTS, OUT_ROWS)
def slot_values(buf, offsets, lengths, values):
    """Stored slots → values (n, 32) big-endian. Returns 0 or an error."""
    n = offsets.shape[0]
    if lengths.shape[0] != n or values.shape[0] < n or values.shape[1] != 32:
        return NO_ROOM
    for i in range(n):
        if lengths[i] == 0 or outside(buf, offsets[i], lengths[i]):
            return MALFORMED
        end = offsets[i] + lengths[i]
        if canonical_integer_end(buf, offsets[i], end, 32) != end:
            return MALFORMED
        values[i, :] = 0
        write_integer(buf, offsets[i], end, values[i])
    return 0
