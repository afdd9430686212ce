"""Hello and Disconnect, strict in what we send and tolerant in what we read (EIP-8)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rlp as oracle

from ethsync.errors import DisconnectReason, HandshakeFailed, MalformedMessage
from ethsync.wire import p2p
from ethsync.wire.p2p import Capability, Hello

EIP8 = json.loads((Path(__file__).parents[2] / "vectors" / "rlpx" / "eip8.json").read_text())
NODE_ID = bytes(range(64))


def encoded_hello(
    *, client_id: bytes = b"test", capabilities: object = ((b"eth", 69),), node_id: bytes = NODE_ID
) -> bytes:
    return bytes(oracle.encode([5, client_id, capabilities, 0, node_id]))


def test_the_hello_of_eip_8_is_read_despite_its_version_and_extra_elements() -> None:
    hello = p2p.decode_hello(bytes.fromhex(EIP8["hello"]))
    assert hello.protocol_version == 55  # the EIP's prose says 22, but that is the version of "mork" in its bytes
    assert hello.client_id == "kneth/v0.91/plan9"
    assert hello.capabilities == (Capability("eth", 61), Capability("mork", 22))
    assert hello.node_id.hex().startswith("fda1cff674c90c9a")
    assert len(hello.node_id) == 64


def test_hello_has_the_wire_format_of_the_specification() -> None:
    hello = Hello("ethsync/0.1", (Capability("eth", 69), Capability("snap", 1)), NODE_ID)
    expected = oracle.encode([5, b"ethsync/0.1", [[b"eth", 69], [b"snap", 1]], 0, NODE_ID])
    assert p2p.encode_hello(hello) == expected
    assert p2p.decode_hello(expected) == hello


def test_names_longer_than_the_specification_allows_are_passed_over() -> None:
    payload = encoded_hello(capabilities=[[b"muchtoolong", 1], [b"", 1], [b"\xff", 2], [b"snap", 1]])
    assert p2p.decode_hello(payload).capabilities == (Capability("snap", 1),)


def test_a_hostile_client_id_cannot_write_to_the_terminal() -> None:
    hello = p2p.decode_hello(encoded_hello(client_id=b"Geth\x1b[2J\n\xff" + b"x" * 1000))
    assert hello.client_id.isprintable()
    assert len(hello.client_id) == p2p.MAX_CLIENT_ID


def test_an_all_zero_node_id_is_answered_with_null_identity() -> None:
    with pytest.raises(HandshakeFailed) as failure:
        p2p.decode_hello(encoded_hello(node_id=bytes(64)))
    assert failure.value.reason is DisconnectReason.NULL_IDENTITY


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        oracle.encode([5, b"x", [], 0]),
        encoded_hello(node_id=bytes(63)),
        encoded_hello(capabilities=[b"eth"]),
        encoded_hello(capabilities=[[b"eth"]]),
        encoded_hello(capabilities=[[b"eth", b"\0"]]),
        encoded_hello(client_id=b"x" * 2048),
    ],
)
def test_a_broken_hello_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        p2p.decode_hello(payload)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("c104", 4),  # the standard form
        ("04", 4),  # a bare integer: EthereumJS
        ("c180", 0),
        ("80", 0),
        ("00", 0),
        ("c100", 0),
        ("c110", 0x10),
        ("c20400", 4),  # extra elements
        ("c2c104", 4),  # nested
        ("c10f", 0x0F),  # Besu's own
        ("c3821234", 0x1234),
        ("", None),
        ("c0", None),
        ("c1c0", None),
        ("c5", None),
        ("89ffffffffffffffffff", None),
        ("c1" * 2000, None),
    ],
)
def test_disconnect_is_read_in_every_form(payload: str, reason: int | None) -> None:
    assert p2p.decode_disconnect(bytes.fromhex(payload)).reason == reason


@pytest.mark.parametrize("reason", DisconnectReason)
def test_disconnect_is_sent_as_a_list(reason: DisconnectReason) -> None:
    assert p2p.encode_disconnect(reason) == oracle.encode([int(reason)])
    assert p2p.decode_disconnect(p2p.encode_disconnect(reason)).reason == reason


def test_reasons_are_told_in_words() -> None:
    assert str(p2p.Disconnect(4)) == "too many peers"
    assert str(p2p.Disconnect(0x0F)) == "unknown reason 0x0f"
    assert str(p2p.Disconnect()) == "no reason given"
