"""Nodes that can be dialled without a network: a plan for each, and a dialer at work on them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import coincurve
import trio
from trio.testing import wait_all_tasks_blocked

from ethsync.discovery.candidate import Source
from ethsync.discovery.candidates import Candidates
from ethsync.errors import PeerError
from ethsync.peers.dialer import Dialer, run_dialer
from ethsync.peers.greeting import ChainView
from ethsync.peers.peer import Peer
from ethsync.peers.pool import PeerPool
from ethsync.wire.enode import Enode
from tests.unit.peers.stubs import StubConnection, stub_peer

KEY = coincurve.PrivateKey(b"\1" * 32)


def enode(number: int, host: str = "127.0.0.1") -> Enode:
    """The node of a number. One that is not nearby has an address like '20.1.1.1'."""
    return Enode(bytes([number]) * 64, host, 30_000 + number, 0)


def scattered(number: int) -> Enode:
    """The node of a number, at a public address in a /24 of its own."""
    return enode(number, f"20.{number}.1.1")


@dataclass
class Nodes:
    """What each dial comes to, one after another; the last holds for all that follow.

    An error is raised; a number is for how many seconds the connection lasts. Without a plan it lasts for ever.
    """

    plans: dict[bytes, list[PeerError | float]] = field(default_factory=dict)
    dials: list[tuple[float, int]] = field(default_factory=list)
    """Time and number of the node."""
    goodbyes: list[PeerError] = field(default_factory=list)
    """What was told to peers at the end."""
    greeting: float = 0.0
    """Seconds that a handshake takes."""
    keys: set[bytes] = field(default_factory=set)
    views: list[ChainView] = field(default_factory=list)
    """With which key, and what of us, nodes were dialled."""
    under_way: int = 0
    most_under_way: int = 0

    @asynccontextmanager
    async def open(self, number: int, node: Enode, key: coincurve.PrivateKey, view: ChainView) -> AsyncIterator[Peer]:
        """Stands in for `dial_peer`."""
        self.keys.add(key.secret)
        self.views.append(view)
        self.dials.append((trio.current_time(), node.public_key[0]))
        plan = self.plans.get(node.public_key, [1e9])
        step = plan.pop(0) if len(plan) > 1 else plan[0]
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(self.greeting)
        finally:
            self.under_way -= 1
        if isinstance(step, PeerError):
            raise step
        peer, connection = stub_peer(number, node.public_key)
        peer.enode = node
        failure: PeerError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_later, connection, step)
            try:
                yield peer
            except PeerError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            self.goodbyes.append(failure)
            raise failure

    async def _end_later(self, connection: StubConnection, seconds: float) -> None:
        await trio.sleep(seconds)
        connection.hang_up()

    def dialled(self, number: int) -> list[float]:
        """When a node was dialled."""
        return [when for when, which in self.dials if which == number]


@asynccontextmanager
async def dialling(
    pool: PeerPool, *static: Enode, found: tuple[Enode, ...] = (), trusted: tuple[Enode, ...] = ()
) -> AsyncIterator[Dialer]:
    """A dialer at work on nodes that were named and nodes that were found."""
    pool.trusted = frozenset(each.public_key for each in trusted)
    pool.named = pool.trusted | {each.public_key for each in static}
    dialer = Dialer(pool, Candidates(random.Random(1)), KEY)
    for source, group in ((Source.STATIC, static), (Source.TRUSTED, trusted), (Source.STORED, found)):
        for each in group:
            dialer.offer(source, each)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_dialer, dialer)
        await wait_all_tasks_blocked()
        yield dialer
        nursery.cancel_scope.cancel()
