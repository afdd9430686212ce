"""What discovery knows of a node, and where packets come from and go to."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from ethsync.wire import keys

if TYPE_CHECKING:
    from ethsync.wire.enode import Enode
    from ethsync.wire.enr import IPAddress, NodeRecord


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


class Datagram(NamedTuple):
    """A packet to send."""

    data: bytes
    to: Endpoint


@dataclass(frozen=True, slots=True)
class Node:
    """A node that can be asked over UDP. `public_key` has 64 bytes, `node_id` 32; `tcp_port` 0 means not dialable.

    `record` is None while discv4 has told us of the node but its record was not fetched yet.
    """

    node_id: bytes
    public_key: bytes
    endpoint: Endpoint
    tcp_port: int
    record: NodeRecord | None = None


def node_of_record(record: NodeRecord, *, prefer_ip6: bool = False) -> Node | None:
    """The node that a record describes; None if the record has no address with a discovery port."""
    v4 = (
        Node(record.node_id, record.public_key, Endpoint(record.ip, record.udp), record.tcp, record)
        if (record.ip is not None and record.udp)
        else None
    )
    v6 = (
        Node(record.node_id, record.public_key, Endpoint(record.ip6, record.udp6), record.tcp6, record)
        if (record.ip6 is not None and record.udp6)
        else None
    )
    return (v6 or v4) if prefer_ip6 else (v4 or v6)


def node_of_enode(enode: Enode) -> Node | None:
    """The node that an enode URL describes; None if its host is a name and not an address, or it has no UDP port."""
    try:
        ip: IPAddress = IPv6Address(enode.host) if ":" in enode.host else IPv4Address(enode.host)
    except ValueError:
        return None
    if not enode.udp_port:
        return None
    key = enode.public_key
    return Node(keys.node_id(key), key, Endpoint(ip, enode.udp_port), enode.tcp_port)


def distance(left: bytes, right: bytes) -> int:
    """Logarithmic distance of two node ids: the length in bits of their exclusive or, 0 to 256 (discv5-theory.md)."""
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).bit_length()
