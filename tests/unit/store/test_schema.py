"""Records of the data directory: they come back as written, and damaged ones are reported as such."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import DatadirDamaged
from ethsync.state.pages import path_of
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    DEBT,
    FACT,
    FORMAT_VERSION,
    HEADER,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Format,
    Marker,
    TrieRecord,
    account_key,
    decode_format,
    decode_marker,
    decode_record,
    header_key,
    storage_key,
)

THOROUGH = settings(derandomize=True, deadline=None, max_examples=300)
COUNTS = st.integers(0, 2**64 - 1)
HASHES = st.binary(min_size=32, max_size=32)


# Keys


def test_families_do_not_begin_with_one_another() -> None:
    families = [ACCOUNT_PAGE, TOP, DEBT, MARKER, FACT, BUNDLE, STORAGE_PAGE, RECORD, CODE, HEADER]
    assert len(set(families)) == len(families)
    assert {len(family) for family in families} == {1}


def test_keys_have_the_described_layout() -> None:
    path = path_of(b"\xab\xcd" + bytes(30), 3)
    account = b"\x11" * 32
    assert account_key(ACCOUNT_PAGE, path) == b"A\xab\xc0\x03"
    assert storage_key(TOP, account, path) == b"T" + account + b"\xab\xc0\x03"
    assert header_key(258) == b"H\0\0\0\0\0\0\1\2"


@THOROUGH
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_headers_sort_by_their_numbers(a: int, b: int) -> None:
    assert (header_key(a) < header_key(b)) == (a < b)


# Markers


@THOROUGH
@given(st.integers(0, 2**256 - 1), st.integers(1, 2**256), COUNTS, COUNTS)
def test_a_marker_comes_back(origin: int, width: int, leaves: int, size: int) -> None:
    marker = Marker(origin, min(origin + width, 2**256), leaves, size)
    assert decode_marker(*marker.encode()) == marker


def test_a_marker_of_all_keys_fits() -> None:
    key, value = Marker(0, 2**256, 7, 9).encode()
    assert (key, value) == (bytes(32), b"\xff" * 32 + b"\7" + bytes(7) + b"\x09" + bytes(7))


@THOROUGH
@given(st.binary(max_size=40), st.binary(max_size=60))
def test_any_bytes_are_a_marker_or_damage(key: bytes, value: bytes) -> None:
    try:
        marker = decode_marker(key, value)
    except DatadirDamaged:
        return
    assert marker.encode() == (key, value)


@THOROUGH
@given(HASHES, st.binary(min_size=48, max_size=48))
def test_a_marker_covers_at_least_one_key_or_is_damage(key: bytes, value: bytes) -> None:
    try:
        marker = decode_marker(key, value)
    except DatadirDamaged:
        assert key > value[:32]
        return
    assert 0 <= marker.origin < marker.end <= 2**256


# Records of big contracts


@THOROUGH
@given(HASHES, st.integers(0, 64), st.booleans(), COUNTS, COUNTS)
def test_a_record_comes_back(root: bytes, depth: int, complete: bool, leaves: int, size: int) -> None:
    record = TrieRecord(root, depth, complete, leaves, size)
    assert decode_record(record.encode()) == record


@THOROUGH
@given(st.binary(max_size=60) | st.binary(min_size=50, max_size=50))
def test_any_bytes_are_a_record_or_damage(value: bytes) -> None:
    try:
        record = decode_record(value)
    except DatadirDamaged:
        return
    assert record.encode() == value
    assert record.depth <= 64


# The first fact


@THOROUGH
@given(st.integers(0, 2**31), st.text(max_size=20), COUNTS, st.text("0123456789abcdef", max_size=64))
def test_a_format_comes_back(version: int, network: str, chain_id: int, digits: str) -> None:
    form = Format(version, network, chain_id, f"0x{digits}")
    assert decode_format(form.encode()) == form


def test_a_format_is_json_that_a_person_can_read() -> None:
    form = Format(FORMAT_VERSION, "mainnet", 1, "0xd4e5")
    fields = {"version": 1, "network": "mainnet", "chain_id": 1, "genesis_hash": "0xd4e5"}
    assert json.loads(form.encode()) == fields


def test_a_newer_format_may_have_other_fields() -> None:
    assert decode_format(b'{"version": 9, "colour": "green"}').version == 9


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@THOROUGH
@given(JSON, st.none() | JSON, st.none() | JSON)
def test_any_json_is_a_format_or_damage(version: Any, network: Any, chain_id: Any) -> None:
    for value in (version, {"version": version}, {"version": 1, "network": network, "chain_id": chain_id}):
        try:
            found = decode_format(json.dumps(value).encode())
        except DatadirDamaged:
            continue
        assert isinstance(found.version, int)


@pytest.mark.parametrize(
    "value",
    [b"", b"\xff\xfe", b"{", b"[]", b"{}", b'{"version": 1e999}', b"[" * 100_000],
    ids=["nothing", "not text", "cut off", "a list", "no version", "infinite", "deep"],
)
def test_a_damaged_format_is_reported(value: bytes) -> None:
    with pytest.raises(DatadirDamaged, match="does not say what it holds"):
        decode_format(value)
