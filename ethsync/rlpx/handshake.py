"""The encryption handshake of RLPx in its EIP-8 form, for both sides, without I/O.

`Initiator.auth` and `Recipient.receive_auth`/`ack` make and read the two packets `size ‖ ECIES(rlp ‖ padding)`; both
end in `Secrets` that `ethsync.rlpx.frames` works with.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import coincurve
from Crypto.Hash import keccak

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.rlpx import ecies
from ethsync.wire import keys, rlp

if TYPE_CHECKING:
    from Crypto.Hash.keccak import Keccak_Hash

VERSION = 4
"""auth-vsn and ack-vsn (EIP-8); what the other side announces is not compared."""

PREFIX_SIZE = 2
"""Bytes of the size in front of a packet."""

MAX_PACKET = 2048
"""Longest handshake packet after its prefix (geth p2p/rlpx/rlpx.go)."""

_MIN_PADDING, _MAX_PADDING = 100, 300  # EIP-8


@dataclass(frozen=True, slots=True)
class Secrets:
    """What both sides share after the handshake. The MACs are running Keccak states, one per direction."""

    aes: bytes
    mac: bytes
    egress: Keccak_Hash
    ingress: Keccak_Hash


def packet_size(prefix: bytes) -> int:
    """Return how many bytes follow the 2-byte prefix of a handshake packet. Raises `MalformedMessage`."""
    size = int.from_bytes(prefix, "big")
    if not ecies.OVERHEAD < size <= MAX_PACKET:
        raise MalformedMessage(f"handshake packet of {size} bytes")
    return size


class Initiator:
    """The dialling side: knows the recipient's key from the start."""

    def __init__(
        self,
        key: coincurve.PrivateKey,
        remote_public_key: bytes,
        *,
        ephemeral: coincurve.PrivateKey | None = None,
        nonce: bytes | None = None,
    ) -> None:
        """`ephemeral` and `nonce` (32 bytes) are random unless given. Raises `MalformedMessage` for a bad key."""
        self._key = key
        self._remote = keys.public_key(remote_public_key)
        self._ephemeral = ephemeral or coincurve.PrivateKey()
        self._nonce = nonce or os.urandom(32)
        self._auth = b""

    def auth(self) -> bytes:
        """Return the auth packet: the first bytes on the connection."""
        token = _xor(ecies.shared_secret(self._key, self._remote), self._nonce)
        signature = self._ephemeral.sign_recoverable(token, hasher=None)
        body = rlp.encode([signature, keys.identity(self._key.public_key), self._nonce, VERSION])
        self._auth = _seal(self._remote, body)
        return self._auth

    def receive_ack(self, packet: bytes) -> Secrets:
        """Read the ack packet, prefix included. Raises `MalformedMessage`."""
        fields = _open(self._key, packet, 3, "ack")
        remote_ephemeral = keys.public_key(_fixed(fields[0], 64, "ephemeral key in ack"))
        remote_nonce = _fixed(fields[1], 32, "nonce in ack")
        ephemeral_secret = ecies.shared_secret(self._ephemeral, remote_ephemeral)
        aes, mac = _derive(ephemeral_secret, remote_nonce, self._nonce)
        return Secrets(
            aes, mac, egress=_mac_state(mac, remote_nonce, self._auth), ingress=_mac_state(mac, self._nonce, packet)
        )


class Recipient:
    """The listening side: learns who is calling from the auth packet."""

    def __init__(
        self, key: coincurve.PrivateKey, *, ephemeral: coincurve.PrivateKey | None = None, nonce: bytes | None = None
    ) -> None:
        """`ephemeral` and `nonce` (32 bytes) are random unless given."""
        self._key = key
        self._ephemeral = ephemeral or coincurve.PrivateKey()
        self._nonce = nonce or os.urandom(32)

    def receive_auth(self, packet: bytes) -> AuthenticatedCall:
        """Read the auth packet, prefix included. Raises `MalformedMessage`."""
        signature, public, nonce, *_ = _open(self._key, packet, 4, "auth")
        remote_nonce = _fixed(nonce, 32, "nonce in auth")
        remote = keys.public_key(_fixed(public, 64, "public key in auth"))
        token = _xor(ecies.shared_secret(self._key, remote), remote_nonce)
        remote_ephemeral = keys.recover(token, _fixed(signature, 65, "signature in auth"))
        ephemeral_secret = ecies.shared_secret(self._ephemeral, remote_ephemeral)
        return AuthenticatedCall(
            remote, remote_nonce, packet, ephemeral_secret, keys.identity(self._ephemeral.public_key), self._nonce
        )


@dataclass(frozen=True, slots=True)
class AuthenticatedCall:
    """An auth packet that was read and found right: everything that the answer needs."""

    remote: coincurve.PublicKey
    remote_nonce: bytes
    auth: bytes
    ephemeral_secret: bytes
    ephemeral_identity: bytes
    nonce: bytes

    @property
    def remote_public_key(self) -> bytes:
        """The caller's node key, 64 bytes."""
        return keys.identity(self.remote)

    def answer(self) -> tuple[bytes, Secrets]:
        """Return the ack packet to send and the secrets that hold from then on."""
        ack = _seal(self.remote, rlp.encode([self.ephemeral_identity, self.nonce, VERSION]))
        return ack, self.secrets(ack)

    def secrets(self, ack: bytes) -> Secrets:
        """Derive the secrets that follow from a given ack packet."""
        aes, mac = _derive(self.ephemeral_secret, self.nonce, self.remote_nonce)
        return Secrets(
            aes, mac, egress=_mac_state(mac, self.remote_nonce, ack), ingress=_mac_state(mac, self.nonce, self.auth)
        )


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _seal(recipient: coincurve.PublicKey, body: bytes) -> bytes:
    padding = os.urandom(_MIN_PADDING + secrets.randbelow(_MAX_PADDING - _MIN_PADDING + 1))
    plaintext = body + padding
    prefix = (len(plaintext) + ecies.OVERHEAD).to_bytes(PREFIX_SIZE, "big")
    return prefix + ecies.encrypt(recipient, plaintext, prefix)


def _open(key: coincurve.PrivateKey, packet: bytes, count: int, what: str) -> list[rlp.RLPItem]:
    """Decrypt a packet and return its fields; extra fields and bytes after the list are ignored (EIP-8)."""
    prefix, body = packet[:PREFIX_SIZE], packet[PREFIX_SIZE:]
    if len(body) != packet_size(prefix):
        raise MalformedMessage(f"{what} packet of {len(body)} bytes does not have the size that it states")
    fields, _ = rlp.decode_first(ecies.decrypt(key, body, prefix))
    if not isinstance(fields, list) or len(fields) < count:
        raise MalformedMessage(f"{what} packet is not a list of {count} fields")
    return fields


def _fixed(item: rlp.RLPItem, width: int, what: str) -> bytes:
    if not isinstance(item, bytes) or len(item) != width:
        raise MalformedMessage(f"{what} has not {width} bytes")
    return item


def _derive(ephemeral_secret: bytes, recipient_nonce: bytes, initiator_nonce: bytes) -> tuple[bytes, bytes]:
    """Return (aes-secret, mac-secret), 32 bytes each (devp2p rlpx.md, "Initial Handshake")."""
    shared = keccak256(ephemeral_secret + keccak256(recipient_nonce + initiator_nonce))
    aes = keccak256(ephemeral_secret + shared)
    return aes, keccak256(ephemeral_secret + aes)


def _mac_state(mac: bytes, nonce: bytes, packet: bytes) -> Keccak_Hash:
    return keccak.new(digest_bits=256, data=_xor(mac, nonce) + packet, update_after_digest=True)
