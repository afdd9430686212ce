"""UDP sockets for discovery: one per address family, on one port."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ethsync.discovery.node import Datagram

LARGEST_DATAGRAM = 2048
"""Bytes read at once: discv5 packets have at most 1,280, EthereumJS sends discv4 packets of 1,373; what is longer is
cut and dropped by the decoders."""

RECEIVE_BUFFER = 1 << 20
"""Bytes that the kernel may hold for us: a second of heavy traffic. A flood beyond that is dropped at no cost to us."""


@dataclass(slots=True)
class Sockets:
    """Open sockets by IP version, and where they are bound."""

    by_version: dict[int, trio.socket.SocketType] = field(default_factory=dict)
    unsent: int = 0
    """Datagrams that the system would not take: no route, a full buffer."""

    @property
    def bound(self) -> list[Endpoint]:
        """Local addresses."""
        return [endpoint_of(each.getsockname()) for each in self.by_version.values()]

    async def send(self, datagrams: Iterable[Datagram]) -> None:
        """Send each of them once. What cannot be sent is counted: UDP promises nothing."""
        for data, to in datagrams:
            sock = self.by_version.get(to.ip.version)
            if sock is None or not to.port:
                self.unsent += 1
                continue
            try:
                await sock.sendto(data, (str(to.ip), to.port))
            except OSError:
                self.unsent += 1


def endpoint_of(address: tuple[str | int, ...]) -> Endpoint:
    """A socket address (host, port, …) as an endpoint; a scope id (fe80::1%eth0) is left out."""
    return Endpoint.of(ip_address(str(address[0]).partition("%")[0]), int(address[1]))


@asynccontextmanager
async def open_sockets(addresses: Iterable[Endpoint]) -> AsyncIterator[Sockets]:
    """Bind a UDP socket to each address, at most one per IP version; close them at the end.

    Raises ConfigError if an address cannot be used.
    """
    sockets = Sockets()
    try:
        for address in addresses:
            version6 = address.ip.version == 6
            sock = trio.socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
            sockets.by_version[address.ip.version] = sock
            if version6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            try:
                await sock.bind((str(address.ip), address.port))
            except OSError as error:
                raise ConfigError(
                    f"cannot use UDP {address}: {error.strerror or error}", hint="choose another address with --listen"
                ) from error
        yield sockets
    finally:
        for sock in sockets.by_version.values():
            sock.close()
