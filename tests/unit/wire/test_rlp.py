"""Our RLP reads what the `rlp` package writes, and refuses everything that is not canonical."""

from __future__ import annotations

import tracemalloc

import pytest
import rlp as oracle

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp

VALUES: list[rlp.Encodable] = [
    b"",
    b"\0",
    b"\x7f",
    b"\x80",
    b"a" * 55,
    b"a" * 56,
    b"a" * 70_000,
    0,
    1,
    127,
    128,
    2**64 - 1,
    2**256 - 1,
    [],
    [[]],
    [b"cat", [b"dog", 5]],
    [b"x" * 60] * 3,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:24])
def test_encoding_is_that_of_the_rlp_package(value: rlp.Encodable) -> None:
    assert rlp.encode(value) == oracle.encode(value)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "RLP ends"),
        ("8100", "single small byte"),
        ("817f", "single small byte"),
        ("b801aa", "part of the prefix"),
        ("b837" + "61" * 55, "part of the prefix"),
        ("b90038" + "61" * 56, "leading zero"),
        ("f800", "leading zero"),
        ("f901", "inside a length"),
        ("83aabb", "claims 3 bytes where 2 are left"),
        ("c3aabb", "claims 3 bytes where 2 are left"),
        ("c281", "claims 2 bytes where 1 are left"),
        ("c283aa", "claims 3 bytes where 1 are left"),
        ("bfffffffffffffffff", "bytes where 0 are left"),
        ("ffffffffffffffffff", "bytes where 0 are left"),
        ("0102", "1 bytes after"),
        ("c000", "1 bytes after"),
    ],
)
def test_what_is_not_canonical_is_refused(data: str, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        rlp.decode(bytes.fromhex(data))


def test_decode_first_stops_at_the_end_of_the_item() -> None:
    assert rlp.decode_first(bytes.fromhex("c20102ffff")) == ([b"\x01", b"\x02"], 3)


def test_lists_in_lists_in_lists_end_at_a_limit() -> None:
    nested = b"\xc0"
    for _ in range(rlp.MAX_DEPTH - 1):
        nested = rlp.encode_list([nested])
    assert rlp.encode(rlp.decode(nested)) == nested
    with pytest.raises(MalformedMessage, match="nested deeper"):
        rlp.decode(rlp.encode_list([nested]))


def test_a_million_open_lists_do_not_exhaust_the_stack() -> None:
    bomb = b"\xc0"
    for _ in range(2_000):
        bomb = rlp.encode_list([bomb])
    with pytest.raises(MalformedMessage, match="nested deeper"):
        rlp.decode(bomb)


def test_a_list_of_empty_lists_costs_bounded_memory() -> None:
    bomb = rlp.encode_list([b"\xc0" * 1_000_000])
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage, match="more than 65536 items"):
            rlp.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 100 * rlp.MAX_ITEMS
    finally:
        tracemalloc.stop()


def test_split_list_bounds_its_items() -> None:
    with pytest.raises(MalformedMessage, match="more than 65536 items"):
        rlp.split_list(rlp.encode_list([b"\x80" * (rlp.MAX_ITEMS + 1)]))


def test_split_list_leaves_inner_items_encoded() -> None:
    assert rlp.split_list(oracle.encode([b"cat", [b"dog"], 300])) == [
        oracle.encode(b"cat"),
        oracle.encode([b"dog"]),
        oracle.encode(300),
    ]


@pytest.mark.parametrize("data", ["00", "83aabbcc"])
def test_split_list_wants_a_list(data: str) -> None:
    with pytest.raises(MalformedMessage, match="expected an RLP list"):
        rlp.split_list(bytes.fromhex(data))


def test_split_list_refuses_bytes_after_the_list() -> None:
    with pytest.raises(MalformedMessage, match="2 bytes after"):
        rlp.split_list(b"\xc0\x01\x02")


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [("c0", "found a list"), ("8200ff", "leading zero"), ("00", "leading zero"), ("83010203", "more than 2")],
)
def test_integers_are_short_and_without_leading_zeros(encoded: str, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        rlp.integer(bytes.fromhex(encoded), 2)


def test_to_int_refuses_a_list() -> None:
    with pytest.raises(MalformedMessage, match="found a list"):
        rlp.to_int([])


def test_fixed_string_names_what_has_the_wrong_width() -> None:
    with pytest.raises(MalformedMessage, match="state root has 3 bytes instead of 32"):
        rlp.fixed_string(b"\x83abc", 32, "state root")


def test_string_refuses_bytes_after_it() -> None:
    with pytest.raises(MalformedMessage, match="1 bytes after"):
        rlp.string(b"\x82abc")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_decoded(kind: type) -> None:
    assert rlp.decode(kind(b"\xc3\x82abc"[:4])) == [b"ab"]
