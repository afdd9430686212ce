"""Whatever bytes come, discv4 reads a message or says that they are malformed, and its node goes on."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import coincurve
import rlp as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4_packets import Contact, Neighbor
from ethsync.discovery.node import Endpoint
from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys
from tests.unit.discovery.discv4_bench import EPOCH, TARGET, Bench, Remote

SETTINGS = settings(derandomize=True, deadline=None, max_examples=200)
KEY = coincurve.PrivateKey(b"\x07" * 32)

NUMBERS = st.integers(0, 2**64 - 1)
PORTS = st.integers(0, 65535)
IPS = st.ip_addresses().map(lambda ip: Endpoint.of(ip, 0).ip)
CONTACTS = st.builds(Contact, IPS, PORTS, PORTS)
HASHES = st.binary(min_size=32, max_size=32)
KEYS = st.binary(min_size=64, max_size=64)
NODES = st.lists(st.builds(Neighbor, CONTACTS, KEYS), max_size=wire.MAX_NEIGHBORS).map(tuple)
MESSAGES = st.one_of(
    st.builds(wire.Ping, CONTACTS, CONTACTS, NUMBERS, NUMBERS),
    st.builds(wire.Pong, CONTACTS, HASHES, NUMBERS, NUMBERS),
    st.builds(wire.FindNode, KEYS, NUMBERS),
    st.builds(wire.Neighbors, NODES, NUMBERS),
    st.builds(wire.RecordRequest, NUMBERS),
    st.builds(wire.RecordResponse, HASHES, st.binary(max_size=250).map(oracle.encode)),
)
KINDS = (wire.Ping, wire.Pong, wire.FindNode, wire.Neighbors, wire.RecordRequest, wire.RecordResponse)
BODIES = st.recursive(st.binary(max_size=70), lambda items: st.lists(items, max_size=6), max_leaves=20)


def sealed(body: bytes) -> bytes:
    """Any bytes in a packet whose hash and signature are right."""
    signed = KEY.sign_recoverable(keccak256(body), hasher=None) + body
    return keccak256(signed) + signed


def decode(packet: bytes) -> wire.Message | None:
    with suppress(MalformedMessage):
        message = wire.decode_message(packet)
        assert message is None or isinstance(message, KINDS)
        return message
    return None


@SETTINGS
@given(MESSAGES)
def test_every_message_comes_back_and_fits_into_a_packet(message: wire.Message) -> None:
    packet = wire.encode_packet(KEY, message)
    assert wire.is_packet(packet)
    assert len(packet) <= wire.LARGEST_PACKET
    assert wire.decode_message(packet) == message
    assert wire.signer(packet) == keys.identity(KEY.public_key)


@SETTINGS
@given(CONTACTS, CONTACTS, NUMBERS, NUMBERS)
def test_another_rlp_library_reads_our_pings_as_the_specification_writes_them(
    sender: Contact, recipient: Contact, expiration: int, seq: int
) -> None:
    packet = wire.encode_packet(KEY, wire.Ping(sender, recipient, expiration, seq))
    version, *contacts, end, number = oracle.decode(packet[98:])
    as_int = oracle.sedes.big_endian_int.deserialize
    assert (as_int(version), as_int(end), as_int(number)) == (4, expiration, seq)
    read = [Contact(ip_address(ip), as_int(udp), as_int(tcp)) for ip, udp, tcp in contacts]
    assert read == [sender, recipient]


@SETTINGS
@given(st.binary(max_size=1700))
def test_random_bytes_are_no_packet(data: bytes) -> None:
    assert not wire.is_packet(data)
    assert not Bench().discv4.receive(data, Endpoint(IPv4Address("9.9.9.9"), 30303), 0.0)


@SETTINGS
@given(st.integers(0, 7), BODIES, st.binary(max_size=20))
def test_any_list_in_a_packet_is_a_message_or_malformed(kind: int, body: list[object] | bytes, after: bytes) -> None:
    decode(sealed(bytes([kind]) + oracle.encode(body) + after))


@SETTINGS
@given(MESSAGES, st.data())
def test_a_message_with_changed_bytes_is_another_one_or_malformed(message: wire.Message, data: st.DataObject) -> None:
    body = bytearray(bytes([message.kind]) + message.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decode(sealed(bytes(body[: data.draw(st.integers(1, len(body)))])))


@SETTINGS
@given(MESSAGES, st.integers(97, 2000), st.integers(0, 7))
def test_a_packet_with_a_changed_bit_is_none(message: wire.Message, position: int, bit: int) -> None:
    packet = bytearray(wire.encode_packet(KEY, message))
    packet[position % len(packet)] ^= 1 << bit
    assert not wire.is_packet(bytes(packet))


SOURCES = st.builds(Endpoint, st.sampled_from([IPv4Address("9.9.9.9"), IPv6Address("2001:4860::9")]), PORTS)
INPUTS = st.one_of(
    MESSAGES.map(lambda message: wire.encode_packet(KEY, message)),
    st.builds(lambda kind, body: sealed(bytes([kind]) + oracle.encode(body)), st.integers(0, 7), BODIES),
    st.binary(min_size=66, max_size=200).map(lambda rest: keccak256(rest) + rest),
)


@SETTINGS
@given(st.lists(st.tuples(INPUTS, SOURCES, st.floats(0, 1)), max_size=8))
def test_a_node_takes_every_packet_and_ends_every_request_once(
    inputs: list[tuple[bytes, Endpoint, float]],
) -> None:
    bench = Bench()
    remote = Remote(bench, at=Endpoint(IPv4Address("9.9.9.9"), 30303))
    requests = [
        bench.discv4.ping(remote.node, 0.0),
        bench.discv4.find_nodes(remote.node, TARGET, 0.0),
        bench.discv4.fetch_record(remote.node, 0.0),
    ]
    for data, source, pause in inputs:
        assert bench.discv4.receive(data, source, bench.now)
        bench.sent()
        bench.pass_time(pause)
    bench.pass_time(10.0)
    tokens = [event.token for event in bench.discv4.events() if hasattr(event, "token")]
    assert sorted(tokens) == requests
    assert len(bench.discv4.calls) == 0
    assert bench.wall_clock() > EPOCH
