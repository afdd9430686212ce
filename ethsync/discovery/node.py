"""What discovery knows of a node, and where packets come from and go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from ethsync.discovery.addresses import is_lan, is_relayable
from ethsync.wire import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.wire.enode import Enode
    from ethsync.wire.enr import IPAddress, NodeRecord


LOWEST_PORT = 1025
"""Of the discovery ports that others may name to us: nobody shall have us send packets to somebody's DNS or NTP server
(go-ethereum p2p/discover/v4_udp.go, nodeFromRPC; v5_udp.go, verifyResponseNode)."""


class Endpoint(NamedTuple):
    """A UDP address. IPv4 addresses are never written as mapped IPv6 ones."""

    ip: IPAddress
    port: int

    @classmethod
    def of(cls, ip: IPAddress, port: int) -> Endpoint:
        """An endpoint, with an IPv4 address that came mapped into IPv6 (RFC 4291, 2.5.5.2) written as what it is."""
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
        return cls(mapped or ip, port)

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


def may_be_named(endpoint: Endpoint, source: Endpoint) -> bool:
    """Whether a node at `source` may have us ask another one at `endpoint`."""
    return endpoint.port >= LOWEST_PORT and is_relayable(endpoint.ip, source.ip)


def seen_at(claim: Endpoint, source: Endpoint) -> Endpoint | None:
    """Where the node at `source` says that it sees us, if that can be: over the same IP version, and at an address
    that it could name to a third node too (`is_relayable`)."""
    if not claim.port or claim.ip.version != source.ip.version or not is_relayable(claim.ip, source.ip):
        return None
    return claim


def ip_of_host(host: str) -> IPAddress | None:
    """The address that a node's host is; None if it is a name. A zone (RFC 4007, section 11) is left out."""
    try:
        return Endpoint.of(ip_address(host.partition("%")[0]), 0).ip
    except ValueError:
        return None


class Datagram(NamedTuple):
    """A packet to send."""

    data: bytes
    to: Endpoint


@dataclass(frozen=True, slots=True)
class Node:
    """A node that can be asked over UDP. `public_key` has 64 bytes, `node_id` 32; `tcp_port` 0 means not dialable.

    `record` is None while discv4 has told us of the node but its record was not fetched yet. `answered` says of a node
    that is handed on whether it answered us itself; it is no part of who the node is.
    """

    node_id: bytes
    public_key: bytes
    endpoint: Endpoint
    tcp_port: int
    record: NodeRecord | None = None
    answered: bool = field(default=False, compare=False)


def node_of_record(record: NodeRecord, *, prefer_ip6: bool = False) -> Node | None:
    """The node that a record describes; None if the record has no address with a discovery port.

    Of two addresses the one that reaches further counts, as in geth (p2p/enode/node.go); of two that reach equally far
    the preferred one.
    """
    found = [
        (_reach(endpoint.ip), (endpoint.ip.version == 6) == prefer_ip6, endpoint, tcp_port)
        for endpoint, tcp_port in _endpoints(record)
        if endpoint.port and not endpoint.ip.is_multicast
    ]
    if not found:
        return None
    _, _, endpoint, tcp_port = max(found, key=lambda each: each[:2])
    return Node(record.node_id, record.public_key, endpoint, tcp_port, record)


def _endpoints(record: NodeRecord) -> Iterator[tuple[Endpoint, int]]:
    """UDP endpoints of a record, each with its TCP port. A mapped IPv4 address has the ports of IPv4."""
    if record.ip is not None:
        yield Endpoint(record.ip, record.udp), record.tcp
    if record.ip6 is not None:
        mapped = record.ip6.ipv4_mapped is not None
        udp_port, tcp_port = (record.udp, record.tcp) if mapped else (record.udp6, record.tcp6)
        yield Endpoint.of(record.ip6, udp_port), tcp_port


def _reach(ip: IPAddress) -> int:
    """From how far away an address can be reached: 0 nowhere, 1 this machine, 2 link, 3 site, 4 everywhere."""
    if ip.is_unspecified:
        return 0
    if ip.is_loopback:
        return 1
    if ip.is_link_local:
        return 2
    return 3 if is_lan(ip) else 4


def node_of_enode(enode: Enode) -> Node | None:
    """The node that an enode URL describes; None if its host is a name and not an address, or it has no UDP port."""
    try:
        ip: IPAddress = IPv6Address(enode.host) if ":" in enode.host else IPv4Address(enode.host)
    except ValueError:
        return None
    if not enode.udp_port:
        return None
    key = enode.public_key
    return Node(keys.node_id(key), key, Endpoint.of(ip, enode.udp_port), enode.tcp_port)


def distance(left: bytes, right: bytes) -> int:
    """Logarithmic distance of two node ids: the length in bits of their exclusive or, 0 to 256 (discv5-theory.md)."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_length()
