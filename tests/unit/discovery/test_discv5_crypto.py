"""Cryptography of discv5.1 against the vectors of the specification."""

from __future__ import annotations

import json
from pathlib import Path

import coincurve
import pytest

from ethsync.discovery import discv5_crypto as crypto
from ethsync.errors import MalformedMessage
from ethsync.wire import keys

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "discv5" / "wire.json").read_text())


def figures(section: str) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in VECTORS[section].items()}


def test_the_shared_secret_is_a_compressed_point() -> None:
    given = figures("ecdh")
    secret = crypto.ecdh(keys.decompress(given["public-key"]), coincurve.PrivateKey(given["secret-key"]))
    assert secret == given["shared-secret"]


def test_session_keys_are_derived() -> None:
    given = figures("kdf")
    secret = crypto.ecdh(keys.decompress(given["dest-pubkey"]), coincurve.PrivateKey(given["ephemeral-key"]))
    derived = crypto.derive_keys(secret, given["node-id-a"], given["node-id-b"], given["challenge-data"])
    assert derived == (given["initiator-key"], given["recipient-key"])


def test_the_id_signature_is_made_and_verified() -> None:
    given = figures("id-signature")
    key = coincurve.PrivateKey(given["static-key"])
    signed = given["challenge-data"], given["ephemeral-pubkey"], given["node-id-B"]
    assert crypto.sign_id(key, *signed) == given["id-signature"]
    assert crypto.is_id_signed(key.public_key, given["id-signature"], *signed)


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_an_id_signature_for_something_else_is_refused(changed: int) -> None:
    given = figures("id-signature")
    key = coincurve.PrivateKey(given["static-key"])
    signed = [given["challenge-data"], given["ephemeral-pubkey"], given["node-id-B"]]
    signed[changed] = signed[changed][:-1] + bytes([signed[changed][-1] ^ 1])
    assert not crypto.is_id_signed(key.public_key, given["id-signature"], *signed)


def test_an_id_signature_of_somebody_else_is_refused() -> None:
    given = figures("id-signature")
    signed = given["challenge-data"], given["ephemeral-pubkey"], given["node-id-B"]
    other = coincurve.PrivateKey(b"\x07" * 32)
    assert not crypto.is_id_signed(other.public_key, given["id-signature"], *signed)


def test_messages_are_encrypted_and_decrypted() -> None:
    given = figures("aes-gcm")
    sealed = crypto.seal(given["encryption-key"], given["nonce"], given["pt"], given["ad"])
    assert sealed == given["message-ciphertext"]
    assert crypto.unseal(given["encryption-key"], given["nonce"], sealed, given["ad"]) == given["pt"]


@pytest.mark.parametrize("field", ["encryption-key", "nonce", "message-ciphertext", "ad"])
def test_one_wrong_bit_is_noticed(field: str) -> None:
    given = figures("aes-gcm")
    given[field] = given[field][:-1] + bytes([given[field][-1] ^ 1])
    with pytest.raises(MalformedMessage):
        crypto.unseal(given["encryption-key"], given["nonce"], given["message-ciphertext"], given["ad"])
