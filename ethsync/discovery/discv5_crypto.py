"""Keys, signatures and encryption of discv5.1 (devp2p discv5-theory.md, "Sessions", identity scheme v4)."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from Crypto.Cipher import AES

from ethsync.discovery.discv5_packets import TAG_SIZE
from ethsync.errors import MalformedMessage
from ethsync.wire import keys

if TYPE_CHECKING:
    import coincurve

_KEY_AGREEMENT = b"discovery v5 key agreement"
_IDENTITY_PROOF = b"discovery v5 identity proof"


def ecdh(public: coincurve.PublicKey, private: coincurve.PrivateKey) -> bytes:
    """Return the Diffie-Hellman point, compressed (33 bytes) and not hashed."""
    return bytes(public.multiply(private.secret).format(compressed=True))


def derive_keys(secret: bytes, initiator_id: bytes, recipient_id: bytes, challenge_data: bytes) -> tuple[bytes, bytes]:
    """Return (initiator key, recipient key), 16 bytes each: the keys under which these two nodes write.

    HKDF with SHA-256 (RFC 5869); the challenge is the salt.
    """
    extracted = hmac.digest(challenge_data, secret, "sha256")
    info = _KEY_AGREEMENT + initiator_id + recipient_id
    expanded = hmac.digest(extracted, info + b"\x01", "sha256")  # 32 bytes: one round gives both keys
    return expanded[:16], expanded[16:]


def sign_id(private: coincurve.PrivateKey, challenge_data: bytes, ephemeral_key: bytes, recipient_id: bytes) -> bytes:
    """Return the signature (64 bytes) by which a node answers a challenge."""
    return keys.sign(private, _id_digest(challenge_data, ephemeral_key, recipient_id))


def is_id_signed(
    public: coincurve.PublicKey, signature: bytes, challenge_data: bytes, ephemeral_key: bytes, recipient_id: bytes
) -> bool:
    """Whether the challenge was answered by the owner of `public`."""
    return keys.is_signed_by(public, _id_digest(challenge_data, ephemeral_key, recipient_id), signature)


def _id_digest(challenge_data: bytes, ephemeral_key: bytes, recipient_id: bytes) -> bytes:
    return hashlib.sha256(_IDENTITY_PROOF + challenge_data + ephemeral_key + recipient_id).digest()


def seal(key: bytes, nonce: bytes, plaintext: bytes, ad: bytes) -> bytes:
    """Encrypt and authenticate with AES-128-GCM; the tag of 16 bytes comes last."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=TAG_SIZE)
    cipher.update(ad)
    ciphertext, tag = cipher.encrypt_and_digest(plaintext)
    return bytes(ciphertext + tag)


def unseal(key: bytes, nonce: bytes, message: bytes, ad: bytes) -> bytes:
    """Undo `seal`. Raises MalformedMessage if the tag is wrong."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=TAG_SIZE)
    cipher.update(ad)
    try:
        return bytes(cipher.decrypt_and_verify(message[:-TAG_SIZE], message[-TAG_SIZE:]))
    except ValueError as error:
        raise MalformedMessage("discv5 message fails authentication") from error
