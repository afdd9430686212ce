"""Whatever bytes come: a packet, a message, or an error of our own tree; and `receive` raises nothing at all."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import rlp
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery import discv5_packets as packets
from ethsync.discovery.discv5_messages import (
    FindNode,
    Message,
    Nodes,
    Ping,
    Pong,
    TalkRequest,
    TalkResponse,
    decode_message,
)
from ethsync.discovery.discv5_packets import Flag, Handshake, Whoareyou
from ethsync.discovery.node import Endpoint
from ethsync.errors import MalformedMessage
from tests.unit.discovery.discv5_bench import Party, Stranger, unmasked

LOCAL_ID = b"\x5a" * 32

IDS = st.binary(max_size=8)
SEQS = st.integers(0, 2**64 - 1)
ENDPOINTS = st.builds(
    Endpoint.of,
    st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(0, 65535),
)
RECORDS = st.lists(st.binary(max_size=40).map(rlp.encode), max_size=6).map(tuple)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, IDS, SEQS),
    st.builds(Pong, IDS, SEQS, ENDPOINTS),
    st.builds(FindNode, IDS, st.lists(SEQS, max_size=257).map(tuple)),
    st.builds(Nodes, IDS, st.integers(0, 255), RECORDS),
    st.builds(TalkRequest, IDS, st.binary(max_size=40), st.binary(max_size=200)),
    st.builds(TalkResponse, IDS, st.binary(max_size=200)),
)
FIXED = {Flag.MESSAGE: 32, Flag.WHOAREYOU: 24}
RLP = st.recursive(st.binary(max_size=20), lambda inner: st.lists(inner, max_size=6), max_leaves=20)


@given(MESSAGES)
def test_messages_come_back(message: Message) -> None:
    assert decode_message(message.encode()) == message


@given(st.binary(max_size=300) | st.builds(lambda kind, item: bytes([kind]) + rlp.encode(item), st.integers(0, 7), RLP))
def test_hostile_plaintexts_are_malformed_unknown_or_come_back(plaintext: bytes) -> None:
    with suppress(MalformedMessage):
        message = decode_message(plaintext)
        if message is not None and not isinstance(message, Pong):  # a PONG may write an IPv4 address as mapped
            assert message.encode() == plaintext


@given(st.sampled_from(list(Flag)), st.binary(min_size=12, max_size=12), st.binary(min_size=16, max_size=16), st.data())
def test_packets_come_back(flag: Flag, nonce: bytes, iv: bytes, data: st.DataObject) -> None:
    size = FIXED.get(flag) or data.draw(st.integers(131, 431))
    authdata = data.draw(st.binary(min_size=size, max_size=size))
    message = b"" if flag is Flag.WHOAREYOU else data.draw(st.binary(min_size=17, max_size=700))
    start, ad = packets.mask(flag, nonce, authdata, LOCAL_ID, iv)
    assert packets.unmask(start + message, LOCAL_ID) == packets.Packet(flag, nonce, authdata, message, ad)


@given(
    st.builds(Handshake, *[st.binary(min_size=size, max_size=size) for size in (32, 64, 33)], st.binary(max_size=300))
)
def test_handshakes_come_back(handshake: Handshake) -> None:
    assert packets.decode_handshake(handshake.encode()) == handshake


@given(st.builds(Whoareyou, st.binary(min_size=16, max_size=16), SEQS))
def test_challenges_come_back(whoareyou: Whoareyou) -> None:
    assert packets.decode_whoareyou(whoareyou.encode()) == whoareyou


@given(st.binary(max_size=1400))
def test_random_datagrams_are_none_of_ours(data: bytes) -> None:
    party = Party()
    assert not party.discv5.receive(data, Endpoint(IPv4Address("9.9.9.9"), 30303), 0.0)
    assert party.discv5.packets() == []


@given(st.integers(0, 65535), st.integers(0, 255), st.binary(max_size=500), st.binary(max_size=100))
def test_any_header_with_our_protocol_id_is_taken_and_does_no_harm(
    size: int, flag: int, authdata: bytes, message: bytes
) -> None:
    """A header of random fields, masked rightly for us."""
    party = Party()
    iv = b"i" * 16
    header = b"discv5\x00\x01" + bytes([flag]) + b"n" * 12 + size.to_bytes(2, "big") + authdata
    data = iv + packets._stream(party.record.node_id, iv).encrypt(header) + message
    source = Endpoint(IPv4Address("9.9.9.9"), 30303)
    assert party.discv5.receive(data, source, 0.0) is (packets.MIN_SIZE <= len(data) <= packets.MAX_SIZE)
    assert sum(len(answer) for answer, _ in party.discv5.packets()) <= len(data)


KINDS_OF_DATAGRAM = ("unreadable", "handshake", "message", "whoareyou")


def valid(kind: str, stranger: Stranger) -> bytes:
    """A valid datagram of a stranger that is in the middle of something with the party."""
    ours = stranger.party.discv5
    if kind == "unreadable":
        return stranger.unreadable()
    if kind == "whoareyou":
        ours.ping(stranger.node, 0.0)
        return stranger.whoareyou(unmasked(stranger.take()[0], stranger.record.node_id).nonce)[0]
    (whoareyou,) = stranger.put(stranger.unreadable())
    handshake = stranger.handshake(whoareyou, Ping(b"id", 1))
    if kind == "handshake":
        return handshake
    stranger.put(handshake)
    return stranger.sealed(FindNode(b"id", (0,)).encode())


@settings(max_examples=200)
@given(st.sampled_from(KINDS_OF_DATAGRAM), st.data())
def test_damage_to_a_datagram_never_raises_and_is_never_believed(kind: str, data: st.DataObject) -> None:
    stranger = Stranger(Party())
    right = valid(kind, stranger)
    answers = {"unreadable": "sent WHOAREYOU", "handshake": "sent Pong", "message": "sent Nodes"}
    sent = answers.get(kind, "sent handshake")
    before = stranger.party.discv5.counts[sent]
    position = data.draw(st.integers(0, len(right) - 1))
    damaged = right[:position] + bytes([right[position] ^ data.draw(st.integers(1, 255))]) + right[position + 1 :]
    stranger.party.discv5.receive(damaged, stranger.endpoint, 0.0)
    # Random bytes are as unreadable as others, and a challenge is not authenticated: its answer will be refused.
    if kind in ("handshake", "message"):
        assert stranger.party.discv5.counts[sent] == before
    stranger.party.discv5.receive(right, stranger.endpoint, 2.0 if kind == "unreadable" else 0.0)
    if kind != "whoareyou":
        assert stranger.party.discv5.counts[sent] > before


@settings(max_examples=100)
@given(st.sampled_from(KINDS_OF_DATAGRAM), st.integers(0, 1400), st.binary(max_size=100))
def test_cut_and_extended_datagrams_never_raise(kind: str, size: int, more: bytes) -> None:
    stranger = Stranger(Party())
    stranger.party.discv5.receive(valid(kind, stranger)[:size] + more, stranger.endpoint, 0.0)


@given(st.binary(max_size=200) | MESSAGES.map(lambda message: message.encode()))
def test_whatever_a_node_says_under_its_session_does_not_raise(plaintext: bytes) -> None:
    stranger = Stranger(Party())
    stranger.shake_hands(Ping(b"id", 1))
    if len(plaintext) <= packets.MAX_MESSAGE:
        assert stranger.party.discv5.receive(stranger.sealed(plaintext or b"\x00"), stranger.endpoint, 0.0)
        stranger.party.discv5.advance(10.0)
