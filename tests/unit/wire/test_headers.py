"""Headers hash to what the networks say they do, and unknown fields do no harm."""

from __future__ import annotations

import itertools
import json

import pytest
import rlp as oracle

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire.headers import BASE_FIELDS, TAIL_FIELDS, build_header, decode_header
from tests.oracles.headers import ETHTEST, chain_headers


def test_every_header_of_a_real_chain_names_the_hash_of_the_one_before() -> None:
    headers = [decode_header(raw) for raw in chain_headers()]
    assert [header.number for header in headers] == list(range(headers[0].number, headers[0].number + len(headers)))
    for parent, child in itertools.pairwise(headers):
        assert child.parent_hash == parent.hash


def test_the_head_of_a_real_chain_has_the_fields_that_geth_prints() -> None:
    expected = json.loads((ETHTEST / "headblock.json").read_text())
    header = decode_header(chain_headers()[-1])
    assert header.hash.hex() == expected["hash"][2:]
    assert header.number == int(expected["number"], 16)
    assert header.timestamp == int(expected["timestamp"], 16)
    assert header.state_root.hex() == expected["stateRoot"][2:]
    assert header.base_fee == int(expected["baseFeePerGas"], 16)
    assert header.withdrawals_root is not None
    assert header.withdrawals_root.hex() == expected["withdrawalsRoot"][2:]
    assert (header.blob_gas_used, header.excess_blob_gas) == (0, 0)
    assert header.parent_beacon_root is not None
    assert header.parent_beacon_root.hex() == expected["parentBeaconBlockRoot"][2:]
    assert header.requests_hash is not None
    assert header.requests_hash.hex() == expected["requestsHash"][2:]
    assert header.block_access_list_hash is None
    assert header.slot_number is None


def test_the_genesis_header_of_mainnet_is_built_from_its_fields() -> None:
    header = build_header(
        state_root=bytes.fromhex("d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"),
        difficulty=17179869184,
        gas_limit=5000,
        extra_data=bytes.fromhex("11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa"),
        nonce=bytes.fromhex("0000000000000042"),
    )
    assert header.hash.hex() == "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
    assert decode_header(header.raw) == header


def amsterdam_fields() -> list[object]:
    base: list[object] = [bytes(32)] * 2 + [bytes(20)] + [bytes(32)] * 3 + [bytes(256), 0, 1, 2, 3, 4, b"", bytes(32)]
    return [*base, bytes(8), 7, b"w" * 32, 0, 131072, b"b" * 32, b"r" * 32, b"a" * 32, 12345]


def test_all_23_fields_of_amsterdam_are_read() -> None:
    raw = oracle.encode(amsterdam_fields())
    header = decode_header(raw)
    assert len(BASE_FIELDS) + len(TAIL_FIELDS) == 23
    assert (header.number, header.gas_limit, header.gas_used, header.timestamp) == (1, 2, 3, 4)
    assert (header.block_access_list_hash, header.slot_number) == (b"a" * 32, 12345)
    assert header.hash == keccak256(raw)


def test_fields_of_forks_to_come_are_part_of_the_hash_only() -> None:
    raw = oracle.encode([*amsterdam_fields(), b"what is this", [1, [2]]])
    header = decode_header(raw)
    assert header.slot_number == 12345
    assert header.hash == keccak256(raw)
    assert header.raw == raw


@pytest.mark.parametrize("length", range(15, 24))
def test_the_tail_may_end_anywhere(length: int) -> None:
    header = decode_header(oracle.encode(amsterdam_fields()[:length]))
    present = [name for name in TAIL_FIELDS if getattr(header, name) is not None]
    assert present == list(TAIL_FIELDS)[: length - 15]


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, bytes(31)),
        (2, bytes(21)),
        (3, []),
        (6, bytes(255)),
        (8, b"\0\1"),
        (8, b"\xff" * 9),
        (7, b"\xff" * 33),
        (14, bytes(7)),
        (15, []),
        (16, b""),
        (22, b"\0"),
    ],
)
def test_a_field_of_the_wrong_kind_is_malformed(position: int, value: object) -> None:
    fields = amsterdam_fields()
    fields[position] = value
    with pytest.raises(MalformedMessage):
        decode_header(oracle.encode(fields))


@pytest.mark.parametrize("raw", [b"", b"\xc0", b"\x80", oracle.encode(amsterdam_fields()[:14]), bytes(100_000)])
def test_what_is_no_header_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_header(raw)


def test_a_header_over_the_size_limit_is_refused_unread() -> None:
    fields = amsterdam_fields()
    fields[12] = bytes(64 * 1024)
    with pytest.raises(MalformedMessage, match="header of 6"):
        decode_header(oracle.encode(fields))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"colour": 5}, "unknown header fields: colour"),
        ({"number": b"\1"}, "number"),
        ({"state_root": b"short"}, "state_root"),
        ({"state_root": 5}, "state_root"),
        ({"withdrawals_root": bytes(32)}, "gap before withdrawals_root"),
        ({"base_fee": 1, "blob_gas_used": 0}, "gap before blob_gas_used"),
    ],
)
def test_a_header_that_cannot_be_built_is_our_own_mistake(fields: dict[str, bytes | int], complaint: str) -> None:
    with pytest.raises(LocalProtocolError, match=complaint):
        build_header(**fields)
