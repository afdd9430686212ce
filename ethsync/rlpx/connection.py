"""Connections to devp2p nodes: handshake, Hello, then messages of the shared capabilities (devp2p rlpx.md).

async with open_connection(stream, key=key, remote_public_key=remote, hello=hello) as connection:
    await connection.send("snap", SnapMessage.GET_ACCOUNT_RANGE, request.encode())
    message = await connection.receive()
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync.errors import (
    DisconnectReason,
    EthsyncError,
    HandshakeFailed,
    LocalProtocolError,
    MalformedMessage,
    PeerError,
    PeerGone,
)
from ethsync.rlpx import compression
from ethsync.rlpx.capabilities import SharedCapability, negotiate, split_message_id
from ethsync.rlpx.link import Link, initiate, respond, time_limit
from ethsync.wire import keys, p2p
from ethsync.wire.p2p import Hello, P2PMessage
from ethsync.wire.snap import MAX_MESSAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import coincurve

    from ethsync.rlpx.frames import Frame

PING_INTERVAL = 15.0
"""Seconds of silence after which we ask for a sign of life (geth p2p/peer.go, pingInterval)."""

DISCONNECT_TIMEOUT = 1.0
"""Seconds that a farewell may take (geth p2p/transport.go, discWriteTimeout)."""

QUIT_TIMEOUT = 0.5
"""Seconds for it when we leave of our own accord: people who press Ctrl-C wait for this."""

HELLO_FRAME_LIMIT = 1 + p2p.MAX_SIZE
"""Longest first frame: message id and Hello."""

FRAME_LIMIT = 2 + compression.compressed_bound(MAX_MESSAGE_SIZE)
"""Longest frame after Hello: an id, and the most that 10 MiB (the limit of eth and snap alike) can be compressed to."""

THREADED_INFLATE = 256 * 1024
"""Bytes of a compressed payload from which inflating moves to a thread. As many take a twentieth of a millisecond where
they hardly grow, and three where they become as much as they can (measured)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One received message: `code` is relative to the capability's offset, `payload` is inflated RLP."""

    capability: str
    code: int
    payload: bytes


class Connection:
    """A connection after Hello. One task receives, any number may send."""

    def __init__(
        self,
        link: Link,
        remote_public_key: bytes,
        remote_hello: Hello,
        capabilities: Mapping[str, SharedCapability],
        limiter: trio.CapacityLimiter | None = None,
    ) -> None:
        """Made by `open_connection` and `accept_connection`."""
        self.remote_public_key = remote_public_key
        self.remote_hello = remote_hello
        self.capabilities = capabilities
        self._link = link
        self._limiter = limiter
        self._compress = remote_hello.protocol_version >= p2p.SNAPPY_VERSION
        self._unopened: Frame | None = None
        self._pinged = trio.Event()

    @property
    def last_received(self) -> float:
        """Time (trio clock, seconds) at which the last frame was read."""
        return self._link.last_received

    @property
    def bytes_received(self) -> int:
        """Bytes read from the stream after the handshake."""
        return self._link.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes written to the stream after the handshake."""
        return self._link.bytes_sent

    async def send(self, capability: str, code: int, payload: bytes) -> None:
        """Send one message, compressed.

        Concurrent senders take turns. Raises `PeerGone`, also if the peer does not read for 20 s, and
        `LocalProtocolError` for a message that the shared capabilities do not have. Cancelling a send whose bytes are
        half out ends the connection.
        """
        shared = self.capabilities.get(capability)
        if shared is None or not 0 <= code < shared.length:
            raise LocalProtocolError(f"the shared protocols have no message {capability} 0x{code:02x}")
        if len(payload) > MAX_MESSAGE_SIZE:
            raise LocalProtocolError(f"{capability} message of {len(payload)} bytes, more than {MAX_MESSAGE_SIZE}")
        await self._link.send(shared.offset + code, payload, compress=self._compress)

    async def receive(self) -> Message:
        """Return the next message of a capability.

        Pings are answered on the way; unknown base protocol messages are ignored. Raises `PeerGone` when the peer
        disconnects (with `remote_reason`), hangs up, or sends no frame for 30 s of waiting; `MalformedMessage`. Safe
        to cancel: nothing is lost.
        """
        while True:
            if self._unopened is None:
                self._unopened = await self._link.receive()
            message = await self._open(self._unopened)
            self._unopened = None
            if message is not None:
                return message

    async def disconnect(self, reason: DisconnectReason, timeout: float = DISCONNECT_TIMEOUT) -> None:
        """Tell the peer why we leave, if that works within `timeout` seconds, and close the stream.

        Raises nothing. Only the first reason is told.
        """
        with _farewell_scope(timeout), suppress(PeerGone):
            await self._link.send(P2PMessage.DISCONNECT, p2p.encode_disconnect(reason), compress=self._compress)
        await self._link.end(PeerGone(f"we hung up: {p2p.describe_reason(reason)}"))

    async def keep_alive(self) -> None:
        """Answer pings and send ours, until cancelled or the connection ends. Run by the context managers below.

        Pongs go out from here and not from `receive`: two nodes that both wait to write must go on reading.
        """
        last_ping = self.last_received
        while True:
            with trio.move_on_at(max(self.last_received, last_ping) + PING_INTERVAL):
                await self._pinged.wait()
            if self._pinged.is_set():
                self._pinged = trio.Event()
                code = P2PMessage.PONG
            elif trio.current_time() >= self.last_received + PING_INTERVAL:
                last_ping = trio.current_time()
                code = P2PMessage.PING
            else:
                continue
            try:
                await self._link.send(code, p2p.EMPTY_PAYLOAD, compress=self._compress)
            except PeerGone:  # the same error meets whoever sends or receives next
                return

    async def _open(self, frame: Frame) -> Message | None:
        if frame.message_id < p2p.LENGTH:
            await self._base_message(frame)
            return None
        capability, code = split_message_id(self.capabilities, frame.message_id)
        return Message(capability, code, await self._inflate(frame.payload))

    async def _inflate(self, payload: memoryview) -> bytes:
        if not self._compress:
            if len(payload) > MAX_MESSAGE_SIZE:
                raise MalformedMessage(f"message of {len(payload)} bytes, more than {MAX_MESSAGE_SIZE}")
            return bytes(payload)
        if len(payload) > THREADED_INFLATE:
            return await trio.to_thread.run_sync(compression.inflate, payload, MAX_MESSAGE_SIZE, limiter=self._limiter)
        return compression.inflate(payload, MAX_MESSAGE_SIZE)

    async def _base_message(self, frame: Frame) -> None:
        if frame.message_id == P2PMessage.PING:
            self._pinged.set()
        elif frame.message_id == P2PMessage.DISCONNECT:
            gone = _farewell(frame)
            await self._link.end(gone)
            raise gone


def _farewell_scope(timeout: float) -> trio.CancelScope:
    return trio.CancelScope(deadline=trio.current_time() + timeout, shield=True)


def _farewell(frame: Frame) -> PeerGone:
    """Read a Disconnect, whether it was compressed (as it must be after Hello) or not (as some clients do)."""
    payload = bytes(frame.payload[: p2p.MAX_SIZE])
    with suppress(MalformedMessage):
        payload = compression.inflate(payload, p2p.MAX_SIZE) or payload
    goodbye = p2p.decode_disconnect(payload)
    return PeerGone(f"the peer disconnected: {goodbye}", remote_reason=goodbye.reason)


@asynccontextmanager
async def open_connection(
    stream: trio.abc.Stream,
    *,
    key: coincurve.PrivateKey,
    remote_public_key: bytes,
    hello: Hello,
    limiter: trio.CapacityLimiter | None = None,
) -> AsyncIterator[Connection]:
    """Connect as the dialling side: handshake, Hello, and a connection that stays alive inside the block.

    The stream is closed at the end, whatever happens. A `PeerError` out of the body is told to the peer first; if the
    body just ends or is cancelled, the peer is told that we quit (which takes half a second at most).
    `limiter` bounds the threads that compress and inflate. Raises `PeerGone`, `MalformedMessage`, `HandshakeFailed`
    (with reason), `UselessPeer`.
    """
    async with stream:
        _check_identity(key, hello)
        _disable_nagle(stream)
        secrets, early = await initiate(stream, key, remote_public_key)
        link = Link(stream, secrets, early, frame_limit=HELLO_FRAME_LIMIT, limiter=limiter)
        async with _established(link, remote_public_key, hello, limiter) as connection:
            yield connection


@asynccontextmanager
async def accept_connection(
    stream: trio.abc.Stream,
    *,
    key: coincurve.PrivateKey,
    hello: Hello,
    limiter: trio.CapacityLimiter | None = None,
) -> AsyncIterator[Connection]:
    """Connect as the listening side; everything else as `open_connection`."""
    async with stream:
        _check_identity(key, hello)
        _disable_nagle(stream)
        secrets, remote_public_key, early = await respond(stream, key)
        link = Link(stream, secrets, early, frame_limit=HELLO_FRAME_LIMIT, limiter=limiter)
        async with _established(link, remote_public_key, hello, limiter) as connection:
            yield connection


def _check_identity(key: coincurve.PrivateKey, hello: Hello) -> None:
    if hello.node_id != keys.identity(key.public_key):
        raise LocalProtocolError("our Hello names another key than the one that makes the handshake")


def _disable_nagle(stream: trio.abc.Stream) -> None:
    if isinstance(stream, trio.SocketStream) and stream.socket.family in (socket.AF_INET, socket.AF_INET6):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)


@asynccontextmanager
async def _established(
    link: Link, remote_public_key: bytes, hello: Hello, limiter: trio.CapacityLimiter | None
) -> AsyncIterator[Connection]:
    try:
        if remote_public_key == hello.node_id:
            raise HandshakeFailed("connected to ourselves", reason=DisconnectReason.CONNECTED_TO_SELF)
        remote_hello = await _exchange_hello(link, hello)
        if remote_hello.node_id != remote_public_key:
            raise HandshakeFailed(
                "Hello names another key than the one that made the handshake",
                reason=DisconnectReason.UNEXPECTED_IDENTITY,
            )
        shared = negotiate(hello.capabilities, remote_hello.capabilities)
    except PeerError as error:
        await _refuse(link, error.reason)
        raise
    link.set_frame_limit(FRAME_LIMIT)
    connection = Connection(link, remote_public_key, remote_hello, shared, limiter)
    async with _kept_alive(connection):
        yield connection


async def _exchange_hello(link: Link, hello: Hello) -> Hello:
    with time_limit("Hello"):
        with suppress(PeerGone):  # a full node leaves at once, but says why first
            await link.send(P2PMessage.HELLO, p2p.encode_hello(hello), compress=False)
        frame = await link.receive()
    if frame.message_id == P2PMessage.DISCONNECT:
        gone = _farewell(frame)
        await link.end(gone)
        raise gone
    if frame.message_id != P2PMessage.HELLO:
        raise HandshakeFailed(f"message 0x{frame.message_id:02x} came where Hello was due")
    return p2p.decode_hello(bytes(frame.payload))


async def _refuse(link: Link, reason: DisconnectReason) -> None:
    """Disconnect before Snappy is agreed on: uncompressed, as geth does."""
    with _farewell_scope(DISCONNECT_TIMEOUT), suppress(PeerGone):
        await link.send(P2PMessage.DISCONNECT, p2p.encode_disconnect(reason), compress=False)


@asynccontextmanager
async def _kept_alive(connection: Connection) -> AsyncIterator[None]:
    """Run `keep_alive` beside the body; an error of the body passes through as it is, not inside a group.

    The peer is told why we leave, unless it or we have said goodbye already.
    """
    failure: EthsyncError | BaseExceptionGroup[BaseException] | None = None
    reason: DisconnectReason | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.keep_alive)
        try:
            yield
        except (EthsyncError, BaseExceptionGroup) as error:
            failure, reason = error, _reason_for(error)
        finally:
            if reason is None:
                await connection.disconnect(DisconnectReason.CLIENT_QUITTING, QUIT_TIMEOUT)
            else:
                await connection.disconnect(reason)
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _reason_for(error: BaseException) -> DisconnectReason | None:
    """Return what to tell the peer about an error, or about the first one of a group that concerns it."""
    if isinstance(error, PeerError):
        return error.reason
    if isinstance(error, BaseExceptionGroup):
        reasons = (_reason_for(each) for each in error.exceptions)
        return next((reason for reason in reasons if reason is not None), None)
    return None
