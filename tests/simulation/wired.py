"""Discovery nodes with the real protocols, wired to each other in memory; time passes when the test says so."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from ipaddress import IPv4Address

import coincurve

from ethsync.discovery.discv4 import Discv4
from ethsync.discovery.discv5 import Discv5
from ethsync.discovery.finder import Finder
from ethsync.discovery.lane import Lane
from ethsync.discovery.node import Datagram, Endpoint, Node, node_of_record
from ethsync.discovery.protocol import AddressSeen
from ethsync.discovery.table import Table
from ethsync.wire.enr import NodeRecord, address_pairs, sign_record


class WiredNode:
    """One node at an address of its own."""

    def __init__(self, number: int, boot: Iterable[NodeRecord], protocols: Iterable[str]) -> None:
        rng = random.Random(number)
        key = coincurve.PrivateKey(random.Random(f"key {number}").randbytes(32))
        self.endpoint = Endpoint(IPv4Address(f"10.{number // 250}.{number % 250}.1"), 30303)
        self.record = sign_record(key, 1, address_pairs(self.endpoint.ip, udp=30303, tcp=30303))  # type: ignore[arg-type]
        entries = [node for record in boot if (node := node_of_record(record)) is not None]
        lanes: dict[str, Lane] = {}
        if "discv4" in protocols:
            table = Table(self.record.node_id, rng)
            protocol4 = Discv4(key, self.record, table, wall_clock=lambda: 1_700_000_000.0)
            lanes["discv4"] = Lane(protocol4, table, entries, rng, needs_records=True)
        if "discv5" in protocols:
            table = Table(self.record.node_id, rng)
            lanes["discv5"] = Lane(Discv5(key, self.record, table), table, entries, rng, needs_records=False)
        self.finder = Finder(lanes)
        self.found: dict[str, dict[bytes, Node]] = {name: {} for name in lanes}
        self.reports: list[AddressSeen] = []


class Network:
    """Delivers packets between nodes, with a delay and losses by seed."""

    def __init__(self, seed: int, *, loss: float = 0.0) -> None:
        self.now = 0.0
        self.nodes: dict[Endpoint, WiredNode] = {}
        self.down: set[Endpoint] = set()
        self.packets = 0
        self._rng = random.Random(seed)
        self._loss = loss
        self._under_way: list[tuple[float, int, Endpoint, Datagram]] = []

    def add(self, node: WiredNode) -> WiredNode:
        self.nodes[node.endpoint] = node
        return node

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        for node in self.nodes.values():
            self._step(node)
        while True:
            deadline = min(node.finder.deadline for node in self.nodes.values())
            arrival = self._under_way[0][0] if self._under_way else float("inf")
            at = min(deadline, arrival)
            if at > end:
                break
            self.now = max(self.now, at)
            if arrival <= deadline:
                self._deliver()
            else:
                for node in self.nodes.values():
                    if node.finder.deadline <= self.now:
                        self._step(node)
        self.now = end

    def _deliver(self) -> None:
        _, _, source, (data, to) = heapq.heappop(self._under_way)
        node = self.nodes.get(to)
        if node is not None and to not in self.down:
            node.finder.receive(data, source, self.now)
            self._flush(node)

    def _step(self, node: WiredNode) -> None:
        node.finder.advance(self.now)
        self._flush(node)

    def _flush(self, node: WiredNode) -> None:
        for name, found in node.finder.discovered():
            node.found[name][found.node_id] = found
        node.reports += node.finder.address_reports()
        for datagram in node.finder.packets():
            self.packets += 1
            if node.endpoint not in self.down and self._rng.random() >= self._loss:
                at = self.now + self._rng.uniform(0.01, 0.1)
                heapq.heappush(self._under_way, (at, self.packets, node.endpoint, datagram))
