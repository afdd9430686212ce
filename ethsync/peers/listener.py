"""Nodes that dial us: accepted at a bounded rate, admitted by the slots, then peers like all others."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.addresses import is_lan, is_loopback, subnet
from ethsync.discovery.bounded import RateLimiter
from ethsync.discovery.udp import endpoint_of
from ethsync.errors import ConfigError, PeerError
from ethsync.peers.greeting import accept_peer
from ethsync.peers.peer import run_peer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import coincurve

    from ethsync.discovery.addresses import Subnet
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


async def run_listener(
    pool: PeerPool,
    key: coincurve.PrivateKey,
    addresses: Sequence[Endpoint],
    admit: Callable[[bytes, IPAddress, str], None],
    *,
    task_status: trio.TaskStatus[list[Endpoint]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen until cancelled; report where. Whatever a node does ends its own connection at most.

    `admit(public key, address, client)` refuses a node by raising a PeerError. Raises ConfigError if an address cannot
    be used.
    """
    listeners = [await _listen(address) for address in addresses]
    throttle = Throttle()
    greetings = 0

    async def accept(stream: trio.SocketStream) -> None:
        nonlocal greetings
        ip = _peer_ip(stream)
        if ip is None or greetings >= MOST_GREETINGS or not throttle.allow(ip, trio.current_time()):
            await trio.aclose_forcefully(stream)
            return

        def check(connection: Connection) -> None:
            admit(connection.remote_public_key, ip, connection.remote_hello.client_id)

        greetings += 1
        greeting = True
        try:
            async with accept_peer(pool.next_number(), stream, key, pool.view, check) as peer:
                greetings, greeting = greetings - 1, False
                with pool.connected(peer):
                    await run_peer(peer)
        except* PeerError:  # told to it already
            pass
        finally:
            greetings -= greeting

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


def _peer_ip(stream: trio.SocketStream) -> IPAddress | None:
    """The address of the other side; None if it has gone already."""
    try:
        host = stream.socket.getpeername()[0]
    except OSError:
        return None
    return ip_address(host.partition("%")[0])
