"""Pages of 1,024 headers with consecutive numbers, and what is known of a page without reading it.

A page holds the headers 1,024 k to 1,024 k + 1,023. Its marker is written with it, and says which hash its highest
header has and which hash its lowest one names as parent: whether pages join is seen from their markers alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ethsync.errors import DatadirDamaged
from ethsync.kernels.keccak import hash_many
from ethsync.kernels.rlp import gather
from ethsync.wire.headers import decode_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.arrays import Bytes, Ints

PAGE = 1024
"""Headers per page: what one request brings at most (go-ethereum eth/protocols/eth/handler.go, maxHeadersServe)."""

MOST_DIFFICULTY = 3
"""As which a larger difficulty counts: the rules tell 0 (proof of stake), 1 and 2 (clique) and more apart."""

VERSION = 1
"""Of the form of pages (docs/format.md)."""

_HEAD = struct.Struct("<BxHI")
_MARKER = struct.Struct("<32s32sQQBB")


class Edge(NamedTuple):
    """What the rules between a header and its parent look at: time, and difficulty up to MOST_DIFFICULTY."""

    time: int
    difficulty: int


def page_first(number: int) -> int:
    """Number of the first header of the page that a header belongs to."""
    return number // PAGE * PAGE


@dataclass(frozen=True, slots=True)
class HeaderMarker:
    """Of the page from `first` on: hash of its highest header, parent hash of its lowest one, and both edges."""

    first: int
    hash: bytes
    parent: bytes
    bottom: Edge
    top: Edge

    @property
    def last(self) -> int:
        """Number of the page's highest header."""
        return self.first + PAGE - 1

    def encode(self) -> bytes:
        """Fixed-width, little-endian."""
        times, difficulties = zip(self.bottom, self.top, strict=True)
        return _MARKER.pack(self.hash, self.parent, *times, *difficulties)


def decode_header_marker(first: int, value: bytes) -> HeaderMarker:
    """Read a marker. Raises DatadirDamaged."""
    if len(value) != _MARKER.size or first % PAGE:
        raise DatadirDamaged(f"the marker of the headers from {first} on is damaged")
    top_hash, parent, bottom_time, top_time, bottom, top = _MARKER.unpack(value)
    return HeaderMarker(first, top_hash, parent, Edge(bottom_time, bottom), Edge(top_time, top))


def encode_page(parts: Sequence[tuple[Bytes, Ints, Ints]]) -> bytes:
    """Pack headers in ascending order; each part is (buffer, offsets, lengths) of some of them."""
    lengths = np.concatenate([each for _, _, each in parts])
    out = np.empty(int(lengths.sum()), np.uint8)
    at = 0
    for buf, offsets, sizes in parts:
        at += int(gather(buf, offsets, sizes, out[at:], np.empty(len(sizes), np.int64)))
    ends = np.cumsum(lengths).astype("<u4")
    return b"".join((_HEAD.pack(VERSION, len(lengths), len(out)), ends.tobytes(), out.tobytes()))


def build_page(raws: Sequence[bytes]) -> tuple[HeaderMarker, bytes, Bytes]:
    """Make a page of whole headers in ascending order; return its marker, its value, and the hashes (n, 32).

    Raises MalformedMessage if the first or last one is no header; nothing else is checked.
    """
    lowest, highest = decode_header(raws[0]), decode_header(raws[-1])
    edges = [Edge(each.timestamp, min(MOST_DIFFICULTY, each.difficulty)) for each in (lowest, highest)]
    buf = np.frombuffer(b"".join(raws), np.uint8)
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    offsets = np.cumsum(lengths) - lengths
    hashes = np.empty((len(raws), 32), np.uint8)
    hash_many(buf, offsets, lengths, hashes)
    marker = HeaderMarker(lowest.number, highest.hash, lowest.parent_hash, *edges)
    return marker, encode_page([(buf, offsets, lengths)]), hashes


@dataclass(frozen=True, slots=True, eq=False)
class HeaderPage:
    """A page that was read: bytes of the headers, one after another, and where each ends."""

    first: int
    body: memoryview
    ends: list[int]

    def __len__(self) -> int:
        return len(self.ends)

    def raw(self, number: int) -> bytes:
        """The bytes of one header of the page."""
        row = number - self.first
        return bytes(self.body[self.ends[row - 1] if row else 0 : self.ends[row]])


def decode_page(first: int, value: bytes) -> HeaderPage:
    """Read a page, without looking at its headers. Raises DatadirDamaged."""
    if len(value) >= _HEAD.size:
        version, count, size = _HEAD.unpack_from(value)
        start = _HEAD.size + 4 * count
        if version == VERSION and count == PAGE and len(value) == start + size:
            ends = np.frombuffer(value, "<u4", count, _HEAD.size)
            if ends[-1] == size and (np.diff(ends.astype(np.int64)) > 0).all():
                return HeaderPage(first, memoryview(value)[start:], ends.tolist())
    raise DatadirDamaged(f"the page of headers from {first} on is damaged")
