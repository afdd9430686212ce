"""A small client for the server's tests: dials, exchanges Status, asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import coincurve
import trio

from ethsync.rlpx.connection import Connection, open_connection
from ethsync.serve.server import Server
from ethsync.wire import eth, keys
from ethsync.wire.p2p import Capability, Hello
from ethsync.wire.snap import REPLY_DECODERS, SnapMessage, SnapReply, SnapRequest
from ethsync.wire.status import Status, encode_status


@asynccontextmanager
async def dial(server: Server, version: int = 69, *more: Capability) -> AsyncIterator[Connection]:
    """A connection after Hello."""
    key = coincurve.PrivateKey()
    capabilities = (Capability("eth", version), Capability("snap", 1), *more)
    hello = Hello("test", capabilities, keys.identity(key.public_key))
    stream = await trio.open_tcp_stream(server.enode.host, server.enode.tcp_port)
    async with open_connection(stream, key=key, remote_public_key=server.enode.public_key, hello=hello) as connection:
        yield connection


@asynccontextmanager
async def client(server: Server, version: int = 69, *more: Capability) -> AsyncIterator[Connection]:
    """A connection after Status: we say of ourselves what the server says of itself."""
    async with dial(server, version, *more) as connection:
        message = await connection.receive()
        status = eth.decode(version, message.code, message.payload)
        assert isinstance(status, Status)
        await connection.send("eth", 0, encode_status(status))
        yield connection


async def send(connection: Connection, request: SnapRequest) -> None:
    await connection.send("snap", request.message, request.encode())


async def receive(connection: Connection) -> SnapReply:
    message = await connection.receive()
    assert message.capability == "snap"
    return REPLY_DECODERS[SnapMessage(message.code)](message.payload)
