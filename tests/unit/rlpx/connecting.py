"""Two ends of a connection in memory or over loopback: two of ours, or one of ours and a rude peer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import coincurve
import pytest
import trio
import trio.testing

from ethsync.errors import (
    PeerGone,
)
from ethsync.rlpx import compression, link
from ethsync.rlpx.connection import Connection, accept_connection, open_connection
from ethsync.rlpx.link import Link
from ethsync.wire import keys, p2p
from ethsync.wire.p2p import Capability, Hello

OUR_KEY, THEIR_KEY = coincurve.PrivateKey(b"\1" * 32), coincurve.PrivateKey(b"\2" * 32)
OUR_ID, THEIR_ID = keys.identity(OUR_KEY.public_key), keys.identity(THEIR_KEY.public_key)

CAPABILITIES = (Capability("eth", 68), Capability("eth", 69), Capability("snap", 1))
OUR_HELLO = Hello("ours/1", CAPABILITIES, OUR_ID)
THEIR_HELLO = Hello("theirs/1", CAPABILITIES, THEIR_ID)

Body = Callable[[Connection], Awaitable[None]]
RawBody = Callable[[Link], Awaitable[None]]


async def dial(stream: trio.abc.Stream, body: Body, hello: Hello = OUR_HELLO) -> None:
    async with open_connection(stream, key=OUR_KEY, remote_public_key=THEIR_ID, hello=hello) as connection:
        await body(connection)


async def answer(stream: trio.abc.Stream, body: Body, hello: Hello = THEIR_HELLO) -> None:
    async with accept_connection(stream, key=THEIR_KEY, hello=hello) as connection:
        await body(connection)


async def answer_raw(stream: trio.abc.Stream, body: RawBody, hello: Hello | None = THEIR_HELLO) -> None:
    """A peer that does the handshake, says Hello unless told not to, and then whatever `body` makes it do."""
    async with stream:
        secrets, _, early = await link.respond(stream, THEIR_KEY)
        raw = Link(stream, secrets, early, frame_limit=2**24 - 1)
        if hello is not None:
            await raw.send(0, p2p.encode_hello(hello), compress=False)
        await body(raw)


async def echo(connection: Connection) -> None:
    while True:
        message = await connection.receive()
        await connection.send(message.capability, message.code, message.payload)


async def until_gone(connection: Connection) -> None:
    with pytest.raises(PeerGone):
        await echo(connection)


async def run_both(ours: Body, theirs: Body) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial, left, ours)
        nursery.start_soon(answer, right, theirs)


async def run_against(ours: Body, theirs: RawBody, hello: Hello | None = THEIR_HELLO) -> None:
    """Run `ours` on a connection to a raw peer that is cancelled when `ours` has ended."""
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs, hello)
        try:
            await dial(left, ours)
        finally:
            nursery.cancel_scope.cancel()


async def read_disconnect(raw: Link, *, compressed: bool = True) -> int | None:
    """Read frames until the other side disconnects; return the reason that it gives."""
    while True:
        frame = await raw.receive()
        if frame.message_id == p2p.P2PMessage.DISCONNECT:
            payload = bytes(frame.payload)
            return p2p.decode_disconnect(compression.inflate(payload) if compressed else payload).reason


async def nothing(_: object) -> None:
    pass


async def stay(_: object) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        left = await trio.open_tcp_stream(*listener.socket.getsockname())
        right = await listener.accept()
    async with left, right:
        yield left, right


class Stuck(trio.abc.HalfCloseableStream):
    """A stream whose writes can be made to hang, like a socket to a peer that does not read."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream, self.stuck = stream, False

    async def send_all(self, data: Any) -> None:
        if self.stuck:
            await self.stream.send_all(data[:5])
            await trio.sleep_forever()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> Any:
        return await self.stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def run_stuck(ours: Callable[[Connection, Stuck], Awaitable[None]], theirs: RawBody) -> None:
    left, right = trio.testing.memory_stream_pair()
    stuck = Stuck(left)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        await dial(stuck, lambda connection: ours(connection, stuck))
        nursery.cancel_scope.cancel()
