"""Leaves and trie entries as NumPy columns.

A *leaf* is a 32-byte hashed key and a value. Values are not copied: they are places in a buffer, often the very
message that brought them.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import LocalProtocolError
from ethsync.kernels import rlp, trie
from ethsync.kernels.paths import KEY_NIBBLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ethsync.arrays import Bytes, Ints

KEY_BYTES = 32
ZERO_KEY = bytes(KEY_BYTES)
MAX_KEY = b"\xff" * KEY_BYTES
"""Keys are hashes: how long they are, and the first and last that there can be."""

MOST_SPREAD = 4
"""Bytes of buffers for each byte of values up to which whole buffers are put together."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaves:
    """n leaves in ascending key order.

    keys: (n, 32) uint8. offsets, lengths: (n,) int64, places of the values in buf, a uint8 array. kind: `trie.LEAF`
    when values are trie leaf values (storage), `trie.SLIM_ACCOUNT` when they are accounts in snap's slim form.
    """

    keys: Bytes
    buf: Bytes
    offsets: Ints
    lengths: Ints
    kind: int

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice) -> Leaves:
        return Leaves(self.keys[part], self.buf, self.offsets[part], self.lengths[part], self.kind)

    def rows(self, which: Ints | NDArray[np.bool_]) -> Leaves:
        """Some rows, by their numbers in ascending order or by a mask."""
        return Leaves(self.keys[which], self.buf, self.offsets[which], self.lengths[which], self.kind)

    def key(self, row: int) -> bytes:
        """The 32-byte key of a row; negative rows count from the end."""
        key: bytes = self.keys[row].tobytes()
        return key

    def value(self, row: int) -> bytes:
        """The value of a row as it is stored."""
        start = int(self.offsets[row])
        return self.buf[start : start + int(self.lengths[row])].tobytes()

    def find(self, key: bytes) -> int:
        """Return the first row whose key is at or after `key` (binary search)."""
        return bisect_left(range(len(self)), key, key=self.key)

    def compact(self) -> Leaves:
        """Copy into buffers of exactly the needed size, so that a large message is not kept alive by a few leaves."""
        return join([self])

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return KEY_BYTES * len(self) + int(self.lengths.sum())


def in_order(keys: Bytes) -> NDArray[np.bytes_]:
    """Keys or padded paths (n, 32) as byte strings (n,), which NumPy sorts and searches as tries order them."""
    strings: NDArray[np.bytes_] = np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").reshape(-1)
    return strings


def row_bytes(rows: Bytes) -> list[bytes]:
    """The rows of (n, w) uint8 as byte strings: five times as quick as cutting them out one by one."""
    found: list[bytes] = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").reshape(-1).tolist()
    return found


def no_leaves(kind: int) -> Leaves:
    """Leaves without a row."""
    return Leaves(
        np.empty((0, KEY_BYTES), np.uint8), np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64), kind
    )


def join(parts: Sequence[Leaves]) -> Leaves:
    """Concatenate leaves of one kind into one buffer of their own, in the order given."""
    total = sum(int(part.lengths.sum()) for part in parts)
    rows = sum(len(part) for part in parts)
    buf = np.empty(total, np.uint8)
    offsets = np.empty(rows, np.int64)
    row = at = 0
    for part in parts:
        starts = offsets[row : row + len(part)]
        copied = rlp.gather(part.buf, part.offsets, part.lengths, buf[at:], starts)
        if copied < 0:
            raise LocalProtocolError("leaves point outside their buffer")
        starts += at
        at += copied
        row += len(part)
    keys = np.concatenate([part.keys for part in parts]) if parts else np.empty((0, KEY_BYTES), np.uint8)
    lengths = np.concatenate([part.lengths for part in parts]) if parts else np.empty(0, np.int64)
    return Leaves(keys, buf, offsets, lengths, parts[0].kind if parts else trie.LEAF)


def side_by_side(parts: Sequence[Leaves]) -> Leaves:
    """Concatenate leaves of one kind, in the order given, as `join` does, but leave the values where they are.

    Unless they are so scattered that copying them costs less.
    """
    buffers = {id(part.buf): part.buf for part in parts}
    if len(buffers) > 1:
        used = sum(int(part.lengths.sum()) for part in parts)
        if sum(map(len, buffers.values())) > MOST_SPREAD * used:
            return join(parts)
    places = dict(zip(buffers, accumulate(map(len, buffers.values()), initial=0), strict=False))
    bufs = list(buffers.values())
    return Leaves(
        np.concatenate([part.keys for part in parts]),
        bufs[0] if len(bufs) == 1 else np.concatenate(bufs),
        np.concatenate([part.offsets + places[id(part.buf)] for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        parts[0].kind,
    )


def leaves_of(keys: Sequence[bytes], values: Sequence[bytes], kind: int = trie.LEAF) -> Leaves:
    """Columns from Python byte strings: keys of 32 bytes in ascending order, one value each."""
    lengths = np.fromiter((len(value) for value in values), np.int64, len(values))
    return Leaves(
        np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES),
        np.frombuffer(b"".join(values), np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
        kind,
    )


def only_tries(leaves: Leaves, starts: Ints, which: NDArray[np.bool_]) -> tuple[Leaves, Ints]:
    """Some of the tries whose leaves begin at the rows `starts`, the last of which is the number of leaves."""
    sizes = np.diff(starts)
    return leaves.rows(np.repeat(which, sizes)), np.concatenate([[0], np.cumsum(sizes[which])]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """n trie entries in ascending, prefix-free order: leaves, or references to nodes at shorter paths.

    keys: (n, 32) uint8, paths padded with zeros. paths: (n,) uint8, their length in nibbles. kinds: (n,) uint8 of
    `ethsync.kernels.trie`. offsets, lengths: places of values or references in buf.
    """

    keys: Bytes
    paths: Bytes
    kinds: Bytes
    buf: Bytes
    offsets: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.keys)


def entries_of(leaves: Leaves) -> Entries:
    """View leaves as entries."""
    n = len(leaves)
    return Entries(
        leaves.keys,
        np.full(n, KEY_NIBBLES, np.uint8),
        np.full(n, leaves.kind, np.uint8),
        leaves.buf,
        leaves.offsets,
        leaves.lengths,
    )
