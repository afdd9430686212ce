"""The serving node: listens, and answers every peer from the states it is given."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import coincurve
import trio

import ethsync
from ethsync.errors import ConfigError, DisconnectReason, HandshakeFailed, PeerError
from ethsync.rlpx.connection import accept_connection
from ethsync.serve.blocks import BlockData, HeaderChain
from ethsync.serve.counters import ServerCounters
from ethsync.serve.eth import EthService
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.served import ServedStates
from ethsync.serve.session import Session
from ethsync.store.headers import HeaderStore
from ethsync.wire import eth, eth7542, keys, snap
from ethsync.wire.enode import Enode
from ethsync.wire.p2p import Capability, Hello

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ethsync.networks import Network
    from ethsync.state.view import StateView
    from ethsync.wire.headers import Header

MAX_CONNECTIONS = 50
"""Peers at a time (geth node/defaults.go, MaxPeers)."""

WORKERS = 2
"""Threads that make, compress and encrypt replies, for all connections together."""

CAPABILITIES = (*(Capability(eth.NAME, version) for version in eth.VERSIONS), Capability(snap.NAME, snap.VERSION))


@dataclass(slots=True, eq=False)
class Server:
    """A server that listens. `states`, `profile` and the chain may be changed while it runs; new requests see it."""

    enode: Enode
    head: Header
    network: Network
    states: ServedStates
    profile: Profile
    service: EthService
    counters: ServerCounters = field(default_factory=ServerCounters)
    connected: int = 0


async def run_server(
    *views: StateView,
    network: Network,
    host: str = "127.0.0.1",
    port: int = 0,
    key: coincurve.PrivateKey | None = None,
    profile: Profile = PROFILES["geth"],
    max_connections: int = MAX_CONNECTIONS,
    blocks: BlockData | None = None,
    eip7542: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve states, the last of which is the head's, until cancelled; report the `Server` once it listens.

    Without `blocks` there are no bodies and receipts, without a key a new one is made. `eip7542`: offer that, too.
    Raises ConfigError if the address cannot be used, StoreError if the data directory fails. What a peer does ends its
    own connection at most.
    """
    head = views[-1].header
    key = key or coincurve.PrivateKey()
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    alone = [header for view in views for header in (*view.headers(), view.header)]
    chain = HeaderChain(alone, head, HeaderStore(views[-1].datadir.headers))
    bound = listeners[0].socket.getsockname()
    enode = Enode(keys.identity(key.public_key), bound[0], bound[1], bound[1])
    server = Server(enode, head, network, ServedStates(*views), profile, EthService(network, chain, blocks))
    limiter = trio.CapacityLimiter(WORKERS)
    offered = (*CAPABILITIES, Capability(eth7542.NAME, eth7542.VERSION)) if eip7542 else CAPABILITIES
    hello = Hello(f"ethsync/v{ethsync.__version__}", offered, keys.identity(key.public_key))

    async def accept(stream: trio.SocketStream) -> None:
        server.connected += 1
        server.counters.connections += 1
        try:
            await _serve_peer(stream, key, hello, server, limiter, is_welcome=server.connected <= max_connections)
        finally:
            server.connected -= 1

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, accept, listeners)
        task_status.started(server)


async def _serve_peer(
    stream: trio.SocketStream,
    key: coincurve.PrivateKey,
    hello: Hello,
    server: Server,
    limiter: trio.CapacityLimiter,
    *,
    is_welcome: bool,
) -> None:
    """One connection, from the handshake to its end. Only errors that are not the peer's come out."""
    try:
        async with accept_connection(stream, key=key, hello=hello, limiter=limiter) as connection:
            if not is_welcome:
                raise HandshakeFailed("as many peers as we take", reason=DisconnectReason.TOO_MANY_PEERS)
            await Session(connection, server, limiter).run()
    except* PeerError:  # the peer's affair: it has been told, and others are served on
        pass


@asynccontextmanager
async def open_server(
    *views: StateView,
    network: Network,
    host: str = "127.0.0.1",
    port: int = 0,
    key: coincurve.PrivateKey | None = None,
    profile: Profile = PROFILES["geth"],
    max_connections: int = MAX_CONNECTIONS,
    blocks: BlockData | None = None,
    eip7542: bool = False,
) -> AsyncIterator[Server]:
    """A server for as long as the block lasts; see `run_server`."""
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Server]) -> None:
            await run_server(
                *views, network=network, host=host, port=port, key=key, profile=profile,
                max_connections=max_connections, blocks=blocks, eip7542=eip7542, task_status=task_status,
            )  # fmt: skip

        yield await nursery.start(run)
        nursery.cancel_scope.cancel()
