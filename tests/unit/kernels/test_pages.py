"""Pages: written as the layout says, read as they were written; damage never leads outside the page."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ethsync.kernels import pages
from ethsync.state.columns import Leaves, leaves_of
from tests.oracles.buffers import GuardedMemory
from tests.oracles.leaf_sets import VALUE_SIZES, LeafSet
from tests.oracles.pages import page_of

MEMORY = GuardedMemory(1 << 16)
SENTINEL = 0xEE


def leaves_under(rng: Random, prefix: str, n: int) -> LeafSet:
    """n leaves whose keys begin with these hex digits."""
    rest = 64 - len(prefix)
    keys = sorted(
        {bytes.fromhex(prefix + f"{rng.getrandbits(4 * rest):0{rest}x}" if rest else prefix) for _ in range(n)}
    )
    return LeafSet("page", keys, [rng.randbytes(rng.choice((0, *VALUE_SIZES))) for _ in keys])


def columns(groups: Sequence[LeafSet]) -> tuple[Leaves, NDArray[np.int64]]:
    leaves = leaves_of([key for group in groups for key in group.keys], [v for group in groups for v in group.values])
    return leaves, np.cumsum([0] + [len(group) for group in groups])


def encode(leaves: Leaves, firsts: NDArray[np.int64], depth: int, room: int = 1 << 16) -> tuple[int, bytes, list[int]]:
    """The kernel's answer, the bytes it wrote and where the pages begin."""
    out, starts = np.full(room, SENTINEL, np.uint8), np.zeros(len(firsts), np.int64)
    code = int(pages.encode_pages(leaves.keys, leaves.buf, leaves.offsets, leaves.lengths, firsts, depth, out, starts))
    assert (out[max(code, 0) :] == SENTINEL).all() or code < 0
    return code, out[: max(code, 0)].tobytes(), starts.tolist()


def decode(
    buf: NDArray[np.uint8], starts: Sequence[int], prefixes: Sequence[str], room: int = 300
) -> tuple[int, list[tuple[bytes, bytes]], list[int]]:
    """The kernel's answer, the leaves and the first leaf of each page. Fails if a value lies outside its page."""
    paths = np.frombuffer(b"".join(bytes.fromhex(prefix.ljust(64, "0")) for prefix in prefixes), np.uint8).reshape(
        -1, 32
    )
    spare = 3
    keys = np.full((room + spare, 32), SENTINEL, np.uint8)
    offsets, lengths = np.full(room + spare, -7, np.int64), np.full(room + spare, -7, np.int64)
    firsts = np.zeros(len(starts), np.int64)
    n = int(pages.decode_pages(buf, np.array(starts), paths, keys[:room], offsets[:room], lengths[:room], firsts))
    assert (keys[room:] == SENTINEL).all()
    assert (offsets[room:] == -7).all()
    assert (lengths[room:] == -7).all()
    if n < 0:
        return n, [], []
    leaves = []
    for page in range(len(prefixes)):
        for row in range(int(firsts[page]), int(firsts[page + 1])):
            start, end = int(offsets[row]), int(offsets[row] + lengths[row])
            assert starts[page] <= start <= end <= starts[page + 1] <= len(buf)
            leaves.append((keys[row].tobytes(), buf[start:end].tobytes()))
    assert len(leaves) == n
    return n, leaves, firsts.tolist()


@pytest.mark.parametrize("depth", range(65))
def test_pages_round_trip_at_every_depth(depth: int) -> None:
    # Given three pages at this depth, the first with one leaf
    rng = Random(depth)
    prefixes = sorted({f"{rng.getrandbits(4 * depth):0{depth}x}" if depth else "" for _ in range(3)})
    groups = [leaves_under(rng, prefix, n) for prefix, n in zip(prefixes, (1, 5, 20), strict=False)]
    leaves, firsts = columns(groups)
    # When they are written
    written, data, starts = encode(leaves, firsts, depth)
    # Then they are as the oracle writes them,
    expected = [page_of(group.keys, group.values, depth) for group in groups]
    assert data == b"".join(expected)
    assert starts == [*np.cumsum([0] + [len(page) for page in expected])]
    assert written == len(data)
    # and what is read is what was written.
    n, read, read_firsts = decode(MEMORY.hold(data), starts, prefixes)
    assert n == len(leaves)
    assert read == list(zip(*([*column] for column in (
        (key for group in groups for key in group.keys), (value for group in groups for value in group.values)
    )), strict=True))  # fmt: skip
    assert read_firsts == firsts.tolist()


def test_a_page_in_bytes() -> None:
    # Given two leaves under the path "abc"; half of the second byte belongs to the path and is kept with the key.
    keys = [bytes.fromhex("abc1" + "00" * 30), bytes.fromhex("abc2" + "11" * 30)]
    leaves = leaves_of(keys, [b"one", b"seven"])
    _, data, starts = encode(leaves, np.array([0, 2]), 3)
    header = bytes([1, 3, 0, 0]) + (2).to_bytes(4, "little") + (8).to_bytes(4, "little")
    suffixes = b"\xc1" + b"\0" * 30 + b"\xc2" + b"\x11" * 30
    ends = (3).to_bytes(4, "little") + (8).to_bytes(4, "little")
    assert data == header + suffixes + ends + b"oneseven"
    assert starts == [0, len(data)]


@pytest.mark.parametrize("depth", [0, 2, 3])
def test_writing_refuses_a_place_too_small(depth: int) -> None:
    leaves, firsts = columns([leaves_under(Random(1), "a" * depth, 4), leaves_under(Random(2), "b" * depth, 4)])
    needed, _, _ = encode(leaves, firsts, depth)
    assert encode(leaves, firsts, depth, needed)[0] == needed
    for room in (0, 11, 12, needed // 2, needed - 1):
        assert encode(leaves, firsts, depth, room)[0] == pages.NO_ROOM


def test_writing_refuses_columns_that_do_not_fit() -> None:
    leaves, firsts = columns([leaves_under(Random(1), "ab", 4)])
    good = (leaves.keys, leaves.buf, leaves.offsets, leaves.lengths, firsts, 2)
    out, starts = np.zeros(4096, np.uint8), np.zeros(2, np.int64)
    assert pages.encode_pages(*good, out, starts) > 0

    def refused(position: int, column: object) -> int:
        encode_pages: Any = pages.encode_pages
        return int(encode_pages(*good[:position], column, *good[position + 1 :], out, starts))

    last = len(leaves) - 1
    over = leaves.lengths.copy()
    over[last] += 1
    assert refused(3, over) == pages.DAMAGED, "a value over the end of the buffer"
    assert refused(3, -leaves.lengths - 1) == pages.DAMAGED
    assert refused(2, leaves.offsets - 1) == pages.DAMAGED
    assert refused(3, leaves.lengths[:last]) == pages.DAMAGED
    assert refused(2, leaves.offsets[:last]) == pages.DAMAGED
    for bad in ([0, 0], [1, 0], [-1, 2], [0, last + 2]):
        assert refused(4, np.array(bad, np.int64)) == pages.DAMAGED, bad
    assert refused(5, 65) == pages.DAMAGED
    assert refused(5, -1) == pages.DAMAGED
    assert pages.encode_pages(*good, out, starts[:1]) == pages.NO_ROOM


def good_page(depth: int = 3, n: int = 6) -> tuple[bytes, str]:
    """A page with values of 1, 2, 3 … bytes, and its path."""
    prefix = "abcdef"[:depth]
    keys = leaves_under(Random(5), prefix, n).keys
    return page_of(keys, [b"v" * (row + 1) for row in range(n)], depth), prefix


def set_byte(page: bytes, at: int, value: int) -> bytes:
    return page[:at] + bytes([value & 255]) + page[at + 1 :]


FIRST_END = 12 + 6 * 31  # of the page above: six suffixes of 31 bytes


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda page: page, 6),
        (lambda page: set_byte(page, 0, 0), pages.UNEXPECTED_VERSION),
        (lambda page: set_byte(page, 0, 2), pages.UNEXPECTED_VERSION),
        (lambda page: set_byte(page, 1, 65), pages.DAMAGED),
        (lambda page: set_byte(page, 1, 255), pages.DAMAGED),
        (lambda page: set_byte(page, 4, 0), pages.DAMAGED),
        (lambda page: set_byte(page, 4, 5), pages.DAMAGED),
        (lambda page: set_byte(page, 7, 0xFF), pages.DAMAGED),
        (lambda page: set_byte(page, 8, page[8] + 1), pages.DAMAGED),
        (lambda page: set_byte(page, 11, 0xFF), pages.DAMAGED),
        (lambda page: set_byte(page, 12, page[12] ^ 0x10), pages.DAMAGED),
        (lambda page: set_byte(page, FIRST_END + 3, 0xFF), pages.DAMAGED),
        (lambda page: set_byte(page, FIRST_END + 4 * 5, page[FIRST_END + 4 * 5] - 1), pages.DAMAGED),
        (lambda page: page + b"\0", pages.DAMAGED),
        (lambda page: page[:-1], pages.DAMAGED),
        (lambda page: page[:12], pages.DAMAGED),
        (lambda page: page[:11], pages.DAMAGED),
        (lambda page: b"", pages.DAMAGED),
    ],
    ids=[
        "intact", "version 0", "version 2", "path of 65 nibbles", "path of 255 nibbles", "no leaves",
        "a leaf too few", "leaves beyond counting", "a byte of values too many", "values beyond counting",
        "key under another path", "first end beyond the values", "values left over", "a byte after the page",
        "last byte missing",
        "only a header", "half a header", "nothing",
    ],
)  # fmt: skip
def test_reading_a_damaged_page(change: object, code: int) -> None:
    page, prefix = good_page()
    damaged = change(page)  # type: ignore[operator]
    assert decode(MEMORY.hold(damaged), [0, len(damaged)], [prefix])[0] == code


def test_values_whose_ends_descend_are_damage() -> None:
    page, prefix = good_page()
    swapped = page[:FIRST_END] + page[FIRST_END + 4 : FIRST_END + 8] + page[FIRST_END : FIRST_END + 4]
    swapped += page[FIRST_END + 8 :]
    assert decode(MEMORY.hold(swapped), [0, len(page)], [prefix])[0] == pages.DAMAGED


def test_the_answer_says_which_page_is_bad() -> None:
    page, prefix = good_page()
    whole = page * 3 + set_byte(page, 0, 9) + page
    starts = [len(page) * k for k in range(6)]
    assert decode(MEMORY.hold(whole), starts, [prefix] * 5)[0] == pages.UNEXPECTED_VERSION - 16 * 3
    assert decode(MEMORY.hold(whole), starts[:4], [prefix] * 3)[0] == 18
    assert decode(MEMORY.hold(whole), starts[:4], [prefix] * 3, room=17)[0] == pages.NO_ROOM - 16 * 2
    assert decode(MEMORY.hold(page), [0, len(page) + 1], [prefix])[0] == pages.DAMAGED
    assert decode(MEMORY.hold(page), [-1, len(page)], [prefix])[0] == pages.DAMAGED


@pytest.mark.parametrize("depth", [0, 1, 4, 5])
def test_every_truncation_is_refused(depth: int) -> None:
    page, prefix = good_page(depth)
    for size in range(len(page)):
        for at_end in (True, False):
            assert decode(MEMORY.hold(page[:size], at_end=at_end), [0, size], [prefix])[0] < 0


@pytest.mark.parametrize("depth", [0, 3])
def test_every_changed_byte_is_refused_or_leads_to_columns_inside_the_page(depth: int) -> None:
    page, prefix = good_page(depth, 3)
    for at in range(len(page)):
        for value in {page[at] ^ (1 << bit) for bit in range(8)} | {0, 1, 0x7F, 0xFF}:
            decode(MEMORY.hold(set_byte(page, at, value)), [0, len(page)], [prefix])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.binary(max_size=40),
    st.integers(0, 70),
    st.integers(0, 2**32 - 1) | st.integers(0, 4),
    st.integers(0, 2**32 - 1) | st.integers(0, 40),
)
def test_hostile_pages(body: bytes, depth: int, count: int, total: int) -> None:
    page = bytes([1, depth, 0, 0]) + count.to_bytes(4, "little") + total.to_bytes(4, "little") + body
    n, _, _ = decode(MEMORY.hold(page), [0, len(page)], ["0" * min(depth, 64)])
    assert n < 0 or n == count
