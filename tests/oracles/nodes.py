"""Nodes at chosen distances, without keys; and what a table should answer, found the slow and obvious way."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address

from ethsync.discovery.node import Endpoint, Node
from ethsync.wire.enr import NodeRecord

PORT = 30303


def id_at(local_id: bytes, away: int, number: int = 0) -> bytes:
    """The id that differs from ours in bit `away` - 1, and below that from the next such one in `number`."""
    assert number < 1 << (away - 1)
    return (int.from_bytes(local_id, "big") ^ (1 << (away - 1)) ^ number).to_bytes(32, "big")


def node_at(
    local_id: bytes, away: int, number: int = 0, *, ip: str | None = None, port: int = PORT, seq: int | None = None
) -> Node:
    """A node at a logarithmic distance from us. Without `ip` each has a public subnet of its own; `seq` None: no
    record."""
    node_id = id_at(local_id, away, number)
    address = IPv4Address((20 << 24) + (away << 16) + (number % 256 << 8) + 1) if ip is None else ip_address(ip)
    record = None if seq is None else NodeRecord(b"", seq, node_id + node_id, node_id, ())
    return Node(node_id, node_id + node_id, Endpoint(address, port), PORT, record)


def sorted_by_distance(nodes: Iterable[Node], target: bytes) -> list[Node]:
    """All of them, the nearest to the target first."""
    wanted = int.from_bytes(target, "big")
    return sorted(nodes, key=lambda node: int.from_bytes(node.node_id, "big") ^ wanted)
