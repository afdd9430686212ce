"""Paths, pages, top records and bundles: the bytes on disk by example, and what damaged ones give."""

from __future__ import annotations

import numpy as np
import pytest

from ethsync.errors import DatadirDamaged
from ethsync.kernels.trie import LEAF
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.pages import (
    KEY_SPACE,
    Bundle,
    PagePath,
    Top,
    decode_bundle,
    decode_bundles,
    decode_pages,
    decode_top,
    depth_for,
    encode_bundle,
    encode_bundles,
    encode_pages,
    entries_of_tops,
    path_of,
    stored_path,
)
from tests.oracles.pages import page_of

KEY = bytes.fromhex("a1b2c3" + "00" * 28 + "77")
PATH = path_of(KEY, 3)


def rows(*values: tuple[bytes, bytes]) -> Leaves:
    return leaves_of([key for key, _ in values], [value for _, value in values])


# Paths


@pytest.mark.parametrize(
    ("depth", "shown", "stored"),
    [(0, "(root)", "00"), (1, "a", "a001"), (2, "a1", "a102"), (3, "a1b", "a1b003"), (6, "a1b2c3", "a1b2c306")],
)
def test_a_path_is_stored_as_its_bytes_and_its_length(depth: int, shown: str, stored: str) -> None:
    path = path_of(KEY, depth)
    assert (str(path), path.stored.hex()) == (shown, stored)


def test_the_path_of_all_nibbles_is_one_key() -> None:
    path = path_of(KEY, 64)
    assert (path.first, path.end) == (int.from_bytes(KEY, "big"), int.from_bytes(KEY, "big") + 1)


def test_the_empty_path_is_the_whole_key_space() -> None:
    assert (path_of(KEY, 0).first, path_of(KEY, 0).end) == (0, KEY_SPACE)


@pytest.mark.parametrize(
    "stored",
    ["", "a1", "a101", "a103", "a1b203", "a1b1", "00" * 33 + "41", "00" * 34 + "42", "ff", "0000"],
    ids=["nothing", "no length", "odd nibble not zero", "too short", "third nibble padded with 2", "too short for b1",
         "65 nibbles", "66 nibbles", "255 nibbles", "a byte too many"],
)  # fmt: skip
def test_a_damaged_path_is_reported(stored: str) -> None:
    with pytest.raises(DatadirDamaged, match="impossible key"):
        stored_path(bytes.fromhex(stored))


# Page depths


@pytest.mark.parametrize(
    ("leaves", "depth"),
    [(0, 0), (1, 0), (1536, 0), (1537, 1), (16 * 1536, 1), (16 * 1536 + 1, 2), (200_000, 2), (1_000_000, 3),
     (410_000_000, 5), (1e30, 6)],
)  # fmt: skip
def test_pages_have_96_to_1536_leaves(leaves: float, depth: int) -> None:
    assert depth_for(leaves) == depth
    if depth >= 1 and leaves < 1e30:  # beyond it, no trie gets smaller pages
        assert 96 <= leaves / 16**depth <= 1536


# Pages


def test_a_page_has_the_described_layout() -> None:
    keys, values = [KEY, KEY[:-1] + b"\x78"], [b"one", b"three"]
    (page,) = encode_pages(leaves_of(keys, values), np.array([0, 2]), 3)
    assert page == page_of(keys, values, 3)


def test_groups_may_begin_anywhere_in_the_leaves() -> None:
    # Given leaves whose first and last rows belong to no page that is wanted
    keys = [bytes([first]) + bytes(31) for first in (0x10, 0x20, 0x21, 0x30, 0x40)]
    values = [b"%d" % number for number in range(5)]
    # When
    pages = encode_pages(leaves_of(keys, values), np.array([1, 3, 4]), 1)
    # Then
    assert pages == [page_of(keys[1:3], values[1:3], 1), page_of(keys[3:4], values[3:4], 1)]


def test_groups_that_do_not_fit_their_leaves_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        encode_pages(rows((KEY, b"x")), np.array([0, 0, 1]), 3)


def test_no_pages_have_no_leaves() -> None:
    leaves, firsts = decode_pages([], [], LEAF)
    assert (len(leaves), firsts.tolist()) == (0, [0])


GOOD = page_of([KEY], [b"value"], 3)
DAMAGED_PAGES = {
    "nothing": b"",
    "only a header": GOOD[:12],
    "cut off": GOOD[:-1],
    "a byte too many": GOOD + b"\0",
    "reserved bytes": GOOD[:2] + b"\1" + GOOD[3:],
    "another depth": page_of([KEY], [b"value"], 2),
    "depth of 65": GOOD[:1] + b"\x41" + GOOD[2:],
    "no leaves": page_of([], [], 3),
    "another odd nibble": page_of([KEY[:1] + b"\xc2" + KEY[2:]], [b"value"], 3),
    "end beyond the values": GOOD[:43] + b"\6\0\0\0" + GOOD[47:],
    "more leaves than bytes": GOOD[:4] + b"\xff\xff\xff\xff" + GOOD[8:],
}


def test_the_good_page_is_good() -> None:
    leaves, firsts = decode_pages([PATH], [GOOD], LEAF)
    assert (leaves.key(0), leaves.value(0), firsts.tolist()) == (KEY, b"value", [0, 1])


@pytest.mark.parametrize("damaged", DAMAGED_PAGES.values(), ids=DAMAGED_PAGES)
def test_a_damaged_page_is_reported_by_its_path(damaged: bytes) -> None:
    other = path_of(bytes(32), 3)
    first = page_of([bytes(32)], [b"x"], 3)
    with pytest.raises(DatadirDamaged, match="page a1b "):
        decode_pages([other, PATH], [first, damaged], LEAF)


def test_a_page_of_a_newer_version_says_so() -> None:
    with pytest.raises(DatadirDamaged, match="page a1b has an unknown version"):
        decode_pages([PATH], [b"\2" + GOOD[1:]], LEAF)


# Top records


@pytest.mark.parametrize(
    ("top", "encoded"),
    [
        (Top(bytes(32), 0, b"\x11" * 32), "00" + "11" * 32),
        (Top(b"\xa0" + bytes(31), 1, b"\x11" * 32), "01a0" + "11" * 32),
        (Top(b"\xa1\xb2" + bytes(30), 4, b"\xc2\x80\x80"), "04a1b2c28080"),
        (Top(KEY, 64, b"longer than a hash" * 3), "40" + KEY.hex() + (b"longer than a hash" * 3).hex()),
    ],
    ids=["root branch", "odd depth", "embedded branch", "leaf"],
)  # fmt: skip
def test_a_top_record_has_the_described_layout(top: Top, encoded: str) -> None:
    assert top.encode().hex() == encoded
    assert decode_top(bytes.fromhex(encoded)) == top


@pytest.mark.parametrize(
    "record",
    ["", "00", "01", "01a0", "41" + "00" * 33 + "11", "40" + "00" * 32, "02a1" + "11" * 33, "ff" + "00" * 200],
    ids=["nothing", "no reference", "no path", "path only", "65 nibbles", "leaf without value", "reference of 33 bytes",
         "255 nibbles"],
)  # fmt: skip
def test_a_damaged_top_record_is_reported(record: str) -> None:
    with pytest.raises(DatadirDamaged, match="top record"):
        decode_top(bytes.fromhex(record))


def test_no_tops_are_no_entries() -> None:
    assert len(entries_of_tops([])) == 0


# Bundles


def small_bundle() -> Bundle:
    """Two tries, of two leaves and of one."""
    accounts = np.frombuffer(KEY + KEY[:-1] + b"\x78", np.uint8).reshape(2, 32)
    roots = np.frombuffer(b"\x11" * 32 + b"\x22" * 32, np.uint8).reshape(2, 32)
    leaves = rows((b"\1" * 32, b"one"), (b"\2" * 32, b"twenty"), (b"\1" * 32, b"3"))
    return Bundle(accounts, roots, np.array([0, 2, 3]), leaves)


def test_a_bundle_has_the_described_layout() -> None:
    assert encode_bundle(small_bundle(), 3).hex() == "".join((
        "01", "03", "0000", "02000000", "03000000", "0a000000",  # version, nibbles, zeros, tries, slots, value bytes
        KEY[1:].hex(), (KEY[1:-1] + b"\x78").hex(),  # accounts without the whole bytes that the path says
        "11" * 32, "22" * 32,  # roots
        "02000000", "03000000",  # where the tries end
        "01" * 32, "02" * 32, "01" * 32,  # slots
        "03000000", "09000000", "0a000000",  # where the values end
        b"onetwenty3".hex(),
    ))  # fmt: skip


def test_a_bundle_is_read_back() -> None:
    found = decode_bundle(PATH, encode_bundle(small_bundle(), 3))
    assert [found.accounts[k].tobytes() for k in range(len(found))] == [KEY, KEY[:-1] + b"\x78"]
    assert [found.roots[k].tobytes() for k in range(len(found))] == [b"\x11" * 32, b"\x22" * 32]
    assert found.starts.tolist() == [0, 2, 3]
    assert [found.leaves.value(row) for row in range(3)] == [b"one", b"twenty", b"3"]


def test_bundles_of_several_pages_are_those_of_each() -> None:
    both = small_bundle()
    first = Bundle(both.accounts[:1], both.roots[:1], both.starts[:2], both.leaves[:2])
    second = Bundle(both.accounts[1:], both.roots[1:], both.starts[1:] - 2, both.leaves[2:])
    values = encode_bundles(both, np.array([0, 1, 2]), [3, 4])
    assert values == [encode_bundle(first, 3), encode_bundle(second, 4)]
    tries, firsts = decode_bundles([PATH, path_of(KEY, 4)], values)
    assert firsts.tolist() == [0, 1, 2]
    assert tries.starts.tolist() == [0, 2, 3]
    assert tries.accounts.tobytes() == both.accounts.tobytes()
    assert [tries.leaves.value(row) for row in range(3)] == [b"one", b"twenty", b"3"]


def test_of_several_bundles_the_damaged_one_is_named() -> None:
    with pytest.raises(DatadirDamaged, match="under b1b is damaged"):
        decode_bundles([PATH, path_of(b"\xb1" + KEY[1:], 3)], [ENCODED, ENCODED[:-1]])


ENCODED = encode_bundle(small_bundle(), 3)
DAMAGED_BUNDLES = {
    "nothing": b"",
    "only a header": ENCODED[:16],
    "cut off": ENCODED[:-1],
    "a byte too many": ENCODED + b"\0",
    "another version": b"\2" + ENCODED[1:],
    "another depth": ENCODED[:1] + b"\2" + ENCODED[2:],
    "more tries than bytes": ENCODED[:4] + b"\xff\xff\xff\xff" + ENCODED[8:],
    "an empty trie": ENCODED[:142] + b"\0\0\0\0" + ENCODED[146:],
    "tries that end before the slots do": ENCODED[:146] + b"\2\0\0\0" + ENCODED[150:],
    "value ends that go back": ENCODED[:246] + b"\x0b\0\0\0" + ENCODED[250:],
    "values that end before the bytes do": ENCODED[:254] + b"\x09\0\0\0" + ENCODED[258:],
}


@pytest.mark.parametrize("damaged", DAMAGED_BUNDLES.values(), ids=DAMAGED_BUNDLES)
def test_a_damaged_bundle_is_reported_by_its_path(damaged: bytes) -> None:
    with pytest.raises(DatadirDamaged, match="under a1b is damaged"):
        decode_bundle(PATH, damaged)


def test_paths_sort_by_their_first_key_and_then_by_length() -> None:
    paths = [path_of(KEY, 3), path_of(KEY, 2), path_of(bytes(32), 5), PagePath(b"\xff" * 32, 64)]
    assert [str(path) for path in sorted(paths)] == ["00000", "a1", "a1b", "f" * 64]
