"""TCP without a network: streams in memory between the ends of a connection, with a delay, and a cable to be cut."""

from __future__ import annotations

import errno
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream

LATENCY = 0.02, 0.2
"""Seconds that bytes are on their way, one way; the same for the life of a connection."""

Address = tuple[str, int]

OUR_ADDRESS: Address = ("9.9.9.9", 30303)


@dataclass(frozen=True)
class _Socket:
    """What is asked of the socket of a stream or a listener."""

    name: Address
    peer: Address = ("", 0)

    def getpeername(self) -> Address:
        return self.peer

    def getsockname(self) -> Address:
        return self.name


class MemoryStream(trio.abc.Stream):
    """One end of a connection."""

    def __init__(self, name: Address, peer: Address) -> None:
        self.socket = _Socket(name, peer)
        self.out = MemorySendStream()
        self.into = MemoryReceiveStream()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.out.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.out.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytearray:
        return await self.into.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.out.close()
        self.into.close()
        await trio.lowlevel.checkpoint()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Where connections arrive."""

    def __init__(self, name: Address) -> None:
        self.socket = _Socket(name)
        self._put, self._get = trio.open_memory_channel[MemoryStream](math.inf)

    def arrive(self, stream: MemoryStream) -> None:
        """A connection comes in. Raises BrokenResourceError if nobody listens any more."""
        self._put.send_nowait(stream)

    async def accept(self) -> MemoryStream:
        return await self._get.receive()

    async def aclose(self) -> None:
        self._get.close()
        await trio.lowlevel.checkpoint()


class Roads:
    """All connections. `welcome(host, port)` may answer a dial that goes to no listener; it returns the far end's task.

    `down`: nothing gets through, as if a cable were cut; nobody is told.
    """

    def __init__(self, nursery: trio.Nursery, *, seed: int = 1) -> None:
        self.welcome: Callable[[str, int], Awaitable[Callable[[MemoryStream], Awaitable[None]]]] = _nobody
        self.dials: Counter[Address] = Counter()
        self._nursery = nursery
        self._rng = random.Random(f"roads {seed}")
        self._listeners: dict[Address, MemoryListener] = {}
        self._up = trio.Event()
        self._up.set()

    @property
    def down(self) -> bool:
        """Whether the cable is cut."""
        return not self._up.is_set()

    @down.setter
    def down(self, down: bool) -> None:
        if down:
            self._up = trio.Event()
        else:
            self._up.set()

    async def open_tcp_stream(self, host: str, port: int, **options: object) -> MemoryStream:
        """Stands in for `trio.open_tcp_stream`."""
        return await self.dial((host, port), (OUR_ADDRESS[0], 40_000))

    async def open_tcp_listeners(self, port: int, *, host: str, **options: object) -> list[MemoryListener]:
        """Stands in for `trio.open_tcp_listeners`."""
        listener = self._listeners[host, port] = MemoryListener((host, port))
        return [listener]

    async def dial(self, to: Address, source: Address) -> MemoryStream:
        """Connect from one address to another. Raises OSError as the real one does."""
        self.dials[to] += 1
        latency = self._rng.uniform(*LATENCY)
        await trio.sleep(2 * latency)
        if self.down:
            await trio.sleep_forever()
        near, far = MemoryStream(source, to), MemoryStream(to, source)
        listener = self._listeners.get(to)
        if listener is not None:
            try:
                listener.arrive(far)
            except trio.BrokenResourceError:
                raise refused() from None
        else:
            self._nursery.start_soon(await self.welcome(*to), far)
        self._nursery.start_soon(self._carry, near.out, far.into, latency)
        self._nursery.start_soon(self._carry, far.out, near.into, latency)
        return near

    async def _carry(self, out: MemorySendStream, into: MemoryReceiveStream, latency: float) -> None:
        """Bytes of one direction, as long as both ends are open."""
        try:
            while data := await out.get_data():
                await trio.sleep(latency)
                await self._up.wait()
                into.put_data(data)
            await self._up.wait()
            into.put_eof()
        except trio.ClosedResourceError:
            out.close()


def refused() -> OSError:
    """What a dial raises when nobody listens there."""
    return ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")


async def _nobody(host: str, port: int) -> Callable[[MemoryStream], Awaitable[None]]:
    raise refused()
