"""Messages of discv5.1 inside their packets (devp2p discv5-wire.md, "Protocol Messages")."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ethsync.discovery.node import Endpoint
from ethsync.errors import MalformedMessage
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_REQUEST_ID = 8  # bytes (discv5-wire.md, "Protocol Messages")
MAX_DISTANCES = 257
"""All there are: 0 to 256. A longer list can only repeat itself."""

MAX_TOTAL = 255
"""Packets that an answer may announce: one byte in go-ethereum (v5wire/msg.go). We wait for fewer."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? My record has this sequence number."""

    kind: ClassVar[int] = 0x01
    request_id: bytes
    enr_seq: int

    def encode(self) -> bytes:
        """Return type and RLP."""
        return _encode(self.kind, self.request_id, self.enr_seq)


@dataclass(frozen=True, slots=True)
class Pong:
    """I am, my record has this sequence number, and I see you at `recipient`."""

    kind: ClassVar[int] = 0x02
    request_id: bytes
    enr_seq: int
    recipient: Endpoint

    def encode(self) -> bytes:
        """Return type and RLP."""
        return _encode(self.kind, self.request_id, self.enr_seq, self.recipient.ip.packed, self.recipient.port)


@dataclass(frozen=True, slots=True)
class FindNode:
    """Which nodes do you know at these logarithmic distances from you? 0 asks for your own record."""

    kind: ClassVar[int] = 0x03
    request_id: bytes
    distances: tuple[int, ...]

    def encode(self) -> bytes:
        """Return type and RLP."""
        return _encode(self.kind, self.request_id, self.distances)


@dataclass(frozen=True, slots=True)
class Nodes:
    """One of `total` packets that make up an answer; `records` are in RLP, not checked."""

    kind: ClassVar[int] = 0x04
    request_id: bytes
    total: int
    records: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return type and RLP."""
        fields = (rlp.encode_bytes(self.request_id), rlp.encode_int(self.total), rlp.encode_list(self.records))
        return bytes([self.kind]) + rlp.encode_list(fields)


@dataclass(frozen=True, slots=True)
class TalkRequest:
    """A request of a protocol on top of this one."""

    kind: ClassVar[int] = 0x05
    request_id: bytes
    protocol: bytes
    request: bytes

    def encode(self) -> bytes:
        """Return type and RLP."""
        return _encode(self.kind, self.request_id, self.protocol, self.request)


@dataclass(frozen=True, slots=True)
class TalkResponse:
    """Its answer; empty for a protocol that is not spoken."""

    kind: ClassVar[int] = 0x06
    request_id: bytes
    response: bytes

    def encode(self) -> bytes:
        """Return type and RLP."""
        return _encode(self.kind, self.request_id, self.response)


Request: TypeAlias = Ping | FindNode | TalkRequest
Response: TypeAlias = Pong | Nodes | TalkResponse
Message: TypeAlias = Request | Response


def _encode(kind: int, *fields: rlp.Encodable) -> bytes:
    return bytes([kind]) + rlp.encode(fields)


def decode_message(plaintext: bytes) -> Message | None:
    """Decode a decrypted message; None for a type that is not known, which is no offence. Raises MalformedMessage."""
    if not plaintext:
        raise MalformedMessage("empty discv5 message")
    decoder = _DECODERS.get(plaintext[0])
    return None if decoder is None else decoder(plaintext[1:])


def _request_id(encoded: bytes) -> bytes:
    data = rlp.string(encoded)
    if len(data) > MAX_REQUEST_ID:
        raise MalformedMessage(f"request id of {len(data)} bytes, more than {MAX_REQUEST_ID}")
    return data


def _ping(data: bytes) -> Ping:
    request_id, seq = rlp.split_fields(data, 2, "PING")
    return Ping(_request_id(request_id), rlp.integer(seq))


def _pong(data: bytes) -> Pong:
    request_id, seq, ip, port = rlp.split_fields(data, 4, "PONG")
    packed = rlp.string(ip)
    if len(packed) not in (4, 16):
        raise MalformedMessage(f"IP address of {len(packed)} bytes in PONG")
    seen = Endpoint.of(ip_address(packed), rlp.integer(port, 2))
    return Pong(_request_id(request_id), rlp.integer(seq), seen)


def _find_node(data: bytes) -> FindNode:
    request_id, distances = rlp.split_fields(data, 2, "FINDNODE")
    return FindNode(
        _request_id(request_id), tuple(rlp.integer(each) for each in rlp.split_list(distances, MAX_DISTANCES))
    )


def _nodes(data: bytes) -> Nodes:
    request_id, total, records = rlp.split_fields(data, 3, "NODES")
    count = rlp.integer(total)
    if count > MAX_TOTAL:
        raise MalformedMessage(f"NODES announces {count} responses")
    return Nodes(_request_id(request_id), count, tuple(rlp.split_list(records)))


def _talk_request(data: bytes) -> TalkRequest:
    request_id, protocol, request = rlp.split_fields(data, 3, "TALKREQ")
    return TalkRequest(_request_id(request_id), rlp.string(protocol), rlp.string(request))


def _talk_response(data: bytes) -> TalkResponse:
    request_id, response = rlp.split_fields(data, 2, "TALKRESP")
    return TalkResponse(_request_id(request_id), rlp.string(response))


_DECODERS: Mapping[int, Callable[[bytes], Message]] = {
    Ping.kind: _ping,
    Pong.kind: _pong,
    FindNode.kind: _find_node,
    Nodes.kind: _nodes,
    TalkRequest.kind: _talk_request,
    TalkResponse.kind: _talk_response,
}
