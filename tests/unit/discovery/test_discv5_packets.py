"""Packets of discv5.1: those of the specification, and those that break its rules."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import coincurve
import pytest
from Crypto.Cipher import AES

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery import discv5_handshake as handshakes
from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5_messages import Ping, decode_message
from ethsync.discovery.discv5_packets import Flag, Handshake, Packet, Whoareyou
from ethsync.discovery.discv5_sessions import Challenge
from ethsync.discovery.node import Datagram, Node
from ethsync.errors import MalformedMessage
from ethsync.wire import keys
from ethsync.wire.enr import decode_record, sign_record
from tests.unit.discovery.discv5_bench import OUR_ENDPOINT, endpoint

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "discv5" / "wire.json").read_text())
PACKETS = {vector["name"]: vector for vector in VECTORS["packets"]}
KEY_A = coincurve.PrivateKey(bytes.fromhex(VECTORS["node-a-key"]))
KEY_B = coincurve.PrivateKey(bytes.fromhex(VECTORS["node-b-key"]))
ID_A = bytes.fromhex(PACKETS["ping-message"]["src-node-id"])
ID_B = bytes.fromhex(PACKETS["ping-message"]["dest-node-id"])
ZERO_IV = bytes(16)  # of all packets in the document

NONCE, IV = b"n" * 12, b"i" * 16


def figure(name: str, field: str) -> bytes:
    return bytes.fromhex(PACKETS[name][field])


def unmasked(name: str) -> Packet:
    packet = packets.unmask(figure(name, "packet"), ID_B)
    assert packet is not None
    return packet


def ping_of(name: str) -> Ping:
    return Ping(figure(name, "ping.req-id"), PACKETS[name]["ping.enr-seq"])


class TestTheVectors:
    def test_a_message_packet_is_read(self) -> None:
        packet = unmasked("ping-message")
        assert (packet.flag, packet.nonce, packet.authdata) == (Flag.MESSAGE, figure("ping-message", "nonce"), ID_A)
        plaintext = crypto.unseal(figure("ping-message", "read-key"), packet.nonce, packet.message, packet.ad)
        assert decode_message(plaintext) == ping_of("ping-message")

    def test_a_message_packet_is_written_the_same(self) -> None:
        nonce, key = figure("ping-message", "nonce"), figure("ping-message", "read-key")
        start, ad = packets.mask(Flag.MESSAGE, nonce, ID_A, ID_B, ZERO_IV)
        sealed = crypto.seal(key, nonce, ping_of("ping-message").encode(), ad)
        assert start + sealed == figure("ping-message", "packet")

    def test_a_whoareyou_is_read(self) -> None:
        packet = unmasked("whoareyou")
        assert (packet.flag, packet.nonce) == (Flag.WHOAREYOU, figure("whoareyou", "whoareyou.request-nonce"))
        assert packet.ad == figure("whoareyou", "whoareyou.challenge-data")
        assert packets.decode_whoareyou(packet.authdata) == Whoareyou(figure("whoareyou", "whoareyou.id-nonce"), 0)

    def test_a_whoareyou_is_written_the_same(self) -> None:
        authdata = Whoareyou(figure("whoareyou", "whoareyou.id-nonce"), 0).encode()
        nonce = figure("whoareyou", "whoareyou.request-nonce")
        data, plain = packets.mask(Flag.WHOAREYOU, nonce, authdata, ID_B, ZERO_IV)
        assert data == figure("whoareyou", "packet")
        assert plain == figure("whoareyou", "whoareyou.challenge-data")
        assert len(data) == packets.MIN_SIZE

    @pytest.mark.parametrize("name", ["ping-handshake", "ping-handshake-enr"])
    def test_a_handshake_is_accepted(self, name: str) -> None:
        packet = unmasked(name)
        handshake = packets.decode_handshake(packet.authdata)
        known = None if handshake.record else sign_record(KEY_A, 1, {})
        challenge = Challenge(figure(name, "whoareyou.challenge-data"), Datagram(b"", OUR_ENDPOINT), known, 0.0)
        record, session, plaintext = handshakes.accept(KEY_B, ID_B, packet, handshake, OUR_ENDPOINT, challenge)
        assert (handshake.source_id, record.node_id) == (ID_A, ID_A)
        assert handshake.ephemeral_key == figure(name, "ephemeral-pubkey")
        assert session.read_key == figure(name, "read-key")
        assert decode_message(plaintext) == ping_of(name)

    @pytest.mark.parametrize("name", ["ping-handshake", "ping-handshake-enr"])
    def test_a_handshake_is_written_the_same(self, name: str) -> None:
        challenge_data, nonce = figure(name, "whoareyou.challenge-data"), figure(name, "nonce")
        ephemeral = coincurve.PrivateKey(figure(name, "ephemeral-key"))
        ephemeral_key = ephemeral.public_key.format(compressed=True)
        secret = crypto.ecdh(KEY_B.public_key, ephemeral)
        write_key, _ = crypto.derive_keys(secret, ID_A, ID_B, challenge_data)
        record = packets.decode_handshake(unmasked(name).authdata).record
        signature = crypto.sign_id(KEY_A, challenge_data, ephemeral_key, ID_B)
        authdata = Handshake(ID_A, signature, ephemeral_key, record).encode()
        start, ad = packets.mask(Flag.HANDSHAKE, nonce, authdata, ID_B, ZERO_IV)
        assert start + crypto.seal(write_key, nonce, ping_of(name).encode(), ad) == figure(name, "packet")

    def test_the_record_in_the_handshake_is_the_senders(self) -> None:
        raw = packets.decode_handshake(unmasked("ping-handshake-enr").authdata).record
        record = decode_record(raw)
        assert (record.node_id, record.seq) == (ID_A, 1)

    @pytest.mark.parametrize("name", PACKETS)
    def test_a_packet_for_b_is_nothing_for_a(self, name: str) -> None:
        assert packets.unmask(figure(name, "packet"), ID_A) is None


def packet_of(
    *,
    protocol: bytes = b"discv5",
    version: int = 1,
    flag: int = 0,
    authdata: bytes = b"s" * 32,
    size: int | None = None,
    message: bytes = b"m" * 20,
) -> bytes:
    """A packet that our encoder would not write."""
    size = len(authdata) if size is None else size
    header = protocol + struct.pack(">HB", version, flag) + NONCE + struct.pack(">H", size) + authdata
    return IV + AES.new(ID_B[:16], AES.MODE_CTR, nonce=b"", initial_value=IV).encrypt(header) + message


HANDSHAKE = Handshake(ID_A, b"s" * 64, b"e" * 33, b"")


class TestForms:
    def test_the_packet_that_the_others_deviate_from_is_read(self) -> None:
        packet = packets.unmask(packet_of(), ID_B)
        assert packet is not None
        assert (packet.flag, packet.nonce, packet.authdata, packet.message) == (0, NONCE, b"s" * 32, b"m" * 20)

    @pytest.mark.parametrize(
        "changed",
        [{"protocol": b"discv4"}, {"version": 0}, {"version": 2}],
        ids=["protocol", "old version", "new version"],
    )
    def test_another_protocol_is_none_of_ours(self, changed: dict[str, Any]) -> None:
        assert packets.unmask(packet_of(**changed), ID_B) is None

    def test_sizes_are_63_to_1280_bytes(self) -> None:
        whoareyou = packet_of(flag=1, authdata=b"a" * 24, message=b"")
        assert len(whoareyou) == 63
        assert packets.unmask(whoareyou, ID_B) is not None
        assert packets.unmask(whoareyou[:-1], ID_B) is None
        largest = packet_of(message=b"m" * (1280 - 71))
        assert len(largest) == 1280
        assert packets.unmask(largest, ID_B) is not None
        assert packets.unmask(largest + b"m", ID_B) is None

    @pytest.mark.parametrize(
        "changed",
        [
            {"flag": 3},
            {"flag": 255},
            {"authdata": b"s" * 31},
            {"authdata": b"s" * 33},
            {"size": 33, "message": b""},
            {"size": 65535},
            {"message": b""},
            {"message": b"m" * 16},
            {"flag": 1, "authdata": b"a" * 24, "message": b"m"},
            {"flag": 1, "authdata": b"a" * 23, "message": b"m"},
            {"flag": 1, "authdata": b"a" * 25, "message": b""},
            {"flag": 2, "authdata": HANDSHAKE.encode()[:-1]},
            {"flag": 2, "authdata": HANDSHAKE.encode() + b"r" * 301},
        ],
        ids=str,
    )
    def test_a_header_that_breaks_the_rules_is_malformed(self, changed: dict[str, Any]) -> None:
        with pytest.raises(MalformedMessage):
            packets.unmask(packet_of(**changed), ID_B)

    def test_a_handshake_comes_back(self) -> None:
        handshake = Handshake(ID_A, b"s" * 64, b"e" * 33, b"r" * 300)
        assert packets.decode_handshake(handshake.encode()) == handshake

    @pytest.mark.parametrize(("signature", "key"), [(63, 34), (65, 32), (0, 97), (97, 0)])
    def test_a_handshake_with_a_signature_or_key_of_another_size_is_malformed(self, signature: int, key: int) -> None:
        authdata = Handshake(ID_A, b"s" * signature, b"e" * key, b"").encode()
        with pytest.raises(MalformedMessage):
            packets.decode_handshake(authdata)

    def test_the_longest_messages_just_fit(self) -> None:
        sealed = packets.MAX_MESSAGE + packets.TAG_SIZE
        start, _ = packets.mask(Flag.MESSAGE, NONCE, ID_A, ID_B, IV)
        assert len(start) + sealed == packets.MAX_SIZE
        authdata = Handshake(ID_A, b"s" * 64, b"e" * 33, b"r" * 300).encode()
        start, _ = packets.mask(Flag.HANDSHAKE, NONCE, authdata, ID_B, IV)
        assert len(start) + packets.MAX_HANDSHAKE_MESSAGE + packets.TAG_SIZE == packets.MAX_SIZE


class TestAcceptance:
    """`accept` on a handshake that our own `answer` made."""

    @staticmethod
    def exchange(*, known_seq: int = 0, record_seq: int = 5) -> tuple[handshakes.Answer, Handshake, Packet, Challenge]:
        own = sign_record(KEY_A, record_seq, {})
        known = sign_record(KEY_A, known_seq, {}) if known_seq else None
        source = endpoint("9.9.9.9")
        challenge = handshakes.challenge((ID_A, source), NONCE, known, 0.0, lambda size: b"c" * size)
        whoareyou = packets.unmask(challenge.datagram.data, ID_A)
        assert whoareyou is not None
        node = Node(ID_B, keys.identity(KEY_B.public_key), OUR_ENDPOINT, 0)
        made = handshakes.answer(KEY_A, own, node, whoareyou, b"plain", lambda size: b"\x11" * size)
        packet = packets.unmask(made.data, ID_B)
        assert packet is not None
        return made, packets.decode_handshake(packet.authdata), packet, challenge

    def test_both_sides_have_each_others_keys(self) -> None:
        made, handshake, packet, challenge = self.exchange()
        _, session, plaintext = handshakes.accept(KEY_B, ID_B, packet, handshake, endpoint("9.9.9.9"), challenge)
        assert plaintext == b"plain"
        assert (session.read_key, session.write_key) == (made.session.write_key, made.session.read_key)
        assert session.read_key != session.write_key

    @pytest.mark.parametrize(("known_seq", "sent"), [(0, True), (4, True), (5, False), (6, False)])
    def test_the_record_is_sent_if_the_other_side_has_an_older_one_or_none(self, known_seq: int, sent: bool) -> None:
        _, handshake, _, _ = self.exchange(known_seq=known_seq)
        assert bool(handshake.record) is sent

    def test_a_record_with_sequence_number_zero_is_sent_to_whom_has_none(self) -> None:
        _, handshake, _, _ = self.exchange(record_seq=0)
        assert handshake.record

    @pytest.mark.parametrize(("known_seq", "kept"), [(4, 5), (5, 5), (6, 6)])
    def test_the_newest_record_counts(self, known_seq: int, kept: int) -> None:
        _, handshake, packet, challenge = self.exchange(known_seq=4)
        challenge.record = sign_record(KEY_A, known_seq, {})
        accepted = handshakes.accept(KEY_B, ID_B, packet, handshake, endpoint("9.9.9.9"), challenge)
        assert accepted.record.seq == kept
