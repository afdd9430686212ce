"""Options of the command line about finding peers, turned into what `ethsync.peers.finding` takes."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

from ethsync.commands.endpoints import parse_endpoint
from ethsync.commands.targets import parse_target
from ethsync.discovery.forks import presumed_head
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.options import DiscoveryOptions, boot_nodes
from ethsync.errors import ConfigError
from ethsync.peers.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethsync.discovery.node import Endpoint
    from ethsync.networks import Network

PROTOCOLS = ("v5", "v4", "dns")
"""What `--discovery` takes, in any combination."""
DEFAULT_PORT = 30303  # devp2p's (go-ethereum node/defaults.go, ListenAddr)
DEFAULT_LISTEN = (f"0.0.0.0:{DEFAULT_PORT}",)


def parse_protocols(text: str) -> frozenset[str]:
    """Read `v5,v4,dns` or `none`. Raises ConfigError."""
    names = frozenset(name.strip() for name in text.split(",") if name.strip()) - {"none"}
    unknown = names - set(PROTOCOLS)
    if unknown:
        raise ConfigError(f"there is no discovery protocol '{sorted(unknown)[0]}'", hint="use v5, v4, dns or none")
    return names


def parse_listen(text: str) -> Endpoint:
    """Read `IP`, `IP:PORT`, `[IPv6]`, `[IPv6]:PORT` or `:PORT`. Raises ConfigError."""
    try:
        return parse_endpoint(text, port=DEFAULT_PORT, host="0.0.0.0")
    except ValueError:
        raise ConfigError(f"'{text}' is not an address to listen on", hint="write IP, IP:PORT or [IPv6]:PORT") from None


def parse_announce(text: str) -> Announcement:
    """Read `IP[:TCP[:UDP]]`, with an IPv6 address in brackets. Raises ConfigError."""
    host, _, ports = text.removeprefix("[").partition("]:" if text.startswith("[") else ":")
    try:
        ip = ip_address(host.rstrip("]"))
        numbers = [int(port) for port in ports.split(":")] if ports else [DEFAULT_PORT]
        if len(numbers) > 2 or not all(0 < number < 65536 for number in numbers):
            raise ValueError
    except ValueError:
        raise ConfigError(f"'{text}' is not an address to announce", hint="write IP[:TCP[:UDP]]") from None
    tcp, udp = numbers[0], numbers[-1]
    if isinstance(ip, IPv4Address):
        return Announcement(ip=ip, tcp=tcp, udp=udp)
    return Announcement(ip6=ip, tcp6=tcp, udp6=udp)


def make_finding(
    network: Network,
    directory: Path,
    *,
    protocols: frozenset[str],
    max_peers: int,
    listen: Sequence[str],
    announce: str | None,
    more_boot_nodes: Sequence[str],
    trusted: Sequence[str] = (),
) -> Finding:
    """How to find peers, and who may come. Raises ConfigError.

    Without any protocol we listen only where we are told to: nobody could know of us otherwise.
    """
    known = (*more_boot_nodes, *network.boot_nodes, *network.v5_boot_nodes)
    list(boot_nodes(known))  # a wrong one is to be named now and not in a minute
    options = DiscoveryOptions(
        protocols,
        known,
        network.dns,
        [parse_listen(text) for text in listen or (DEFAULT_LISTEN if protocols else ())],
        directory,
        network.forks.fork_id(*presumed_head(network.forks, time.time())),
        parse_announce(announce) if announce is not None else Announcement(),
    )
    return Finding(options, max_peers, trusted=[parse_target(text) for text in trusted])
