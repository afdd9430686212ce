"""One discovery protocol at work: its table kept fresh, lookups run, records fetched, nodes handed on. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ethsync.discovery.findings import Findings
from ethsync.discovery.lookup import RESULT_SIZE, Lookup
from ethsync.discovery.protocol import AddressSeen, Found, Met, Pong, RecordFetched, Target, Unanswered
from ethsync.hashing import keccak256

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from ethsync.discovery.node import Datagram, Endpoint, Node
    from ethsync.discovery.protocol import DiscoveryProtocol
    from ethsync.discovery.table import Table

MOST_LOOKUPS = 4
"""Lookups under way at a time while nodes are wanted: while some wait for the dead, the others find. Where half of all
nodes are dead or lie, 50 peers take two thirds of the time that they take with two lookups (tests/simulation)."""
EAGER_PAUSE = 0.5
"""Seconds between the starts of two lookups while nodes are wanted; with some 25 queries each about 20 a second."""
LONGEST_EAGER_PAUSE = 10.0
"""The same when lookups find nothing new, to which the pause is doubled: a small network has no more (the figures of
both are ethrex's)."""
IDLE_PAUSE = 30.0
"""Seconds between two lookups otherwise: keeps the table spread out (go-ethereum refreshes every 30 minutes at least,
and looks up all the time while it wants peers)."""
SELF_PAUSE = 1800.0
"""Seconds between two lookups of ourselves, which keep neighbours and us acquainted (go-ethereum, RefreshInterval)."""
MOST_PINGS = 16
"""Checks under way at a time. A full table of 4,096 nodes is checked in ten minutes (`table.SLOW_CHECK`): that makes
seven a second, each of which may take a second."""
MOST_FETCHES = 8
"""Records asked for at a time; each costs discv4 an endpoint proof first."""
FIRST_BOOT_PAUSE = 1.0
LONGEST_BOOT_PAUSE = 30.0
"""Seconds between two attempts to begin with the boot nodes while nobody answers; doubled each time."""
SILENCE = 16
"""Requests in a row without an answer from anybody after which it is our network that is down, and no longer theirs to
blame: where half of all nodes are dead this happens by chance once in 65,536 times, and does no harm."""
MOST_REPORTS = 1000
"""Reports of our address that wait to be taken."""


class _Purpose(Enum):
    CHECK = "check"
    LOOKUP = "lookup"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class _Pending:
    purpose: _Purpose
    lookup: Lookup | None = None


class Lane:
    """A protocol with its table.

    `needs_records`: whether its nodes are named without their record, as in discv4. `public_key` (64 bytes) is ours;
    where nodes are named by key, we cannot be looked up without it.
    """

    def __init__(
        self,
        protocol: DiscoveryProtocol,
        table: Table,
        boot_nodes: Sequence[Node],
        rng: random.Random,
        *,
        needs_records: bool,
        public_key: bytes | None = None,
    ) -> None:
        self.protocol = protocol
        self.table = table
        self.wanted = True
        self.counts: Counter[str] = Counter()
        """Lookups, queries, records fetched, and requests without answer by reason."""
        self.findings = Findings(needs_records=needs_records)
        self.reports: deque[AddressSeen] = deque(maxlen=MOST_REPORTS)
        self._boot_nodes = tuple(boot_nodes)
        self._rng = rng
        self._ourselves = (
            None if needs_records and public_key is None else Target(public_key or bytes(64), table.local_id)
        )
        self._pending: dict[int, _Pending] = {}
        self._under_way: Counter[_Purpose] = Counter()
        self._lookups: list[Lookup] = []
        self._next_lookup = self._next_self = self._next_boot = float("-inf")
        self._eager_pause = EAGER_PAUSE
        self._boot_pause = FIRST_BOOT_PAUSE
        self._unanswered = 0
        self._by_event: dict[type, Callable[..., None]] = {
            Pong: self._on_pong,
            Found: self._on_found,
            RecordFetched: self._on_record,
            Unanswered: self._on_unanswered,
            Met: self._on_met,
            AddressSeen: self._on_address,
        }

    def receive(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Pass a datagram to the protocol and do what follows from it."""
        if not self.protocol.receive(data, source, now):
            return False
        self._work(now)
        return True

    def advance(self, now: float) -> None:
        """Let the time pass."""
        self.protocol.advance(now)
        self._work(now)

    @property
    def deadline(self) -> float:
        """When `advance` should be called next."""
        check = self.table.next_due if self._under_way[_Purpose.CHECK] < MOST_PINGS else float("inf")
        if self._is_cut_off:
            lookup = float("inf") if self._lookups else self._next_boot
        else:
            lookup = self._next_lookup if len(self._lookups) < self._most_lookups else float("inf")
        return min(self.protocol.deadline, check, lookup)

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        return self.protocol.packets()

    def want(self, wanted: bool, now: float) -> None:
        """Say whether more nodes are wanted: how often lookups are made, and whether records are fetched."""
        if wanted and not self.wanted:
            self._next_lookup = min(self._next_lookup, now)
        self.wanted = wanted

    @property
    def _is_cut_off(self) -> bool:
        """Whether there is nobody to ask, or nobody answers any more."""
        return not len(self.table) or self._unanswered >= SILENCE

    @property
    def _most_lookups(self) -> int:
        return MOST_LOOKUPS if self.wanted else 1

    def _work(self, now: float) -> None:
        while True:
            events = self.protocol.events()
            for event in events:
                handler = self._by_event.get(type(event))
                if handler is not None:
                    handler(event, now)
            self._check(now)
            self._begin_lookups(now)
            self._go_on(now)
            self._fetch(now)
            if not events:  # else once more: a request that cannot be made fails at once
                return

    # What is done on our own.

    def _ask(self, token: int, purpose: _Purpose, lookup: Lookup | None = None) -> None:
        self._pending[token] = _Pending(purpose, lookup)
        self._under_way[purpose] += 1

    def _ping(self, node: Node, now: float) -> None:
        self._ask(self.protocol.ping(node, now), _Purpose.CHECK)

    def _check(self, now: float) -> None:
        while self._under_way[_Purpose.CHECK] < MOST_PINGS and (node := self.table.due(now)) is not None:
            self._ping(node, now)

    def _begin_lookups(self, now: float) -> None:
        """Begin with the boot nodes while cut off, with patience: the network may be down for an hour."""
        if self._is_cut_off:
            if not self._lookups and now >= self._next_boot:
                for node in self._boot_nodes:
                    self.table.see(node, now)
                self._look_up(self._ourselves or self._anywhere(), now, self._boot_nodes)
                self._next_boot = now + self._boot_pause * self._rng.uniform(0.8, 1.2)
                self._boot_pause = min(2 * self._boot_pause, LONGEST_BOOT_PAUSE)
        elif now >= self._next_lookup and len(self._lookups) < self._most_lookups:
            ourselves = self._ourselves if now >= self._next_self else None
            self._look_up(ourselves or self._anywhere(), now)

    def _anywhere(self) -> Target:
        public_key = self._rng.randbytes(64)
        return Target(public_key, keccak256(public_key))

    def _look_up(self, target: Target, now: float, seeds: Sequence[Node] = ()) -> None:
        near = self.table.closest(target.node_id, RESULT_SIZE, confirmed=False)
        self._lookups.append(Lookup(target, (*seeds, *near), local_id=self.table.local_id))
        self.counts["lookups"] += 1
        self._next_lookup = now + (self._eager_pause if self.wanted else IDLE_PAUSE)
        if target is self._ourselves:
            self._next_self = now + SELF_PAUSE * self._rng.uniform(0.8, 1.2)

    def _go_on(self, now: float) -> None:
        """Ask whom the lookups want to ask, and end those that are done."""
        for lookup in self._lookups:
            for node in lookup.next_queries():
                self.counts["queries"] += 1
                self._ask(self.protocol.find_nodes(node, lookup.target, now), _Purpose.LOOKUP, lookup)
        ongoing = [lookup for lookup in self._lookups if not lookup.done]
        if len(ongoing) < len(self._lookups):
            self._lookups = ongoing
            slower = min(2 * self._eager_pause, LONGEST_EAGER_PAUSE)
            self._eager_pause = EAGER_PAUSE if self.findings.take_news() else slower

    def _fetch(self, now: float) -> None:
        while self.wanted and self._under_way[_Purpose.RECORD] < MOST_FETCHES:
            node = self.findings.next_without_record()
            if node is None:
                return
            self._ask(self.protocol.fetch_record(node, now), _Purpose.RECORD)

    # What comes of it.

    def _ended(self, token: int) -> _Pending | None:
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._under_way[pending.purpose] -= 1
        return pending

    def _heard(self, now: float) -> None:
        """Somebody is there."""
        if self._is_cut_off:
            self._next_lookup = now
        self._unanswered = 0
        self._boot_pause = FIRST_BOOT_PAUSE

    def _on_pong(self, event: Pong, now: float) -> None:
        self._ended(event.token)
        self._heard(now)
        self.table.confirm(event.node, now)
        self.findings.hear_of(event.node, now, answered=True)

    def _on_found(self, event: Found, now: float) -> None:
        pending = self._ended(event.token)
        self._heard(now)
        self.table.confirm(event.node, now)
        self.findings.hear_of(event.node, now, answered=True)
        nodes = []
        for node in event.nodes:
            self.table.see(node, now)
            nodes.append(self.table.get(node.node_id) or node)  # what we know is better than hearsay
            self.findings.hear_of(nodes[-1], now)
        if pending is not None and pending.lookup is not None:
            pending.lookup.answered(event.node, nodes)

    def _on_record(self, event: RecordFetched, now: float) -> None:
        self._ended(event.token)
        self._heard(now)
        self.counts["records fetched"] += 1
        self.table.confirm(event.node, now)
        self.findings.give(event.node, answered=True)

    def _on_unanswered(self, event: Unanswered, now: float) -> None:
        self.counts[f"unanswered: {event.why.partition(':')[0]}"] += 1  # what follows may be of their making
        pending = self._ended(event.token)
        if pending is None:
            return
        if pending.lookup is not None:
            pending.lookup.failed(event.node)
        self._unanswered += 1
        if self._unanswered >= SILENCE:
            return
        if pending.purpose is not _Purpose.RECORD:
            self.table.fail(event.node, now)
        elif self.table.is_confirmed(event.node.node_id):
            self.findings.give(event.node, answered=True)  # it lives, its fork stays unknown; whoever dials it will see

    def _on_met(self, event: Met, now: float) -> None:
        """Somebody came to us. It has questions of its own now: what we want to know waits for the first check."""
        self._heard(now)
        self.table.see(event.node, now)
        known = self.table.get(event.node.node_id)
        if known is not None and known.endpoint != event.node.endpoint and event.node.record is None:
            self._ping(event.node, now)  # it may have moved
        if event.node.record is not None:
            self.findings.give(event.node)

    def _on_address(self, event: AddressSeen, now: float) -> None:
        self.reports.append(event)
