"""Nodes as discv4 packets describe them: which claims of others we believe, and what we say of nodes and ourselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import is_relayable
from ethsync.discovery.discv4_packets import MAX_NEIGHBORS, Contact, Neighbor
from ethsync.discovery.node import Endpoint, Node, may_be_named
from ethsync.errors import MalformedMessage
from ethsync.wire import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.wire.enr import NodeRecord


def named_node(neighbor: Neighbor, source: Endpoint) -> Node | None:
    """The node that a Neighbors from `source` names; None if there can be none, or we may not be led there."""
    (ip, udp, tcp), public_key = neighbor
    if ip is None or not may_be_named(Endpoint(ip, udp), source):
        return None
    try:
        keys.public_key(public_key)
    except MalformedMessage:
        return None
    return Node(keys.node_id(public_key), public_key, Endpoint(ip, udp), tcp)


def answer_parts(nodes: Sequence[Node], asker: Endpoint) -> list[tuple[Neighbor, ...]]:
    """Divide the nodes that may be named to `asker` among packets; at least one, which may be empty."""
    neighbors = tuple(
        Neighbor(Contact.of(node.endpoint, node.tcp_port), node.public_key)
        for node in nodes
        if is_relayable(node.endpoint.ip, asker.ip)
    )
    starts = range(0, max(len(neighbors), 1), MAX_NEIGHBORS)
    return [neighbors[start : start + MAX_NEIGHBORS] for start in starts]


def own_contact(record: NodeRecord, seen: Endpoint | None, to: Endpoint) -> Contact:
    """Where we tell the node at `to` that we are: where it sees us itself, or else what our record says.

    go-ethereum ignores it, EthereumJS sends its ping there. So what one node says of us is repeated to nobody else,
    who might be made to send packets to a third one.
    """
    version6 = to.ip.version == 6
    tcp = record.tcp6 if version6 else record.tcp
    if seen is not None:
        return Contact.of(seen, tcp)
    return Contact(record.ip6, record.udp6, tcp) if version6 else Contact(record.ip, record.udp, tcp)


def with_record(node: Node, record: NodeRecord) -> Node:
    """The node with the newer of two records. Its endpoint stays: where it is we know best, it answers from there."""
    if node.record is not None and node.record.seq > record.seq:
        return node
    tcp = record.tcp6 if node.endpoint.ip.version == 6 else record.tcp
    return replace(node, record=record, tcp_port=tcp or node.tcp_port)
