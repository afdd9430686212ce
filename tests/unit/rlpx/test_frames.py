"""Frames: a real session, geth's vector, and every way to lie about one."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
import rlp as oracle
from Crypto.Hash import keccak

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.rlpx import compression
from ethsync.rlpx.frames import MAX_FRAME_SIZE, SLICE, Frame, FrameDecoder, FrameEncoder
from ethsync.rlpx.handshake import Secrets
from ethsync.wire import p2p

if TYPE_CHECKING:
    from tests.unit.rlpx.conftest import Capture

SecretsFactory = Callable[[], Secrets]


def decode_all(decoder: FrameDecoder, data: bytes, piece: int) -> list[Frame]:
    frames = []
    for position in range(0, len(data), piece):
        decoder.feed(data[position : position + piece])
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames


@pytest.mark.parametrize("piece", [7, 16, 33, 4096, 1 << 20])
def test_a_real_session_is_read_in_whatever_pieces_it_comes(capture: Capture, piece: int) -> None:
    frames = decode_all(FrameDecoder(capture.secrets()), b"".join(capture.frames), piece)
    assert [1 + len(frame.payload) for frame in frames] == capture.frame_sizes
    assert p2p.decode_hello(bytes(frames[0].payload)).client_id == "Geth/v1.7.3-stable-4bb3c89d/linux-amd64/go1.9.2"
    assert all(compression.inflate(frame.payload) for frame in frames[1:])


def test_a_real_session_is_written_byte_for_byte(capture: Capture) -> None:
    frames = decode_all(FrameDecoder(capture.secrets()), b"".join(capture.frames), 1 << 20)
    encoder = FrameEncoder(capture.secrets())
    assert [encoder.encode(frame.message_id, frame.payload) for frame in frames] == capture.frames


class ConstantHash:
    """The stand-in for Keccak in go-ethereum's vector."""

    def update(self, data: object) -> None:
        pass

    def digest(self) -> bytes:
        return b"\1" * 32


# go-ethereum, p2p/rlpx/rlpx_test.go, TestFrameReadWrite
GOLDEN = bytes.fromhex(
    "00828ddae471818bb0bfa6b551d1cb42 01010101010101010101010101010101"
    "ba628a4ba590cb43f7848f41c4382885 01010101010101010101010101010101"
)


def golden_secrets() -> Secrets:
    constant = cast("Any", ConstantHash())
    return Secrets(keccak256(b""), keccak256(b""), egress=constant, ingress=constant)


def test_the_frame_of_geth_is_written_and_read() -> None:
    payload = oracle.encode([1, 2, 3, 4])
    assert FrameEncoder(golden_secrets()).encode(8, payload) == GOLDEN
    decoder = FrameDecoder(golden_secrets())
    decoder.feed(GOLDEN)
    frame = decoder.next_frame()
    assert frame is not None
    assert (frame.message_id, bytes(frame.payload)) == (8, payload)


@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 17, SLICE - 1, SLICE, SLICE + 1, 1_000_003])
def test_messages_of_every_size_come_through(new_secrets: SecretsFactory, size: int) -> None:
    encoder, decoder = FrameEncoder(new_secrets()), FrameDecoder(new_secrets())
    payload = random.Random(size).randbytes(size)
    stream = b"".join(encoder.encode(code, payload) for code in (0, 1, 0x7F, 0x80, 300))
    frames = decode_all(decoder, stream, 100_001)
    assert [frame.message_id for frame in frames] == [0, 1, 0x7F, 0x80, 300]
    assert all(bytes(frame.payload) == payload for frame in frames)


def test_message_id_zero_is_sent_as_an_rlp_integer(capture: Capture) -> None:
    assert FrameEncoder(capture.secrets()).encode(0, b"") != FrameEncoder(capture.secrets()).encode(1, b"")
    first = capture.frames[0]
    decoder = FrameDecoder(capture.secrets())
    decoder.feed(first)
    frame = decoder.next_frame()
    assert frame is not None
    assert frame.message_id == 0


def test_nothing_is_returned_before_the_last_byte(new_secrets: SecretsFactory) -> None:
    frame = FrameEncoder(new_secrets()).encode(5, b"x" * 40)
    decoder = FrameDecoder(new_secrets())
    for byte in frame[:-1]:
        decoder.feed(bytes([byte]))
        assert decoder.next_frame() is None
    decoder.feed(frame[-1:])
    assert decoder.next_frame() == Frame(5, memoryview(b"x" * 40))
    assert decoder.next_frame() is None


def test_every_flipped_bit_of_a_real_session_is_noticed(capture: Capture) -> None:
    stream = b"".join(capture.frames[:3])
    positions = random.Random(8).sample(range(len(stream) * 8), 400)
    for position in positions:
        damaged = bytearray(stream)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(MalformedMessage, match="MAC of a frame"):
            decode_all(FrameDecoder(capture.secrets()), bytes(damaged), 1 << 20)


def test_swapped_repeated_and_dropped_frames_are_noticed(capture: Capture) -> None:
    first, second, third, *_ = capture.frames
    for order in ([second], [first, first], [first, third], [second, first]):
        with pytest.raises(MalformedMessage, match="MAC of a frame"):
            decode_all(FrameDecoder(capture.secrets()), b"".join(order), 1 << 20)


def test_after_an_error_the_stream_stays_lost(capture: Capture) -> None:
    decoder = FrameDecoder(capture.secrets())
    decoder.feed(bytes(32))
    for _ in range(2):
        with pytest.raises(MalformedMessage, match="MAC of a frame header"):
            decoder.next_frame()
    decoder.feed(capture.frames[0])
    with pytest.raises(MalformedMessage, match="MAC of a frame header"):
        decoder.next_frame()


def header_of(secrets: Secrets, size: int) -> bytes:
    """An authentic header that claims `size`: what an encoder writes for so long a message."""
    encoder = FrameEncoder(secrets)
    header = encoder._cipher.update(size.to_bytes(3, "big") + b"\xc2\x80\x80" + bytes(10))
    return header + encoder._mac.header(header)


def test_an_authentic_empty_frame_is_refused(new_secrets: SecretsFactory) -> None:
    decoder = FrameDecoder(new_secrets())
    decoder.feed(header_of(new_secrets(), 0))
    with pytest.raises(MalformedMessage, match="without a message id"):
        decoder.next_frame()


def test_a_frame_over_the_limit_is_refused_before_allocating(new_secrets: SecretsFactory) -> None:
    decoder = FrameDecoder(new_secrets(), limit=10 * 2**20)
    decoder.feed(header_of(new_secrets(), MAX_FRAME_SIZE))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage, match="frame of 16777215 bytes, more than 10485760"):
            decoder.next_frame()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_forged_header_allocates_nothing(new_secrets: SecretsFactory) -> None:
    header = bytearray(header_of(new_secrets(), MAX_FRAME_SIZE))
    header[31] ^= 1
    decoder = FrameDecoder(new_secrets())
    decoder.feed(header)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage, match="MAC of a frame header"):
            decoder.next_frame()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_limit_applies_from_the_next_frame_on(new_secrets: SecretsFactory) -> None:
    encoder, decoder = FrameEncoder(new_secrets()), FrameDecoder(new_secrets(), limit=100)
    decoder.feed(encoder.encode(1, b"x" * 99) + encoder.encode(1, b"x" * 500))
    assert decoder.next_frame() is not None
    decoder.limit = 1000
    frame = decoder.next_frame()
    assert frame is not None
    assert len(frame.payload) == 500


def test_a_frame_that_begins_with_a_list_has_no_message_id(new_secrets: SecretsFactory) -> None:
    encoder, decoder = FrameEncoder(new_secrets()), FrameDecoder(new_secrets())
    # A payload in the place of the id: what `encode` would write if ids could be lists.
    body = encoder._cipher.update  # keeps the stream position in step
    header = body((2).to_bytes(3, "big") + b"\xc2\x80\x80" + bytes(10))
    mac = encoder._mac.header(header)
    ciphertext = body(b"\xc1\x01" + bytes(14))
    encoder._mac.update(ciphertext)
    decoder.feed(header + mac + ciphertext + encoder._mac.body())
    with pytest.raises(MalformedMessage, match="list instead of a message id"):
        decoder.next_frame()


def test_a_message_over_16_mib_cannot_be_written(new_secrets: SecretsFactory) -> None:
    with pytest.raises(LocalProtocolError, match="does not fit"):
        FrameEncoder(new_secrets()).encode(1, bytes(MAX_FRAME_SIZE))


class CountingHash:
    """Keccak that notes how many bytes each update had."""

    def __init__(self) -> None:
        self._state = keccak.new(digest_bits=256, data=b"start", update_after_digest=True)
        self.longest = 0

    def update(self, data: bytes | memoryview) -> None:
        self.longest = max(self.longest, len(data))
        self._state.update(data)

    def digest(self) -> bytes:
        return self._state.digest()


def test_a_large_frame_is_authenticated_in_slices(new_secrets: SecretsFactory) -> None:
    secrets, counting = new_secrets(), CountingHash()
    decoder = FrameDecoder(Secrets(secrets.aes, secrets.mac, egress=secrets.egress, ingress=cast("Any", counting)))
    frame = FrameEncoder(new_secrets()).encode(1, bytes(2 * 2**20))
    halfway = len(frame) // 2
    decoder.feed(frame[:halfway])
    assert decoder.next_frame() is None
    assert counting.longest == SLICE
    decoder.feed(frame[halfway:])
    assert decoder.next_frame() is not None
    assert counting.longest == SLICE
