"""The base protocol of devp2p: Hello, Disconnect, Ping and Pong (devp2p rlpx.md, "p2p" capability).

Message ids 0x00-0x0f belong to it. Reading is tolerant as EIP-8 asks: versions are not compared and extra list
elements are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ethsync.errors import DisconnectReason, HandshakeFailed, MalformedMessage
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 5
"""Our p2p version: the first one with Snappy (EIP-706)."""

SNAPPY_VERSION = 5
"""A node that announces at least this version compresses everything after Hello (EIP-706)."""

LENGTH = 16
"""Message ids reserved for the base protocol; the shared capabilities begin here (devp2p rlpx.md)."""

MAX_SIZE = 2 * 1024
"""Longest base protocol message (geth p2p/peer.go, baseProtocolMaxMsgSize)."""

MAX_CAPABILITY_NAME = 8
"""Longest capability name in ASCII characters (devp2p rlpx.md)."""

MAX_CLIENT_ID = 256
"""Characters that we keep of a remote client id: enough for any real one, short enough for a log line."""

NODE_ID_SIZE = 64
"""Bytes of a node id: the uncompressed public key without its 0x04 prefix."""

EMPTY_PAYLOAD = b"\xc0"
"""Payload of Ping and Pong: the empty list."""


class P2PMessage(IntEnum):
    """Ids of the base protocol."""

    HELLO = 0x00
    DISCONNECT = 0x01
    PING = 0x02
    PONG = 0x03


@dataclass(frozen=True, slots=True, order=True)
class Capability:
    """A protocol by name and version, as announced in Hello."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Hello:
    """First message on a connection. `node_id` (64 bytes) must be the key that made the handshake."""

    client_id: str
    capabilities: tuple[Capability, ...]
    node_id: bytes
    protocol_version: int = VERSION
    listen_port: int = 0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Last message on a connection. `reason` is None when none was given or it was not readable."""

    reason: int | None = None

    def __str__(self) -> str:
        return describe_reason(self.reason)


def describe_reason(reason: int | None) -> str:
    """Return a disconnect reason in words, with its number when it is not one of the standard ones."""
    if reason is None:
        return "no reason given"
    try:
        return DisconnectReason(reason).name.lower().replace("_", " ")
    except ValueError:
        return f"unknown reason 0x{reason:02x}"


def encode_hello(hello: Hello) -> bytes:
    """Encode a Hello; it is sent without compression."""
    capabilities: list[rlp.Encodable] = [(each.name.encode("ascii"), each.version) for each in hello.capabilities]
    client_id = hello.client_id.encode()
    return rlp.encode([hello.protocol_version, client_id, capabilities, hello.listen_port, hello.node_id])


def decode_hello(payload: bytes) -> Hello:
    """Decode a Hello of at most 2 KiB; extra elements are ignored (EIP-8).

    Raises `MalformedMessage`, or `HandshakeFailed` with reason NULL_IDENTITY for an all-zero node id (as geth does).
    """
    if len(payload) > MAX_SIZE:
        raise MalformedMessage(f"Hello of {len(payload)} bytes, more than {MAX_SIZE}")
    fields = rlp.split_list(payload)
    if len(fields) < 5:
        raise MalformedMessage(f"Hello has {len(fields)} fields instead of 5")
    version, client_id, capabilities, listen_port, node_id = fields[:5]
    identity = rlp.fixed_string(node_id, NODE_ID_SIZE, "node id in Hello")
    if not any(identity):
        raise HandshakeFailed("Hello carries an all-zero node id", reason=DisconnectReason.NULL_IDENTITY)
    return Hello(
        client_id=_printable(rlp.string(client_id)),
        capabilities=tuple(_decode_capabilities(rlp.split_list(capabilities))),
        node_id=identity,
        protocol_version=rlp.integer(version),
        listen_port=rlp.integer(listen_port),
    )


def _decode_capabilities(encoded: Iterable[bytes]) -> Iterable[Capability]:
    for item in encoded:
        fields = rlp.split_list(item)
        if len(fields) < 2:
            raise MalformedMessage("capability in Hello without name and version")
        name, version = rlp.string(fields[0]), rlp.integer(fields[1])
        # A name that breaks the rules can never be one of ours: skipping it keeps the peer.
        if 0 < len(name) <= MAX_CAPABILITY_NAME and name.isascii():
            yield Capability(name.decode("ascii"), version)


def _printable(text: bytes) -> str:
    """Make a remote string safe for terminals and logs: no control characters, bounded length."""
    decoded = text.decode("utf-8", errors="replace")[:MAX_CLIENT_ID]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in decoded)


def encode_disconnect(reason: DisconnectReason) -> bytes:
    """Encode a Disconnect as the standard one-element list."""
    return rlp.encode([int(reason)])


def decode_disconnect(payload: bytes) -> Disconnect:
    """Read a Disconnect in any form seen in the wild: `[reason]`, a bare integer, nested lists, or nothing.

    Never raises: the peer leaves either way, only its reason may stay unknown.
    """
    try:
        item = rlp.decode_first(payload[:MAX_SIZE])[0]
        while isinstance(item, list):
            if not item:
                return Disconnect()
            item = item[0]
        return Disconnect(int.from_bytes(item, "big") if len(item) <= 1 else rlp.to_int(item))
    except MalformedMessage:
        return Disconnect()
