"""Pages, their paths and their top records; bundles of small storage tries. docs/format.md describes the bytes.

A page holds all leaves of a trie under one nibble path. Paths of one trie are prefix-free, and their stored form sorts
like the keys below them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged
from ethsync.kernels import bundles as bundle_kernel
from ethsync.kernels import pages as kernel
from ethsync.kernels import trie
from ethsync.kernels.paths import KEY_NIBBLES
from ethsync.state.account import decode_slim
from ethsync.state.columns import Entries, Leaves, row_bytes
from ethsync.state.tries import Tops, masked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.arrays import Bytes, Ints

KEY_SPACE = 1 << 256

TARGET_LEAVES = 384
"""Leaves of an average page at the lower end: depth is round(log16(leaves / 384)), so pages hold 96 to 1,536."""

MOST_LEAVES = 4096
"""A page with more is split by one nibble: hash prefixes can be mined, so no depth is safe for ever."""

MOST_DEPTH = 6
"""Nibbles of the pages of a new trie: enough for 25 thousand million leaves in pages of at most 1,536, sixty times the
accounts of mainnet. A trie that begins with mined keys looks larger than it is; this bounds how small its pages get."""

SMALL_TRIE = 64
"""Storage tries of up to this many slots share a bundle; larger ones have pages of their own."""


@dataclass(frozen=True, slots=True, order=True)
class PagePath:
    """A path of `depth` nibbles: `prefix` is 32 bytes, zero after the path."""

    prefix: bytes
    depth: int

    @property
    def stored(self) -> bytes:
        """The path as part of a database key: its bytes, the last nibble padded, then the number of nibbles."""
        return self.prefix[: (self.depth + 1) // 2] + bytes([self.depth])

    @property
    def first(self) -> int:
        """The lowest key under the path."""
        return int.from_bytes(self.prefix, "big")

    @property
    def end(self) -> int:
        """One past the highest key under the path."""
        return self.first + (1 << (256 - 4 * self.depth))

    def __str__(self) -> str:
        return self.prefix.hex()[: self.depth] or "(root)"


def path_of(key: bytes, depth: int) -> PagePath:
    """The path of `depth` nibbles that leads to a 32-byte key."""
    if depth == 0:
        return PagePath(bytes(32), 0)
    shift = 256 - 4 * depth
    return PagePath(((int.from_bytes(key, "big") >> shift) << shift).to_bytes(32, "big"), depth)


def stored_path(stored: bytes) -> PagePath:
    """Read a path back from a database key. Raises DatadirDamaged."""
    depth = stored[-1] if stored else 255
    if depth > 64 or len(stored) != (depth + 1) // 2 + 1 or (depth & 1 and stored[-2] & 15):
        raise DatadirDamaged(f"a page has the impossible key {stored.hex()}")
    return PagePath(stored[:-1].ljust(32, b"\0"), depth)


def depth_for(leaves: float) -> int:
    """Page depth for a trie of about so many leaves: pages of 96 to 1,536 leaves each, to the depth of MOST_DEPTH."""
    depth = 0
    while depth < MOST_DEPTH and leaves / 16**depth > 4 * TARGET_LEAVES:
        depth += 1
    return depth


def encode_pages(leaves: Leaves, groups: Ints, depth: int) -> list[bytes]:
    """Encode one page per group: rows groups[k] to groups[k + 1] share their first `depth` nibbles."""
    rows = leaves[int(groups[0]) : int(groups[-1])]
    width = 32 - depth // 2
    room = (len(groups) - 1) * kernel.PAGE_HEADER + len(rows) * (width + 4) + int(rows.lengths.sum())
    out, starts = np.empty(room, np.uint8), np.empty(len(groups), np.int64)
    code = kernel.encode_pages(rows.keys, rows.buf, rows.offsets, rows.lengths, groups - groups[0], depth, out, starts)
    if code < 0:
        raise AssertionError("page groups do not fit their leaves")
    places = starts.tolist()
    return [out[first:last].tobytes() for first, last in pairwise(places)]


def decode_pages(paths: Sequence[PagePath], values: Sequence[bytes], kind: int) -> tuple[Leaves, Ints]:
    """Decode pages of one trie. Returns all leaves and the first row of each page, then the number of leaves.

    Raises DatadirDamaged, naming the page.
    """
    starts, buf = _places(values), np.frombuffer(b"".join(values), np.uint8)
    room = sum(_count(value) for value in values)
    keys, offsets, lengths = np.empty((room, 32), np.uint8), np.empty(room, np.int64), np.empty(room, np.int64)
    firsts = np.empty(len(values) + 1, np.int64)
    code = kernel.decode_pages(buf, starts, _prefixes(paths), keys, offsets, lengths, firsts)
    if code < 0:
        page = (-code) // 16
        what = "has an unknown version" if -code % 16 == -kernel.UNEXPECTED_VERSION else "is damaged"
        raise DatadirDamaged(f"page {paths[page]} {what}")
    for path, value in zip(paths, values, strict=True):
        if value[1] != path.depth:
            raise DatadirDamaged(f"page {path} says that its path has {value[1]} nibbles")
    return Leaves(keys[:code], buf, offsets[:code], lengths[:code], kind), firsts


def _count(value: bytes) -> int:
    """Leaves that a page claims, as far as its size allows."""
    if len(value) < kernel.PAGE_HEADER:
        return 0
    return min(int.from_bytes(value[4:8], "little"), len(value) // 5)


@dataclass(frozen=True, slots=True)
class Top:
    """What a parent must know of a page: its highest branch (depth, reference), or its only leaf (key, leaf value)."""

    key: bytes
    depth: int
    reference: bytes

    @property
    def is_leaf(self) -> bool:
        """Whether the page is one leaf; then `reference` is the leaf's full value."""
        return self.depth == 64

    def encode(self) -> bytes:
        """Depth, the nibbles of the path (the whole key for a leaf), then the reference or value."""
        return bytes([self.depth]) + self.key[: (self.depth + 1) // 2] + self.reference


def decode_top(record: bytes) -> Top:
    """Read a top record. Raises DatadirDamaged."""
    size = (record[0] + 1) // 2 + 1 if record else 1
    if len(record) <= size or record[0] > 64 or (record[0] < 64 and len(record) - size > 32):
        raise DatadirDamaged(f"the top record {record.hex()} is damaged")
    return Top(record[1:size].ljust(32, b"\0"), record[0], record[size:])


def tops_of(tops: Tops, leaves: Leaves) -> list[Top]:
    """Top records of page groups of these leaves."""
    firsts = tops.firsts[:-1]
    depths = np.where(tops.sizes == 0, KEY_NIBBLES, tops.depths)
    keys = masked(leaves.keys[firsts], depths.astype(np.uint8))
    columns = row_bytes(keys), depths.tolist(), row_bytes(tops.references), tops.sizes.tolist(), firsts.tolist()
    return [
        Top(key, depth, reference[:size] if size else _leaf_value(leaves, row))
        for key, depth, reference, size, row in zip(*columns, strict=True)
    ]


def _leaf_value(leaves: Leaves, row: int) -> bytes:
    """The value of a row as its trie leaf has it."""
    value = leaves.value(row)
    return decode_slim(value).full() if leaves.kind == trie.SLIM_ACCOUNT else value


def entries_of_tops(tops: Sequence[Top]) -> Entries:
    """Entries of the upper trie, for `tries.build`."""
    lengths = np.fromiter((len(top.reference) for top in tops), np.int64, len(tops))
    paths = np.fromiter((top.depth for top in tops), np.uint8, len(tops))
    return Entries(
        np.frombuffer(b"".join(top.key for top in tops), np.uint8).reshape(-1, 32),
        paths,
        np.where(paths == 64, trie.LEAF, trie.BRANCH).astype(np.uint8),
        np.frombuffer(b"".join(top.reference for top in tops), np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Small storage tries of the accounts under one page path, or under several one after another, in account order.

    accounts, roots: (t, 32) uint8. starts: (t + 1,) int64, rows of `leaves` at which the tries begin.
    """

    accounts: Bytes
    roots: Bytes
    starts: Ints
    leaves: Leaves

    def __len__(self) -> int:
        return len(self.accounts)


def encode_bundle(bundle: Bundle, depth: int) -> bytes:
    """Encode a bundle: header, account suffixes, roots, trie ends, slot keys, value ends, values."""
    return encode_bundles(bundle, np.array([0, len(bundle)]), [depth])[0]


def encode_bundles(tries: Bundle, firsts: Ints, depths: Sequence[int]) -> list[bytes]:
    """Encode the bundles of several pages in one go: that of page k has the tries firsts[k] to firsts[k + 1]."""
    leaves = tries.leaves
    room = len(depths) * bundle_kernel.BUNDLE_HEADER + len(tries) * (32 + bundle_kernel.TRIE_BYTES)
    room += len(leaves) * bundle_kernel.SLOT_BYTES + int(leaves.lengths.sum())
    out, places = np.empty(room, np.uint8), np.empty(len(depths) + 1, np.int64)
    code = bundle_kernel.encode_bundles(
        np.ascontiguousarray(tries.accounts), np.ascontiguousarray(tries.roots), tries.starts, leaves.keys, leaves.buf,
        leaves.offsets, leaves.lengths, firsts, np.array(depths, np.int64), out, places,
    )  # fmt: skip
    if code < 0:
        raise AssertionError("bundles do not fit their tries")
    return [out[first:last].tobytes() for first, last in pairwise(places.tolist())]


def decode_bundle(path: PagePath, value: bytes) -> Bundle:
    """Decode a bundle. Raises DatadirDamaged, naming the account page it belongs to."""
    return decode_bundles([path], [value])[0]


def decode_bundles(paths: Sequence[PagePath], values: Sequence[bytes]) -> tuple[Bundle, Ints]:
    """Decode the bundles of several pages, in order: all their tries, and the first trie of each bundle, then how many
    there are. Raises DatadirDamaged, naming the account page of the first bundle that is damaged.
    """
    places = _places(values)
    counts = [_bundle_counts(value) for value in values]
    tries, slots = sum(count for count, _ in counts), sum(count for _, count in counts)
    accounts, roots, keys = (np.empty((rows, 32), np.uint8) for rows in (tries, tries, slots))
    starts, firsts = np.empty(tries + 1, np.int64), np.empty(len(values) + 1, np.int64)
    offsets, lengths = np.empty(slots, np.int64), np.empty(slots, np.int64)
    buf, depths = np.frombuffer(b"".join(values), np.uint8), np.array([path.depth for path in paths], np.int64)
    code = bundle_kernel.decode_bundles(
        buf, places, _prefixes(paths), depths, accounts, roots, starts, keys, offsets, lengths, firsts
    )
    if code < 0:
        raise DatadirDamaged(f"the bundle of small storage tries under {paths[-code // 16]} is damaged")
    count = int(firsts[-1])
    leaves = Leaves(keys[:code], buf, offsets[:code], lengths[:code], trie.LEAF)
    return Bundle(accounts[:count], roots[:count], starts[: count + 1], leaves), firsts


def _bundle_counts(value: bytes) -> tuple[int, int]:
    """Tries and slots that a bundle claims, as far as its size allows."""
    tries, slots = int.from_bytes(value[4:8], "little"), int.from_bytes(value[8:12], "little")
    return min(tries, len(value) // bundle_kernel.TRIE_BYTES), min(slots, len(value) // bundle_kernel.SLOT_BYTES)


def _places(values: Sequence[bytes]) -> Ints:
    """Where these would begin one after another, and where the last would end."""
    places = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=places[1:])
    return places


def _prefixes(paths: Sequence[PagePath]) -> Bytes:
    return np.frombuffer(b"".join(path.prefix for path in paths), np.uint8).reshape(-1, 32)
