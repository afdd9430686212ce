"""Snappy block format of RLPx messages (EIP-706), with the stated length checked before anything is inflated."""

from __future__ import annotations

import cramjam

from ethsync.errors import MalformedMessage

MAX_INFLATED = (1 << 24) - 1
"""Longest message that RLPx allows after inflating (EIP-706: 16 MiB; geth: 2^24 - 1)."""

MAX_RATIO = 22
"""Snappy's best case: a 3-byte copy stands for 64 bytes (Snappy format description, section 2.2.2)."""


def compressed_bound(length: int) -> int:
    """Return the most bytes that `length` bytes can take after compression (snappy.cc, MaxCompressedLength)."""
    return 32 + length + length // 6


def deflate(payload: bytes | memoryview) -> bytes:
    """Compress a message."""
    return bytes(memoryview(cramjam.snappy.compress_raw(payload)))


def inflate(payload: bytes | memoryview, limit: int = MAX_INFLATED) -> bytes:
    """Decompress a message of at most `limit` bytes.

    Raises `MalformedMessage`; before any allocation if the stated length is over the limit, or more than Snappy
    could make of so few bytes.
    """
    try:
        length = cramjam.snappy.decompress_raw_len(payload)
        if length > min(limit, MAX_RATIO * len(payload)):
            raise MalformedMessage(
                f"Snappy block of {len(payload)} bytes claims {length}, more than {limit} or possible"
            )
        return bytes(memoryview(cramjam.snappy.decompress_raw(payload)))
    except cramjam.DecompressionError as error:
        raise MalformedMessage(f"not a Snappy block: {error}") from error
