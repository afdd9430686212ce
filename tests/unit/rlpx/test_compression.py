"""Snappy: the stated length is believed only as far as it is possible and allowed."""

from __future__ import annotations

import cramjam
import pytest

from ethsync.errors import MalformedMessage
from ethsync.rlpx import compression


@pytest.mark.parametrize("payload", [b"", b"x", b"abc" * 10_000, bytes(10 * 2**20), bytes(range(256)) * 500])
def test_what_was_deflated_is_inflated(payload: bytes) -> None:
    assert compression.inflate(compression.deflate(payload)) == payload
    assert len(compression.deflate(payload)) <= compression.compressed_bound(len(payload))


def test_the_block_format_is_that_of_snappy() -> None:
    """Snappy format description, sections 1 and 2: length, then a literal with tag (length - 1) << 2."""
    assert compression.inflate(b"\x05\x10hello") == b"hello"
    assert compression.inflate(memoryview(b"\x05\x10hello")) == b"hello"
    assert compression.inflate(b"\x08\x04ab\x09\x02") == b"abababab"  # a copy of 6 bytes from 2 bytes back


@pytest.mark.parametrize(
    ("block", "limit"),
    [
        (b"\xff\xff\xff\xff\x0f" + b"x" * 100, compression.MAX_INFLATED),  # claims 4 GiB - 1
        (b"\x80\x80\x80\x08" + b"x" * 2**20, compression.MAX_INFLATED),  # claims 16 MiB
        (b"\x81\x10" + b"x" * 2049, 2048),  # claims one byte more than allowed
        (b"\x80\x80\x80\x05" + b"x" * 100, 10 * 2**20),  # claims 10 MiB, which 104 bytes cannot hold
    ],
)
def test_a_false_length_is_refused_before_inflating(block: bytes, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Guard:
        decompress_raw_len = staticmethod(cramjam.snappy.decompress_raw_len)

        @staticmethod
        def decompress_raw(data: object) -> None:
            pytest.fail("it was inflated")

    monkeypatch.setattr("ethsync.rlpx.compression.cramjam.snappy", Guard)
    with pytest.raises(MalformedMessage, match="claims"):
        compression.inflate(block, limit)


def test_the_best_possible_ratio_is_not_refused() -> None:
    payload = bytes(2**20)
    assert len(compression.deflate(payload)) * compression.MAX_RATIO > len(payload)
    assert compression.inflate(compression.deflate(payload), len(payload)) == payload


@pytest.mark.parametrize("block", [b"", b"\x80", b"\xff" * 10, b"\x05\x10hell", b"\x05\x10hello!", b"\x02\x01\x00"])
def test_a_damaged_block_is_malformed(block: bytes) -> None:
    with pytest.raises(MalformedMessage):
        compression.inflate(block)
