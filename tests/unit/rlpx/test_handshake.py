"""The EIP-8 handshake: its vectors, and what hostile packets meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import coincurve
import pytest
import rlp as oracle

from ethsync.errors import MalformedMessage
from ethsync.rlpx import ecies, handshake
from ethsync.rlpx.handshake import Initiator, Recipient
from ethsync.wire import keys

if TYPE_CHECKING:
    from tests.unit.rlpx.conftest import Eip8

CALLER, CALLED = coincurve.PrivateKey(b"\1" * 32), coincurve.PrivateKey(b"\2" * 32)
CALLED_ID = keys.identity(CALLED.public_key)


def node_b(eip8: Eip8) -> Recipient:
    return Recipient(eip8.key("static_key_b"), ephemeral=eip8.key("ephemeral_key_b"), nonce=eip8.bytes("nonce_b"))


def node_a(eip8: Eip8) -> Initiator:
    return Initiator(
        eip8.key("static_key_a"),
        keys.identity(eip8.key("static_key_b").public_key),
        ephemeral=eip8.key("ephemeral_key_a"),
        nonce=eip8.bytes("nonce_a"),
    )


@pytest.mark.parametrize("auth", ["auth2", "auth3"])
def test_node_b_reads_who_is_calling(eip8: Eip8, auth: str) -> None:
    call = node_b(eip8).receive_auth(eip8.bytes(auth))
    assert call.remote_public_key == keys.identity(eip8.key("static_key_a").public_key)
    assert call.remote_nonce == eip8.bytes("nonce_a")


def test_node_b_derives_the_secrets_of_eip_8(eip8: Eip8) -> None:
    secrets = node_b(eip8).receive_auth(eip8.bytes("auth2")).secrets(eip8.bytes("ack2"))
    assert secrets.aes == eip8.bytes("aes_secret")
    assert secrets.mac == eip8.bytes("mac_secret")
    secrets.ingress.update(b"foo")
    assert secrets.ingress.digest() == eip8.bytes("ingress_mac_foo")


@pytest.mark.parametrize("ack", ["ack2", "ack3"])
def test_node_a_reads_the_answer(eip8: Eip8, ack: str) -> None:
    initiator = node_a(eip8)
    initiator.auth()
    secrets = initiator.receive_ack(eip8.bytes(ack))
    assert secrets.aes == eip8.bytes("aes_secret")
    assert secrets.mac == eip8.bytes("mac_secret")


@pytest.mark.parametrize("name", ["auth1", "auth2", "auth3"])
def test_an_auth_for_somebody_else_is_malformed(eip8: Eip8, name: str) -> None:
    with pytest.raises(MalformedMessage):
        Recipient(CALLED).receive_auth(eip8.bytes(name))


def test_the_packets_from_before_eip_8_are_refused(eip8: Eip8) -> None:
    """Nobody sends them since 2016, and geth does not read them either."""
    with pytest.raises(MalformedMessage):
        node_b(eip8).receive_auth(eip8.bytes("auth1"))
    initiator = node_a(eip8)
    initiator.auth()
    with pytest.raises(MalformedMessage):
        initiator.receive_ack(eip8.bytes("ack1"))


def test_both_sides_arrive_at_the_same_secrets() -> None:
    initiator = Initiator(CALLER, CALLED_ID)
    call = Recipient(CALLED).receive_auth(initiator.auth())
    ack, theirs = call.answer()
    ours = initiator.receive_ack(ack)
    assert call.remote_public_key == keys.identity(CALLER.public_key)
    assert (ours.aes, ours.mac) == (theirs.aes, theirs.mac)
    assert ours.egress.digest() == theirs.ingress.digest()
    assert ours.ingress.digest() == theirs.egress.digest()
    assert ours.egress.digest() != ours.ingress.digest()


def test_no_two_handshakes_look_alike() -> None:
    packets = [Initiator(CALLER, CALLED_ID).auth() for _ in range(20)]
    assert len({packet[2:67] for packet in packets}) == len(packets)
    assert len({len(packet) for packet in packets}) > 1  # random padding (EIP-8)
    assert all(2 + handshake.packet_size(packet[:2]) == len(packet) for packet in packets)


@pytest.mark.parametrize("size", [0, 1, ecies.OVERHEAD, 2049, 65535])
def test_a_packet_size_out_of_range_is_refused_before_reading_on(size: int) -> None:
    with pytest.raises(MalformedMessage, match=f"handshake packet of {size} bytes"):
        handshake.packet_size(size.to_bytes(2, "big"))


def sealed(recipient: coincurve.PrivateKey, item: object) -> bytes:
    body = oracle.encode(item) + bytes(100)
    prefix = (len(body) + ecies.OVERHEAD).to_bytes(2, "big")
    return prefix + ecies.encrypt(recipient.public_key, body, prefix)


CALLER_ID = keys.identity(CALLER.public_key)


@pytest.mark.parametrize(
    "fields",
    [
        b"no list",
        [],
        [bytes(65), CALLER_ID, bytes(32)],
        [bytes(64), CALLER_ID, bytes(32), 4],
        [bytes(65), CALLER_ID, bytes(31), 4],
        [bytes(65), CALLER_ID[1:], bytes(32), 4],
        [bytes(65), bytes(64), bytes(32), 4],  # off the curve
        [bytes(64) + b"\x04", CALLER_ID, bytes(32), 4],  # recovery id out of range
        [b"\xff" * 64 + b"\0", CALLER_ID, bytes(32), 4],
        [bytes(65), CALLER_ID, bytes(32), 4],  # no point has this signature
        [[], CALLER_ID, bytes(32), 4],
    ],
)
def test_a_broken_auth_is_malformed(fields: object) -> None:
    with pytest.raises(MalformedMessage):
        Recipient(CALLED).receive_auth(sealed(CALLED, fields))


@pytest.mark.parametrize(
    "fields", [b"no list", [CALLED_ID, bytes(32)], [CALLED_ID, bytes(33), 4], [bytes(64), bytes(32), 4], [[], b"", 4]]
)
def test_a_broken_ack_is_malformed(fields: object) -> None:
    initiator = Initiator(CALLER, CALLED_ID)
    initiator.auth()
    with pytest.raises(MalformedMessage):
        initiator.receive_ack(sealed(CALLER, fields))


def test_a_cut_packet_is_malformed() -> None:
    auth = Initiator(CALLER, CALLED_ID).auth()
    for length in (0, 1, 2, 100, len(auth) - 1):
        with pytest.raises(MalformedMessage):
            Recipient(CALLED).receive_auth(auth[:length])


def test_calling_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="not a point"):
        Initiator(CALLER, bytes(64))
