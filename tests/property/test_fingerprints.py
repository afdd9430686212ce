"""Fingerprints against a set of the hashes, and what they cost."""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.sync.fingerprints import SECRET_SIZE, Fingerprints

SECRET = bytes(range(SECRET_SIZE))

DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32),
    # the same ones again, and hashes that share their first or their last bytes
    st.integers(0, 40).map(lambda number: number.to_bytes(32, "little")),
    st.integers(0, 40).map(lambda number: number.to_bytes(32, "big")),
)


@given(st.lists(DIGESTS, max_size=200), st.lists(DIGESTS, max_size=50))
@settings(max_examples=200)
def test_as_a_set_of_the_hashes(added: list[bytes], others: list[bytes]) -> None:
    fingerprints, oracle = Fingerprints(), set[bytes]()
    for digest in added:
        fingerprints.add(digest)
        oracle.add(digest)
        assert len(fingerprints) == len(oracle)
    for digest in [*added, *others]:
        assert (digest in fingerprints) == (digest in oracle)


@given(st.lists(DIGESTS, unique=True, min_size=1, max_size=30), DIGESTS)
@settings(max_examples=50)
def test_beyond_the_capacity_nothing_more_is_remembered(added: list[bytes], other: bytes) -> None:
    fingerprints = Fingerprints(capacity=len(added))
    fingerprints.update(added)
    # At the capacity what is known takes no room,
    fingerprints.add(added[0])
    fingerprints.add(other)
    # and what is not known finds none.
    assert all(digest in fingerprints for digest in added)
    assert (other in fingerprints) == (other in added)
    assert len(fingerprints) == len(added)


def test_two_programs_remember_the_same_hash_by_different_bytes() -> None:
    digest = bytes(32)
    kept = [_kept(Fingerprints(secret=secret), digest) for secret in (SECRET, SECRET, bytes(SECRET_SIZE), None, None)]
    assert kept[0] == kept[1]
    assert len(set(kept)) == 4


def _kept(fingerprints: Fingerprints, digest: bytes) -> int:
    fingerprints.add(digest)
    return next(bucket[0] for bucket in fingerprints._buckets if bucket)


def test_a_hundred_thousand_take_eleven_bytes_each() -> None:
    rng = random.Random(1)
    tracemalloc.start()
    try:
        fingerprints = Fingerprints(secret=SECRET)
        for _ in range(100_000):
            fingerprints.add(rng.randbytes(32))
        assert len(fingerprints) == 100_000
        assert tracemalloc.get_traced_memory()[0] < 11.5 * 100_000
    finally:
        tracemalloc.stop()
