"""A lane over a scripted protocol: the test says what happens and when."""

from __future__ import annotations

import random
from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import count

from ethsync.discovery.lane import Lane
from ethsync.discovery.node import Datagram, Endpoint, Node
from ethsync.discovery.protocol import Event, Found, Pong, Target, Unanswered
from ethsync.discovery.table import Table
from ethsync.wire.enr import NodeRecord
from tests.oracles.nodes import node_at

KEY = bytes(range(64))
LOCAL = random.Random(8).randbytes(32)
BOOT = [node_at(LOCAL, 256, number, seq=1) for number in range(3)]
SOMEWHERE = Endpoint(IPv4Address("20.7.7.7"), 30303)


class Script:
    """A protocol that notes what it is asked, and says what the test tells it to."""

    def __init__(self, prefix: bytes = b"") -> None:
        self.prefix = prefix
        self.pings: dict[int, Node] = {}
        self.searches: dict[int, tuple[Node, Target]] = {}
        self.fetches: dict[int, Node] = {}
        self.records: list[NodeRecord] = []
        self.deadline = float("inf")
        self.outgoing: list[Datagram] = []
        self.happened: list[Event] = []
        self.fails_at_once = False
        self._tokens = count(1)

    def receive(self, data: bytes, source: Endpoint, now: float) -> bool:
        return data.startswith(self.prefix)

    def advance(self, now: float) -> None:
        """Nothing waits here but for the test."""

    def packets(self) -> list[Datagram]:
        taken, self.outgoing = self.outgoing, []
        return taken

    def events(self) -> list[Event]:
        taken, self.happened = self.happened, []
        return taken

    def _token(self, node: Node) -> int:
        token = next(self._tokens)
        if self.fails_at_once:
            self.happened.append(Unanswered(token, node, "no room"))
        return token

    def ping(self, node: Node, now: float) -> int:
        token = self._token(node)
        self.pings[token] = node
        return token

    def find_nodes(self, node: Node, target: Target, now: float) -> int:
        token = self._token(node)
        self.searches[token] = (node, target)
        return token

    def fetch_record(self, node: Node, now: float) -> int:
        token = self._token(node)
        self.fetches[token] = node
        return token

    def set_record(self, record: NodeRecord) -> None:
        self.records.append(record)


class Scene:
    """A lane over a script. Time passes only by what the test does."""

    def __init__(self, *, boot: Iterable[Node] = BOOT, needs_records: bool = False, key: bytes | None = KEY) -> None:
        self.script = Script()
        self.table = Table(LOCAL, random.Random(1))
        self.lane = Lane(
            self.script, self.table, list(boot), random.Random(2), needs_records=needs_records, public_key=key
        )
        self.now = 0.0

    def at(self, now: float) -> None:
        self.now = now
        self.lane.advance(now)

    def say(self, *events: Event) -> None:
        self.script.happened += events
        self.lane.advance(self.now)

    def answer_searches(self, *nodes: Node) -> None:
        """All that were asked for nodes name these, until nobody is asked any more."""
        while self.script.searches:
            token, (node, _) = self.script.searches.popitem()
            self.say(Found(token, node, nodes))

    def answer_pings(self) -> None:
        while self.script.pings:
            self.say(Pong(*self.script.pings.popitem()))

    def stay_silent(self, why: str = "no answer") -> None:
        """Whoever was asked for anything does not answer; once."""
        waiting = {
            **self.script.pings,
            **self.script.fetches,
            **{token: node for token, (node, _) in self.script.searches.items()},
        }
        for asked in (self.script.pings, self.script.fetches, self.script.searches):
            asked.clear()
        self.say(*(Unanswered(token, node, why) for token, node in waiting.items()))

    def settle(self, *nodes: Node) -> None:
        """These are in the table and have answered twice; no lookup is under way."""
        self.at(self.now)
        for node in nodes:
            self.table.confirm(node, self.now)
            self.table.confirm(node, self.now)
        self.answer_pings()
        self.answer_searches()
        self.taken()

    def taken(self) -> list[Node]:
        nodes = list(self.lane.findings.found)
        self.lane.findings.found.clear()
        return nodes

    def asked(self) -> list[Node]:
        return [node for node, _ in self.script.searches.values()]

    def targets(self) -> set[bytes]:
        return {target.node_id for _, target in self.script.searches.values()}


def others(count: int, *, away: int = 255, seq: int | None = 1) -> list[Node]:
    return [node_at(LOCAL, away, 10 + number, seq=seq) for number in range(count)]
