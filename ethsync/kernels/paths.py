"""Paths of trie nodes: nibbles of 32-byte keys, and their hex-prefix encoding (Yellow Paper, appendix C)."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.kernels.compiler import inlined
from ethsync.kernels.memory import address, copy, copy32, store8

KEY_NIBBLES = 64  # of a key, which is a hash of 32 bytes


@inlined
def nibble(keys, row, depth):
    """The nibble of a key that chooses the child of a branch at `depth`."""
    byte = np.int64(keys[row, depth >> 1])
    return (byte & 15) if depth & 1 else (byte >> 4)


@inlined
def hex_prefix_size(nibbles):
    """Size of the RLP string that holds a hex-prefix encoded path (a single byte is its own RLP)."""
    return 1 if nibbles < 2 else nibbles // 2 + 2


@inlined
def write_hex_prefix(at, keys, row, start, end, flag):
    """Write nibbles [start, end) of a key in hex-prefix encoding (Yellow Paper, appendix C); flag 0x20 marks a leaf."""
    count = end - start
    if count >= 2:
        store8(at, 0x80 + count // 2 + 1)
        at += 1
    if count & 1:
        store8(at, flag + 0x10 + nibble(keys, row, start))
        start += 1
    else:
        store8(at, flag)
    at += 1
    if start & 1:
        while start < end:
            store8(at, (nibble(keys, row, start) << 4) | nibble(keys, row, start + 1))
            start += 2
            at += 1
    else:
        source, whole = address(keys) + row * 32 + (start >> 1), (end - start) >> 1
        if row + 1 < keys.shape[0]:
            copy32(at, source)
        else:
            copy(at, source, whole)
        at += whole
    return at
