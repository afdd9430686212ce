"""The dial pool under any sequence of events: no limit is ever exceeded, and its books agree with a plain recount."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.discovery.addresses import is_public, subnet
from ethsync.discovery.candidate import Candidate, Quality, Reason, Source, State, Usefulness
from ethsync.discovery.candidates import MOST_DIALS, REDIAL, REDIAL_NEARBY, Candidates
from ethsync.discovery.node import Node
from ethsync.discovery.turns import MOST_PER_SUBNET
from tests.unit.discovery.crowds import key, node

CAPACITY = 40
NETWORKS = [f"20.{n}.1" for n in range(12)] + ["66.6.6", "10.0.0", "127.0.0"]
NODES: list[Node] = [
    node(f"{number} {seq}".split()[0], f"{NETWORKS[(number + 7 * seq) % len(NETWORKS)]}.{number + 1}", seq=seq or None)
    for number in range(90)
    for seq in range(3)
]


class History:
    """Random events on a pool, next to the plainest possible books."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.refused = {key(self.rng.randrange(90)) for _ in range(5)}
        self.candidates = Candidates(
            random.Random(seed),
            capacity=CAPACITY,
            refuses=lambda each: "no" if each.public_key in self.refused else None,
        )
        self.now = 0.0
        self.dialled: dict[bytes, float] = {}
        self.dials: dict[bytes, Candidate] = {}
        self.places: dict[bytes, object] = {}
        self.connected: set[bytes] = set()

    def offer(self) -> None:
        source = self.rng.choice([*list(Source)[2:]] * 4 + [Source.STATIC])
        self.candidates.offer(self.rng.choice(NODES), source, self.now)

    def ask(self) -> None:
        in_use = {key(str(self.rng.randrange(90))) for _ in range(3)} | self.connected
        candidate = self.candidates.next(self.now, in_use)
        if candidate is None:
            return
        public_key = candidate.public_key
        assert public_key not in in_use
        assert public_key not in self.dials
        assert len(self.dials) < MOST_DIALS
        nearby = candidate.is_fixed and candidate.ip is not None and not is_public(candidate.ip)
        assert self.now - self.dialled.get(public_key, float("-inf")) >= (REDIAL_NEARBY if nearby else REDIAL)
        place = None
        if not candidate.is_fixed:
            assert public_key not in self.refused
            assert candidate.ip is not None
            if is_public(candidate.ip):
                place = subnet(candidate.ip)
                assert sum(each == place for each in self.places.values()) < MOST_PER_SUBNET
        if self.rng.random() < 0.1:
            self.candidates.defer(public_key, self.now + 10.0)
        else:
            self.candidates.dialled(public_key, self.now)
            self.dialled[public_key], self.dials[public_key], self.places[public_key] = self.now, candidate, place

    def end_dial(self) -> None:
        if not self.dials:
            return
        public_key = self.rng.choice(list(self.dials))
        del self.dials[public_key], self.places[public_key]
        if self.rng.random() < 0.3:
            self.candidates.connected(public_key, "Geth/v1", self.now)
            self.connected.add(public_key)
        else:
            self.candidates.failed(public_key, self.rng.choice(list(Reason)), self.now)

    def end_connection(self) -> None:
        if self.connected:
            public_key = self.rng.choice(list(self.connected))
            self.connected.remove(public_key)
            served = self.rng.choice([0, 0, 1000, 1 << 30])
            self.candidates.ended(public_key, Usefulness(self.rng.randrange(3), served), self.now)

    def recheck(self) -> None:
        self.refused = {key(str(self.rng.randrange(90))) for _ in range(5)} - set(self.dials) - self.connected
        for each in self.candidates:
            self.refused.discard(each.public_key)  # the pool learns of it only by the node's next record
        self.candidates.recheck(self.now)

    def pass_time(self) -> None:
        self.now += self.rng.choice([0.0, 0.1, 1.0, 10.0, 40.0, 300.0, 10_000.0])

    def step(self) -> None:
        before = {each.public_key for each in self.candidates if _is_safe(each)}
        events = [self.offer] * 6 + [self.ask] * 8 + [self.end_dial] * 5 + [self.end_connection, self.recheck]
        self.rng.choice([*events, self.pass_time, self.pass_time])()
        present = {each.public_key for each in self.candidates}
        assert before <= present, "a candidate that was proven, busy or named by the user is gone"
        self.check_books()

    def check_books(self) -> None:
        everyone = list(self.candidates)
        assert len(everyone) == len(self.candidates) <= CAPACITY
        found = self.candidates.statistics()
        assert found.known == len(everyone)
        assert found.ready == sum(each.state is State.READY for each in everyone)
        assert found.dialling == sum(each.state is State.DIALLING for each in everyone) == len(self.dials)
        assert found.connected == sum(each.state is State.CONNECTED for each in everyone) == len(self.connected)
        assert found.by_source == Counter(source for each in everyone for source in each.sources)
        assert found.by_reason == Counter(each.reason for each in everyone if each.reason is not None)
        assert found.tried == sum(each.last_dial > float("-inf") for each in everyone)
        for each in everyone:
            assert (each.lane is not None) == (each.state is State.READY)
            assert each.lane in (None, (each.quality, each.source))
            assert each.shelf in (None, (each.quality, each.source))


def _is_safe(candidate: Candidate) -> bool:
    busy = candidate.state in (State.DIALLING, State.CONNECTED)
    return busy or candidate.quality in (Quality.FIXED, Quality.BEST, Quality.GOOD)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_all_limits_hold_and_the_books_agree(seed: int) -> None:
    history = History(seed)
    for _ in range(400):
        history.step()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_when_told_to_wait_nothing_is_missed(seed: int) -> None:
    # Given any past
    history = History(seed)
    for _ in range(200):
        history.step()
    candidates, now = history.candidates, history.now
    # When nobody may be dialled
    for _ in range(60):
        while (candidate := candidates.next(now)) is not None:
            candidates.dialled(candidate.public_key, now)
            candidates.failed(candidate.public_key, Reason.UNREACHABLE, now)
        # Then that stays so until the time that was told.
        wake = candidates.wake_at()
        assert wake > now
        if wake == float("inf") or len(candidates._dials) >= MOST_DIALS:
            return
        assert candidates.next(now + (wake - now) * 0.999) is None
        now = wake
