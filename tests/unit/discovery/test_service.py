"""Discovery's task tree: deadlines kept, datagrams passed on, strangers' share of the loop, and no way to end it."""

from __future__ import annotations

import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import cast

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.discovery.finder import Finder
from ethsync.discovery.node import Datagram, Endpoint, Node
from ethsync.discovery.protocol import AddressSeen
from ethsync.discovery.service import BURST_SECONDS, BUSY_SHARE, run_discovery
from ethsync.discovery.udp import Sockets
from tests.unit.discovery.discv4_bench import endpoint, node_number
from tests.unit.discovery.spoofed import Forger
from tests.unit.discovery.test_spoofed_packets import Scene

HERE = endpoint("10.0.0.1")
THERE = endpoint("9.9.9.9")
REPORT = AddressSeen(bytes(32), HERE, THERE)

Arrival = tuple[bytes, tuple[str, int]] | OSError


class Wire:
    """A socket in memory. What arrives is put in by the test; what is sent is kept, or refused."""

    def __init__(self) -> None:
        self._put, self._get = trio.open_memory_channel[Arrival](1_000_000)
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.refusal: OSError | None = None
        self.seconds_to_send = 0.0

    def arrive(self, data: bytes, source: Endpoint = THERE) -> None:
        self._put.send_nowait((data, (str(source.ip), source.port)))

    def fail(self, number: int) -> None:
        """The next reading raises an error of the system."""
        self._put.send_nowait(OSError(number, "injected"))

    @property
    def waiting(self) -> int:
        return self._get.statistics().current_buffer_used

    async def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        arrival = await self._get.receive()
        if isinstance(arrival, OSError):
            raise arrival
        return arrival

    async def sendto(self, data: bytes, to: tuple[str, int]) -> None:
        await trio.sleep(self.seconds_to_send)
        if self.refusal is not None:
            raise self.refusal
        self.sent.append((data, to))


@dataclass
class ScriptedFinder:
    """Does what the test says when a datagram comes or a deadline is there."""

    deadline: float = float("inf")
    received: list[tuple[bytes, Endpoint, float]] = field(default_factory=list)
    advanced: list[float] = field(default_factory=list)
    on_datagram: Callable[[], None] = lambda: None
    outgoing: list[Datagram] = field(default_factory=list)
    found: list[tuple[str, Node]] = field(default_factory=list)
    reports: list[AddressSeen] = field(default_factory=list)

    def receive(self, data: bytes, source: Endpoint, now: float) -> None:
        self.received.append((data, source, now))
        self.on_datagram()

    def advance(self, now: float) -> None:
        self.advanced.append(now)
        if now >= self.deadline:
            self.deadline = float("inf")

    def packets(self) -> list[Datagram]:
        taken, self.outgoing = self.outgoing, []
        return taken

    def discovered(self) -> list[tuple[str, Node]]:
        taken, self.found = self.found, []
        return taken

    def address_reports(self) -> list[AddressSeen]:
        taken, self.reports = self.reports, []
        return taken


@dataclass
class Running:
    """A service at work."""

    wires: dict[int, Wire]
    sockets: Sockets
    found: list[tuple[str, Node]] = field(default_factory=list)
    reports: list[AddressSeen] = field(default_factory=list)
    busy: float = 0.0
    """What the clock shows by which the service measures how long datagrams take."""

    @property
    def wire(self) -> Wire:
        return self.wires[4]

    def work(self, seconds: float) -> None:
        """So long a step takes."""
        self.busy += seconds


@asynccontextmanager
async def running(finder: object, versions: tuple[int, ...] = (4,)) -> AsyncIterator[Running]:
    wires = {version: Wire() for version in versions}
    sockets = Sockets({version: cast("trio.socket.SocketType", wire) for version, wire in wires.items()})
    service = Running(wires, sockets)

    def found(protocol: str, node: Node) -> None:
        service.found.append((protocol, node))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: run_discovery(
                cast("Finder", finder), sockets, found, service.reports.append, clock=lambda: service.busy
            )
        )
        await wait_all_tasks_blocked()
        yield service
        nursery.cancel_scope.cancel()


# Datagrams and deadlines


async def test_a_datagram_is_passed_on_with_its_source_and_the_time(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    async with running(finder, (4, 6)) as service:
        now = trio.current_time()
        service.wires[4].arrive(b"four", THERE)
        service.wires[6].arrive(b"six", endpoint("2a01::1"))
        await wait_all_tasks_blocked()
    assert sorted(finder.received) == [(b"four", THERE, now), (b"six", endpoint("2a01::1"), now)]


async def test_what_comes_of_it_is_sent_and_handed_on_once(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    node = node_number(1)

    def answer() -> None:
        finder.outgoing.append(Datagram(b"answer", THERE))
        finder.found.append(("discv5", node))
        finder.reports.append(REPORT)

    finder.on_datagram = answer
    async with running(finder) as service:
        service.wire.arrive(b"question")
        await wait_all_tasks_blocked()
    assert service.wire.sent == [(b"answer", ("9.9.9.9", 30303))]
    assert service.found == [("discv5", node)]
    assert service.reports == [REPORT]


async def test_the_finder_is_called_when_its_deadline_has_come(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    finder.deadline = trio.current_time() + 7.0
    async with running(finder):
        begun = trio.current_time()
        await trio.sleep(20)
    assert finder.advanced == [begun, begun + 7.0]


async def test_a_deadline_that_a_datagram_brings_forward_is_kept(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    begun = trio.current_time()
    finder.deadline = begun + 100.0

    def sooner() -> None:
        finder.deadline = trio.current_time() + 2.0

    finder.on_datagram = sooner
    async with running(finder) as service:
        await trio.sleep(5)
        service.wire.arrive(b"now")
        await trio.sleep(20)
    assert begun + 7.0 in finder.advanced


# What does not end it


async def test_errors_of_the_system_when_reading_end_nothing(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    async with running(finder) as service:
        for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EMSGSIZE):
            service.wire.fail(number)
        service.wire.arrive(b"still here")
        await wait_all_tasks_blocked()
    assert [data for data, _, _ in finder.received] == [b"still here"]


async def test_errors_of_the_system_when_sending_are_counted_and_end_nothing(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    finder.on_datagram = lambda: finder.outgoing.append(Datagram(b"answer", THERE))
    async with running(finder) as service:
        for number in (errno.EMSGSIZE, errno.ENETUNREACH, errno.EPERM, errno.ENOBUFS, errno.EAGAIN):
            service.wire.refusal = OSError(number, "injected")
            service.wire.arrive(b"question")
            await wait_all_tasks_blocked()
        service.wire.refusal = None
        service.wire.arrive(b"question")
        await wait_all_tasks_blocked()
    assert service.sockets.unsent == 5
    assert len(service.wire.sent) == 1


SEEDS = [
    make()
    for forger in [Forger(Scene().ours.record.node_id, Scene().honest.record.node_id)]
    for make in forger.kinds.values()
]
"""A packet of each kind that a stranger can send, by the rules of its protocol as far as possible."""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One of those, with some bytes changed, left out or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


SOURCES = st.builds(
    Endpoint,
    st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)),
    st.integers(0, 65535),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.one_of(damaged(), st.binary(max_size=2048)), SOURCES), max_size=20))
def test_no_bytes_from_anywhere_end_it(datagrams: list[tuple[bytes, Endpoint]]) -> None:
    async def run() -> None:
        scene = Scene()
        async with running(scene.finder, (4, 6)) as service:
            for data, source in datagrams:
                service.wires[source.ip.version].arrive(data, source)
                await wait_all_tasks_blocked()
            assert not any(wire.waiting for wire in service.wires.values())
        received = sum(number for name, number in scene.finder.counts.items() if "received" in name or "of no" in name)
        assert received == len(datagrams)

    trio.run(run, clock=MockClock(autojump_threshold=0))


# The share of time


PAUSED = 10.0
"""Seconds that pass while discovery pauses: the clock of a test stands still while somebody works."""


def share(service: Running) -> float:
    """Of all time, how much datagrams took."""
    return service.busy / (service.busy + PAUSED)


def flood(service: Running, count: int) -> None:
    for _ in range(count):
        for wire in service.wires.values():
            wire.arrive(b"flood")


async def test_a_flood_has_a_fifth_of_the_time_at_most(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    async with running(finder) as service:
        finder.on_datagram = lambda: service.work(0.0005)
        flood(service, 100_000)
        await trio.sleep(PAUSED)
        assert 0.95 * BUSY_SHARE <= share(service) <= 1.01 * BUSY_SHARE


async def test_all_sockets_together_have_that_share(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    async with running(finder, (4, 6)) as service:
        finder.on_datagram = lambda: service.work(0.0005)
        flood(service, 100_000)
        await trio.sleep(PAUSED)
        assert share(service) <= 1.01 * BUSY_SHARE
        left = [wire.waiting for wire in service.wires.values()]
    assert abs(left[0] - left[1]) < 100  # and neither starves


async def test_no_burst_is_longer_than_a_fifth_of_the_lag_that_is_allowed(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    async with running(finder) as service:
        finder.on_datagram = lambda: service.work(0.0003)
        flood(service, 10_000)
        await trio.sleep(1)
    at_once = {now: 0 for _, _, now in finder.received}
    for _, _, now in finder.received:
        at_once[now] += 1
    assert BURST_SECONDS <= 0.010 / 5
    assert max(at_once.values()) * 0.0003 < BURST_SECONDS + 0.0003


async def test_a_single_step_that_took_long_is_paid_for_too(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    async with running(finder) as service:
        finder.on_datagram = lambda: service.work(0.1)
        flood(service, 2)
        await trio.sleep(10)
    first, second = (now for _, _, now in finder.received)
    assert second - first == 0.1 / BUSY_SHARE - 0.1


async def test_what_others_do_while_an_answer_is_sent_is_not_paid_for(autojump_clock: MockClock) -> None:
    # Given a busy event loop, on which every sending takes long,
    finder = ScriptedFinder()
    finder.on_datagram = lambda: finder.outgoing.append(Datagram(b"answer", THERE))
    async with running(finder) as service:
        service.wire.seconds_to_send = 0.01

        async def others() -> None:
            while True:
                await trio.sleep(0.01)
                service.work(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            flood(service, 1000)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
    # then no pauses come on top of that.
    assert len(finder.received) > 450


async def test_normal_traffic_is_answered_at_once(autojump_clock: MockClock) -> None:
    finder = ScriptedFinder()
    rng = random.Random(1)
    async with running(finder) as service:
        finder.on_datagram = lambda: service.work(0.0001)
        sent = []
        for _ in range(1000):  # 100 packets a second on average
            await trio.sleep(rng.expovariate(100))
            sent.append(trio.current_time())
            service.wire.arrive(b"packet")
        await trio.sleep(1)
    delays = [now - at for at, (_, _, now) in zip(sent, finder.received, strict=True)]
    assert max(delays) <= BURST_SECONDS / BUSY_SHARE
    assert sum(delays) / len(delays) < 0.001
