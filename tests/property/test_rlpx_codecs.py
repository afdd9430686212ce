"""Whatever a peer puts into packets, frames and Snappy blocks: a value, or an error of our own tree."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

import coincurve
import cramjam
import pytest
from Crypto.Hash import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import EthsyncError, MalformedMessage
from ethsync.rlpx import compression
from ethsync.rlpx.frames import FrameDecoder, FrameEncoder
from ethsync.rlpx.handshake import Initiator, Recipient, Secrets
from ethsync.wire import keys

CALLER, CALLED = coincurve.PrivateKey(b"\1" * 32), coincurve.PrivateKey(b"\2" * 32)
AUTH = Initiator(CALLER, keys.identity(CALLED.public_key)).auth()


def secrets() -> Secrets:
    def state() -> Any:
        return keccak.new(digest_bits=256, data=b"start", update_after_digest=True)

    return Secrets(b"a" * 32, b"m" * 32, egress=state(), ingress=state())


def decode(data: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    decoder, frames = FrameDecoder(secrets()), []
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(borders):
        decoder.feed(data[start:end])
        while (frame := decoder.next_frame()) is not None:
            frames.append((frame.message_id, bytes(frame.payload)))
    return frames


MESSAGES = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=200)), max_size=5)
CUTS = st.lists(st.integers(0, 2000), max_size=10)


@given(MESSAGES, CUTS)
def test_frames_come_through_however_they_are_cut(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    encoder = FrameEncoder(secrets())
    stream = b"".join(encoder.encode(code, payload) for code, payload in messages)
    assert decode(stream, cuts) == messages


@given(MESSAGES.filter(bool), CUTS, st.data())
def test_no_damage_to_a_stream_goes_unnoticed(
    messages: list[tuple[int, bytes]], cuts: list[int], data: st.DataObject
) -> None:
    encoder = FrameEncoder(secrets())
    stream = b"".join(encoder.encode(code, payload) for code, payload in messages)
    position = data.draw(st.integers(0, len(stream) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = stream[:position] + bytes([stream[position] ^ 1 << bit]) + stream[position + 1 :]
    with pytest.raises(MalformedMessage, match="MAC of a frame"):
        decode(damaged, cuts)


@given(st.binary(max_size=300), CUTS)
def test_random_bytes_are_never_a_frame(data: bytes, cuts: list[int]) -> None:
    with suppress(MalformedMessage):
        assert decode(data, cuts) == []


@given(st.binary(max_size=5000))
def test_snappy_blocks_come_back(payload: bytes) -> None:
    assert compression.inflate(compression.deflate(payload)) == payload


@given(st.binary(max_size=200) | st.binary(max_size=500).map(compression.deflate), st.integers(0, 2**24), st.data())
def test_hostile_snappy_blocks_inflate_within_the_limit_or_are_malformed(
    block: bytes, limit: int, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(block)))
    block = block[:position] + data.draw(st.binary(max_size=3)) + block[position + 1 :]
    try:
        inflated = compression.inflate(block, limit)
    except MalformedMessage:
        return
    assert len(inflated) <= min(limit, compression.MAX_RATIO * len(block))
    assert inflated == bytes(memoryview(cramjam.snappy.decompress_raw(block)))


@settings(max_examples=50)
@given(st.data())
def test_hostile_auth_packets_are_malformed(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(AUTH) - 1))
    end = data.draw(st.integers(position, len(AUTH)))
    packet = AUTH[:position] + data.draw(st.binary(min_size=1, max_size=5)) + AUTH[end:]
    if packet != AUTH:
        with pytest.raises(EthsyncError):
            Recipient(CALLED).receive_auth(packet)


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_random_packets_are_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Recipient(CALLED).receive_auth(packet)
    initiator = Initiator(CALLER, keys.identity(CALLED.public_key))
    initiator.auth()
    with pytest.raises(MalformedMessage):
        initiator.receive_ack(packet)
