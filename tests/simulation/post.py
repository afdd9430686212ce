"""UDP without a network: our node's socket, and a postman who brings its packets to the citizens and theirs to it."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, ip_address
from typing import cast

import trio

from ethsync.discovery.node import Datagram, Endpoint
from ethsync.discovery.udp import Sockets
from tests.simulation.light import LightNode
from tests.simulation.roads import OUR_ADDRESS
from tests.simulation.world import Manner, World

US = Endpoint(IPv4Address(OUR_ADDRESS[0]), OUR_ADDRESS[1])

LATENCY = 0.02, 0.2
"""Seconds that a packet is on its way, one way."""


class MemorySocket:
    """What discovery needs of a socket."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._put, self._get = trio.open_memory_channel[tuple[bytes, tuple[str, int]]](math.inf)

    async def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """The next datagram that arrived."""
        return await self._get.receive()

    async def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Hand a datagram to the postman."""
        await trio.lowlevel.checkpoint()
        self._post.send(US, Datagram(data, Endpoint(ip_address(address[0]), address[1])))

    def arrive(self, data: bytes, source: Endpoint) -> None:
        """A datagram has arrived."""
        self._put.send_nowait((data, (str(source.ip), source.port)))

    def getsockname(self) -> tuple[str, int]:
        """Where it is bound."""
        return str(US.ip), US.port

    def close(self) -> None:
        """Nothing is left to do."""


class Post:
    """Carries packets between our node and all others. `down`: everything is lost, as if a cable were cut."""

    def __init__(self, world: World, *, seed: int = 1, loss: float = 0.0) -> None:
        self.down = False
        self.counts: Counter[str] = Counter()
        self.lights: dict[Endpoint, LightNode] = {}
        self._world = world
        self._rng = random.Random(f"post {seed}")
        self._loss = loss
        self._socket = MemorySocket(self)
        self._bag: list[tuple[float, int, Endpoint, Datagram]] = []
        self._sooner = trio.Event()

    @asynccontextmanager
    async def open_sockets(self, addresses: Iterable[Endpoint]) -> AsyncIterator[Sockets]:
        """Stands in for `udp.open_sockets`."""
        yield Sockets({4: cast("trio.socket.SocketType", self._socket)})

    def send(self, source: Endpoint, datagram: Datagram) -> None:
        """Put a packet on its way; now and then one gets lost."""
        self.counts["sent by us" if source is US else "sent to us"] += 1
        if self.down or self._rng.random() < self._loss:
            return
        at = trio.current_time() + self._rng.uniform(*LATENCY)
        heapq.heappush(self._bag, (at, self.counts.total(), source, datagram))
        self._sooner.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._bag[0][0] if self._bag else math.inf):
                await self._sooner.wait()
            while self._bag and self._bag[0][0] <= trio.current_time():
                _, _, source, datagram = heapq.heappop(self._bag)
                self._deliver(source, datagram)

    def _deliver(self, source: Endpoint, datagram: Datagram) -> None:
        if self.down:
            return
        if datagram.to == US:
            self._socket.arrive(datagram.data, source)
            return
        light = self.light(datagram.to)
        if light is not None:
            for answer in light.receive(datagram.data, source, trio.current_time()):
                self.send(datagram.to, answer)

    def light(self, at: Endpoint) -> LightNode | None:
        """The node at an address, woken if nobody talked to it before; None if nobody is there."""
        citizen = self._world.at.get(at)
        if citizen is None or citizen.manner is Manner.DEAD:
            return None
        light = self.lights.get(at)
        if light is None:
            light = self.lights[at] = LightNode(citizen, self._world)
        return light
