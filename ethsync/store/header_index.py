"""The index from hashes to numbers, in sorted runs: one per page, and one per 256 pages once these are all there.

An entry is the first eight bytes of a hash (big-endian, read as a number) and the header's place behind the run's first
number. That names a header or, by chance, a second one: whoever looks it up compares the header's own hash. A run
of 256 pages is cut into 1,024 buckets by the first ten bits, so that a look-up reads 3 kB of it.

Random puts, one per header, would be 25 million on mainnet; these are 25 thousand small ones, merged once.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged
from ethsync.store.header_pages import PAGE
from ethsync.store.schema import HEADER_INDEX, HEADER_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethsync.arrays import Bytes

RUN_PAGES = 256
RUN = RUN_PAGES * PAGE
"""Headers of a large run: mainnet has 96 of them, and a merge writes 3 MB."""

BUCKET_BITS = 10
"""Leading bits of a hash that choose its bucket in a large run: a look-up reads one of 1,024."""

_ENTRY = np.dtype([("fingerprint", "<u8"), ("place", "<u4")])
_KEY = struct.Struct(">Q")
_BUCKET = struct.Struct(">QH")


def run_first(number: int) -> int:
    """First number of the large run that a header belongs to."""
    return number // RUN * RUN


def page_index_key(first: int) -> bytes:
    """Key of a page's run."""
    return HEADER_INDEX + _KEY.pack(first)


def run_key(first: int, block_hash: bytes) -> bytes:
    """Key of the bucket of a large run that a hash belongs to."""
    return HEADER_RUN + _BUCKET.pack(first, int.from_bytes(block_hash[:2], "big") >> (16 - BUCKET_BITS))


def encode_page_index(hashes: Bytes) -> bytes:
    """The run of a page from the hashes (n, 32) of its headers."""
    entries = np.empty(len(hashes), _ENTRY)
    entries["fingerprint"] = np.ascontiguousarray(hashes[:, :8]).view(">u8")[:, 0]
    entries["place"] = np.arange(len(hashes))
    return np.sort(entries, order="fingerprint").tobytes()


def find_places(value: bytes, block_hash: bytes) -> list[int]:
    """Places of the headers in a run whose hashes begin like this one. Raises DatadirDamaged."""
    entries = _entries(value)
    wanted = int.from_bytes(block_hash[:8], "big")
    begin = int(np.searchsorted(entries["fingerprint"], np.uint64(wanted)))
    places = []
    while begin < len(entries) and int(entries["fingerprint"][begin]) == wanted:
        places.append(int(entries["place"][begin]))
        begin += 1
    return places


def merge(first: int, runs: Mapping[int, bytes]) -> list[tuple[bytes, bytes]]:
    """Make the large run from `first` on out of its pages' runs; return its buckets as puts.

    A few tens of milliseconds: run it in a thread. Raises DatadirDamaged.
    """
    parts = []
    for page, value in runs.items():
        part = _entries(value).copy()
        part["place"] += np.uint32(page - first)
        parts.append(part)
    entries = np.concatenate(parts)
    entries = entries[np.argsort(entries["fingerprint"], kind="stable")]
    cuts = np.searchsorted(
        entries["fingerprint"], np.arange(1, 1 << BUCKET_BITS, dtype=np.uint64) << np.uint64(64 - BUCKET_BITS)
    )
    return [
        (HEADER_RUN + _BUCKET.pack(first, bucket), part.tobytes())
        for bucket, part in enumerate(np.split(entries, cuts))
    ]


def _entries(value: bytes) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    if len(value) % _ENTRY.itemsize:
        raise DatadirDamaged("a run of the header index is damaged")
    found: np.ndarray[tuple[int], np.dtype[np.void]] = np.frombuffer(value, _ENTRY)
    return found
