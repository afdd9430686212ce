"""One discovery protocol at work: its table kept fresh, lookups run one after another, records fetched. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ethsync.discovery.bounded import LRU
from ethsync.discovery.lookup import Lookup
from ethsync.discovery.protocol import AddressSeen, Found, Met, Pong, RecordFetched, Target, Unanswered
from ethsync.hashing import keccak256

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from ethsync.discovery.node import Datagram, Endpoint, Node
    from ethsync.discovery.protocol import DiscoveryProtocol, Event
    from ethsync.discovery.table import Table

EAGER_PAUSE = 0.5
"""Seconds between two lookups while nodes are wanted: with ten queries each some 20 packets per second, which ethrex
measured as enough to fill a pool in a minute."""
IDLE_PAUSE = 30.0
"""Seconds between two lookups otherwise: keeps the table spread out (go-ethereum refreshes every 30 minutes at least,
and looks up all the time while it wants peers)."""
MOST_PINGS = 16
"""Checks under way at a time."""
MOST_FETCHES = 8
"""Records asked for at a time; each costs discv4 an endpoint proof first."""
MOST_TO_FETCH = 1000
"""Nodes whose record is still to be asked for; what comes beyond that comes again in another lookup."""
FIRST_BOOT_PAUSE = 1.0
LONGEST_BOOT_PAUSE = 30.0
"""Seconds between two attempts to begin with the boot nodes when nobody else is known; doubled each time."""
MOST_GIVEN = 50_000
"""Nodes remembered as handed on already, 10 MB."""


class _Purpose(Enum):
    CHECK = "check"
    LOOKUP = "lookup"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class _Pending:
    purpose: _Purpose
    lookup: Lookup | None = None


class Lane:
    """A protocol with its table. `needs_records`: whether its nodes are named without their record, as in discv4."""

    def __init__(
        self,
        protocol: DiscoveryProtocol,
        table: Table,
        boot_nodes: Sequence[Node],
        rng: random.Random,
        *,
        needs_records: bool,
    ) -> None:
        self.protocol = protocol
        self.table = table
        self.wanted = True
        self.counts: Counter[str] = Counter()
        self.found: list[Node] = []
        self.reports: list[AddressSeen] = []
        self._boot_nodes = boot_nodes
        self._rng = rng
        self._needs_records = needs_records
        self._pending: dict[int, _Pending] = {}
        self._lookup: Lookup | None = None
        self._next_lookup = float("-inf")
        self._next_boot = float("-inf")
        self._boot_pause = FIRST_BOOT_PAUSE
        self._to_fetch: deque[Node] = deque()
        self._given: LRU[bytes, int] = LRU(MOST_GIVEN)
        self._looked_for_self = False
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
        check = self.table.next_due if self._under_way(_Purpose.CHECK) < MOST_PINGS else float("inf")
        if not len(self.table):
            return min(self.protocol.deadline, self._next_boot)
        return min(self.protocol.deadline, check, self._next_lookup if self._lookup is None else float("inf"))

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        return self.protocol.packets()

    def want(self, wanted: bool, now: float) -> None:
        """Say whether more nodes are wanted: how often lookups are made."""
        if wanted and not self.wanted:
            self._next_lookup = min(self._next_lookup, now)
        self.wanted = wanted

    def _work(self, now: float) -> None:
        while True:
            events: list[Event] = self.protocol.events()
            for event in events:
                handler = self._by_event.get(type(event))
                if handler is not None:
                    handler(event, now)
            self._begin_again(now)
            self._check(now)
            self._look_up(now)
            self._fetch(now)
            if not events:  # else once more: a request that cannot be made fails at once
                return

    def _under_way(self, purpose: _Purpose) -> int:
        return sum(pending.purpose is purpose for pending in self._pending.values())

    # What is done on our own.

    def _begin_again(self, now: float) -> None:
        """With nobody in the table, begin with the boot nodes, with patience: the network may be down for an hour."""
        if len(self.table) or now < self._next_boot:
            return
        for node in self._boot_nodes:
            self.table.see(node, now)
        self._next_boot = now + self._boot_pause
        self._boot_pause = min(2 * self._boot_pause, LONGEST_BOOT_PAUSE)

    def _check(self, now: float) -> None:
        while self._under_way(_Purpose.CHECK) < MOST_PINGS and (node := self.table.due(now)) is not None:
            self._pending[self.protocol.ping(node, now)] = _Pending(_Purpose.CHECK)

    def _look_up(self, now: float) -> None:
        if self._lookup is None and now >= self._next_lookup and len(self.table):
            self._lookup = self._new_lookup()
            self.counts["lookups"] += 1
        lookup = self._lookup
        if lookup is None:
            return
        for node in lookup.next_queries():
            self.counts["queries"] += 1
            token = self.protocol.find_nodes(node, lookup.target, now)
            self._pending[token] = _Pending(_Purpose.LOOKUP, lookup)
        if lookup.done:
            self._lookup = None
            self._next_lookup = now + (EAGER_PAUSE if self.wanted else IDLE_PAUSE)

    def _new_lookup(self) -> Lookup:
        """The first one goes to ourselves, so that our neighbours know us; all others somewhere."""
        public_key = self._rng.randbytes(64)
        target = Target(public_key, keccak256(public_key))
        if not self._looked_for_self and not self._needs_records:
            target = Target(public_key, self.table.local_id)
            self._looked_for_self = True
        seeds = self.table.closest(target.node_id, 16, confirmed=False)
        return Lookup(target, seeds, local_id=self.table.local_id)

    def _fetch(self, now: float) -> None:
        while self._to_fetch and self._under_way(_Purpose.RECORD) < MOST_FETCHES:
            node = self._to_fetch.popleft()
            self._pending[self.protocol.fetch_record(node, now)] = _Pending(_Purpose.RECORD)

    # What comes of it.

    def _on_pong(self, event: Pong, now: float) -> None:
        self._pending.pop(event.token, None)
        self.table.confirm(event.node, now)
        self._boot_pause = FIRST_BOOT_PAUSE
        self._hear_of(event.node, now, answered=True)

    def _on_found(self, event: Found, now: float) -> None:
        pending = self._pending.pop(event.token, None)
        for node in event.nodes:
            self.table.see(node, now)
            self._hear_of(node, now)
        if pending is not None and pending.lookup is not None:
            pending.lookup.answered(event.node, event.nodes)

    def _on_record(self, event: RecordFetched, now: float) -> None:
        self._pending.pop(event.token, None)
        self.table.see(event.node, now)
        self._give(event.node)

    def _on_unanswered(self, event: Unanswered, now: float) -> None:
        self.counts[f"unanswered: {event.why}"] += 1
        pending = self._pending.pop(event.token, None)
        if pending is None:
            return
        if pending.purpose is _Purpose.RECORD:
            self._give(event.node)  # its fork stays unknown; whoever dials it will see
            return
        self.table.fail(event.node.node_id, now)
        if pending.lookup is not None:
            pending.lookup.failed(event.node)

    def _on_met(self, event: Met, now: float) -> None:
        """Somebody came to us. It has questions of its own now: what we want to know waits for the first check."""
        self.table.see(event.node, now)
        if event.node.record is not None:
            self._give(event.node)

    def _on_address(self, event: AddressSeen, now: float) -> None:
        self.reports.append(event)

    def _hear_of(self, node: Node, now: float, *, answered: bool = False) -> None:
        """Hand a node on; where its record is missing, ask for that first, and again when the node has `answered`."""
        if node.record is not None or not self._needs_records:
            self._give(node)
            return
        given = self._given.get(node.node_id)
        if (given is None or (answered and given == 0)) and len(self._to_fetch) < MOST_TO_FETCH:
            self._given.put(node.node_id, -1)
            self._to_fetch.append(node)

    def _give(self, node: Node) -> None:
        """Hand a node on, once for each version of its record."""
        seq = node.record.seq if node.record is not None else 0
        given = self._given.get(node.node_id)
        if given is None or given < seq:
            self._given.put(node.node_id, seq)
            self.found.append(node)
