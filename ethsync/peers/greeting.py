"""How a connection becomes a peer: dial or accept, Hello, Status; the same for both directions from Hello on."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync import __version__
from ethsync.errors import HandshakeFailed, Unreachable, UselessPeer
from ethsync.peers.peer import Peer
from ethsync.rlpx.connection import accept_connection, open_connection
from ethsync.wire import eth, eth7542, keys, p2p, snap
from ethsync.wire.enode import Enode
from ethsync.wire.eth import EthMessage
from ethsync.wire.eth7542 import Message7542
from ethsync.wire.status import Status, check_status, decode_status, encode_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import coincurve

    from ethsync.discovery.node import Endpoint
    from ethsync.networks import Network
    from ethsync.rlpx.connection import Connection
    from ethsync.wire.forkid import ForkId

DIAL_TIMEOUT = 5.0
"""Seconds for a TCP connection, where geth waits 15 (p2p/dial.go, defaultDialTimeout). A SYN goes out anew after 1 and
3 s (RFC 6298; Linux), so a node that lives has answered one by then. Many nodes that one hears of are gone, and what a
cold start consists of is waiting for them: with 5 s it takes half as long (tests/simulation)."""
STATUS_TIMEOUT = 5.0  # seconds (geth eth/protocols/eth/handshake.go, handshakeTimeout)

CLIENT_NAME = f"ethsync/v{__version__}"

OFFERED = (*(p2p.Capability(eth.NAME, version) for version in eth.VERSIONS), p2p.Capability(snap.NAME, snap.VERSION))
"""What our Hello says that we speak."""

_PRIVATE = p2p.Capability(eth7542.NAME, eth7542.VERSION)
_SPOKEN = f"eth/{min(eth.VERSIONS)} to eth/{max(eth.VERSIONS)}"


LATER_THAN_ANY_FORK = 1 << 62
"""Block number of a head that is not known yet: past all forks by number, so that only the time decides."""


@dataclass(frozen=True, slots=True)
class ChainView:
    """What we tell peers about ourselves: the network, and the head that fork ids are computed at."""

    network: Network
    head_number: int
    head_time: int
    eip7542: bool = False
    """Whether we also offer the withdrawn EIP-7542 under its own name: for private networks."""

    @property
    def fork_id(self) -> ForkId:
        """The fork id of that head."""
        return self.network.forks.fork_id(self.head_number, self.head_time)


def our_hello(key: coincurve.PrivateKey, port: int = 0, *, eip7542: bool = False) -> p2p.Hello:
    """Our Hello. `port` is where we listen, 0 if we do not; nobody relies on it any more (devp2p rlpx.md)."""
    offered = (*OFFERED, _PRIVATE) if eip7542 else OFFERED
    return p2p.Hello(CLIENT_NAME, offered, keys.identity(key.public_key), listen_port=port)


@asynccontextmanager
async def dial_peer(number: int, enode: Enode, key: coincurve.PrivateKey, view: ChainView) -> AsyncIterator[Peer]:
    """Dial a node, shake hands, exchange Hello and Status; a peer that can be asked for snap data inside the block.

    Raises Unreachable, PeerGone (hung up), HandshakeFailed, UselessPeer (other chain, no snap), MalformedMessage.
    """
    try:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await trio.open_tcp_stream(enode.host, enode.tcp_port)
    except (OSError, trio.TooSlowError) as error:
        raise Unreachable(f"cannot reach {enode.host}:{enode.tcp_port}: {cause(error)}") from error
    connecting = open_connection(
        stream, key=key, remote_public_key=enode.public_key, hello=our_hello(key, eip7542=view.eip7542)
    )
    async with connecting as connection:
        yield await _greet(number, enode, connection, view)


@asynccontextmanager
async def accept_peer(
    number: int,
    stream: trio.abc.Stream,
    address: Endpoint,
    key: coincurve.PrivateKey,
    view: ChainView,
    check: Callable[[Connection], None],
) -> AsyncIterator[Peer]:
    """The same for a node that dialled us from `address`. `check` may refuse it after Hello, by raising a PeerError."""
    async with accept_connection(stream, key=key, hello=our_hello(key, eip7542=view.eip7542)) as connection:
        check(connection)
        enode = Enode(connection.remote_public_key, str(address.ip), address.port, 0)
        yield await _greet(number, enode, connection, view, inbound=True)


async def _greet(number: int, enode: Enode, connection: Connection, view: ChainView, *, inbound: bool = False) -> Peer:
    if eth.NAME not in connection.capabilities or snap.NAME not in connection.capabilities:
        raise UselessPeer(
            f"{connection.remote_hello.client_id} does not offer {_SPOKEN} together with {snap.NAME}/{snap.VERSION}"
        )
    remote = await _exchange_status(connection, view)
    if eth7542.NAME in connection.capabilities:
        ours = our_status(eth7542.VERSION, view)
        await connection.send(eth7542.NAME, Message7542.STATUS, eth7542.encode_status(ours))
    return Peer(number, enode, connection, inbound, block_range=remote.block_range)


def cause(error: BaseException) -> str:
    """Why a connection failed, in a few words: the system's own where it has any."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return cause(error.exceptions[0])
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return "no answer" if isinstance(error, trio.TooSlowError) else str(error)


def our_status(version: int, view: ChainView) -> Status:
    """What we say of ourselves: on this chain, with nothing but the genesis block."""
    network = view.network
    return Status(
        version,
        network.network_id,
        network.genesis_hash,
        view.fork_id,
        network.genesis_hash,
        total_difficulty=0,
        earliest=0,
        latest=0,
    )


async def _exchange_status(connection: Connection, view: ChainView) -> Status:
    """Send our Status, read and check theirs (wire.md: it is the first message, due within 5 s)."""
    version = connection.capabilities[eth.NAME].version
    network = view.network
    try:
        with trio.fail_after(STATUS_TIMEOUT):
            await connection.send(eth.NAME, EthMessage.STATUS, encode_status(our_status(version, view)))
            message = await connection.receive()
    except trio.TooSlowError as error:
        raise HandshakeFailed(f"no Status within {STATUS_TIMEOUT:.0f} s") from error
    if (message.capability, message.code) != (eth.NAME, EthMessage.STATUS):
        raise HandshakeFailed(f"message {message.capability} 0x{message.code:02x} came where Status was due")
    remote = decode_status(version, message.payload)
    check_status(
        remote,
        version=version,
        network_id=network.network_id,
        schedule=network.forks,
        head_number=view.head_number,
        head_time=view.head_time,
    )
    return remote
