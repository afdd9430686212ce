"""Floods of forged packets through the whole finder: little is sent for them, little is kept, honest nodes go on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

import coincurve
import pytest

from ethsync.discovery.discv4 import Discv4
from ethsync.discovery.discv4_limits import DEFAULT_LIMITS as LIMITS_4
from ethsync.discovery.discv5 import Discv5
from ethsync.discovery.discv5_limits import DEFAULT_LIMITS as LIMITS_5
from ethsync.discovery.finder import Finder
from ethsync.discovery.lane import Lane
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.protocol import Pong, Unanswered
from ethsync.discovery.table import Table
from ethsync.ui.machine import read_anonymous
from ethsync.wire import keys
from tests.unit.discovery.discv4_bench import EPOCH, endpoint, key_number, record_at
from tests.unit.discovery.spoofed import Forger, most_in_a_second

MOST_WHOAREYOU = 100
"""Per second, for the whole world (the aim that was set)."""

UDP_AND_IP = 28  # bytes in front of every datagram (RFC 768, RFC 791)
PER_SECOND = 20_000
HONEST_EVERY = PER_SECOND // 10  # a node may ask ten times a second
FULL = 1_400_000
"""Packets after which all that strangers can fill is full: signatures are checked at a rate, so it takes a minute."""

MOST_MEMORY = 32 << 20
"""Bytes that a flood may take (`discv4_limits.Limits` says for what); measured: 27 MB, 19 by the first million."""

MOST_MEMORY_WHEN_FULL = 2 << 20
"""Bytes that it may take after that, of whatever length; measured: 0.5 MB for 400,000 packets."""

CHALLENGES = ".lanes{}.protocol._channel.challenges"
GATE = ".lanes{}.protocol._gate"
BOUNDS = {
    ".lanes{}.protocol.bonds._trusting": LIMITS_4.bonds,
    f"{GATE}._packets": LIMITS_4.origins,
    f"{GATE}._pongs": LIMITS_4.origins,
    f"{GATE}._ping_backs": LIMITS_4.origins,
    f"{CHALLENGES}._challenges": LIMITS_5.challenges,
    f"{CHALLENGES}._places": LIMITS_5.places,
    f"{CHALLENGES}._networks": LIMITS_5.places,
    CHALLENGES: LIMITS_5.challenges,
    ".lanes{}.protocol.calls": LIMITS_4.all_ping_backs,
}
"""The collections that strangers can fill, and how far. All others hold a handful."""

A_HANDFUL = 40  # the names of what is counted, and what belongs to one session

OUTCOMES = {
    "noise": "of no protocol",
    "discv5 message of a stranger": "discv5: sent WHOAREYOU",
    "discv5 message in the name of a known node": "discv5: sent WHOAREYOU",
    "discv5 WHOAREYOU for nothing": "discv5: dropped WHOAREYOU",
    "discv5 handshake without a challenge": "discv5: dropped handshake",
    "discv5 handshake in the name of a known node": "discv5: dropped handshake",
    "discv4 packet with a wrong hash": "of no protocol",
    "discv4 packet with an impossible signature": "discv4: dropped malformed",
    "discv4 Ping": "discv4: sent Pong",
    "discv4 FindNode": "discv4: dropped unproven",
    "discv4 ENRRequest": "discv4: dropped unproven",
    "discv4 Pong for nothing": "discv4: dropped unsolicited",
    "discv4 Neighbors for nothing": "discv4: dropped unsolicited",
    "discv4 ENRResponse for nothing": "discv4: dropped unsolicited",
    "discv4 Ping of the day before": "discv4: dropped expired",
}


class Scene:
    """A finder that speaks both protocols, and an honest node that has a session with it and asks again and again."""

    def __init__(self) -> None:
        rng = random.Random(1)
        self.now = 0.0
        self.ours = _Identity(1, "8.8.4.4")
        lanes = {}
        table = Table(self.ours.record.node_id, rng)
        self.discv4 = Discv4(self.ours.key, self.ours.record, table, wall_clock=lambda: EPOCH + self.now)
        lanes["discv4"] = Lane(self.discv4, table, [], rng, needs_records=True)
        table = Table(self.ours.record.node_id, rng)
        self.discv5 = Discv5(self.ours.key, self.ours.record, table)
        lanes["discv5"] = Lane(self.discv5, table, [], rng, needs_records=False)
        self.finder = Finder(lanes)
        self.honest = _Identity(2, "9.9.9.9")
        self._honest = Discv5(self.honest.key, self.honest.record, Table(self.honest.record.node_id, rng))

    def receive(self, data: bytes, source: Endpoint) -> list[bytes]:
        """Give the finder a datagram; return those that it sends to anybody but the honest node."""
        self.finder.receive(data, source, self.now)
        return self._carry()

    def advance(self) -> list[bytes]:
        self.finder.advance(self.now)
        self._honest.advance(self.now)
        return self._carry()

    def ask(self) -> list[bytes]:
        """The honest node asks us for a sign of life, and must get one at once."""
        token = self._honest.ping(self.ours.node, self.now)
        others = self._carry()
        outcome = [event for event in self._honest.events() if isinstance(event, Pong | Unanswered)]
        assert [(type(event), event.token) for event in outcome] == [(Pong, token)]
        return others

    def _carry(self) -> list[bytes]:
        """Take packets back and forth until there are no more."""
        others: list[bytes] = []
        while True:
            sent = self.finder.packets()
            for data, to in sent:
                if to == self.honest.endpoint:
                    self._honest.receive(data, self.ours.endpoint, self.now)
                else:
                    others.append(data)
            answers = self._honest.packets()
            for data, _ in answers:
                self.finder.receive(data, self.honest.endpoint, self.now)
            if not answers:
                return others


class _Identity:
    def __init__(self, number: int, ip: str) -> None:
        self.key: coincurve.PrivateKey = key_number(number)
        self.endpoint = endpoint(ip)
        self.record = record_at(self.key, self.endpoint)
        public_key = keys.identity(self.key.public_key)
        self.node = Node(self.record.node_id, public_key, self.endpoint, self.endpoint.port, self.record)


def sizes(value: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, int]]:
    """Every collection inside our own objects, by the attributes that lead there, and how much it holds."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if hasattr(value, "__len__") and not isinstance(value, str | bytes) and not is_dataclass(value):
        yield path, len(value)
    if isinstance(value, dict):
        members = [("{}", each) for each in value.values()]
    elif isinstance(value, list | tuple | set) or type(value).__name__ == "deque":
        members = [("[]", each) for each in value]
    elif type(value).__module__.startswith("ethsync.discovery"):
        names = [each.name for each in fields(value)] if is_dataclass(value) else getattr(value, "__slots__", None)
        members = [(f".{name}", getattr(value, name)) for name in names or vars(value)]
    else:
        return
    for name, member in members:
        yield from sizes(member, path + name, seen)


def bound(path: str) -> float:
    """What a collection may hold, by the longest known beginning of where it is; endpoints and datagrams are pairs."""
    known = [each for each in BOUNDS if path == each or path.startswith((f"{each}.", f"{each}["))]
    if path.count("{}") > 1 or "[]" in path or not known:
        return A_HANDFUL
    return BOUNDS[max(known, key=len)]


def assert_bounded(finder: Finder) -> None:
    largest: dict[str, int] = {}
    for path, size in sizes(finder):
        largest[path] = max(size, largest.get(path, 0))
        assert size <= bound(path), path
    # The walk has come by everything that is known to fill.
    assert BOUNDS.keys() <= largest.keys()


def flooded(count: int) -> tuple[int, int]:
    """Pour so many forged packets on a finder; return how much memory that took, in all and after `FULL`, in bytes.

    Asserts that the honest node is answered throughout, how much is sent to all others, and how much is kept.
    """
    scene = Scene()
    scene.ask()
    forger = Forger(scene.ours.record.node_id, scene.honest.record.node_id)
    challenged: list[float] = []
    received = sent = 0
    memory = when_full = read_anonymous() or 0
    for number, (data, source) in enumerate(islice(forger.flood(), count)):
        scene.now = 10.0 + number / PER_SECOND
        before = scene.discv5.counts["sent WHOAREYOU"]
        answers = scene.receive(data, source)
        if scene.discv5.counts["sent WHOAREYOU"] > before:
            challenged.append(scene.now)
            assert sum(map(len, answers)) <= len(data)
        elif answers:  # to a Ping of discv4: a Pong, and perhaps a Ping
            assert sum(len(answer) + UDP_AND_IP for answer in answers) < 3 * (len(data) + UDP_AND_IP)
        if number % HONEST_EVERY == 0:
            answers += scene.advance() + scene.ask()
        received += len(data)
        sent += sum(map(len, answers))
        if number == FULL:
            when_full = read_anonymous() or 0
    taken = read_anonymous() or 0  # before the objects are walked, which takes some too
    assert 0 < most_in_a_second(challenged) <= MOST_WHOAREYOU
    assert sent < received / 10
    assert len(scene.discv5._channel.sessions) == 1
    assert_bounded(scene.finder)
    return taken - memory, taken - when_full


def test_a_hundred_thousand_forged_packets_have_little_sent_and_little_kept() -> None:
    flooded(100_000)


@pytest.mark.slow
@pytest.mark.timeout(500)  # some 70 s where nobody else works
def test_far_more_than_a_million_of_them_have_no_more_sent_and_take_no_more_memory() -> None:
    taken, when_full = flooded(FULL + 400_000)
    assert taken <= MOST_MEMORY
    assert when_full <= MOST_MEMORY_WHEN_FULL


@pytest.mark.parametrize(("kind", "outcome"), OUTCOMES.items())
def test_every_kind_of_forged_packet_meets_its_own_end(kind: str, outcome: str) -> None:
    scene = Scene()
    scene.ask()
    forger = Forger(scene.ours.record.node_id, scene.honest.record.node_id)
    before = counts(scene)
    scene.receive(forger.kinds[kind](), endpoint("7.7.7.7"))
    news = counts(scene) - before
    assert outcome in news
    # Nothing else is sent, but for a Ping that asks who sent a Ping.
    assert {name for name in news if ": sent" in name} - {outcome} <= {"discv4: sent Ping"}


def counts(scene: Scene) -> Counter[str]:
    told = Counter({"of no protocol": scene.finder.counts["of no protocol"]})
    for name, by_protocol in (("discv4", scene.discv4.counts), ("discv5", scene.discv5.counts)):
        told.update({f"{name}: {what}": number for what, number in by_protocol.items()})
    return told
