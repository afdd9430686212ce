"""Frames over a trio stream: the encryption handshake in time, ordered writes, sliced reads.

Errors of the stream become `PeerGone` here and nowhere else.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from ethsync.errors import DisconnectReason, HandshakeFailed, PeerGone
from ethsync.rlpx import compression, handshake
from ethsync.rlpx.frames import SLICE, FrameDecoder, FrameEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import coincurve

    from ethsync.rlpx.frames import Frame

HANDSHAKE_TIMEOUT = 5.0
"""Seconds for the encryption handshake, and again for Hello (geth p2p/transport.go, handshakeTimeout)."""

SILENCE_TIMEOUT = 30.0
"""Seconds within which a frame must arrive (geth p2p/server.go, frameReadTimeout)."""

WRITE_TIMEOUT = 20.0
"""Seconds for one frame to go out (geth p2p/server.go, frameWriteTimeout)."""

RECEIVE_SIZE = 256 * 1024
"""Bytes asked from the stream at once: a system call per 256 KiB costs nothing beside the MAC of those bytes."""

THREADED_ENCODE = 64 * 1024
"""Payload from which compressing and encrypting takes about a millisecond and moves to a thread."""


class Link:
    """An encrypted stream of frames. One task may receive; any number may send."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        secrets: handshake.Secrets,
        early: bytes = b"",
        *,
        frame_limit: int,
        limiter: trio.CapacityLimiter | None = None,
    ) -> None:
        """`early`: bytes that came with the handshake; `frame_limit`: longest frame accepted, in bytes."""
        self.last_received = trio.current_time()
        self.bytes_received = len(early)
        self.bytes_sent = 0
        self._stream = stream
        self._encoder = FrameEncoder(secrets)
        self._decoder = FrameDecoder(secrets, limit=frame_limit)
        self._limiter = limiter
        self._unfed = memoryview(early)
        self._patience = SILENCE_TIMEOUT
        self._send_lock = trio.Lock()
        self._cut_off = False  # a frame of ours went out in part: the peer cannot find the next one
        self._ended: PeerGone | None = None

    def set_frame_limit(self, limit: int) -> None:
        """Accept frames of up to `limit` bytes from the next one on."""
        self._decoder.limit = limit

    async def send(self, message_id: int, payload: bytes, *, compress: bool) -> None:
        """Send one message. Raises `PeerGone`.

        Senders take turns. Cancelling one that waits for its turn does no harm; cancelling one whose frame is half
        out ends the link, because the peer could never find the next frame.
        """
        encode = partial(self._encode, message_id, payload, compress)
        async with self._send_lock:
            self._check_open()
            if self._cut_off:
                gone = PeerGone("an earlier message to the peer was cut off")
                await self.end(gone)
                raise gone
            if len(payload) > THREADED_ENCODE:
                frame = await trio.to_thread.run_sync(encode, limiter=self._limiter)
            else:
                frame = encode()
            await self._write(frame)

    async def receive(self) -> Frame:
        """Return the next frame; always a checkpoint.

        Raises `PeerGone` at the end of the stream, or when this has waited `SILENCE_TIMEOUT` in all for one frame
        (time in which nobody called this does not count); `MalformedMessage` when authentication fails.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        while (frame := self._decoder.next_frame()) is None:
            if self._unfed:
                await self._feed_slice()
            else:
                await self._read()
        self._patience = SILENCE_TIMEOUT
        self.last_received = trio.current_time()
        return frame

    async def end(self, reason: PeerGone) -> None:
        """Close the stream. Every later call, and those that wait now, raise `reason`, or that of an earlier end."""
        self._ended = self._ended or reason
        await trio.aclose_forcefully(self._stream)

    def _check_open(self) -> None:
        if self._ended is not None:
            raise _renewed(self._ended)

    def _encode(self, message_id: int, payload: bytes, compress: bool) -> bytes:
        return self._encoder.encode(message_id, compression.deflate(payload) if compress else payload)

    async def _write(self, frame: bytes) -> None:
        self._cut_off = True
        try:
            with trio.fail_after(WRITE_TIMEOUT):
                await self._stream.send_all(frame)
        except trio.TooSlowError:
            gone = PeerGone(f"the peer did not read for {WRITE_TIMEOUT:.0f} s")
            await self.end(gone)
            raise gone from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._check_open()
            # Reading is not over: why the peer left may still be on its way to us.
            raise PeerGone("the connection broke") from error
        self._cut_off = False
        self.bytes_sent += len(frame)

    async def _feed_slice(self) -> None:
        self._decoder.feed(self._unfed[:SLICE])
        self._unfed = self._unfed[SLICE:]
        await trio.lowlevel.checkpoint()

    async def _read(self) -> None:
        started = trio.current_time()
        try:
            with trio.fail_after(max(0.0, self._patience)):
                data = await self._stream.receive_some(RECEIVE_SIZE)
        except trio.TooSlowError:
            gone = PeerGone(f"nothing came from the peer for {SILENCE_TIMEOUT:.0f} s")
            gone.reason = DisconnectReason.PING_TIMEOUT
            raise gone from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._ended = self._ended or PeerGone("the connection broke")
            raise _renewed(self._ended) from error
        finally:
            self._patience -= trio.current_time() - started
        if not data:
            self._ended = PeerGone("the peer closed the connection")
            raise _renewed(self._ended)
        self.bytes_received += len(data)
        self._unfed = memoryview(data)


def _renewed(end: PeerGone) -> PeerGone:
    """Return the same error once more, for another task: a shared one would collect everybody's traceback."""
    gone = PeerGone(*end.args, hint=end.hint, remote_reason=end.remote_reason)
    gone.reason = end.reason
    return gone


async def initiate(
    stream: trio.abc.Stream, key: coincurve.PrivateKey, remote_public_key: bytes
) -> tuple[handshake.Secrets, bytes]:
    """Make the handshake as the dialling side; return the secrets and the bytes that came after the ack.

    Raises `MalformedMessage`, `PeerGone`, or `HandshakeFailed` after `HANDSHAKE_TIMEOUT`.
    """
    initiator = handshake.Initiator(key, remote_public_key)
    with time_limit("the encryption handshake"), _handshake_errors():
        await stream.send_all(initiator.auth())
        ack, rest = await _read_packet(stream)
    return initiator.receive_ack(ack), rest


async def respond(stream: trio.abc.Stream, key: coincurve.PrivateKey) -> tuple[handshake.Secrets, bytes, bytes]:
    """Make the handshake as the listening side; return the secrets, the caller's key (64 bytes) and further bytes.

    Raises as `initiate`.
    """
    with time_limit("the encryption handshake"), _handshake_errors():
        auth, rest = await _read_packet(stream)
        call = handshake.Recipient(key).receive_auth(auth)
        ack, secrets = call.answer()
        await stream.send_all(ack)
    return secrets, call.remote_public_key, rest


@contextmanager
def time_limit(what: str) -> Iterator[None]:
    """Give the body `HANDSHAKE_TIMEOUT` seconds, then raise `HandshakeFailed` that names `what`."""
    try:
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            yield
    except trio.TooSlowError:
        raise HandshakeFailed(
            f"{what} took longer than {HANDSHAKE_TIMEOUT:.0f} s", reason=DisconnectReason.PING_TIMEOUT
        ) from None


@contextmanager
def _handshake_errors() -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise PeerGone("the connection broke during the encryption handshake") from error


async def _read_packet(stream: trio.abc.Stream) -> tuple[bytes, bytes]:
    """Read one handshake packet; return it with its prefix, and whatever followed."""
    buffer = bytearray()
    needed = handshake.PREFIX_SIZE
    while len(buffer) < needed:
        data = await stream.receive_some(handshake.PREFIX_SIZE + handshake.MAX_PACKET)
        if not data:
            raise PeerGone("the peer hung up during the encryption handshake")
        buffer += data
        if len(buffer) >= handshake.PREFIX_SIZE:
            needed = handshake.PREFIX_SIZE + handshake.packet_size(bytes(buffer[: handshake.PREFIX_SIZE]))
    return bytes(buffer[:needed]), bytes(buffer[needed:])
