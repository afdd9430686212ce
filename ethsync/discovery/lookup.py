"""An iterative lookup: ask the nearest nodes known for nearer ones, until the nearest have all been asked."""

from __future__ import annotations

import bisect
import heapq
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import subnet
from ethsync.discovery.bucket import Shares

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.node import Node
    from ethsync.discovery.protocol import Target

PARALLEL = 3  # queries in flight (Kademlia's alpha; go-ethereum p2p/discover/table.go)
RESULT_SIZE = 16  # nodes that a lookup ends with, and that are taken of one answer (Kademlia's k)
MOST_QUERIES = 64
"""Where a lookup ends in any case: honest networks of ten million nodes need some 30; liars can invent nearer nodes
without end."""
MOST_PER_SUBNET = 4
"""Nodes of one subnet that are asked or wait to be: those that one attacker invents are a quarter of the result at
most."""


class Lookup:
    """One lookup. Pure: the owner asks `next_queries`, and tells what came of each.

    At most twice `size` candidates are held, nearest first; those that fail leave, so that others move up.
    """

    def __init__(
        self,
        target: Target,
        seeds: Iterable[Node],
        *,
        local_id: bytes,
        parallelism: int = PARALLEL,
        size: int = RESULT_SIZE,
    ) -> None:
        self.target = target
        self.queries = 0
        self._parallelism = parallelism
        self._size = size
        self._wanted = int.from_bytes(target.node_id, "big")
        self._near: list[tuple[int, Node]] = []
        self._known: set[bytes] = {local_id}
        """Ids that were taken once: at most 16 for each query and the seeds."""
        self._asked: set[bytes] = set()
        self._in_flight: set[bytes] = set()
        self._answered: set[bytes] = set()
        self._shares = Shares(MOST_PER_SUBNET, limit_private=False)
        for node in seeds:
            self._add(node)

    @property
    def done(self) -> bool:
        """Whether nobody nearer is left to ask."""
        return not self._in_flight and not self._open()

    @property
    def closest(self) -> list[Node]:
        """The nearest nodes that answered, nearest first."""
        return [node for _, node in self._near if node.node_id in self._answered][: self._size]

    def next_queries(self) -> list[Node]:
        """Whom to ask now; they count as asked."""
        chosen = self._open()[: self._parallelism - len(self._in_flight)]
        for node in chosen:
            self._asked.add(node.node_id)
            self._in_flight.add(node.node_id)
            self.queries += 1
        return chosen

    def answered(self, node: Node, found: Iterable[Node]) -> None:
        """A node that was asked told of these."""
        if node.node_id not in self._in_flight:
            return
        self._in_flight.remove(node.node_id)
        self._answered.add(node.node_id)
        for each in heapq.nsmallest(self._size, found, key=self._away):
            self._add(each)

    def failed(self, node: Node) -> None:
        """A node that was asked did not answer: it is none of the nearest."""
        self._in_flight.discard(node.node_id)
        self._near = [(away, each) for away, each in self._near if each.node_id != node.node_id]

    def _away(self, node: Node) -> int:
        return int.from_bytes(node.node_id, "big") ^ self._wanted

    def _open(self) -> list[Node]:
        if self.queries >= MOST_QUERIES:
            return []
        return [node for _, node in self._near[: self._size] if node.node_id not in self._asked]

    def _add(self, node: Node) -> None:
        away = self._away(node)
        if node.node_id in self._known:
            return
        if len(self._near) >= 2 * self._size and away >= self._near[-1][0]:
            return
        ip = node.endpoint.ip
        if not self._shares.has_room(ip) and not self._displace(subnet(ip), away):
            return
        self._shares.add(ip)
        self._known.add(node.node_id)
        bisect.insort(self._near, (away, node), key=lambda item: item[0])
        if len(self._near) > 2 * self._size:
            self._leave(len(self._near) - 1)

    def _displace(self, where: Subnet, away: int) -> bool:
        """Have the farthest candidate of a subnet leave, if it was not asked yet and is farther than `away`."""
        for index in range(len(self._near) - 1, -1, -1):
            farther, node = self._near[index]
            if farther <= away:
                return False
            if subnet(node.endpoint.ip) == where and node.node_id not in self._asked:
                self._leave(index)
                return True
        return False

    def _leave(self, index: int) -> None:
        """A candidate gives up its place, and its part in its subnet unless it was asked: asking cannot be undone."""
        _, node = self._near.pop(index)
        if node.node_id not in self._asked:
            self._shares.remove(node.endpoint.ip)
