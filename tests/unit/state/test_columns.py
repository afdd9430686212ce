"""Leaves and entries as columns."""

from __future__ import annotations

import numpy as np
import pytest

from ethsync.errors import LocalProtocolError
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Leaves, entries_of, join, leaves_of, no_leaves, row_bytes, side_by_side

KEYS = [bytes([first]) * 32 for first in (1, 3, 5, 0xFF)]
VALUES = [b"a", b"", b"ccc", b"dd"]


def contents(leaves: Leaves) -> list[tuple[bytes, bytes]]:
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


def test_leaves_of_byte_strings() -> None:
    leaves = leaves_of(KEYS, VALUES, SLIM_ACCOUNT)
    assert contents(leaves) == list(zip(KEYS, VALUES, strict=True))
    assert leaves.key(-1) == KEYS[-1]
    assert leaves.kind == SLIM_ACCOUNT
    assert leaves.keys.shape == (4, 32)
    assert leaves.keys.dtype == np.uint8
    assert leaves.offsets.dtype == leaves.lengths.dtype == np.int64
    assert leaves.nbytes == 4 * 32 + 6


def test_no_byte_strings_are_no_leaves() -> None:
    for empty in (leaves_of([], []), no_leaves(LEAF), join([]), join([no_leaves(LEAF)])):
        assert len(empty) == len(empty.offsets) == len(empty.lengths) == empty.nbytes == 0
        assert empty.keys.shape == (0, 32)


def test_a_part_shares_its_buffer_with_the_whole() -> None:
    leaves = leaves_of(KEYS, VALUES)
    part = leaves[1:3]
    assert contents(part) == list(zip(KEYS[1:3], VALUES[1:3], strict=True))
    assert part.buf is leaves.buf
    assert len(leaves[2:2]) == 0


@pytest.mark.parametrize(
    ("key", "row"),
    [
        (b"\x00" * 32, 0),
        (KEYS[0], 0),
        (KEYS[0][:-1] + b"\x02", 1),
        (KEYS[1], 1),
        (b"\x04" * 32, 2),
        (KEYS[3], 3),
        (KEYS[3][:-1] + b"\xfe", 3),
    ],
)
def test_find_gives_the_first_row_at_or_after_a_key(key: bytes, row: int) -> None:
    assert leaves_of(KEYS, VALUES).find(key) == row


def test_find_gives_the_number_of_leaves_past_the_last_key() -> None:
    assert leaves_of(KEYS[:3], VALUES[:3]).find(KEYS[3]) == 3
    assert no_leaves(LEAF).find(KEYS[0]) == 0


def test_join_copies_parts_of_different_buffers_in_the_order_given() -> None:
    first, second = leaves_of(KEYS[:2], VALUES[:2], SLIM_ACCOUNT), leaves_of(KEYS, VALUES, SLIM_ACCOUNT)[2:]
    joined = join([first, no_leaves(SLIM_ACCOUNT), second])
    assert contents(joined) == list(zip(KEYS, VALUES, strict=True))
    assert joined.kind == SLIM_ACCOUNT
    assert joined.buf.tobytes() == b"acccdd"


def test_side_by_side_leaves_values_of_one_buffer_where_they_are() -> None:
    leaves = leaves_of([bytes([k]) * 32 for k in range(4)], [b"a", b"bc", b"def", b"g"])
    both = side_by_side([leaves[:1], leaves[2:]])
    assert both.buf is leaves.buf
    assert [(both.key(row)[0], both.value(row)) for row in range(3)] == [(0, b"a"), (2, b"def"), (3, b"g")]


@pytest.mark.parametrize("unused", [0, 100])
def test_side_by_side_puts_buffers_together_unless_little_of_them_is_used(unused: int) -> None:
    one = leaves_of([b"\1" * 32, b"\2" * 32], [b"abc", bytes(unused) or b"d"])[:1]
    other = leaves_of([b"\3" * 32], [b"efg"])
    both = side_by_side([one, other, one])
    assert [both.value(row) for row in range(3)] == [b"abc", b"efg", b"abc"]
    assert len(both.buf) == (9 if unused else 7)


def test_compact_lets_go_of_the_large_buffer() -> None:
    leaves = leaves_of(KEYS, [b"x" * 5000, *VALUES[1:]])
    part = leaves[2:].compact()
    assert contents(part) == contents(leaves[2:])
    assert len(part.buf) == 5
    assert not np.shares_memory(part.keys, leaves.keys)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (6, 1), (0, 7), (0, -1)])
def test_joining_leaves_that_point_outside_their_buffer_is_our_own_fault(offset: int, length: int) -> None:
    whole = leaves_of(KEYS, VALUES)
    bad = Leaves(whole.keys[:1], whole.buf, np.array([offset], np.int64), np.array([length], np.int64), LEAF)
    with pytest.raises(LocalProtocolError):
        join([whole, bad])


def test_leaves_as_entries() -> None:
    leaves = leaves_of(KEYS, VALUES, SLIM_ACCOUNT)
    entries = entries_of(leaves)
    assert len(entries) == 4
    assert entries.paths.tolist() == [64] * 4
    assert entries.kinds.tolist() == [SLIM_ACCOUNT] * 4
    assert entries.buf is leaves.buf


def test_rows_become_byte_strings_of_their_whole_width() -> None:
    keys = [bytes(32), b"\1" + bytes(31), b"\xff" * 32]
    rows = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
    assert row_bytes(rows) == keys
    # of every second row too, whose bytes do not follow one another, and of none
    assert row_bytes(rows[::2]) == keys[::2]
    assert row_bytes(rows[:0]) == []
