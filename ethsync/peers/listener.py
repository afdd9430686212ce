"""Nodes that dial us: accepted at a bounded rate, admitted by the slots, then peers like all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.discovery.addresses import is_lan, is_loopback, subnet
from ethsync.discovery.bounded import RateLimiter
from ethsync.discovery.udp import endpoint_of
from ethsync.errors import ConfigError, DisconnectReason, HandshakeFailed, PeerError
from ethsync.peers.greeting import accept_peer
from ethsync.peers.membership import be_peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import coincurve

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.candidates import Candidates
    from ethsync.discovery.node import Endpoint
    from ethsync.peers.pool import PeerPool
    from ethsync.rlpx.connection import Connection
    from ethsync.wire.enr import IPAddress

MOST_GREETINGS = 50
"""Connections that are not peers yet (go-ethereum p2p/server.go, defaultMaxPendingPeers); each ends within 15 s."""

THROTTLE = 30.0
"""Seconds until one subnet may connect again (go-ethereum p2p/server.go, inboundThrottleTime). A stranger's address
costs nothing there, so the whole subnet counts; loopback and private addresses are not counted."""

SUBNETS_WATCHED = 4096
"""Subnets whose last connection is remembered, 1 MB."""


class Throttle:
    """How often strangers may connect."""

    def __init__(self) -> None:
        self._subnets: RateLimiter[Subnet] = RateLimiter(1 / THROTTLE, 1.0, SUBNETS_WATCHED)

    def allow(self, ip: IPAddress, now: float) -> bool:
        """Whether a connection from there may be taken now; if so it is counted."""
        return is_loopback(ip) or is_lan(ip) or self._subnets.allow(subnet(ip), now)


class Listener:
    """Takes connections for one pool."""

    def __init__(self, pool: PeerPool, candidates: Candidates, key: coincurve.PrivateKey) -> None:
        self._pool = pool
        self._candidates = candidates
        self._key = key
        self._throttle = Throttle()
        self._greetings = 0

    async def accept(self, stream: trio.abc.Stream, address: Endpoint) -> None:
        """One connection from `address`, to its end. Whatever the node does ends it at most."""
        if not self._may_greet(address.ip, trio.current_time()):
            await trio.aclose_forcefully(stream)
            return

        def check(connection: Connection) -> None:
            banned = self._pool.is_banned(connection.remote_public_key, address.ip)
            if banned is not None:
                raise HandshakeFailed(f"it is banned: {banned}", reason=DisconnectReason.USELESS_PEER)

        pool = self._pool
        self._greetings += 1
        waiting = True

        def greeted() -> None:
            nonlocal waiting
            waiting = False
            self._greetings -= 1

        try:
            greeting = accept_peer(pool.next_number(), stream, address, self._key, pool.view, check)
            await be_peer(pool, self._candidates, greeting, greeted)
        except PeerError:  # told to it already
            pass
        finally:
            self._greetings -= waiting

    def _may_greet(self, ip: IPAddress, now: float) -> bool:
        """Whether a connection from there is worth a handshake. Nobody is counted that is turned away anyway."""
        if self._greetings >= MOST_GREETINGS or self._pool.bans.is_address_banned(ip, self._pool.wall()) is not None:
            return False
        return self._throttle.allow(ip, now)


async def run_listener(
    pool: PeerPool,
    candidates: Candidates,
    key: coincurve.PrivateKey,
    addresses: Sequence[Endpoint],
    *,
    task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen until cancelled; report where. Raises ConfigError if an address cannot be used."""
    listeners = [await _listen(address) for address in addresses]
    listener = Listener(pool, candidates, key)

    async def accept(stream: trio.SocketStream) -> None:
        address = _remote(stream)
        if address is None:
            await trio.aclose_forcefully(stream)
        else:
            await listener.accept(stream, address)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, accept, listeners)
        task_status.started([endpoint_of(each.socket.getsockname()) for each in listeners])


async def _listen(address: Endpoint) -> trio.SocketListener:
    try:
        (listener,) = await trio.open_tcp_listeners(address.port, host=str(address.ip))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on TCP {address}: {error.strerror or error}", hint="choose another address with --listen"
        ) from error
    return listener


def _remote(stream: trio.SocketStream) -> Endpoint | None:
    """The address of the other side; None if it has gone already."""
    try:
        return endpoint_of(stream.socket.getpeername())
    except OSError:
        return None
