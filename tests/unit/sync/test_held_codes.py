"""Codes that are held: as a set of their hashes, however alike these are, and what they cost."""

from __future__ import annotations

import tracemalloc
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.arrays import Bytes
from ethsync.sync.held_codes import PARTS, HeldCodes

HASHES = st.one_of(
    st.binary(min_size=32, max_size=32),
    # few values: the same ones again, and others with the same first eight bytes or only the last one different
    st.builds(
        lambda first, middle, last: bytes([first]) * 8 + bytes([middle]) * 23 + bytes([last]),
        st.sampled_from([0x00, 0x0F, 0x10, 0xFF]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
)


def rows(hashes: list[bytes]) -> Bytes:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def held(hashes: set[bytes]) -> HeldCodes:
    parts = [sorted(digest for digest in hashes if digest[0] >> 4 == number) for number in range(PARTS)]
    return HeldCodes([rows(part) for part in parts])


@given(st.sets(HASHES, max_size=60), st.lists(HASHES, max_size=60))
@settings(max_examples=200)
def test_as_a_set_of_hashes(stored: set[bytes], wanted: list[bytes]) -> None:
    codes = held(stored)
    assert len(codes) == len(stored)
    wanted += list(stored)[:10]
    assert sorted(codes.missing(rows(wanted))) == sorted(digest for digest in wanted if digest not in stored)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_missing_where_nothing_is_wanted(count: int) -> None:
    assert held({bytes(32)} if count else set()).missing(rows([])) == []


def test_forty_bytes_for_each() -> None:
    rng = Random(1)
    hashes = {rng.randbytes(32) for _ in range(50_000)}
    tracemalloc.start()
    try:
        codes = held(hashes)
        assert len(codes) == 50_000
        # 32 of a hash in the test's own bytes objects, and 8 beside it
        assert tracemalloc.get_traced_memory()[0] < 41 * 50_000
    finally:
        tracemalloc.stop()
