"""Fingerprints against a set of the eight bytes, and what they cost."""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.sync.fingerprints import BUCKETS, Fingerprints

TAIL = bytes(24)

DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32),
    # few values: the same ones again, neighbours, one bucket only
    st.integers(0, 40).map(lambda number: (number * BUCKETS).to_bytes(8, "little") + TAIL),
    st.integers(2**64 - 8, 2**64 - 1).map(lambda number: number.to_bytes(8, "little") + TAIL),
)


@given(st.lists(DIGESTS, max_size=200), st.lists(DIGESTS, max_size=50))
@settings(max_examples=200)
def test_as_a_set_of_the_first_eight_bytes(added: list[bytes], others: list[bytes]) -> None:
    fingerprints, oracle = Fingerprints(), set[bytes]()
    for digest in added:
        fingerprints.add(digest)
        oracle.add(digest[:8])
        assert len(fingerprints) == len(oracle)
    for digest in [*added, *others]:
        assert (digest in fingerprints) == (digest[:8] in oracle)


@given(st.lists(DIGESTS, unique_by=lambda digest: digest[:8], min_size=1, max_size=30), DIGESTS)
@settings(max_examples=50)
def test_beyond_the_capacity_nothing_is_ruled_out(added: list[bytes], other: bytes) -> None:
    fingerprints = Fingerprints(capacity=len(added))
    for digest in added:
        fingerprints.add(digest)
    # At the capacity it is still exact, and what is known takes no room,
    fingerprints.add(added[0])
    assert (other in fingerprints) == (other[:8] in {digest[:8] for digest in added})
    # and one more makes it doubt everything.
    more = next(digest for digest in map(_numbered, range(99)) if digest not in fingerprints)
    fingerprints.add(more)
    assert more in fingerprints
    assert all(_numbered(number) in fingerprints for number in range(1_000, 1_010))
    assert len(fingerprints) == len(added)


def _numbered(number: int) -> bytes:
    return number.to_bytes(8, "big") + TAIL


def test_a_hundred_thousand_take_eleven_bytes_each() -> None:
    rng = random.Random(1)
    tracemalloc.start()
    try:
        fingerprints = Fingerprints()
        for _ in range(100_000):
            fingerprints.add(rng.randbytes(8))
        assert len(fingerprints) == 100_000
        assert tracemalloc.get_traced_memory()[0] < 11.5 * 100_000
    finally:
        tracemalloc.stop()
