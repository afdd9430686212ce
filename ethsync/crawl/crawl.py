"""A crawl: every node that discovery finds is looked at once, and written down."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from ethsync.crawl.facts import probe_facts
from ethsync.crawl.probe import Probe, Snap, probe_node
from ethsync.discovery.bounded import LRU
from ethsync.wire.enode import Enode

if TYPE_CHECKING:
    from collections.abc import Sequence

    import coincurve

    from ethsync.crawl.sinks import Sink
    from ethsync.discovery.node import Node
    from ethsync.networks import Network
    from ethsync.peers.greeting import ChainView

WORKERS = 32
"""Nodes looked at at a time. Most of a look is waiting: for nodes behind firewalls 8 s, for the others a second."""

MOST_WAITING = 20_000
"""Nodes found and not looked at yet; 10 MB. The public network has some 10,000 that can be reached."""

MOST_KNOWN = 200_000
"""Node ids that are not looked at twice; 30 MB."""


@dataclass(slots=True)
class Crawl:
    """The state of a crawl. `offer` is called with every node that is found, as often as it is found."""

    key: coincurve.PrivateKey
    networks: Sequence[Network]
    view: ChainView
    sink: Sink
    found: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Nodes written, by what came of the look."""
    _waiting: deque[tuple[Node, str]] = field(default_factory=deque)
    _known: LRU[bytes, bool] = field(default_factory=lambda: LRU(MOST_KNOWN))
    _arrived: trio.Event = field(default_factory=trio.Event)

    def offer(self, node: Node, source: str) -> None:
        """A node was found. Without a TCP port there is nothing to look at, and beyond the bound it is forgotten."""
        if node.node_id in self._known or not node.tcp_port or len(self._waiting) >= MOST_WAITING:
            return
        self._known.put(node.node_id, True)
        self.found += 1
        self._waiting.append((node, source))
        self._arrived.set()

    async def work(self) -> None:
        """Look at nodes, one after another, until cancelled."""
        while True:
            while not self._waiting:
                self._arrived = trio.Event()
                await self._arrived.wait()
            node, source = self._waiting.popleft()
            enode = Enode(node.public_key, str(node.endpoint.ip), node.tcp_port, node.endpoint.port)
            probe = await probe_node(enode, self.key, self.view)
            self.counts[outcome(probe)] += 1
            await trio.to_thread.run_sync(self.sink.write, self._facts(node, source, probe))

    def _facts(self, node: Node, source: str, probe: Probe) -> dict[str, Any]:
        record = node.record
        fork = record.fork_id if record is not None else None
        return probe_facts(probe, self.networks, int(time.time())) | {
            "source": source,
            "record": None if record is None else str(record),
            "record_fork_id": None if fork is None else str(fork),
        }


def outcome(probe: Probe) -> str:
    """What came of a look, in a word or two."""
    if not probe.reached:
        return "unreachable"
    if probe.client is None:
        return "no Hello"
    if probe.status is None:
        return "no Status"
    return {Snap.SERVES: "serves snap", Snap.NOT_OFFERED: "without snap"}.get(probe.snap, "offers snap, does not serve")


async def run_crawl(crawl: Crawl, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Look at what is offered until cancelled. A write under way is finished."""
    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(crawl.work)
        task_status.started()
