"""Node keys: secp256k1 points as devp2p writes them, node ids, and signatures without a hash of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import coincurve
from coincurve.ecdsa import cdata_to_der, deserialize_compact

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256

if TYPE_CHECKING:
    from ethsync.wire.rlp import Buffer

UNCOMPRESSED = b"\x04"
"""First byte of an uncompressed point (SEC 1, section 2.3.3)."""


def public_key(identity: bytes) -> coincurve.PublicKey:
    """Turn a 64-byte node key into a point. Raises `MalformedMessage` if it is not on the curve.

    Without this check a forged point in a small group would betray our key bit by bit (invalid curve attack).
    """
    if len(identity) != 64:
        raise MalformedMessage(f"public key of {len(identity)} bytes instead of 64")
    try:
        return coincurve.PublicKey(UNCOMPRESSED + identity)
    except ValueError as error:
        raise MalformedMessage("public key is not a point of secp256k1") from error


def decompress(point: bytes) -> coincurve.PublicKey:
    """Turn a 33-byte compressed point (SEC 1, section 2.3.4) into a key. Raises `MalformedMessage`."""
    if len(point) != 33:
        raise MalformedMessage(f"compressed public key of {len(point)} bytes instead of 33")
    try:
        return coincurve.PublicKey(bytes(point))
    except ValueError as error:
        raise MalformedMessage("public key is not a point of secp256k1") from error


def identity(key: coincurve.PublicKey) -> bytes:
    """Return the 64-byte form of a public key: both coordinates, without prefix."""
    return bytes(key.format(compressed=False)[1:])


def node_id(identity: Buffer) -> bytes:
    """Return the id (32 bytes) of the node with this 64-byte key (EIP-778, identity scheme "v4"; discv4)."""
    return keccak256(identity)


def sign(key: coincurve.PrivateKey, digest: bytes) -> bytes:
    """Sign a 32-byte digest; 64 bytes, `r ‖ s` with the low `s`."""
    return bytes(key.sign_recoverable(digest, hasher=None)[:64])


def is_signed_by(key: coincurve.PublicKey, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes, `r ‖ s`) of a 32-byte digest was made with this key. A high `s` is refused."""
    if len(signature) != 64:
        return False
    try:
        return bool(key.verify(cdata_to_der(deserialize_compact(signature)), digest, hasher=None))
    except ValueError:
        return False


def recover(digest: bytes, signature: bytes) -> coincurve.PublicKey:
    """Return the key that made a 65-byte signature `r ‖ s ‖ recovery id` of a digest. Raises `MalformedMessage`."""
    if len(signature) != 65 or signature[64] > 3:
        raise MalformedMessage("signature has a wrong length or recovery id")
    try:
        recovered: coincurve.PublicKey = coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except ValueError as error:
        raise MalformedMessage("signature belongs to no key") from error
    return recovered
