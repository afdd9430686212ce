"""An iterative lookup: ask the nearest nodes known for nearer ones, until the nearest have all been asked."""

from __future__ import annotations

import bisect
from collections import Counter
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import is_lan, is_loopback, subnet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.node import Node
    from ethsync.discovery.protocol import Target

PARALLEL = 3  # queries in flight (Kademlia's alpha; go-ethereum p2p/discover/table.go)
RESULT_SIZE = 16  # nodes that a lookup ends with (Kademlia's k)
MOST_QUERIES = 64
"""Where a lookup ends in any case: honest networks of ten million nodes need some 30; liars can invent nearer nodes
without end."""
MOST_PER_SUBNET = 4
"""Candidates of one subnet among the nearest: invented nodes of one attacker fill a quarter of the result at most."""


class Lookup:
    """One lookup. Pure: the owner asks `next_queries`, and tells what came of each."""

    def __init__(self, target: Target, seeds: Iterable[Node], *, local_id: bytes) -> None:
        self.target = target
        self.queries = 0
        self._local_id = local_id
        self._wanted = int.from_bytes(target.node_id, "big")
        self._near: list[tuple[int, Node]] = []
        self._known: set[bytes] = set()
        self._asked: set[bytes] = set()
        self._in_flight: set[bytes] = set()
        self._subnets: Counter[Subnet] = Counter()
        for node in seeds:
            self._add(node)

    @property
    def done(self) -> bool:
        """Whether nobody nearer is left to ask."""
        return not self._in_flight and not self._open()

    @property
    def closest(self) -> list[Node]:
        """The nearest nodes that are known, nearest first."""
        return [node for _, node in self._near[:RESULT_SIZE]]

    def next_queries(self) -> list[Node]:
        """Whom to ask now; they count as asked."""
        chosen = self._open()[: PARALLEL - len(self._in_flight)]
        for node in chosen:
            self._asked.add(node.node_id)
            self._in_flight.add(node.node_id)
            self.queries += 1
        return chosen

    def answered(self, node: Node, found: Iterable[Node]) -> None:
        """A node that was asked told of these."""
        self._in_flight.discard(node.node_id)
        for each in found:
            self._add(each)

    def failed(self, node: Node) -> None:
        """A node that was asked did not answer: it is none of the nearest."""
        self._in_flight.discard(node.node_id)
        self._near = [(away, each) for away, each in self._near if each.node_id != node.node_id]

    def _open(self) -> list[Node]:
        if self.queries >= MOST_QUERIES:
            return []
        return [node for node in self.closest if node.node_id not in self._asked]

    def _add(self, node: Node) -> None:
        if node.node_id in self._known or node.node_id == self._local_id:
            return
        away = int.from_bytes(node.node_id, "big") ^ self._wanted
        if len(self._near) >= 2 * RESULT_SIZE and away >= self._near[-1][0]:
            return
        ip = node.endpoint.ip
        where = subnet(ip)
        if not (is_loopback(ip) or is_lan(ip)):
            if self._subnets[where] >= MOST_PER_SUBNET:
                return
            self._subnets[where] += 1
        self._known.add(node.node_id)
        bisect.insort(self._near, (away, node), key=lambda item: item[0])
        del self._near[2 * RESULT_SIZE :]
