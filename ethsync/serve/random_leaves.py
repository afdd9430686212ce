"""Random accounts, slots and codes as columns, each a function of (seed, kind, number) alone.

A counter-based generator: the words of item i do not depend on any other item, so that state can be made in any order
and in slices of any size, two contracts can have the same storage, and no library's random streams are relied on.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ethsync.errors import LocalProtocolError
from ethsync.kernels import keccak
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import KEY_BYTES, Leaves

if TYPE_CHECKING:
    from ethsync.arrays import Bytes, Ints

Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

# Random words of 64 bits for each leaf.
KEY_WORDS = 4
SLOT_WORDS = KEY_WORDS + 4 + 1  # value, lengths
ACCOUNT_WORDS = KEY_WORDS + 1 + 2 + 1  # nonce, balance, lengths

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment and multipliers (Steele, Lea, Flood: OOPSLA 2014)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

NONCE_LENGTHS = np.array([0] * 14 + [1] * 30 + [2] * 12 + [3, 4, 5, 6, 7, 8, 8, 3], np.int64)
BALANCE_LENGTHS = np.array([0] * 4 + list(range(1, 13)) + [7, 8] * 20 + [9] * 8, np.int64)
VALUE_LENGTHS = np.array([*range(1, 33), *[1] * 8, *[20] * 8, *[32] * 8, *[2, 3, 4, 5, 6, 7, 8, 9]], np.int64)
"""Bytes of a field, by six random bits: every length occurs, the usual ones more often."""


class Kind(IntEnum):
    """What the words are for."""

    ACCOUNT = 1
    SLOT = 2
    CODE = 3
    CODE_LENGTH = 4
    CODE_CHOICE = 5
    STORAGE_SIZE = 6
    STORAGE_SHARING = 7
    HEADER = 8
    CHANGED_ACCOUNT = 9
    CHANGED_SLOT = 10


def words(seed: int, kind: Kind, numbers: Ints, count: int) -> Words:
    """`count` random 64-bit words for each number: (n, count)."""
    start = int.from_bytes(blake2b(f"{seed} {kind:d}".encode(), digest_size=8).digest(), "big")
    first = numbers.astype(np.uint64) * np.uint64(count)
    mixed: Words = np.add.outer(first, np.arange(count, dtype=np.uint64))
    mixed *= _GAMMA
    mixed += np.uint64(start)
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def as_bytes(row_words: Words) -> Bytes:
    """Words (n, w) as big-endian bytes (n, 8 w)."""
    return np.ascontiguousarray(row_words).byteswap().view(np.uint8).reshape(len(row_words), 8 * row_words.shape[1])


def under(row_words: Words, part: int, nibbles: int) -> None:
    """Move keys, given by their words, under the part-th path of so many nibbles (fewer than 16)."""
    if nibbles:
        row_words[:, 0] >>= np.uint64(4 * nibbles)
        row_words[:, 0] |= np.uint64(part << (64 - 4 * nibbles))


def integers(digits: Bytes, lengths: Ints) -> tuple[Bytes, Mask]:
    """RLP integers of lengths[i] bytes taken from digits (n, w): columns (n, w + 1) and which of them are there."""
    n, width = digits.shape
    columns = np.empty((n, width + 1), np.uint8)
    columns[:, 1:] = digits
    columns[:, 0] = 0x80 + lengths
    columns[:, 1] |= (columns[:, 1] == 0).astype(np.uint8)  # the first byte of an integer is not zero
    there = np.arange(width + 1) <= lengths[:, None]
    there[:, 0] = (lengths != 1) | (columns[:, 1] >= 0x80)
    return columns, there


def optional_hashes(hashes: Bytes, rows: Ints, n: int) -> tuple[Bytes, Mask]:
    """RLP strings (n, 33): hashes (k, 32) in the given rows, empty strings in the others."""
    columns = np.zeros((n, 1 + KEY_BYTES), np.uint8)
    columns[:, 0] = 0x80
    columns[rows, 0] = 0x80 + KEY_BYTES
    columns[rows, 1:] = hashes
    there = np.zeros((n, 1 + KEY_BYTES), np.bool_)
    there[:, 0] = True
    there[rows] = True
    return columns, there


def _leaves(row_words: Words, columns: Bytes, there: Mask, kind: int) -> Leaves:
    lengths = there.sum(axis=1, dtype=np.int64)
    return Leaves(as_bytes(row_words[:, :KEY_WORDS]), columns[there], np.cumsum(lengths) - lengths, lengths, kind)


def accounts(row_words: Words, roots: Bytes, root_rows: Ints, codes: Bytes, code_rows: Ints) -> Leaves:
    """Slim accounts from their words (n, ACCOUNT_WORDS), sorted; storage roots and code hashes for some rows."""
    n = len(row_words)
    digits = as_bytes(row_words[:, KEY_WORDS + 1 :])
    choice = (row_words[:, KEY_WORDS] & np.uint64(4095)).astype(np.int64)
    parts = [
        integers(digits[:, :8], NONCE_LENGTHS[choice & 63]),
        integers(digits[:, 8:20], BALANCE_LENGTHS[choice >> 6]),
        optional_hashes(roots, root_rows, n),
        optional_hashes(codes, code_rows, n),
    ]
    columns = np.concatenate([np.empty((n, 2), np.uint8), *(part[0] for part in parts)], axis=1)
    there = np.concatenate([np.ones((n, 2), np.bool_), *(part[1] for part in parts)], axis=1)
    size = there[:, 2:].sum(axis=1)
    there[:, 0] = size > 55  # RLP lists of more bytes need their length in a byte of its own
    columns[:, 0] = 0xF8
    columns[:, 1] = np.where(size > 55, size, 0xC0 + size)
    return _leaves(row_words, columns, there, SLIM_ACCOUNT)


def slots(row_words: Words) -> Leaves:
    """Storage slots from their words (n, SLOT_WORDS), sorted within each trie; values of every length from 1 to 32."""
    lengths = VALUE_LENGTHS[(row_words[:, -1] & np.uint64(63)).astype(np.int64)]
    columns, there = integers(as_bytes(row_words[:, KEY_WORDS:-1]), lengths)
    return _leaves(row_words, columns, there, LEAF)


def codes(seed: int, numbers: Ints, code_bytes: int) -> tuple[Bytes, Ints, Bytes]:
    """Bytecodes by number: rows of bytes (k, w), their lengths (code_bytes on average), their hashes (k, 32)."""
    chosen = words(seed, Kind.CODE_LENGTH, numbers, 1)[:, 0] % np.uint64(code_bytes + 1)
    lengths = np.maximum(code_bytes // 2 + chosen.astype(np.int64), 9)
    width = (code_bytes // 2 + code_bytes + 7) // 8  # of the longest possible code: a code must not depend on its batch
    rows = as_bytes(words(seed, Kind.CODE, numbers, width))
    rows[:, 0] = 0x60  # PUSH1: not the 0xEF that EIP-3541 forbids
    hashes = np.empty((len(numbers), KEY_BYTES), np.uint8)
    if keccak.hash_many(rows.reshape(-1), np.arange(len(numbers)) * (8 * width), lengths, hashes) < 0:
        raise LocalProtocolError("codes lie outside their buffer")
    return rows, lengths, hashes
