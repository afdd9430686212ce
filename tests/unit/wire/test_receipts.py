"""Receipts in the forms of eth/68 and eth/69: geth's figures, the execution specification's, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rlp as oracle

from ethsync.errors import MalformedMessage
from ethsync.wire import eth
from ethsync.wire.receipts import Receipt, decode_block_receipts, encode_block_receipts

VECTORS = Path(__file__).parents[2] / "vectors" / "eth"
GETH = json.loads((VECTORS / "geth.json").read_text())
EIP2481 = json.loads((VECTORS / "eip2481.json").read_text())

LOG = [b"\x11" * 20, [b"\x22" * 32, b"\x33" * 32], b"data"]
FLAT = [b"\x02", b"\x01", b"\x52\x08", [LOG]]


def test_geths_receipts_of_eth_69() -> None:
    # Given the message that geth makes of two receipts, of types 0 and 1, one of which failed
    payload = bytes.fromhex(GETH["Receipts69"])
    reply = eth.decode(69, eth.EthMessage.RECEIPTS, payload)
    assert isinstance(reply, eth.Receipts)
    (raw,) = reply.receipts
    # Then they are read, and written again as they came.
    first, second = decode_block_receipts(69, raw)
    assert (first.tx_type, first.outcome, first.cumulative_gas) == (0, b"", 333)
    assert (second.tx_type, second.outcome, second.cumulative_gas) == (1, b"\x01", 444)
    assert encode_block_receipts(69, (first, second)) == raw
    assert reply.encode() == payload


def test_the_receipt_of_eip_2481_has_the_bloom_of_its_log() -> None:
    # Given a receipt in consensus form, whose bloom geth computed
    (raw,) = eth.decode_receipts(bytes.fromhex(EIP2481["Receipts"][0])).receipts
    item = oracle.decode(raw)[0]
    # Then the bloom in the vector, made for other bytes than its log's, is noticed.
    with pytest.raises(MalformedMessage, match="bloom"):
        decode_block_receipts(68, raw)
    # With the right one it is read and comes out again.
    item[2] = Receipt(0, item[0], 1, oracle.encode(item[3])).bloom()
    mended = oracle.encode([item])
    assert encode_block_receipts(68, decode_block_receipts(68, mended)) == mended


@pytest.mark.parametrize("version", [69, 70, 71])
def test_later_versions_write_receipts_alike(version: int) -> None:
    raw = oracle.encode([FLAT])
    (receipt,) = decode_block_receipts(version, raw)
    assert receipt == Receipt(2, b"\x01", 0x5208, oracle.encode([LOG]))
    assert encode_block_receipts(version, [receipt]) == raw


def test_a_typed_receipt_of_eth_68_is_a_byte_string() -> None:
    (receipt,) = decode_block_receipts(69, oracle.encode([FLAT]))
    (item,) = oracle.decode(encode_block_receipts(68, [receipt]))
    assert item == receipt.consensus()
    assert item[0] == 2
    assert oracle.decode(item[1:]) == [b"\x01", b"\x52\x08", receipt.bloom(), [LOG]]


def test_a_receipt_from_before_byzantium_has_a_state_root() -> None:
    (receipt,) = decode_block_receipts(69, oracle.encode([[b"", b"\xab" * 32, b"\x01", []]]))
    assert receipt.outcome == b"\xab" * 32
    assert receipt.bloom() == bytes(256)


def test_type_zero_as_a_zero_byte_is_read() -> None:
    # Besu wrote it so; the RLP of the integer 0 is the empty string.
    raw = bytes.fromhex("c5c4000101c0")
    assert decode_block_receipts(69, raw) == (Receipt(0, b"\x01", 1, b"\xc0"),)


@pytest.mark.parametrize(
    "item",
    [
        b"a string",
        [],
        FLAT[:3],
        [*FLAT, b""],
        [b"\x80", *FLAT[1:]],  # no transaction type
        [b"\x02", b"\x02", *FLAT[2:]],  # neither failed nor succeeded
        [b"\x02", b"\x01" * 31, *FLAT[2:]],
        [b"\x02", b"\x01", b"\x01" * 9, [LOG]],
        [b"\x02", b"\x01", b"\x00\x01", [LOG]],
        [b"\x02", b"\x01", b"\x01", b"logs"],
        [b"\x02", b"\x01", b"\x01", [b"log"]],
        [b"\x02", b"\x01", b"\x01", [[]]],
        [b"\x02", b"\x01", b"\x01", [LOG[:2]]],
        [b"\x02", b"\x01", b"\x01", [[*LOG, b""]]],
        [b"\x02", b"\x01", b"\x01", [[b"\x11" * 19, *LOG[1:]]]],
        [b"\x02", b"\x01", b"\x01", [[LOG[0], [b"\x22" * 31], b""]]],
        [b"\x02", b"\x01", b"\x01", [[LOG[0], [b"\x22" * 32] * 5, b""]]],
        [b"\x02", b"\x01", b"\x01", [[LOG[0], b"topics", b""]]],
        [b"\x02", b"\x01", b"\x01", [[LOG[0], [], []]]],
    ],
)
def test_broken_flat_receipts(item: Any) -> None:
    with pytest.raises(MalformedMessage):
        decode_block_receipts(69, oracle.encode([item]))


@pytest.mark.parametrize(
    "item",
    [
        b"",
        b"\x02",
        b"\x00" + oracle.encode([b"\x01", b"\x01", bytes(256), []]),
        b"\x80" + oracle.encode([b"\x01", b"\x01", bytes(256), []]),
        b"\x02" + oracle.encode([b"\x01", b"\x01", bytes(255), []]),
        b"\x02" + oracle.encode([b"\x01", b"\x01", bytes(256), []]) + b"\x00",
        [b"\x01", b"\x01", b"\x01" + bytes(255), []],
        [b"\x01", b"\x01", bytes(256), [LOG]],
    ],
)
def test_broken_receipts_with_bloom(item: Any) -> None:
    with pytest.raises(MalformedMessage):
        decode_block_receipts(68, oracle.encode([item]))
