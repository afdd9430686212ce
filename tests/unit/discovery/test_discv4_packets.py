"""Packets of discv4: those of others as they were written, and ours as others can read them."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import coincurve
import pytest

from ethsync.discovery import discv4_packets as wire
from ethsync.discovery.discv4_packets import UNKNOWN, Contact, Neighbor
from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys, rlp
from tests.unit.discovery.discv4_bench import key_number, node_number

EIP8 = json.loads((Path(__file__).parents[2] / "vectors" / "discv4" / "eip8.json").read_text())
KEY = key_number(3)
HERE, THERE = Contact(ip_address("1.2.3.4"), 30303, 30304), Contact(ip_address("2001:4860::8888"), 9000, 0)
RECORD = rlp.encode([b"a record", 1])

MESSAGES: list[wire.Message] = [
    wire.Ping(HERE, THERE, 1_800_000_000, 5),
    wire.Pong(THERE, b"h" * 32, 1_800_000_000, 2**64 - 1),
    wire.FindNode(b"t" * 64, 1_800_000_000),
    wire.Neighbors((Neighbor(HERE, b"a" * 64), Neighbor(THERE, b"b" * 64)), 1_800_000_000),
    wire.Neighbors((), 0),
    wire.RecordRequest(1_800_000_000),
    wire.RecordResponse(b"h" * 32, RECORD),
]


def packet_of(kind: int, body: rlp.Encodable, after: bytes = b"") -> bytes:
    """A packet that our encoder would not write."""
    content = bytes([kind]) + rlp.encode(body) + after
    signed = KEY.sign_recoverable(keccak256(content), hasher=None) + content
    return keccak256(signed) + signed


def as_figures(value: Any) -> Any:
    """A decoded value in the notation of the vectors."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Neighbor):
        return [*as_figures(value.contact), value.public_key.hex()]
    if isinstance(value, tuple):
        return [as_figures(each) for each in value]
    return value if isinstance(value, int) else str(value)


@pytest.mark.parametrize("vector", EIP8["packets"], ids=lambda vector: vector["name"])
def test_the_packets_of_eip_8_are_read_with_all_their_extras(vector: dict[str, Any]) -> None:
    packet = bytes.fromhex(vector["packet"])
    assert wire.is_packet(packet)
    message = wire.decode_message(packet)
    assert type(message).__name__ == vector["kind"]
    fields = {name: getattr(message, name) for name in vector if name not in ("name", "packet", "kind")}
    assert {name: as_figures(value) for name, value in fields.items()} == {name: vector[name] for name in fields}


@pytest.mark.parametrize("vector", EIP8["packets"], ids=lambda vector: vector["name"])
def test_the_packets_of_eip_8_were_signed_by_its_node_key(vector: dict[str, Any]) -> None:
    key = coincurve.PrivateKey(bytes.fromhex(EIP8["node_key"]))
    assert wire.signer(bytes.fromhex(vector["packet"])) == keys.identity(key.public_key)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_written_is_read_again_and_its_writer_known(message: wire.Message) -> None:
    packet = wire.encode_packet(KEY, message)
    assert wire.is_packet(packet)
    assert wire.decode_message(packet) == message
    assert wire.signer(packet) == keys.identity(KEY.public_key)


def test_a_packet_written_by_us_is_to_the_byte_the_one_of_go_ethereum_without_its_sequence_number() -> None:
    vector = EIP8["packets"][0]
    key = coincurve.PrivateKey(bytes.fromhex(EIP8["node_key"]))
    theirs = bytes.fromhex(vector["packet"])
    message = wire.decode_message(theirs)
    assert isinstance(message, wire.Ping)
    ours = rlp.split_list(wire.encode_packet(key, message)[wire.SMALLEST_PACKET :])
    assert ours == [*rlp.split_list(theirs[wire.SMALLEST_PACKET :]), rlp.encode(0)]


@pytest.mark.parametrize("position", [0, 31, 32, 96, 97, 98, 130])
def test_a_packet_with_a_changed_byte_is_none(position: int) -> None:
    packet = bytearray(wire.encode_packet(KEY, MESSAGES[0]))
    packet[position] ^= 1
    assert not wire.is_packet(bytes(packet))


def test_no_bytes_and_a_mere_head_are_no_packets() -> None:
    assert not wire.is_packet(b"")
    assert not wire.is_packet(keccak256(bytes(65)) + bytes(65))
    assert wire.is_packet(keccak256(bytes(66)) + bytes(66))


def test_a_signature_that_no_key_made_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="signature"):
        wire.signer(bytes(98))


def test_a_packet_of_unknown_type_has_no_message() -> None:
    assert wire.decode_message(packet_of(66, [1, 2, 3])) is None


def test_twelve_neighbors_fit_into_a_packet_whatever_they_are_and_thirteen_do_not() -> None:
    longest = Neighbor(Contact(ip_address("ffff::ffff"), 65535, 65535), b"\xff" * 64)
    sizes = [len(wire.encode_packet(KEY, wire.Neighbors((longest,) * count, 2**64 - 1))) for count in (12, 13)]
    assert wire.MAX_NEIGHBORS == 12
    assert sizes[0] <= wire.LARGEST_PACKET < sizes[1]


def neighbors_packet(count: int, after: int = 0) -> bytes:
    port = b"\x76\x5f"
    nodes = [node_number(number) for number in range(1, count + 1)]
    fields = [[node.endpoint.ip.packed, port, port, node.public_key] for node in nodes]
    return packet_of(4, [fields, 1_800_000_000], bytes(after))


def test_sixteen_neighbors_in_one_packet_are_read_as_ethereumjs_sends_them() -> None:
    packet = neighbors_packet(16)
    assert len(packet) == 1373
    assert wire.is_packet(packet)
    message = wire.decode_message(packet)
    assert isinstance(message, wire.Neighbors)
    assert len(message.nodes) == 16


def test_only_neighbors_may_be_longer_than_1280_bytes_and_not_for_ever() -> None:
    ping: rlp.Encodable = [4, [b"", b"", b""], [b"", b"", b""], 1_800_000_000]
    fitting = wire.LARGEST_PACKET - len(packet_of(1, ping))
    assert wire.is_packet(packet_of(1, ping, bytes(fitting)))
    assert not wire.is_packet(packet_of(1, ping, bytes(fitting + 1)))
    room = wire.LARGEST_NEIGHBORS - len(neighbors_packet(16))
    assert wire.is_packet(neighbors_packet(16, after=room))
    assert not wire.is_packet(neighbors_packet(16, after=room + 1))


def test_ports_with_leading_zeros_are_read_as_ethereumjs_sends_them() -> None:
    message = wire.decode_message(packet_of(1, [4, [b"\x7f\0\0\1", b"\0\x50", b""], [b"\x7f\0\0\1", b"\0\0", b""], 9]))
    assert isinstance(message, wire.Ping)
    assert message.sender == Contact(ip_address("127.0.0.1"), 80, 0)


def test_an_empty_address_is_unknown_as_go_ethereum_sends_it() -> None:
    message = wire.decode_message(packet_of(1, [4, [b"", 30303, 30304], [b"\x7f\0\0\1", 1, 0], 9]))
    assert isinstance(message, wire.Ping)
    assert message.sender == Contact(None, 30303, 30304)


def test_an_unknown_address_is_written_as_one_that_ethereumjs_can_read() -> None:
    message = wire.decode_message(wire.encode_packet(KEY, wire.Ping(UNKNOWN, HERE, 9)))
    assert isinstance(message, wire.Ping)
    assert message.sender == Contact(ip_address("0.0.0.0"), 0, 0)


@pytest.mark.parametrize("nonsense", [b"", b"here", [], [b"\x7f\0\0\1"], [[], [], []], [b"\x7f\0\0\1", b"\1\2\3", 1]])
def test_a_ping_is_read_although_what_it_says_of_addresses_is_nonsense(nonsense: Any) -> None:
    message = wire.decode_message(packet_of(1, [4, nonsense, nonsense, 9]))
    assert message == wire.Ping(UNKNOWN, UNKNOWN, 9)


def test_an_ipv4_address_written_as_ipv6_is_an_ipv4_address() -> None:
    mapped = ip_address("::ffff:1.2.3.4").packed
    message = wire.decode_message(packet_of(4, [[[mapped, 30303, 0, b"k" * 64]], 9]))
    assert isinstance(message, wire.Neighbors)
    assert message.nodes[0].contact.ip == ip_address("1.2.3.4")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (1, [4, [], []]),  # no expiration
        (1, [4, [], [], b"\0\1"]),  # expiration with a leading zero
        (1, [4, [], [], b"\1" * 9]),  # expiration of more than 64 bits
        (1, b"no list"),
        (2, [[], b"h" * 31, 9]),
        (3, [b"t" * 63, 9]),
        (3, [b"t" * 65, 9]),
        (4, [b"no list", 9]),
        (4, [[[b"\1\2\3\4", 1, 1]], 9]),  # node without key
        (4, [[[b"\1\2\3\4", 1, 1, b"k" * 63]], 9]),
        (4, [[[]] * 65, 9]),
        (5, []),
        (6, [b"h" * 31, []]),
        (6, [b"h" * 32]),
    ],
)
def test_a_packet_that_lacks_something_is_malformed(kind: int, body: rlp.Encodable) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode_message(packet_of(kind, body))


def test_a_packet_whose_list_is_cut_off_is_malformed() -> None:
    content = b"\x01" + rlp.encode([4, [], [], 9])[:-1]
    with pytest.raises(MalformedMessage):
        wire.decode_message(bytes(97) + content)
