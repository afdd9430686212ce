"""Packets of discv4 (devp2p discv4.md, EIP-8, EIP-868): `hash ‖ signature ‖ type ‖ RLP list`.

The hash tells that a datagram is one of this protocol; the signature tells whose it is, there is no other sender in it.
Further list elements and bytes after the list are ignored (EIP-8).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from ethsync.discovery.node import Endpoint
from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.wire import keys, rlp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import coincurve

    from ethsync.wire.enr import IPAddress

VERSION = 4  # what our pings say; that of others is not looked at (EIP-8)

HASH_SIZE = 32  # Keccak-256
SIGNATURE_SIZE = 65  # r ‖ s ‖ recovery id
HEAD_SIZE = HASH_SIZE + SIGNATURE_SIZE  # what stands before the type
SMALLEST_PACKET = HEAD_SIZE + 1  # as in go-ethereum p2p/discover/v4wire, Decode: a type and nothing else

LARGEST_PACKET = 1280
"""Bytes of a packet (discv4.md, "Wire Protocol"). None of ours is longer."""

LARGEST_NEIGHBORS = 1600
"""Bytes of a Neighbors that we take. EthereumJS sends all 16 nodes in one packet, which has 1,373 bytes with IPv4 and
1,565 with IPv6 addresses. It may only answer a question of ours, so that its size costs us little, and refusing it
would make it useless to ask such nodes."""

MAX_NEIGHBORS = 12
"""Nodes in one packet of ours: with IPv6 addresses they take up to 1,205 bytes, and 13 would take 1,296
(go-ethereum v4wire, MaxNeighbors)."""

_MOST_NODES = 64  # items that are looked at in a Neighbors: four times what anybody may answer
_UNSPECIFIED = IPv4Address(0)


class Contact(NamedTuple):
    """Where a node is, as packets say it: `ip` is None and ports are 0 if unknown."""

    ip: IPAddress | None
    udp: int
    tcp: int

    @classmethod
    def of(cls, endpoint: Endpoint, tcp: int = 0) -> Contact:
        """The contact of a node with that discovery endpoint."""
        return cls(endpoint.ip, endpoint.port, tcp)

    @property
    def endpoint(self) -> Endpoint | None:
        """Its discovery endpoint, None if its address is unknown."""
        return None if self.ip is None else Endpoint(self.ip, self.udp)


UNKNOWN = Contact(None, 0, 0)


class Neighbor(NamedTuple):
    """A node in a Neighbors. Its key (64 bytes) was not checked to be on the curve."""

    contact: Contact
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? I am at `sender`, you at `recipient`, and my record has this number (0: it has none)."""

    kind: ClassVar[int] = 0x01
    sender: Contact
    recipient: Contact
    expiration: int
    enr_seq: int = 0

    def encode(self) -> bytes:
        """Return the RLP of the packet's data."""
        sender, recipient = _encode_contact(self.sender), _encode_contact(self.recipient)
        return rlp.encode([VERSION, sender, recipient, self.expiration, self.enr_seq])


@dataclass(frozen=True, slots=True)
class Pong:
    """I am; I see you at `recipient`. `ping_hash` is the hash of the ping (32 bytes)."""

    kind: ClassVar[int] = 0x02
    recipient: Contact
    ping_hash: bytes
    expiration: int
    enr_seq: int = 0

    def encode(self) -> bytes:
        """Return the RLP of the packet's data."""
        return rlp.encode([_encode_contact(self.recipient), self.ping_hash, self.expiration, self.enr_seq])


@dataclass(frozen=True, slots=True)
class FindNode:
    """Which nodes do you know near the hash of `target` (64 bytes)?"""

    kind: ClassVar[int] = 0x03
    target: bytes
    expiration: int

    def encode(self) -> bytes:
        """Return the RLP of the packet's data."""
        return rlp.encode([self.target, self.expiration])


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Some of the nodes of an answer; how many packets it has is not said."""

    kind: ClassVar[int] = 0x04
    nodes: tuple[Neighbor, ...]
    expiration: int

    def encode(self) -> bytes:
        """Return the RLP of the packet's data."""
        nodes = [[*_encode_contact(contact), public_key] for contact, public_key in self.nodes]
        return rlp.encode([nodes, self.expiration])


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What is your record? (ENRRequest, EIP-868)"""

    kind: ClassVar[int] = 0x05
    expiration: int

    def encode(self) -> bytes:
        """Return the RLP of the packet's data."""
        return rlp.encode([self.expiration])


@dataclass(frozen=True, slots=True)
class RecordResponse:
    """This is it (ENRResponse, EIP-868). `record` is in RLP and was not checked."""

    kind: ClassVar[int] = 0x06
    request_hash: bytes
    record: bytes

    def encode(self) -> bytes:
        """Return the RLP of the packet's data."""
        return rlp.encode_list([rlp.encode_bytes(self.request_hash), self.record])


Message: TypeAlias = "Ping | Pong | FindNode | Neighbors | RecordRequest | RecordResponse"


def encode_packet(key: coincurve.PrivateKey, message: Message) -> bytes:
    """Sign a message. The packet's first 32 bytes are the hash that an answer refers to."""
    body = bytes((message.kind,)) + message.encode()
    signed = key.sign_recoverable(keccak256(body), hasher=None) + body
    return keccak256(signed) + signed


def is_packet(data: bytes) -> bool:
    """Whether a datagram is one of this protocol: its size is possible and its hash right."""
    size = len(data)
    if size < SMALLEST_PACKET or size > LARGEST_NEIGHBORS:
        return False
    if size > LARGEST_PACKET and data[HEAD_SIZE] != Neighbors.kind:
        return False
    return keccak256(data[HASH_SIZE:]) == data[:HASH_SIZE]


def is_answer(packet: bytes) -> bool:
    """Whether a packet is of a type that only answers: it may have many nodes, and reading them costs time."""
    return packet[HEAD_SIZE] in (Pong.kind, Neighbors.kind, RecordResponse.kind)


def signer(packet: bytes) -> bytes:
    """Return the key (64 bytes) that signed a packet. Raises `MalformedMessage` if none did."""
    return keys.identity(keys.recover(keccak256(packet[HEAD_SIZE:]), packet[HASH_SIZE:HEAD_SIZE]))


def decode_message(packet: bytes) -> Message | None:
    """Decode what a packet says, whoever signed it; None for an unknown type (EIP-8). Raises `MalformedMessage`."""
    decoder = _DECODERS.get(packet[HEAD_SIZE])
    if decoder is None:
        return None
    start = HEAD_SIZE + 1
    _, _, end = rlp.item_bounds(packet, start, len(packet))
    return decoder(rlp.split_list(packet[start:end]))


def _encode_contact(contact: Contact) -> list[bytes | int]:
    return [(contact.ip or _UNSPECIFIED).packed, contact.udp, contact.tcp]  # EthereumJS refuses an empty address


def _decode_contact(encoded: bytes) -> Contact:
    """What a ping or pong says of an address is a hint that nothing depends on: what is not one is an unknown one."""
    try:
        return _contact(rlp.split_list(encoded))
    except MalformedMessage:
        return UNKNOWN


def _contact(fields: list[bytes]) -> Contact:
    _require(fields, 3, "endpoint")
    packed = rlp.string(fields[0])
    ip = Endpoint.of(ip_address(packed), 0).ip if len(packed) in (4, 16) else None
    return Contact(ip, _port(fields[1]), _port(fields[2]))


def _port(encoded: bytes) -> int:
    data = rlp.string(encoded)  # EthereumJS always writes two bytes, zeros too
    if len(data) > 2:
        raise MalformedMessage(f"port of {len(data)} bytes")
    return int.from_bytes(data, "big")


def _sequence_number(fields: list[bytes], index: int) -> int:
    """An element that came later (EIP-868): before, anything could stand there, as EIP-8's own examples show."""
    try:
        return rlp.integer(fields[index])
    except (IndexError, MalformedMessage):
        return 0


def _require(fields: list[bytes], count: int, what: str) -> None:
    if len(fields) < count:
        raise MalformedMessage(f"{what} with {len(fields)} of {count} fields")


def _ping(fields: list[bytes]) -> Ping:
    _require(fields, 4, "Ping")
    sender, recipient = _decode_contact(fields[1]), _decode_contact(fields[2])
    return Ping(sender, recipient, rlp.integer(fields[3]), _sequence_number(fields, 4))


def _pong(fields: list[bytes]) -> Pong:
    _require(fields, 3, "Pong")
    ping_hash = rlp.fixed_string(fields[1], HASH_SIZE, "hash in Pong")
    return Pong(_decode_contact(fields[0]), ping_hash, rlp.integer(fields[2]), _sequence_number(fields, 3))


def _find_node(fields: list[bytes]) -> FindNode:
    _require(fields, 2, "FindNode")
    return FindNode(rlp.fixed_string(fields[0], 64, "target of FindNode"), rlp.integer(fields[1]))


def _neighbors(fields: list[bytes]) -> Neighbors:
    _require(fields, 2, "Neighbors")
    return Neighbors(tuple(_neighbor(each) for each in rlp.split_list(fields[0], _MOST_NODES)), rlp.integer(fields[1]))


def _neighbor(encoded: bytes) -> Neighbor:
    fields = rlp.split_list(encoded)
    _require(fields, 4, "node in Neighbors")
    return Neighbor(_contact(fields), rlp.fixed_string(fields[3], 64, "key in Neighbors"))


def _record_request(fields: list[bytes]) -> RecordRequest:
    _require(fields, 1, "ENRRequest")
    return RecordRequest(rlp.integer(fields[0]))


def _record_response(fields: list[bytes]) -> RecordResponse:
    _require(fields, 2, "ENRResponse")
    return RecordResponse(rlp.fixed_string(fields[0], HASH_SIZE, "hash in ENRResponse"), fields[1])


_DECODERS: Mapping[int, Callable[[list[bytes]], Message]] = {
    Ping.kind: _ping,
    Pong.kind: _pong,
    FindNode.kind: _find_node,
    Neighbors.kind: _neighbors,
    RecordRequest.kind: _record_request,
    RecordResponse.kind: _record_response,
}
