"""Nodes as discv5 packets describe them: which claims of others we believe, and at which distances we ask for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ethsync.discovery.node import distance, may_be_named, node_of_record

if TYPE_CHECKING:
    from ethsync.discovery.node import Endpoint, Node
    from ethsync.wire.enr import NodeRecord

DISTANCES_ASKED = 3  # of a lookup, in one FINDNODE (go-ethereum p2p/discover/v5_udp.go, lookupRequestLimit)


def lookup_distances(to_target: int) -> tuple[int, ...]:
    """The distance of a target and those next to it, in turn above and below, from 1 to 256."""
    nearest = [to_target] if to_target else []
    for step in range(1, 256):
        nearest += [each for each in (to_target + step, to_target - step) if 1 <= each <= 256]
        if len(nearest) >= DISTANCES_ASKED:
            break
    return tuple(nearest[:DISTANCES_ASKED])


def claimed_node(record: NodeRecord, asked: Node, distances: tuple[int, ...]) -> Node | None:
    """The node of a record that `asked` sent when it was asked for these distances; None if it should not have.

    The node's own record does not move it: where it is we know best, it answers from there.
    """
    if distance(record.node_id, asked.node_id) not in distances:
        return None
    source = asked.endpoint.ip
    if record.node_id == asked.node_id:
        tcp = record.tcp6 if source.version == 6 else record.tcp
        return replace(asked, record=record, tcp_port=tcp or asked.tcp_port)
    return relayed_node(record, asked.endpoint)


def relayed_node(record: NodeRecord, source: Endpoint) -> Node | None:
    """The node of a record that came from `source`; None if it names no address, or none that we may be led to."""
    node = node_of_record(record, prefer_ip6=source.ip.version == 6)
    return node if node is not None and may_be_named(node.endpoint, source) else None
