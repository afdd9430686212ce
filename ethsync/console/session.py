"""The console at work: one connection, lines from a person in, frames as text out.

Pings are answered and a first Status is answered with a copy of itself, so that the node stays; with `quiet` nothing is
sent that was not typed.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync.console.describe import describe, hello_lines, name_of
from ethsync.console.language import Known, Quit, Send, Show, parse_line
from ethsync.errors import ConfigError, MalformedMessage, PeerError, PeerGone
from ethsync.peers.greeting import DIAL_TIMEOUT, our_hello
from ethsync.rlpx import compression
from ethsync.rlpx.capabilities import negotiate
from ethsync.rlpx.connection import FRAME_LIMIT
from ethsync.rlpx.link import Link, initiate, time_limit
from ethsync.wire import eth, p2p
from ethsync.wire.eth import EthMessage
from ethsync.wire.headers import decode_header
from ethsync.wire.p2p import Hello, P2PMessage
from ethsync.wire.snap import MAX_MESSAGE_SIZE
from ethsync.wire.status import decode_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    import coincurve

    from ethsync.rlpx.frames import Frame
    from ethsync.wire.enode import Enode

FAREWELL = 1.0
"""Seconds in which the last answers may still come after the input has ended."""


@dataclass(slots=True)
class Console:
    """A connection with a person at it. `write` takes one line of text."""

    link: Link
    hello: Hello
    known: Known
    write: Callable[[str], None]
    quiet: bool = False

    @property
    def compress(self) -> bool:
        """Whether both sides speak the base protocol's version with Snappy."""
        return self.hello.protocol_version >= p2p.SNAPPY_VERSION

    async def send(self, message_id: int, payload: bytes) -> None:
        """Send and show one message. Raises PeerGone."""
        self._show(">", message_id, payload)
        await self.link.send(message_id, payload, compress=self.compress)

    async def receive_all(self) -> None:
        """Show what comes, until the connection ends. Raises PeerError."""
        while True:
            frame = await self.link.receive()
            payload = self._inflated(frame)
            self._show("<", frame.message_id, payload)
            await self._react(frame.message_id, payload)

    def _inflated(self, frame: Frame) -> bytes:
        payload = bytes(frame.payload)
        if not self.compress:
            return payload
        try:
            return compression.inflate(payload, MAX_MESSAGE_SIZE)
        except MalformedMessage:
            if frame.message_id == P2PMessage.DISCONNECT:  # sent uncompressed by some clients
                return payload
            raise

    async def _react(self, message_id: int, payload: bytes) -> None:
        if message_id == P2PMessage.DISCONNECT:
            raise PeerGone("the node hung up")
        if message_id == P2PMessage.PING and not self.quiet:
            await self.send(P2PMessage.PONG, p2p.EMPTY_PAYLOAD)
        shared = self.known.shared.get(eth.NAME)
        if shared is None:
            return
        if message_id == shared.offset + EthMessage.STATUS and self.known.status is None:
            self.known.status = decode_status(shared.version, payload)
            if not self.quiet:
                await self.send(message_id, payload)
        if message_id == shared.offset + EthMessage.BLOCK_HEADERS:
            headers = eth.decode_block_headers(payload).headers
            if headers:
                self.known.state_root = decode_header(headers[0]).state_root

    async def obey(self, lines: AsyncIterator[str]) -> None:
        """Do what the lines say, until they end or one says quit. Raises PeerGone."""
        async for line in lines:
            try:
                action = parse_line(line, self.known)
            except ConfigError as error:
                self.write(f"? {error}")
                continue
            if isinstance(action, Quit):
                return
            if isinstance(action, Show):
                self.write(action.text)
            elif isinstance(action, Send):
                await self.send(action.message_id, action.payload)

    def _show(self, arrow: str, message_id: int, payload: bytes) -> None:
        self.write(f"{arrow} {name_of(self.known.shared, message_id)}, {len(payload)} bytes")
        for line in describe(self.known.shared, message_id, payload):
            self.write(f"    {line}")


async def run_console(
    enode: Enode,
    key: coincurve.PrivateKey,
    lines: AsyncGenerator[str, None],
    write: Callable[[str], None],
    *,
    quiet: bool = False,
) -> None:
    """Dial a node and hold a conversation until `lines` end, which are closed here, or the node leaves.

    Raises PeerError.
    """
    try:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await trio.open_tcp_stream(enode.host, enode.tcp_port)
    except (OSError, trio.TooSlowError) as error:
        raise PeerGone(f"cannot reach {enode.host}:{enode.tcp_port}") from error
    async with stream, aclosing(lines):
        console = await _open(stream, enode, key, write, quiet)
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                try:
                    await console.receive_all()
                except PeerError as error:
                    write(f"the connection ended: {error}")
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            try:
                await console.obey(lines)
                await trio.sleep(FAREWELL)
            except PeerGone as error:
                write(f"the connection ended: {error}")
            nursery.cancel_scope.cancel()


async def _open(
    stream: trio.SocketStream, enode: Enode, key: coincurve.PrivateKey, write: Callable[[str], None], quiet: bool
) -> Console:
    """Handshake and Hello, which a conversation cannot do without."""
    secrets, early = await initiate(stream, key, enode.public_key)
    link = Link(stream, secrets, early, frame_limit=FRAME_LIMIT)
    ours = our_hello(key)
    with time_limit("Hello"):
        await link.send(P2PMessage.HELLO, p2p.encode_hello(ours), compress=False)
        frame = await link.receive()
    payload = bytes(frame.payload)
    if frame.message_id == P2PMessage.DISCONNECT:
        raise PeerGone(f"the node hung up instead of a Hello: {p2p.decode_disconnect(payload)}")
    hello = p2p.decode_hello(payload)
    write("< p2p HELLO (0x00)")
    for line in hello_lines(hello):
        write(f"    {line}")
    shared = negotiate(ours.capabilities, hello.capabilities)
    write("shared: " + ", ".join(f"{each.name}/{each.version} from 0x{each.offset:02x}" for each in shared.values()))
    return Console(link, hello, Known(shared), write, quiet)
