"""What we know of one peer for one kind of request, and of the peer as a whole. Pure: the time is an argument."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from ethsync.peers.rtt import RoundTrip


class RequestKind(Enum):
    """Kinds of requests. Each has its own byte budget, timeout and place in the statistics."""

    HEADERS = "headers"
    ACCOUNTS = "accounts"
    STORAGE = "storage"
    CODES = "codes"
    NODES = "trie nodes"
    BODIES = "bodies"
    RECEIPTS = "receipts"
    ACCESS_LISTS = "access lists"


OF_THE_CHAIN = frozenset({RequestKind.HEADERS, RequestKind.BODIES, RequestKind.RECEIPTS, RequestKind.ACCESS_LISTS})
"""Kinds that any node answers. They say nothing of whether it has the state."""


class Outcome(Enum):
    """How a request ended (docs/architecture.md, "Peers"). Only DISPROVED is a crime.

    CUT_SHORT, which happens to honest nodes, is followed by it when it is a habit (`CUT_SHORT_IN_A_ROW`).
    """

    SERVED = "served"
    DUPLICATE = "duplicate"
    """Right, perhaps, but others had brought the same before."""
    EMPTY = "empty"
    TIMEOUT = "timeout"
    MALFORMED = "malformed"
    CUT_SHORT = "cut short"
    """Leaves were missing, as when a geth imports a block in the middle of its answer."""
    DISPROVED = "disproved"
    DISCONNECTED = "disconnected"


START_BUDGET = 128 << 10  # the size that ethrex's measured request sizer starts from
SMALLEST_BUDGET = 64 << 10  # geth's minRequestSize (eth/protocols/snap/sync.go)
LARGEST_BUDGET = 1 << 20  # servers cap replies at 2 MiB; a geth serves accounts no faster from 1 MiB on (measured)
QUICK = 1.0  # seconds; our own figure: an answer that fast lets the budget grow
SLOW = 4.0  # seconds; an answer that slow shrinks it: twice the shortest timeout (`rtt.FLOOR`)
RATE_SMOOTHING = 0.3  # what the newest answer counts in the rate: after five, a new speed is five sixths of it

SMALL_ANSWER = 8 << 10
"""Bytes as which a smaller answer counts for the rate: its time is the round trip's, and says nothing of bandwidth. It
would make a good peer look slower than one that never answers."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds that a peer is left alone for a kind of request after it answered empty, doubled each time. Our own figures:
a root that a peer has not got yet it has seconds later; one that never has anything is asked once a minute."""
MOST_EMPTY = 10  # doublings that are counted: long after the pause is as long as it gets

CUT_SHORT_PAUSE = 1.0
"""Seconds that a peer is left alone for a kind of request after an answer with leaves missing: longer than most geths
take to import a block."""
CUT_SHORT_IN_A_ROW = 4
"""Such answers, each to a request made after the pause that followed the last, that make a liar: all that it had in the
time of four imports was cut short."""

POINTS = {
    Outcome.SERVED: 1.0,
    Outcome.DUPLICATE: 0.0,
    Outcome.EMPTY: -1.0,
    Outcome.TIMEOUT: -2.0,
    Outcome.MALFORMED: -8.0,
    Outcome.CUT_SHORT: -1.0,
    Outcome.DISPROVED: -50.0,
    Outcome.DISCONNECTED: -1.0,
}
"""What each outcome adds to a score: for anything bad, how many good answers make up for it. Our own figures."""
HIGHEST_SCORE = 20.0  # twenty good answers: a long good past must not outweigh a bad present
LOWEST_SCORE = -50.0  # one proven lie
HALF_LIFE = 120.0
"""Seconds in which a score loses half its distance from neutral: no peer is judged for ever."""


@dataclass(slots=True)
class Track:
    """One peer's record for one kind of request."""

    round_trip: RoundTrip = field(default_factory=RoundTrip)
    budget: int = START_BUDGET
    in_flight: int = 0
    rate: float = 0.0
    """Bytes per second of recent answers."""
    empty_in_a_row: int = 0
    malformed_in_a_row: int = 0
    cut_short_in_a_row: int = 0
    paused_until: float = float("-inf")

    def answered(self, size: int, seconds: float) -> None:
        """An answer of `size` bytes came `seconds` after its turn began."""
        self.round_trip.observe(seconds)
        rate = max(size, SMALL_ANSWER) / max(seconds, 1e-3)
        self.rate = rate if not self.rate else self.rate + RATE_SMOOTHING * (rate - self.rate)
        if seconds > SLOW:
            self.budget = max(self.budget // 2, SMALLEST_BUDGET)
        elif seconds < QUICK and 2 * size > self.budget:
            self.budget = min(self.budget * 2, LARGEST_BUDGET)

    def timed_out(self) -> None:
        """No answer came in time: the peer is no faster than what was asked for, over the time it had."""
        bound = self.budget / self.round_trip.timeout()
        self.rate = bound if not self.rate else self.rate + RATE_SMOOTHING * (bound - self.rate)
        self.round_trip.timed_out()
        self.budget = max(self.budget // 2, SMALLEST_BUDGET)

    def was_empty(self, now: float) -> None:
        """The peer had nothing: leave it alone for this kind for a while, longer each time."""
        self.paused_until = now + min(FIRST_PAUSE * 2**self.empty_in_a_row, LONGEST_PAUSE)
        self.empty_in_a_row = min(self.empty_in_a_row + 1, MOST_EMPTY)

    def was_cut_short(self, now: float) -> None:
        """Leaves were missing. What was asked before the last such answer came may have met with the same import."""
        if now >= self.paused_until:
            self.cut_short_in_a_row += 1
            self.paused_until = now + CUT_SHORT_PAUSE

    def was_served(self) -> None:
        """The peer gave something useful."""
        self.empty_in_a_row = self.malformed_in_a_row = self.cut_short_in_a_row = 0


@dataclass(slots=True)
class Record:
    """One peer's record over all kinds."""

    tracks: dict[RequestKind, Track]
    outcomes: Counter[tuple[RequestKind, Outcome]] = field(default_factory=Counter)
    last: Outcome | None = None
    """How the last request for state ended; duplicates, which are not even proven, say nothing."""
    _score: float = 0.0
    _scored_at: float = 0.0

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return sum(track.in_flight for track in self.tracks.values())

    @property
    def promising(self) -> bool:
        """Whether nothing is under way, and the last request for state, if there was one, was answered well."""
        return not self.in_flight and self.last in (None, Outcome.SERVED)

    @property
    def has_served_state(self) -> bool:
        """Whether it ever gave something of a state."""
        return any(
            outcome is Outcome.SERVED and kind not in OF_THE_CHAIN for (kind, outcome), n in self.outcomes.items() if n
        )

    def forgive(self) -> None:
        """What it did not have is not wanted any more: it need not be left alone for that."""
        for kind, track in self.tracks.items():
            if kind not in OF_THE_CHAIN:
                track.empty_in_a_row, track.paused_until = 0, float("-inf")

    def score(self, now: float) -> float:
        """Current score, decayed toward neutral."""
        return float(self._score * 0.5 ** ((now - self._scored_at) / HALF_LIFE))

    def note(self, kind: RequestKind, outcome: Outcome, now: float) -> None:
        """Count an outcome; adjust score and pauses."""
        self.outcomes[kind, outcome] += 1
        if kind not in OF_THE_CHAIN and outcome is not Outcome.DUPLICATE:
            self.last = outcome
        self._score = min(max(self.score(now) + POINTS[outcome], LOWEST_SCORE), HIGHEST_SCORE)
        self._scored_at = now
        track = self.tracks[kind]
        if outcome is Outcome.SERVED:
            track.was_served()
        elif outcome is Outcome.EMPTY:
            track.was_empty(now)
        elif outcome is Outcome.TIMEOUT:
            track.timed_out()
        elif outcome is Outcome.CUT_SHORT:
            track.was_cut_short(now)
        elif outcome is Outcome.MALFORMED:
            track.malformed_in_a_row += 1
            track.was_empty(now)


def new_record(floor: float | None = None) -> Record:
    """The record of a peer we know nothing about; `floor` replaces the smallest timeout."""
    return Record({kind: Track(RoundTrip() if floor is None else RoundTrip(floor)) for kind in RequestKind})
