"""Hashes that were seen, remembered by eight bytes of each: a set that says "perhaps" or "certainly not"."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKETS = 256
"""Sorted arrays, so that an insertion moves 32 kB of mainnet's codes and not 16 MB. Measured with two million codes: 11
bytes for each (Python's set of integers: 82), and about a microsecond to add or to look up, as with the set. An
open-addressing table would be half empty and would pause while it grows."""

MOST = 1 << 23
"""Fingerprints kept, 92 MB: four times the codes of mainnet (1.94 million, go-ethereum#33254)."""

_FIRST_EIGHT = Struct("<Q").unpack_from


class Fingerprints:
    """What was added is always in it. Something else is in it by chance (one in 10¹³ with mainnet's codes), or because
    there were more than `capacity`: then everything is, since nothing can be ruled out any more."""

    def __init__(self, capacity: int = MOST) -> None:
        self._capacity = capacity
        self._buckets = [array("Q") for _ in range(BUCKETS)]
        self._count = 0
        self._overflowed = False

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: bytes) -> bool:
        if self._overflowed:
            return True
        (fingerprint,) = _FIRST_EIGHT(digest)
        bucket = self._buckets[fingerprint % BUCKETS]
        at = bisect_left(bucket, fingerprint)
        return at < len(bucket) and bucket[at] == fingerprint

    def update(self, digests: Iterable[bytes]) -> None:
        """Remember hashes (at least 8 bytes each)."""
        for (fingerprint,) in map(_FIRST_EIGHT, digests):
            bucket = self._buckets[fingerprint % BUCKETS]
            at = bisect_left(bucket, fingerprint)
            if at < len(bucket) and bucket[at] == fingerprint:
                continue
            if self._count >= self._capacity:
                self._overflowed = True
                return
            bucket.insert(at, fingerprint)
            self._count += 1

    def add(self, digest: bytes) -> None:
        """Remember a hash."""
        self.update((digest,))
