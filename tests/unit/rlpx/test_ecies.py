"""ECIES against the EIP-8 packets, and against points that would betray our key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import coincurve
import pytest

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.rlpx import ecies
from ethsync.wire import keys

if TYPE_CHECKING:
    from tests.unit.rlpx.conftest import Eip8

KEY = coincurve.PrivateKey(b"\1" * 32)


def test_the_auth_packet_of_the_first_rlpx_is_decrypted(eip8: Eip8) -> None:
    """Auth₁ of EIP-8: signature ‖ keccak(ephemeral key) ‖ public key ‖ nonce ‖ 0, without size and RLP."""
    body = ecies.decrypt(eip8.key("static_key_b"), eip8.bytes("auth1"))
    ephemeral = keys.identity(eip8.key("ephemeral_key_a").public_key)
    assert body[65:97] == keccak256(ephemeral)
    assert body[97:161] == keys.identity(eip8.key("static_key_a").public_key)
    assert body[161:] == eip8.bytes("nonce_a") + b"\0"


def test_the_ack_packet_of_the_first_rlpx_is_decrypted(eip8: Eip8) -> None:
    body = ecies.decrypt(eip8.key("static_key_a"), eip8.bytes("ack1"))
    assert body == keys.identity(eip8.key("ephemeral_key_b").public_key) + eip8.bytes("nonce_b") + b"\0"


def test_the_shared_secret_is_an_unhashed_coordinate_that_both_sides_find() -> None:
    other = coincurve.PrivateKey(b"\2" * 32)
    secret = ecies.shared_secret(KEY, other.public_key)
    assert secret == ecies.shared_secret(other, KEY.public_key)
    # 1 * G has the x coordinate of the generator (SEC 2, section 2.4.1).
    one = coincurve.PrivateKey(b"\1".rjust(32, b"\0"))
    generator = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert ecies.shared_secret(one, one.public_key).hex() == generator


@pytest.mark.parametrize("plaintext", [b"", b"x", b"y" * 1000])
def test_a_message_is_decrypted_by_its_recipient_only(plaintext: bytes) -> None:
    message = ecies.encrypt(KEY.public_key, plaintext, b"size")
    assert len(message) == len(plaintext) + ecies.OVERHEAD
    assert ecies.decrypt(KEY, message, b"size") == plaintext
    with pytest.raises(MalformedMessage, match="MAC"):
        ecies.decrypt(coincurve.PrivateKey(b"\3" * 32), message, b"size")
    with pytest.raises(MalformedMessage, match="MAC"):
        ecies.decrypt(KEY, message, b"other")


@pytest.mark.parametrize("position", range(65, 65 + 16 + 5 + 32))
def test_every_changed_byte_after_the_point_is_noticed(position: int) -> None:
    message = bytearray(ecies.encrypt(KEY.public_key, b"hello", ephemeral=KEY, iv=bytes(range(16))))
    message[position] ^= 0x10
    with pytest.raises(MalformedMessage, match="MAC"):
        ecies.decrypt(KEY, bytes(message))


@pytest.mark.parametrize(
    "point",
    [
        b"\x04" + bytes(64),  # go-ethereum, p2p/rlpx/rlpx_oracle_poc_test.go
        b"\x04" + bytes(31) + b"\1" + bytes(31) + b"\1",
        b"\x04" + b"\xff" * 64,
    ],
)
def test_a_point_off_the_curve_is_refused_before_any_secret_is_computed(
    point: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ecies, "shared_secret", lambda *_: pytest.fail("a secret was computed"))
    with pytest.raises(MalformedMessage, match="not a point"):
        ecies.decrypt(KEY, point + bytes(100))


@pytest.mark.parametrize("prefix", [b"\x02", b"\x03", b"\x06", b"\x07", b"\x00"])
def test_only_the_uncompressed_form_of_a_point_is_taken(prefix: bytes) -> None:
    message = ecies.encrypt(KEY.public_key, b"hello")
    with pytest.raises(MalformedMessage, match="uncompressed"):
        ecies.decrypt(KEY, prefix + message[1:])


def test_a_short_message_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="shorter than 113"):
        ecies.decrypt(KEY, bytes(112))


def test_a_public_key_of_another_length_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="33 bytes instead of 64"):
        keys.public_key(KEY.public_key.format())
