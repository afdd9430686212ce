"""Whom to dial: many more nodes than the Kademlia table holds, from every source, each at its own pace.

The table has room for 4,096 nodes and fills with whoever is far away; a sync that dials only out of it is starved. No
I/O here: nodes, the time and what became of dials go in; the next node to dial comes out.
"""

from __future__ import annotations

import heapq
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ethsync.discovery.addresses import is_public, is_usable
from ethsync.discovery.bounded import LRU
from ethsync.discovery.candidate import (
    BACKOFF,
    FORGOTTEN,
    LONGEST_BACKOFF,
    NEVER,
    Candidate,
    Quality,
    Reason,
    Source,
    State,
)
from ethsync.discovery.node import Node, ip_of_host
from ethsync.discovery.shelves import Shelves
from ethsync.discovery.tally import Statistics, Tally, explain
from ethsync.discovery.turns import Turns

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Container, Iterator

    from ethsync.discovery.candidate import Usefulness
    from ethsync.wire.enode import Enode

CAPACITY = 20_000
"""Twice as many as mainnet has reachable nodes; some 35 MB (measured)."""

MOST_DIALS = 50
"""Dials under way in all, as geth allows (p2p/server.go, defaultMaxPendingPeers). Most of them wait for nodes that are
gone; with 16 at a time a network in which half of all nodes are dead or lie took three minutes to give us 50 peers
(tests/simulation). The others are a handshake of some milliseconds each on our side."""

REDIAL = 35.0
"""Seconds in which no node is dialled twice (geth p2p/dial.go, dialHistoryExpiration): servers refuse an address that
comes back within 30 s."""

REDIAL_NEARBY = 1.0
"""The same for nodes that the user named on this machine or a private network: nobody counts how often those come (geth
p2p/server.go, checkInboundConn)."""

LONGEST_FIXED = 45.0
"""Seconds between two dials of a node that the user named, whatever its failures: with JITTER less than a minute."""

GONE_EVERY = 1.0
"""Seconds per dial that nodes out of reach may take of us, all of them together: where few nodes are known, nothing is
gained by letting them wait for an hour, and who comes and goes would be missed. With 3,600 pauses are full."""

OUTAGE = 60.0
"""Seconds without an answer of any node from which it is our network that is down, and no node is to blame: all are
tried again as soon as they may be. A dozen dials in a row fail in that time (`greeting.DIAL_TIMEOUT`)."""

OUTAGE_DIALS = 4
"""Dials under way while our network is down: enough to notice within seconds that it is back."""

MOST_HISTORY = 4096
"""Dials remembered beyond the candidate itself, which may be dropped and offered again; more than 35 s can bring."""

JITTER = 0.25
"""Pauses are this much longer or shorter by chance, so that what failed together is not tried again together."""

MOST_PASSED_OVER = 4096
"""Refused nodes that are remembered: enough to say why, and to look again after the head has moved; 6 MB."""

MOST_PER_SUBNET = 64
"""Candidates per public /24 or /64: all that could be dialled there in half an hour."""


def _anybody(node: Node) -> str | None:
    return None


class Candidates:
    """The dial pool.

    `refuses` says why a node must not be dialled (as `forks.check_fork_entry` does of its record), or None if it may;
    it is not asked about nodes that the user named. `own_key` (64 bytes) is never a candidate. Times are in seconds, of
    any clock that does not go back.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        capacity: int = CAPACITY,
        refuses: Callable[[Node], str | None] = _anybody,
        own_key: bytes = b"",
        redial: float = REDIAL,
    ) -> None:
        self.capacity = capacity
        self.redial = redial
        self._rng = rng
        self._refuses = refuses
        self._own_key = own_key
        self._known: dict[bytes, Candidate] = {}
        self._turns = Turns(rng)
        self._shelves = Shelves(rng)
        self._tally = Tally()
        self._dials: set[bytes] = set()
        self._waiting: list[tuple[float, int, Candidate]] = []
        self._numbers = itertools.count()
        self._history: LRU[bytes, float] = LRU(MOST_HISTORY)
        self._passed_over: LRU[bytes, tuple[Node, Source, str]] = LRU(MOST_PASSED_OVER)
        self._answered = NEVER
        """When a node last said anything to a dial of ours, or stayed connected."""

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._known.values())

    def get(self, public_key: bytes) -> Candidate | None:
        """What is known of a node; None if it is no candidate. Only to be read."""
        return self._known.get(public_key)

    # Nodes come in

    def offer(self, node: Node | Enode, source: Source, now: float) -> bool:
        """A source names a node. Returns whether it is a candidate now, be it new or not.

        A known node gets another address only by a newer signed record, or while its address is unsigned and fails.
        """
        if not node.tcp_port or node.public_key == self._own_key:
            return False
        if isinstance(node, Node) and source > Source.TRUSTED and not self._passes(node, source):
            return False
        offered = _candidate(node, source)
        if not offered.is_fixed and (offered.ip is None or not is_usable(offered.ip)):
            return False
        known = self._known.get(node.public_key)
        if known is not None:
            self._merge(known, offered, now)
            return True
        if not self._make_room(offered):
            return False
        offered.last_dial = self._history.get(node.public_key) or NEVER
        self._known[node.public_key] = offered
        self._turns.join(offered)
        self._tally.put(offered)
        self._shelves.put(offered)
        self._wait(offered, now)
        self._release(now)
        return True

    def recheck(self, now: float) -> None:
        """Ask `refuses` again about the nodes that were refused: what it goes by has changed."""
        for public_key, (node, source, _) in self._passed_over.items():
            self._passed_over.pop(public_key)
            self.offer(node, source, now)

    # Dials go out

    def next(self, now: float, in_use: Container[bytes] = (), *, most: int = MOST_DIALS) -> Candidate | None:
        """Whom to dial next; None if nobody may be dialled now, or `most` dials are under way, in an outage four.

        `in_use` are keys that need no dial, such as those of connected peers. Unless `dialled` or `defer` follows, the
        same candidate may be named again.
        """
        self._release(now)
        if len(self._dials) >= (min(most, OUTAGE_DIALS) if self._is_outage(now) else most):
            return None
        while (candidate := self._turns.choose()) is not None:
            if candidate.public_key not in in_use:
                return candidate
            self.defer(candidate.public_key, now + self.redial)
        return None

    def wake_at(self) -> float:
        """When `next` should be asked again if nothing happens before; infinity if there is nobody to wait for.

        Now and then too early, never too late.
        """
        return min(self._waiting[0][0] if self._waiting else float("inf"), self._turns.next_change())

    def defer(self, public_key: bytes, until: float) -> None:
        """Leave a candidate alone until then, through no fault of its own."""
        candidate = self._known.get(public_key)
        if candidate is not None and candidate.state in (State.READY, State.WAITING):
            with self._changing(candidate):
                self._wait(candidate, until)

    def dialled(self, public_key: bytes, now: float) -> None:
        """A dial begins. Exactly one of `failed`, `connected` and `abandoned` must follow."""
        candidate = self._known.get(public_key)
        if candidate is None or public_key in self._dials:
            return
        self._dials.add(public_key)
        self._history.put(public_key, now)
        self._turns.began(candidate, now)
        with self._changing(candidate):
            candidate.last_dial = now
            if candidate.state is not State.CONNECTED:
                candidate.state = State.DIALLING

    def failed(self, public_key: bytes, reason: Reason, now: float) -> None:
        """A dial came to nothing. One that is connected all the same, because it dialled us, is not blamed."""
        candidate = self._known.get(public_key)
        if candidate is None:
            return
        self._end_dial(candidate, now)
        if reason is not Reason.UNREACHABLE:
            self._answered = now
        if candidate.state is not State.CONNECTED:
            with self._changing(candidate):
                self._blame(candidate, reason, now)

    def abandoned(self, public_key: bytes, now: float) -> None:
        """A dial was broken off by us: nobody is to blame."""
        candidate = self._known.get(public_key)
        if candidate is not None:
            self._end_dial(candidate, now)
            if candidate.state is State.DIALLING:
                with self._changing(candidate):
                    self._wait(candidate, now)

    def connected(self, public_key: bytes, client: str, now: float) -> None:
        """A node became a peer, whoever dialled. Nothing happens if it is no candidate."""
        candidate = self._known.get(public_key)
        if candidate is None:
            return
        self._end_dial(candidate, now)
        self._answered = now
        with self._changing(candidate):
            candidate.state = State.CONNECTED
            candidate.client = client
            candidate.last_success = now

    def ended(self, public_key: bytes, usefulness: Usefulness, now: float) -> None:
        """A connection ended. Who gave something may be dialled again soon; who gave nothing when asked, much later.

        Nobody is to blame if we left without having asked.
        """
        candidate = self._known.get(public_key)
        if candidate is None:
            return
        self._answered = now
        with self._changing(candidate):
            candidate.served_bytes += usefulness.served_bytes
            candidate.score = usefulness.score
            candidate.state = State.WAITING
            if usefulness.reason is not None:
                self._blame(candidate, usefulness.reason, now)
            elif usefulness.served_bytes:
                candidate.failures, candidate.reason = 0, None
                self._wait(candidate, now + self._jittered(self._pause(candidate)))
            elif usefulness.we_left and not usefulness.asked:
                self._wait(candidate, now + self._jittered(self._pause(candidate)))
            else:
                self._blame(candidate, Reason.SERVED_NOTHING if usefulness.asked else Reason.HUNG_UP, now)

    def remember(self, facts: Candidate, now: float) -> None:
        """Take over what an earlier run learned of a node that has been offered. `facts` are in the times of `now`."""
        candidate = self._known.get(facts.public_key)
        if candidate is None or candidate.state not in (State.READY, State.WAITING):
            return
        with self._changing(candidate):
            candidate.client, candidate.score = facts.client, facts.score
            candidate.served_bytes, candidate.seq = facts.served_bytes, max(candidate.seq, facts.seq)
            candidate.failures, candidate.reason = facts.failures, facts.reason
            candidate.last_dial, candidate.last_success = min(facts.last_dial, now), min(facts.last_success, now)
            self._wait(candidate, min(facts.due, now + LONGEST_BACKOFF))

    # What one may want to know

    @property
    def ready(self) -> int:
        """Candidates that are due, even if the limits of their subnet hold some back."""
        return self._turns.ready

    def statistics(self) -> Statistics:
        """Counts of the present."""
        return self._tally.statistics(self._turns.ready, len(self._passed_over))

    def explain(self, now: float, *, discovering: bool = True) -> str | None:
        """Why no peer comes, in one sentence; None if one has come or it is too early to say.

        `discovering` says whether nodes are looked for at all.
        """
        sentence = explain(self._tally, [why for _, _, why in self._passed_over_values()], discovering=discovering)
        pause = self.wake_at() - now
        if sentence is None or self._dials or self._turns.ready or not 1 <= pause < LONGEST_BACKOFF:
            return sentence
        return f"{sentence} (next try in {pause:.0f} s)"

    # Inside

    def _passed_over_values(self) -> Iterator[tuple[Node, Source, str]]:
        return (value for _, value in self._passed_over.items())

    def _passes(self, node: Node, source: Source) -> bool:
        why = self._refuses(node)
        if why is None:
            self._passed_over.pop(node.public_key)
            return True
        self._passed_over.put(node.public_key, (node, source, why))
        known = self._known.get(node.public_key)
        if known is not None and known.state in (State.READY, State.WAITING) and not known.is_fixed:
            self._drop(known)
        return False

    def _merge(self, known: Candidate, offered: Candidate, now: float) -> None:
        sources = known.sources | offered.sources
        moved = _moves(known, offered)
        if sources == known.sources and not moved and offered.seq <= known.seq and offered.answered <= known.answered:
            return
        with self._changing(known):
            self._turns.leave(known)
            known.sources = sources
            known.fork_checked |= offered.fork_checked
            known.answered = offered.answered or (known.answered and not moved)
            if moved:
                known.host, known.ip = offered.host, offered.ip
                known.tcp_port, known.udp_port = offered.tcp_port, offered.udp_port
                if known.state is State.WAITING:
                    self._wait(known, min(known.due, now))
            known.seq = max(known.seq, offered.seq)
            self._turns.join(known)

    def _make_room(self, newcomer: Candidate) -> bool:
        neighbours = self._turns.neighbours(newcomer)
        if neighbours.limited and len(neighbours.members) >= MOST_PER_SUBNET:
            worst = max(neighbours.members, key=lambda each: (each.shelf is not None, each.quality, each.failures))
            if worst.shelf is None or worst.quality <= Quality.NEW:
                return False
            self._drop(worst)
        if len(self._known) >= self.capacity:
            victim = self._shelves.worst(lambda one: self._turns.population(self._turns.neighbours(one)))
            if victim is None:
                return False
            self._drop(victim)
        return True

    def _drop(self, candidate: Candidate) -> None:
        self._tally.remove(candidate)
        self._shelves.remove(candidate)
        self._turns.leave(candidate)
        del self._known[candidate.public_key]

    @contextmanager
    def _changing(self, candidate: Candidate) -> Iterator[None]:
        """Take a candidate out of all orders and counts, and put it back as what it has become."""
        self._tally.remove(candidate)
        self._shelves.remove(candidate)
        self._turns.unready(candidate)
        yield
        self._tally.put(candidate)
        self._shelves.put(candidate)
        if candidate.state is State.READY:
            self._turns.make_ready(candidate)

    def _end_dial(self, candidate: Candidate, now: float) -> None:
        self._dials.discard(candidate.public_key)
        self._turns.ended(candidate, now)

    def _blame(self, candidate: Candidate, reason: Reason, now: float) -> None:
        candidate.reason = reason
        if reason is Reason.UNREACHABLE and self._is_outage(now):
            self._wait(candidate, now)
            return
        candidate.failures += 1
        self._wait(candidate, now + self._jittered(self._backoff(candidate, reason)))

    def _backoff(self, candidate: Candidate, reason: Reason) -> float:
        """Seconds until its next dial, from its failures in a row and the reason of the last one."""
        first, longest, _ = BACKOFF[reason]
        doublings = candidate.failures - 1
        if candidate.is_fixed:
            first, longest = self._pause(candidate), LONGEST_FIXED
        elif reason is Reason.UNREACHABLE:
            if candidate.quality <= Quality.GOOD:
                return self.redial  # it may only have restarted, and is worth more than strangers: as soon as may be
            longest = min(longest, max(first, GONE_EVERY * len(self._known)))
            doublings -= FORGOTTEN if candidate.served_bytes else 0
        return min(first * 2.0 ** min(max(doublings, 0), 16), longest)

    def _is_outage(self, now: float) -> bool:
        return self._answered > NEVER and now - self._answered > OUTAGE

    def _pause(self, candidate: Candidate) -> float:
        """Seconds in which it is not dialled twice."""
        nearby = candidate.is_fixed and candidate.ip is not None and not is_public(candidate.ip)
        return min(REDIAL_NEARBY, self.redial) if nearby else self.redial

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + JITTER * (2 * self._rng.random() - 1))

    def _wait(self, candidate: Candidate, until: float) -> None:
        """Leave it alone until then, and for a while since its last dial in any case."""
        candidate.state, candidate.due = State.WAITING, max(until, candidate.last_dial + self._pause(candidate))
        heapq.heappush(self._waiting, (candidate.due, next(self._numbers), candidate))
        if len(self._waiting) > 2 * len(self._known) + 64:
            self._waiting = [entry for entry in self._waiting if self._is_current(entry[2], entry[0])]
            heapq.heapify(self._waiting)

    def _is_current(self, candidate: Candidate, due: float) -> bool:
        return (
            candidate.state is State.WAITING
            and candidate.due == due
            and self._known.get(candidate.public_key) is candidate
        )

    def _release(self, now: float) -> None:
        """Make ready who is due: each candidate once per pause, so that a call costs little on average."""
        self._turns.advance(now)
        while self._waiting and self._waiting[0][0] <= now:
            due, _, candidate = heapq.heappop(self._waiting)
            if self._is_current(candidate, due):
                with self._changing(candidate):
                    candidate.state = State.READY


def _candidate(node: Node | Enode, source: Source) -> Candidate:
    sources = _ONLY[source]
    if isinstance(node, Node):
        ip, port = node.endpoint
        seq = node.record.seq if node.record is not None else -1
        checked = node.record is not None and node.record.fork_id is not None
        return Candidate(node.public_key, str(ip), ip, node.tcp_port, port, sources, seq, checked, node.answered)
    return Candidate(node.public_key, node.host, ip_of_host(node.host), node.tcp_port, node.udp_port, sources)


_ONLY = {source: frozenset({source}) for source in Source}


def _moves(known: Candidate, offered: Candidate) -> bool:
    """Whether the offered address should replace the known one."""
    if (known.host, known.tcp_port) == (offered.host, offered.tcp_port):
        return False
    if offered.is_fixed:
        return True
    newer = offered.seq > known.seq
    if known.is_fixed:
        return newer and known.failures > 0
    return newer or (known.seq < 0 and offered.seq < 0 and known.reason is Reason.UNREACHABLE)
