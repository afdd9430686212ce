"""Dialling a node over loopback sockets: handshake, Hello and Status, and every way in which it may not work out."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import coincurve
import pytest
import trio
import trio.testing

from ethsync.discovery.node import Endpoint
from ethsync.errors import DisconnectReason, HandshakeFailed, MalformedMessage, PeerError, PeerGone, UselessPeer
from ethsync.peers import greeting as module
from ethsync.peers.greeting import CLIENT_NAME, OFFERED, ChainView, accept_peer, dial_peer
from ethsync.peers.peer import run_peer
from ethsync.peers.track import RequestKind
from ethsync.rlpx.connection import Connection, accept_connection
from ethsync.wire import eth7542, keys, rlp, snap
from ethsync.wire.block_range import BlockRange
from ethsync.wire.enode import Enode
from ethsync.wire.eth import EthMessage
from ethsync.wire.p2p import Capability, Hello
from ethsync.wire.snap import GetByteCodes, SnapMessage
from ethsync.wire.status import Status, decode_status, encode_status
from tests.unit.peers.stubs import NETWORK, VIEW

OURS, THEIRS = coincurve.PrivateKey(b"\1" * 32), coincurve.PrivateKey(b"\2" * 32)
BOTH = (Capability("eth", 68), Capability("eth", 69), Capability("snap", 1))


def good_status(version: int) -> Status:
    return Status(
        version,
        7,
        NETWORK.genesis_hash,
        NETWORK.forks.fork_id(5, 2000),
        b"\xcc" * 32,
        total_difficulty=0,
        earliest=0,
        latest=5,
    )


class Node:
    """A node that listens; what it does is set by the test."""

    def __init__(self) -> None:
        self.capabilities: tuple[Capability, ...] = BOTH
        self.greeting: tuple[int, bytes] | None = None
        """Message instead of the good Status."""
        self.silent = False
        self.seen: list[Status] = []
        self.verdict: PeerError | None = None
        self.hello: Hello | None = None

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection; afterwards codes are answered with nothing."""
        hello = Hello("node/1", self.capabilities, keys.identity(THEIRS.public_key))
        try:
            async with accept_connection(stream, key=THEIRS, hello=hello) as connection:
                self.hello = connection.remote_hello
                await self._talk(connection)
        except PeerError as error:
            self.verdict = error

    async def _talk(self, connection: Connection) -> None:
        if "eth" in connection.capabilities:
            version = connection.capabilities["eth"].version
            message = await connection.receive()
            self.seen.append(decode_status(version, message.payload))
            if not self.silent:
                code, payload = self.greeting or (EthMessage.STATUS, encode_status(good_status(version)))
                await connection.send("eth", code, payload)
        while True:
            message = await connection.receive()
            number = snap.peek_request_id(message.payload)
            await connection.send("snap", SnapMessage.BYTE_CODES, rlp.encode([number, []]))


@asynccontextmanager
async def listening(node: Node) -> AsyncIterator[Enode]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, node.serve, [listener])
        yield Enode(keys.identity(THEIRS.public_key), "127.0.0.1", listener.socket.getsockname()[1], 0)
        nursery.cancel_scope.cancel()


async def dial(enode: Enode) -> None:
    async with dial_peer(3, enode, OURS, VIEW):
        pass


@pytest.mark.parametrize("version", [68, 69, 70, 71])
async def test_a_node_of_our_chain_can_be_asked(version: int) -> None:
    node = Node()
    node.capabilities = (Capability("eth", version), Capability("snap", 1))
    async with listening(node) as enode, dial_peer(3, enode, OURS, VIEW) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(run_peer, peer)
        # When it is asked for codes
        payload = await peer.request(RequestKind.CODES, lambda number: GetByteCodes(number, (bytes(32),), 100))
        # Then it answers; it has seen who we are and which chain we follow.
        assert payload == rlp.encode([1, []])
        assert (peer.number, peer.client, str(peer)) == (3, "node/1", f"node/1 at 127.0.0.1:{enode.tcp_port}")
        assert node.hello is not None
        assert (node.hello.client_id, node.hello.capabilities) == (CLIENT_NAME, OFFERED)
        (status,) = node.seen
        assert (status.version, status.network_id, status.genesis_hash) == (version, 7, NETWORK.genesis_hash)
        assert status.fork_id == NETWORK.forks.fork_id(5, 2000)
        # And we know which blocks it holds, from eth/69 on.
        assert peer.eth_version == version
        assert peer.block_range == (None if version == 68 else BlockRange(0, 5, b"\xcc" * 32))
        nursery.cancel_scope.cancel()


async def test_a_port_that_nobody_listens_at() -> None:
    with trio.socket.socket() as held:
        await held.bind(("127.0.0.1", 0))
        enode = Enode(keys.identity(THEIRS.public_key), "127.0.0.1", held.getsockname()[1], 0)
        with pytest.raises(PeerGone, match=rf"cannot reach 127.0.0.1:{enode.tcp_port}: .*Connection refused"):
            await dial(enode)


async def test_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    async def hang(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", hang)
    with pytest.raises(PeerGone, match=r"cannot reach 192\.0\.2\.1:1: no answer"):
        await dial(Enode(keys.identity(THEIRS.public_key), "192.0.2.1", 1, 0))


@pytest.mark.parametrize(
    "capabilities", [(Capability("eth", 69),), (Capability("eth", 67), Capability("snap", 1)), (Capability("snap", 1),)]
)
async def test_a_node_without_both_protocols_cannot_help(capabilities: tuple[Capability, ...]) -> None:
    node = Node()
    node.capabilities = capabilities
    async with listening(node) as enode:
        with pytest.raises(UselessPeer):
            await dial(enode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_id": 8}, "network"),
        ({"genesis_hash": b"\xdd" * 32}, "genesis"),
        ({"fork_id": replace(NETWORK.forks.fork_id(5, 2000), hash=b"\xee" * 4)}, "fork"),
    ],
)
async def test_a_node_of_another_chain_cannot_help_and_is_told(change: dict[str, object], message: str) -> None:
    node = Node()
    node.greeting = (EthMessage.STATUS, encode_status(replace(good_status(69), **change)))  # type: ignore[arg-type]
    async with listening(node) as enode:
        with pytest.raises(UselessPeer, match=message):
            await dial(enode)
        while node.verdict is None:
            await trio.testing.wait_all_tasks_blocked(0.001)
    assert isinstance(node.verdict, PeerGone)
    assert node.verdict.remote_reason == DisconnectReason.USELESS_PEER


async def test_a_node_that_begins_with_another_message() -> None:
    node = Node()
    node.greeting = (EthMessage.TRANSACTIONS, b"\xc0")
    async with listening(node) as enode:
        with pytest.raises(HandshakeFailed, match="message eth 0x02 came where Status was due"):
            await dial(enode)


async def test_a_status_that_cannot_be_decoded() -> None:
    node = Node()
    node.greeting = (EthMessage.STATUS, b"\xc0")
    async with listening(node) as enode:
        with pytest.raises(MalformedMessage):
            await dial(enode)


async def test_a_node_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATUS_TIMEOUT", 0.05)
    node = Node()
    node.silent = True
    async with listening(node) as enode:
        with pytest.raises(HandshakeFailed, match="no Status"):
            await dial(enode)


PRIVATE = replace(VIEW, eip7542=True)


@pytest.mark.parametrize("listener", [PRIVATE, VIEW])
async def test_block_ranges_of_eip_7542_where_both_want_them(listener: ChainView) -> None:
    # Given a node that offers EIP-7542, and one that does or does not
    (socket,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    enode = Enode(keys.identity(THEIRS.public_key), "127.0.0.1", socket.socket.getsockname()[1], 0)

    async def accept(stream: trio.SocketStream) -> None:
        address = Endpoint(ipaddress.ip_address("127.0.0.1"), 1)
        async with accept_peer(2, stream, address, THEIRS, listener, lambda connection: None) as peer:
            await run_peer(peer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, accept, [socket]))
        async with dial_peer(1, enode, OURS, PRIVATE) as peer:
            nursery.start_soon(run_peer, peer)
            assert (eth7542.NAME in peer.connection.capabilities) == listener.eip7542
            # When one asks for the other's range
            peer.block_range = None
            await peer.ask_block_range()
            await peer.request(RequestKind.CODES, lambda number: GetByteCodes(number, (bytes(32),), 100))
            # Then it comes, if both speak the protocol.
            assert (peer.block_range == BlockRange(0, 0)) == listener.eip7542
            nursery.cancel_scope.cancel()
