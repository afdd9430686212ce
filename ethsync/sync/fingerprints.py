"""Hashes that were seen, remembered by eight bytes for each."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKETS = 256
"""Sorted arrays, so that an insertion moves 32 kB of mainnet's codes and not 16 MB. Measured with two million codes: 11
bytes for each (Python's set of integers: 82), and about a microsecond to add or to look up, as with the set. An
open-addressing table would be half empty and would pause while it grows."""

MOST = 1 << 23
"""Fingerprints kept, 92 MB: four times the codes of mainnet (1.94 million, go-ethereum#33254). Further codes would be
fetched once for each page that owes them."""

SECRET_SIZE = 16
_EIGHT_BYTES = (1 << 64) - 1


class Fingerprints:
    """What was added is in it, until there are more than `capacity`: what comes then is not remembered.

    Something else is in it by chance, once in 10¹³ look-ups with mainnet's codes. Nobody can search for such hashes,
    since fingerprints depend on a secret: they are Python's own hash (SipHash) of it and the hash together.
    """

    def __init__(self, capacity: int = MOST, secret: bytes | None = None) -> None:
        self._capacity = capacity
        self._secret = os.urandom(SECRET_SIZE) if secret is None else secret
        self._buckets = [array("Q") for _ in range(BUCKETS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, digest: bytes) -> bool:
        fingerprint = hash(self._secret + digest) & _EIGHT_BYTES
        bucket = self._buckets[fingerprint % BUCKETS]
        at = bisect_left(bucket, fingerprint)
        return at < len(bucket) and bucket[at] == fingerprint

    def update(self, digests: Iterable[bytes]) -> None:
        """Remember hashes."""
        for digest in digests:
            fingerprint = hash(self._secret + digest) & _EIGHT_BYTES
            bucket = self._buckets[fingerprint % BUCKETS]
            at = bisect_left(bucket, fingerprint)
            if at < len(bucket) and bucket[at] == fingerprint:
                continue
            if self._count >= self._capacity:
                return
            bucket.insert(at, fingerprint)
            self._count += 1

    def add(self, digest: bytes) -> None:
        """Remember a hash."""
        self.update((digest,))
