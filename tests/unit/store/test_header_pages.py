"""Pages of headers, their markers, and the index from hashes to numbers."""

from __future__ import annotations

import numpy as np
import pytest

from ethsync.errors import DatadirDamaged
from ethsync.hashing import keccak256
from ethsync.store import header_index
from ethsync.store.header_index import RUN, encode_page_index, find_places, merge, page_index_key, run_first, run_key
from ethsync.store.header_pages import PAGE, Edge, build_page, decode_header_marker, decode_page, page_first
from ethsync.store.schema import HEADER_INDEX, HEADER_RUN
from ethsync.wire.headers import decode_header
from tests.oracles.headers import demo_chain

RAWS = demo_chain(2 * PAGE)


def test_a_page_gives_its_headers_back() -> None:
    marker, value, hashes = build_page(RAWS[PAGE:])
    page = decode_page(PAGE, value)
    assert len(page) == PAGE
    assert [page.raw(number) for number in range(PAGE, 2 * PAGE)] == RAWS[PAGE:]
    assert [row.tobytes() for row in hashes] == [keccak256(raw) for raw in RAWS[PAGE:]]
    # Eight bytes of a head and four per header are all that it takes besides them.
    assert len(value) == 8 + 4 * PAGE + sum(map(len, RAWS[PAGE:]))
    assert (marker.first, marker.last) == (PAGE, 2 * PAGE - 1)


def test_a_marker_says_what_joins_a_page_to_others() -> None:
    marker, _, _ = build_page(RAWS[PAGE:])
    lowest, highest = decode_header(RAWS[PAGE]), decode_header(RAWS[-1])
    assert (marker.hash, marker.parent) == (highest.hash, keccak256(RAWS[PAGE - 1]))
    assert (marker.bottom, marker.top) == (Edge(lowest.timestamp, 0), Edge(highest.timestamp, 0))
    assert decode_header_marker(PAGE, marker.encode()) == marker
    assert len(marker.encode()) == 82


@pytest.mark.parametrize("damage", [b"", b"\x01", bytes(82), bytes(81)])
def test_damaged_markers_are_told(damage: bytes) -> None:
    with pytest.raises(DatadirDamaged):
        decode_header_marker(1 if len(damage) == 82 else 0, damage)


def test_damaged_pages_are_told() -> None:
    _, value, _ = build_page(RAWS[:PAGE])
    for damaged in (b"", value[:4], value[:-1], value + b"x", b"\x02" + value[1:], value[:9] + b"\xff" + value[10:]):
        with pytest.raises(DatadirDamaged):
            decode_page(0, damaged)


def test_numbers_belong_to_pages_and_runs() -> None:
    assert [page_first(number) for number in (0, PAGE - 1, PAGE, 25_000_000)] == [0, 0, PAGE, 24_999_936]
    assert [run_first(number) for number in (0, RUN - 1, RUN)] == [0, 0, RUN]


def random_hashes(count: int, seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def test_a_run_of_a_page_names_the_place_of_a_hash() -> None:
    hashes = random_hashes(PAGE)
    hashes[7, :8] = hashes[1000, :8]  # two hashes that begin alike
    value = encode_page_index(hashes)
    assert len(value) == 12 * PAGE
    assert sorted(find_places(value, hashes[7].tobytes())) == [7, 1000]
    assert all(row in find_places(value, hashes[row].tobytes()) for row in range(PAGE))
    assert find_places(value, bytes(32)) == []
    assert find_places(value, b"\xff" * 32) == []
    assert find_places(b"", bytes(32)) == []
    with pytest.raises(DatadirDamaged):
        find_places(value[:-1], bytes(32))


def test_runs_of_256_pages_become_one_in_buckets() -> None:
    pages = {RUN + PAGE * number: random_hashes(PAGE, number) for number in range(header_index.RUN_PAGES)}
    puts = dict(merge(RUN, {first: encode_page_index(hashes) for first, hashes in pages.items()}))
    # Every hash is found in the one bucket that its first bits name, and at its place.
    assert len(puts) == 1024
    assert sum(map(len, puts.values())) == 12 * RUN
    assert max(map(len, puts.values())) < 12 * 400
    for first, hashes in pages.items():
        for row in (0, 511, PAGE - 1):
            block_hash = hashes[row].tobytes()
            assert first - RUN + row in find_places(puts[run_key(RUN, block_hash)], block_hash)


def test_keys_sort_before_the_pages_and_by_number() -> None:
    assert page_index_key(PAGE) == HEADER_INDEX + PAGE.to_bytes(8, "big")
    assert run_key(RUN, b"\xff\xc0" + bytes(30)) == HEADER_RUN + RUN.to_bytes(8, "big") + (1023).to_bytes(2, "big")
    assert run_key(RUN, b"\x00\x3f" + bytes(30)) == HEADER_RUN + RUN.to_bytes(8, "big") + bytes(2)
