"""Packets of discv5.1: masking and the three kinds of header (devp2p discv5-wire.md, "Packet Encoding").

packet = masking-iv(16) ‖ masked(static header(23) ‖ authdata) ‖ message
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from Crypto.Cipher import AES

from ethsync.errors import MalformedMessage
from ethsync.wire import enr

if TYPE_CHECKING:
    from Crypto.Cipher._mode_ctr import CtrMode

PROTOCOL_ID = b"discv5"
VERSION = 1  # of discv5.1, on the wire
MIN_SIZE = 63  # of any packet (discv5-wire.md, "UDP Communication"); a WHOAREYOU has exactly that
MAX_SIZE = 1280  # the same

# Bytes of the parts of a packet (discv5-wire.md, "Packet Encoding").
IV_SIZE = 16
ID_SIZE = 32
NONCE_SIZE = 12
ID_NONCE_SIZE = 16
TAG_SIZE = 16  # of AES-GCM
SIGNATURE_SIZE = 64  # of identity scheme v4
EPHEMERAL_KEY_SIZE = 33  # compressed

_STATIC = struct.Struct(">6sHB12sH")  # protocol-id, version, flag, nonce, authdata-size
_WHOAREYOU = struct.Struct(">16sQ")  # id-nonce, enr-seq
_HANDSHAKE_HEAD = struct.Struct(">32sBB")  # src-id, sig-size, eph-key-size
_HANDSHAKE_SIZE = _HANDSHAKE_HEAD.size + SIGNATURE_SIZE + EPHEMERAL_KEY_SIZE

MAX_MESSAGE = MAX_SIZE - IV_SIZE - _STATIC.size - ID_SIZE - TAG_SIZE
"""Longest plaintext of an ordinary packet."""
MAX_HANDSHAKE_MESSAGE = MAX_SIZE - IV_SIZE - _STATIC.size - _HANDSHAKE_SIZE - enr.MAX_SIZE - TAG_SIZE
"""Longest plaintext that also fits into a handshake packet with a record."""


class Flag(IntEnum):
    """Kinds of packets."""

    MESSAGE = 0
    WHOAREYOU = 1
    HANDSHAKE = 2


@dataclass(frozen=True, slots=True)
class Packet:
    """An unmasked packet. `ad` is what its message authenticates besides itself: masking IV and header."""

    flag: Flag
    nonce: bytes
    authdata: bytes
    message: bytes
    ad: bytes


@dataclass(frozen=True, slots=True)
class Whoareyou:
    """Authdata of a WHOAREYOU: the challenge, and the sequence number of the record that its sender has of us."""

    id_nonce: bytes
    enr_seq: int

    def encode(self) -> bytes:
        """Return the authdata."""
        return _WHOAREYOU.pack(self.id_nonce, self.enr_seq)


@dataclass(frozen=True, slots=True)
class Handshake:
    """Authdata of a handshake packet. `record` is in RLP, empty if left out."""

    source_id: bytes
    signature: bytes
    ephemeral_key: bytes
    record: bytes

    def encode(self) -> bytes:
        """Return the authdata."""
        head = _HANDSHAKE_HEAD.pack(self.source_id, len(self.signature), len(self.ephemeral_key))
        return head + self.signature + self.ephemeral_key + self.record


def mask(flag: Flag, nonce: bytes, authdata: bytes, destination: bytes, iv: bytes) -> tuple[bytes, bytes]:
    """Return (masking IV and masked header, masking IV and plain header) of a packet for the node id `destination`."""
    header = _STATIC.pack(PROTOCOL_ID, VERSION, flag, nonce, len(authdata)) + authdata
    return iv + _stream(destination, iv).encrypt(header), iv + header


def unmask(data: bytes, local_id: bytes) -> Packet | None:
    """Unmask a datagram; None if it is not a packet of this protocol for us.

    Raises MalformedMessage for a header that is ours but breaks the rules.
    """
    if not MIN_SIZE <= len(data) <= MAX_SIZE:
        return None
    iv = data[:IV_SIZE]
    stream = _stream(local_id, iv)
    start = IV_SIZE + _STATIC.size
    static = stream.decrypt(data[IV_SIZE:start])
    protocol, version, flag, nonce, size = _STATIC.unpack(static)
    if protocol != PROTOCOL_ID or version != VERSION:
        return None
    if size > len(data) - start:
        raise MalformedMessage("discv5 header claims more authdata than there is")
    if flag not in _AUTHDATA_SIZES or not _AUTHDATA_SIZES[flag][0] <= size <= _AUTHDATA_SIZES[flag][1]:
        raise MalformedMessage(f"discv5 packet of kind {flag} with {size} bytes of authdata")
    authdata, message = stream.decrypt(data[start : start + size]), data[start + size :]
    if (flag == Flag.WHOAREYOU) != (not message) or (message and len(message) <= TAG_SIZE):
        raise MalformedMessage("discv5 packet with a message of impossible length")
    return Packet(Flag(flag), nonce, authdata, message, iv + static + authdata)


_AUTHDATA_SIZES = {
    Flag.MESSAGE: (ID_SIZE, ID_SIZE),
    Flag.WHOAREYOU: (_WHOAREYOU.size, _WHOAREYOU.size),
    Flag.HANDSHAKE: (_HANDSHAKE_SIZE, _HANDSHAKE_SIZE + enr.MAX_SIZE),
}
"""Smallest and largest authdata of each kind."""


def decode_whoareyou(authdata: bytes) -> Whoareyou:
    """Read the authdata of a WHOAREYOU, whose length `unmask` has checked."""
    return Whoareyou(*_WHOAREYOU.unpack(authdata))


def decode_handshake(authdata: bytes) -> Handshake:
    """Read the authdata of a handshake packet. Raises MalformedMessage."""
    source, signature_size, key_size = _HANDSHAKE_HEAD.unpack(authdata[: _HANDSHAKE_HEAD.size])
    if (signature_size, key_size) != (SIGNATURE_SIZE, EPHEMERAL_KEY_SIZE):
        raise MalformedMessage("handshake packet of another identity scheme than v4")
    rest = authdata[_HANDSHAKE_HEAD.size :]
    key_end = SIGNATURE_SIZE + EPHEMERAL_KEY_SIZE
    return Handshake(source, rest[:SIGNATURE_SIZE], rest[SIGNATURE_SIZE:key_end], rest[key_end:])


def _stream(destination: bytes, iv: bytes) -> CtrMode:
    return AES.new(destination[:16], AES.MODE_CTR, nonce=b"", initial_value=iv)
