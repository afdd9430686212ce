"""ECIES as RLPx uses it (devp2p rlpx.md, "ECIES Encryption"; wire format `04‖x‖y ‖ iv ‖ ciphertext ‖ mac`).

secp256k1, concat-KDF with SHA-256 (NIST SP 800-56A), AES-128-CTR, HMAC-SHA-256.
"""

from __future__ import annotations

import hashlib
import hmac
import os

import coincurve
from Crypto.Cipher import AES

from ethsync.errors import MalformedMessage
from ethsync.wire.keys import UNCOMPRESSED, public_key

OVERHEAD = 65 + 16 + 32
"""Bytes that encryption adds: ephemeral public key, initial vector, MAC."""


def shared_secret(private: coincurve.PrivateKey, public: coincurve.PublicKey) -> bytes:
    """Return the x coordinate (32 bytes) of the Diffie-Hellman point, unhashed."""
    return bytes(public.multiply(private.secret).format(compressed=False)[1:33])


def encrypt(
    recipient: coincurve.PublicKey,
    plaintext: bytes,
    authenticated: bytes = b"",
    *,
    ephemeral: coincurve.PrivateKey | None = None,
    iv: bytes | None = None,
) -> bytes:
    """Encrypt for `recipient`; `authenticated` enters the MAC only. `ephemeral` and `iv` are random unless given."""
    ephemeral = ephemeral or coincurve.PrivateKey()
    iv = iv or os.urandom(16)
    cipher_key, mac_key = _derive(shared_secret(ephemeral, recipient))
    ciphertext = AES.new(cipher_key, AES.MODE_CTR, nonce=b"", initial_value=iv).encrypt(plaintext)
    mac = hmac.digest(mac_key, iv + ciphertext + authenticated, "sha256")
    return ephemeral.public_key.format(compressed=False) + iv + ciphertext + mac


def decrypt(private: coincurve.PrivateKey, message: bytes, authenticated: bytes = b"") -> bytes:
    """Decrypt a message for `private`. Raises `MalformedMessage` if its point or its MAC is wrong."""
    if len(message) < OVERHEAD:
        raise MalformedMessage(f"encrypted message of {len(message)} bytes, shorter than {OVERHEAD}")
    if message[:1] != UNCOMPRESSED:
        raise MalformedMessage("encrypted message does not begin with an uncompressed point")
    iv, ciphertext, mac = message[65:81], message[81:-32], message[-32:]
    cipher_key, mac_key = _derive(shared_secret(private, public_key(message[1:65])))
    if not hmac.compare_digest(mac, hmac.digest(mac_key, iv + ciphertext + authenticated, "sha256")):
        raise MalformedMessage("MAC of the encrypted message is wrong")
    return AES.new(cipher_key, AES.MODE_CTR, nonce=b"", initial_value=iv).decrypt(ciphertext)


def _derive(secret: bytes) -> tuple[bytes, bytes]:
    """Derive the AES key (16 bytes) and the MAC key (32 bytes): one round of the concat-KDF gives all we need."""
    material = hashlib.sha256(b"\0\0\0\1" + secret).digest()
    return material[:16], hashlib.sha256(material[16:]).digest()
