"""The serving node: listens, and answers every peer from the states it is given."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import coincurve
import trio

import ethsync
from ethsync.errors import ConfigError, DisconnectReason, HandshakeFailed, PeerError
from ethsync.rlpx.connection import accept_connection
from ethsync.serve.blocks import held_chain
from ethsync.serve.counters import ServerCounters
from ethsync.serve.eth import EthService
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.served import ServedStates
from ethsync.serve.session import Session
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


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen and how to behave. Port 0: any that is free; without a key a new one is made.

    `eip7542`: offer that protocol, too, which is not for public networks (`networks.check_private`).
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: coincurve.PrivateKey | None = None
    profile: Profile = PROFILES["geth"]
    max_connections: int = MAX_CONNECTIONS
    eip7542: bool = False


DEFAULT_OPTIONS = ServerOptions()


async def run_server(
    view: StateView,
    *,
    network: Network,
    options: ServerOptions = DEFAULT_OPTIONS,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a state and the headers beside it until cancelled; report the `Server` once it listens.

    There are no bodies and receipts unless `Server.service.blocks` is given some. Raises ConfigError if the address
    cannot be used, StoreError if the data directory fails. What a peer does ends its own connection at most.
    """
    key = options.key or coincurve.PrivateKey()
    identity = keys.identity(key.public_key)
    hello = Hello(f"ethsync/v{ethsync.__version__}", _offered(options), identity)
    limiter = trio.CapacityLimiter(WORKERS)
    listeners = await _listen(options.host, options.port)
    host, port = listeners[0].socket.getsockname()[:2]
    service = EthService(network, held_chain(view))
    server = Server(
        Enode(identity, host, port, port), view.header, network, ServedStates(view), options.profile, service
    )

    async def accept(stream: trio.SocketStream) -> None:
        server.connected += 1
        server.counters.connections += 1
        is_welcome = server.connected <= options.max_connections
        try:
            await _serve_peer(stream, key, hello, server, limiter, is_welcome=is_welcome)
        finally:
            server.connected -= 1

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, accept, listeners)
        task_status.started(server)


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="choose another address with --listen"
        ) from error


def _offered(options: ServerOptions) -> tuple[Capability, ...]:
    return (*CAPABILITIES, Capability(eth7542.NAME, eth7542.VERSION)) if options.eip7542 else CAPABILITIES


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
    view: StateView, *, network: Network, options: ServerOptions = DEFAULT_OPTIONS
) -> AsyncIterator[Server]:
    """A server for as long as the block lasts; see `run_server`."""
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(run_server, view, network=network, options=options))
        nursery.cancel_scope.cancel()
