"""Keccak-256 of single messages, for cold paths. Bulk hashing belongs to `ethsync.kernels`."""

from __future__ import annotations

from Crypto.Hash import keccak


def keccak256(data: bytes | bytearray | memoryview) -> bytes:
    """Return the 32-byte Keccak-256 digest (the pre-standard padding that Ethereum uses, Yellow Paper appendix B)."""
    return keccak.new(digest_bits=256, data=bytes(data)).digest()


EMPTY_CODE_HASH = keccak256(b"")
"""Code hash of an account without code."""

EMPTY_TRIE_ROOT = keccak256(b"\x80")
"""Root of a trie without entries: the hash of the RLP empty string (Yellow Paper, appendix D)."""
