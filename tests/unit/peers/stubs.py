"""A connection without a network: what is sent is kept, what arrives is put in by the test."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import trio

from ethsync.errors import PeerGone
from ethsync.networks import Network
from ethsync.peers.greeting import ChainView
from ethsync.peers.peer import Peer
from ethsync.rlpx.capabilities import SharedCapability
from ethsync.rlpx.connection import Connection, Message
from ethsync.wire import p2p, rlp, snap
from ethsync.wire.enode import Enode
from ethsync.wire.forkid import ForkSchedule
from ethsync.wire.p2p import Hello
from ethsync.wire.snap import GetAccountRange, SnapMessage

NETWORK = Network("test", 7, 7, ForkSchedule(b"\xaa" * 32, 1000, (), ()))
VIEW = ChainView(NETWORK, 5, 2000)
CAPABILITIES = (p2p.Capability("eth", 68), p2p.Capability("snap", 1))


@dataclass
class StubConnection:
    """What a peer needs of a connection."""

    sent: list[Message] = field(default_factory=list)
    bytes_received: int = 0
    capabilities: dict[str, SharedCapability] = field(
        default_factory=lambda: {
            "eth": SharedCapability("eth", 68, 0x10, 17),
            "snap": SharedCapability("snap", 1, 0x21, 8),
        }
    )
    remote_hello: Hello = field(default_factory=lambda: Hello("stub/1", CAPABILITIES, bytes(64)))

    def __post_init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[Message | PeerGone](math.inf)

    async def send(self, capability: str, code: int, payload: bytes) -> None:
        """Keep a message."""
        await trio.lowlevel.checkpoint()
        self.sent.append(Message(capability, code, payload))

    async def receive(self) -> Message:
        """The next message that the test put in."""
        found = await self._get.receive()
        if isinstance(found, PeerGone):
            raise found
        return found

    def arrive(self, capability: str, code: int, payload: bytes) -> None:
        """A message comes from the other side."""
        self.bytes_received += len(payload)
        self._put.send_nowait(Message(capability, code, payload))

    def reply(self, request_id: int, code: int = SnapMessage.ACCOUNT_RANGE, tail: bytes = b"") -> bytes:
        """A reply to a request comes; its payload is returned."""
        payload = rlp.encode([request_id, tail])
        self.arrive("snap", code, payload)
        return payload

    def hang_up(self) -> None:
        """The other side ends the connection."""
        self._put.send_nowait(PeerGone("it hung up"))


def accounts(request_id: int) -> GetAccountRange:
    """Any request."""
    return GetAccountRange(request_id, bytes(32), bytes(32), b"\xff" * 32, 1000)


@dataclass
class Server(StubConnection):
    """Answers everything, one after another, each after `latency` seconds."""

    latency: float = 0.05
    answer: Callable[[], bytes] = lambda: bytes(60_000)
    """What it answers now, after the request's id."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._asked, self._to_answer = trio.open_memory_channel[int](100)

    async def send(self, capability: str, code: int, payload: bytes) -> None:
        """Take a request."""
        await self._asked.send(snap.peek_request_id(payload))

    async def serve(self) -> None:
        """Until cancelled."""
        async for request_id in self._to_answer:
            await trio.sleep(self.latency)
            self.reply(request_id, tail=self.answer())


def stub_peer(number: int = 1, key: bytes = b"\1" * 64) -> tuple[Peer, StubConnection]:
    """A peer over a stub connection."""
    connection = StubConnection()
    return Peer(number, Enode(key, "127.0.0.1", 30303, 30303), cast("Connection", connection)), connection
