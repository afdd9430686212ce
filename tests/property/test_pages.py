"""What is stored: every page, top record, bundle and path comes back as it was, and no damage crashes a reader."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import DatadirDamaged
from ethsync.kernels.trie import LEAF
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.pages import (
    Bundle,
    Top,
    decode_bundle,
    decode_pages,
    decode_top,
    encode_bundle,
    encode_pages,
    entries_of_tops,
    path_of,
    stored_path,
    tops_of,
)
from ethsync.state.tries import build, page_tops
from tests.oracles.leaf_sets import SHAPES, any_leaf_set, leaf_set
from tests.oracles.pages import page_of
from tests.oracles.tries import root_of, top_under, trie_of

THOROUGH = settings(derandomize=True, deadline=None, max_examples=300)
KEYS = st.binary(min_size=32, max_size=32)
DEPTHS = st.integers(0, 64)


def pairs(leaves: Leaves) -> list[tuple[bytes, bytes]]:
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


# Paths


@THOROUGH
@given(KEYS, DEPTHS)
def test_a_path_comes_back_and_holds_its_key(key: bytes, depth: int) -> None:
    path = path_of(key, depth)
    assert stored_path(path.stored) == path
    assert path.first <= int.from_bytes(key, "big") < path.end
    assert path.prefix.hex() == key.hex()[:depth].ljust(64, "0")


@THOROUGH
@given(st.lists(st.tuples(KEYS, DEPTHS), min_size=2, max_size=8))
def test_stored_paths_that_do_not_overlap_sort_like_their_keys(found: list[tuple[bytes, int]]) -> None:
    paths = [path_of(key, depth) for key, depth in found]
    for a in paths:
        for b in paths:
            if a.end <= b.first:
                assert a.stored < b.stored


@THOROUGH
@given(KEYS, KEYS, st.integers(1, 6), st.data())
def test_pages_under_a_path_are_found_from_its_start(key: bytes, other: bytes, depth: int, data: st.DataObject) -> None:
    # Given a path, and a key anywhere
    path, below = path_of(key, depth), path_of(other, data.draw(st.integers(depth, 64)))
    # Then a longer path sorts behind the shorter one's bytes exactly if it is not before it.
    assert (below.stored >= path.stored[:-1]) == (below.first >= path.first)


@THOROUGH
@given(st.binary(max_size=36))
def test_any_bytes_are_a_path_or_damage(stored: bytes) -> None:
    try:
        path = stored_path(stored)
    except DatadirDamaged:
        return
    assert path.stored == stored


# Pages


@pytest.mark.parametrize("depth", range(65))
def test_pages_of_every_depth_come_back(depth: int) -> None:
    rng = Random(depth)
    for shape in SHAPES:
        # Given leaves, grouped by their first nibbles
        truth = leaf_set(rng, shape, 30)
        leaves = leaves_of(truth.keys, truth.values)
        paths = sorted({path_of(key, depth) for key in truth.keys})
        ends = np.cumsum([0] + [sum(path_of(key, depth) == path for key in truth.keys) for path in paths])
        # When each group is a page
        values = encode_pages(leaves, ends, depth)
        # Then it has the described layout, and all of them together are the leaves.
        for value, first, last in zip(values, ends.tolist(), ends.tolist()[1:], strict=False):
            assert value == page_of(truth.keys[first:last], truth.values[first:last], depth)
        found, firsts = decode_pages(paths, values, LEAF)
        assert pairs(found) == list(zip(truth.keys, truth.values, strict=True))
        assert firsts.tolist() == ends.tolist()


def some_page(rng: Random, depth: int) -> tuple[bytes, bytes]:
    """The path's key and the bytes of a page."""
    prefix = rng.randbytes(32)
    keys = sorted(
        {bytes.fromhex(prefix.hex()[:depth] + rng.randbytes(32).hex()[depth:]) for _ in range(rng.randint(1, 4))}
    )
    return prefix, page_of(keys, [rng.randbytes(rng.randint(1, 5)) for _ in keys], depth)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes with a few changes: overwritten, cut off, put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(("set", "cut", "insert")))
        if change == "set" and data:
            data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
        elif change == "cut":
            del data[at:]
        else:
            data[at:at] = draw(st.binary(max_size=4))
    return bytes(data)


@THOROUGH
@given(st.data(), st.integers(0, 1000), DEPTHS)
def test_a_damaged_page_is_damage_or_another_page(data: st.DataObject, seed: int, depth: int) -> None:
    key, good = some_page(Random(seed), depth)
    value = data.draw(damaged(good))
    path = path_of(key, depth)
    try:
        leaves, _ = decode_pages([path], [value], LEAF)
    except DatadirDamaged:
        return
    # What is accepted is exactly what the bytes say.
    found = pairs(leaves)
    assert page_of([key for key, _ in found], [content for _, content in found], depth) == value
    assert all(path_of(leaves.key(row), depth) == path for row in range(len(leaves)))


@THOROUGH
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=3), DEPTHS)
def test_any_bytes_are_pages_or_damage(values: list[bytes], depth: int) -> None:
    try:
        leaves, firsts = decode_pages([path_of(bytes(32), depth)] * len(values), values, LEAF)
    except DatadirDamaged:
        return
    assert len(leaves) == firsts[-1] >= len(values)


# Top records


@pytest.mark.parametrize("seed", range(30))
def test_top_records_alone_give_the_root(seed: int) -> None:
    # Given any trie, cut at any depth
    rng = Random(seed)
    truth = any_leaf_set(rng, 60)
    depth = rng.choice((0, 1, 2, 3, 5, 57, 60, 63))
    leaves = leaves_of(truth.keys, truth.values)
    paths = [path_of(key, depth) for key in truth.keys]
    firsts = np.array([row for row, path in enumerate(paths) if row == 0 or paths[row - 1] != path])
    # When its tops are stored and read back
    tops = tops_of(page_tops(leaves, firsts), leaves)
    records = [top.encode() for top in tops]
    assert [decode_top(record) for record in records] == tops
    # Then they are what the oracle finds there, and give the root.
    trie = trie_of(truth.keys, truth.values)
    for top, row in zip(tops, firsts.tolist(), strict=True):
        found, reference = top_under(trie, truth.keys[row].hex()[:depth])
        assert (top.depth, b"" if top.is_leaf else top.reference) == (found, reference)
        assert top.key.hex() == truth.keys[row].hex()[: top.depth].ljust(64, "0")
        if top.is_leaf:
            assert top.reference == truth.values[row]
    root = build(entries_of_tops([decode_top(record) for record in records]))[0].tobytes()
    assert root == root_of(truth.keys, truth.values)


@THOROUGH
@given(st.binary(max_size=80))
def test_any_bytes_are_a_top_record_or_damage(record: bytes) -> None:
    try:
        top = decode_top(record)
    except DatadirDamaged:
        return
    assert top.encode() == record
    assert top.is_leaf or 0 < len(top.reference) <= 32


@THOROUGH
@given(KEYS, st.integers(0, 63), st.binary(min_size=1, max_size=32))
def test_a_top_record_comes_back(key: bytes, depth: int, reference: bytes) -> None:
    top = Top(path_of(key, depth).prefix, depth, reference)
    assert decode_top(top.encode()) == top


# Bundles


def random_bundle(rng: Random, depth: int) -> tuple[bytes, Bundle]:
    """A key that gives the path, and a bundle of up to five tries under it."""
    prefix = rng.randbytes(32)
    accounts = sorted(
        bytes.fromhex(prefix.hex()[:depth] + rng.randbytes(32).hex()[depth:]) for _ in range(rng.randint(1, 5))
    )
    tries = [leaf_set(rng, "random_keys", rng.randint(1, 6)) for _ in accounts]
    leaves = leaves_of([key for each in tries for key in each.keys], [value for each in tries for value in each.values])
    roots = b"".join(rng.randbytes(32) for _ in accounts)
    return prefix, Bundle(
        np.frombuffer(b"".join(accounts), np.uint8).reshape(-1, 32),
        np.frombuffer(roots, np.uint8).reshape(-1, 32),
        np.cumsum([0] + [len(each) for each in tries]),
        leaves,
    )


@THOROUGH
@given(st.integers(0, 2**32), DEPTHS)
def test_a_bundle_comes_back(seed: int, depth: int) -> None:
    key, bundle = random_bundle(Random(seed), depth)
    found = decode_bundle(path_of(key, depth), encode_bundle(bundle, depth))
    assert (found.accounts.tobytes(), found.roots.tobytes()) == (bundle.accounts.tobytes(), bundle.roots.tobytes())
    assert found.starts.tolist() == bundle.starts.tolist()
    assert pairs(found.leaves) == pairs(bundle.leaves)


@THOROUGH
@given(st.data(), st.integers(0, 1000), st.integers(0, 6))
def test_a_damaged_bundle_is_damage_or_another_bundle(data: st.DataObject, seed: int, depth: int) -> None:
    key, bundle = random_bundle(Random(seed), depth)
    good = encode_bundle(bundle, depth)
    value = data.draw(damaged(good))
    try:
        found = decode_bundle(path_of(key, depth), value)
    except DatadirDamaged:
        return
    # What is accepted has no place outside its bytes, and is what the bytes say (but for two that nobody reads).
    assert len(pairs(found.leaves)) == int(found.starts[-1])
    again = encode_bundle(found, depth)
    assert again[:2] + again[4:] == value[:2] + value[4:]


@THOROUGH
@given(st.binary(max_size=200), DEPTHS)
def test_any_bytes_are_a_bundle_or_damage(value: bytes, depth: int) -> None:
    try:
        decode_bundle(path_of(bytes(32), depth), bytes([1, depth]) + value)
    except DatadirDamaged:
        return
    assert len(value) >= 14
