"""The one task tree that does discovery's I/O: datagrams in and out, deadlines, nodes found handed on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.udp import LARGEST_DATAGRAM, Sockets, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.discovery.finder import Finder
    from ethsync.discovery.node import Datagram, Node
    from ethsync.discovery.protocol import AddressSeen

BUSY_SHARE = 0.2
"""Share of the event loop's time that datagrams may take, on all sockets together. Under a flood the readers pause, and
the kernel drops what does not fit into its buffer; RLPx and the sync go on."""

BURST_SECONDS = 0.002
"""Time of datagrams handled in a row before the pause that `BUSY_SHARE` asks for: well under the 10 ms of loop lag that
the rest of the program may see."""


async def run_discovery(
    finder: Finder,
    sockets: Sockets,
    found: Callable[[str, Node], None],
    address_seen: Callable[[AddressSeen], None],
    *,
    clock: Callable[[], float] = time.perf_counter,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Drive `finder` until cancelled.

    `found` is called with the protocol's name and each node that it finds, `address_seen` with what others say of our
    address. Whatever strangers send ends at the finder: nothing of it is raised here. `clock` tells how long it takes.
    """
    service = _Service(finder, sockets, found, address_seen, clock)
    async with trio.open_nursery() as nursery:
        for sock in sockets.by_version.values():
            nursery.start_soon(service.read, sock)
        task_status.started()
        await service.keep_deadlines()


@dataclass(slots=True)
class _Service:
    finder: Finder
    sockets: Sockets
    found: Callable[[str, Node], None]
    address_seen: Callable[[AddressSeen], None]
    clock: Callable[[], float]
    sooner: trio.Event = field(default_factory=trio.Event)
    """Set when a deadline has come up that is earlier than the one waited for."""
    awaited: float = float("inf")
    spent: float = 0.0
    """Seconds that datagrams have taken since the last pause."""
    free_at: float = float("-inf")
    """When the pause ends."""

    async def keep_deadlines(self) -> None:
        while True:
            self.finder.advance(trio.current_time())
            await self.sockets.send(self.outcome())
            self.awaited, self.sooner = self.finder.deadline, trio.Event()
            with trio.move_on_at(self.awaited):
                await self.sooner.wait()

    async def read(self, sock: trio.socket.SocketType) -> None:
        """Read datagrams for as long as the socket lives, within the share of time that they may take."""
        while True:
            try:
                data, address = await sock.recvfrom(LARGEST_DATAGRAM)
            except OSError:  # an earlier datagram of ours could not be delivered (ICMP): nothing is wrong here
                continue
            began = self.clock()
            self.finder.receive(data, endpoint_of(address), trio.current_time())
            packets = self.outcome()
            self.spent += self.clock() - began  # without the wait until they are sent, when others have the loop
            await self.sockets.send(packets)
            await self.pause()

    async def pause(self) -> None:
        """Leave the loop to others, if datagrams have had it for long enough."""
        now = trio.current_time()
        if self.spent >= BURST_SECONDS:
            self.free_at = max(self.free_at, now) + self.spent / BUSY_SHARE - self.spent
            self.spent = 0.0
        if self.free_at > now:
            await trio.sleep_until(self.free_at)

    def outcome(self) -> list[Datagram]:
        """Pass on what has come of the last step; return what is to be sent."""
        for protocol, node in self.finder.discovered():
            self.found(protocol, node)
        for report in self.finder.address_reports():
            self.address_seen(report)
        packets = self.finder.packets()
        if self.finder.deadline < self.awaited:
            self.sooner.set()
        return packets
