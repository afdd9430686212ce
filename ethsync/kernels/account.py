"""Accounts in snap's slim form, as kernels read them.

A slim account is the RLP list [nonce, balance, storage root or "", code hash or ""] (devp2p caps/snap.md, "Data
format"): empty strings stand for the root of the empty trie and the hash of empty code.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT
from ethsync.kernels.compiler import inlined

EMPTY_HASHES = np.frombuffer(EMPTY_TRIE_ROOT + EMPTY_CODE_HASH, np.uint8)
"""64 bytes: root of the empty trie, hash of empty code. A constant of the compiled kernels."""

NONCE_BYTES = 8  # EIP-2681: a nonce is below 2^64
BALANCE_BYTES = 32  # Yellow Paper 4.1: a scalar below 2^256


@inlined
def canonical_integer_end(buf, at, end, most):
    """Return the end of the RLP integer at `at`; -1 unless it is canonical, before `end`, at most `most` bytes."""
    if at >= end:
        return -1
    first = np.int64(buf[at])
    if first == 0x80:
        return at + 1
    if first < 0x80:
        return at + 1 if first > 0 else -1
    size = first - 0x80
    if size > most or at + 1 + size > end or buf[at + 1] == 0:
        return -1
    if size == 1 and buf[at + 1] < 0x80:
        return -1
    return at + 1 + size


@inlined
def optional_hash_end(buf, at, end):
    """Return the end of the RLP string at `at` that is empty or 32 bytes long, or -1."""
    if at >= end:
        return -1
    if buf[at] == 0x80:
        return at + 1
    if buf[at] == 0xA0 and at + 33 <= end:
        return at + 33
    return -1


@inlined
def slim_span(buf, offset, length):
    """Parse the slim account in buf[offset : offset + length], which lies inside the buffer.

    Returns (start of the nonce, end of the balance, offset of the storage root or -1, offset of the code hash or -1);
    the first is -1 if the bytes are not a canonical slim account.
    """
    end = offset + length
    if length < 5:
        return -1, 0, 0, 0
    first = np.int64(buf[offset])
    if 0xC0 <= first < 0xF8:
        begin = offset + 1
        payload = first - 0xC0
    elif first == 0xF8 and buf[offset + 1] >= 56:
        begin = offset + 2
        payload = np.int64(buf[offset + 1])
    else:
        return -1, 0, 0, 0
    if begin + payload != end:
        return -1, 0, 0, 0
    middle = canonical_integer_end(buf, begin, end, NONCE_BYTES)
    if middle > 0:
        middle = canonical_integer_end(buf, middle, end, BALANCE_BYTES)
    if middle < 0:
        return -1, 0, 0, 0
    root = optional_hash_end(buf, middle, end)
    code = optional_hash_end(buf, root, end) if root > 0 else np.int64(-1)
    if code != end:
        return -1, 0, 0, 0
    return begin, middle, (root - 32 if root - middle == 33 else -1), (code - 32 if code - root == 33 else -1)
