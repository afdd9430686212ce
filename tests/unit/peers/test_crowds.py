"""A pool full of nodes that give nothing: those that give are found, kept, and busy all the time.

A loop asks for more than all peers together can give, as a sync does. Peers answer one request after another, so
whoever is always busy gives all it can.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import coincurve
import pytest
import trio
from trio.testing import MockClock

from ethsync.discovery.candidate import Source
from ethsync.errors import PeerError, PeerGone, RequestTimeout
from ethsync.peers import dialer as module
from ethsync.peers.assignment import Demand, assign
from ethsync.peers.dialer import Dialer
from ethsync.peers.finding import run_rotation
from ethsync.peers.greeting import ChainView
from ethsync.peers.peer import Peer
from ethsync.peers.pool import PeerPool
from ethsync.peers.slots import Slots
from ethsync.peers.track import Outcome, RequestKind
from ethsync.rlpx.connection import Connection
from ethsync.wire import rlp
from ethsync.wire.enode import Enode
from tests.unit.peers.dial_bench import dialling, scattered
from tests.unit.peers.stubs import Server, accounts

ACCOUNTS = RequestKind.ACCOUNTS
LATENCY = 0.5
LEAVES = bytes(30_000)

Behaviour = Callable[[float], Outcome]
"""What a node's answers are at a time in seconds."""


def always_empty(now: float) -> Outcome:
    return Outcome.EMPTY


def useful(now: float) -> Outcome:
    return Outcome.SERVED


def loses_the_root(now: float) -> Outcome:
    """Serves for a while, and then answers as Nethermind does for a root that it has lost."""
    return Outcome.SERVED if now < 240 else Outcome.MALFORMED


ANSWERS = {Outcome.SERVED: LEAVES, Outcome.EMPTY: b"", Outcome.MALFORMED: b"?"}


@dataclass
class Town:
    """Nodes with their behaviours, and what came of asking them."""

    behaviours: dict[int, Behaviour]
    pool: PeerPool
    dialer: Dialer = field(init=False)
    served: Counter[int] = field(default_factory=Counter)
    changed: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def open(self, number: int, node: Enode, key: coincurve.PrivateKey, view: ChainView) -> AsyncIterator[Peer]:
        """Stands in for `dial_peer`."""
        await trio.sleep(LATENCY)
        behaviour = self.behaviours[node.public_key[0]]
        server = Server(latency=LATENCY, answer=lambda: ANSWERS[behaviour(trio.current_time())])
        failure: PeerError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve)
            try:
                yield Peer(number, node, cast("Connection", server))
            except PeerError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def work(self) -> None:
        """Ask everybody for as much as they take, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self.changed = trio.Event()
                now = trio.current_time()
                for each in assign(self.pool.askable(now), [Demand(ACCOUNTS, 1000)]):
                    peer = self.pool.peers[each.peer]
                    peer.record.tracks[ACCOUNTS].in_flight += 1
                    nursery.start_soon(self._ask, peer)
                with trio.move_on_at(self.pool.next_pause_end(now)):
                    await self.changed.wait()

    async def _ask(self, peer: Peer) -> None:
        try:
            payload = await peer.request(ACCOUNTS, accounts)
        except (RequestTimeout, PeerGone) as error:
            outcome = Outcome.TIMEOUT if isinstance(error, RequestTimeout) else Outcome.DISCONNECTED
        else:
            tail = rlp.decode(payload)[1]
            outcome = next(kind for kind, answer in ANSWERS.items() if answer == tail)
        peer.record.tracks[ACCOUNTS].in_flight -= 1
        self.pool.note(peer, ACCOUNTS, outcome)
        self.served[peer.enode.public_key[0]] += outcome is Outcome.SERVED
        self.changed.set()

    @property
    def connections(self) -> dict[int, int]:
        """How often each node got a slot."""
        return {key[0]: known.connections for key, known in self.pool.acquaintances()}

    def connected(self, numbers: Sequence[int]) -> int:
        """How many of these nodes are peers."""
        return len({peer.enode.public_key[0] for peer in self.pool.peers.values()} & set(numbers))


@asynccontextmanager
async def town_of(
    behaviours: dict[int, Behaviour], max_peers: int, pool: PeerPool, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    """A pool that finds these nodes, and a loop that asks whoever is in it."""
    pool.slots = Slots(max_peers, inbound_share=0.0)
    town = Town(behaviours, pool)
    pool.changed = lambda: town.changed.set()
    monkeypatch.setattr(module, "dial_peer", town.open)
    found = [scattered(number) for number in behaviours]
    random.Random(5).shuffle(found)
    async with dialling(pool, found=tuple(found)) as at_work, trio.open_nursery() as nursery:
        town.dialer = at_work
        nursery.start_soon(run_rotation, pool, at_work.candidates)
        nursery.start_soon(town.work)
        yield town
        nursery.cancel_scope.cancel()


GOOD, LOSING, EMPTY = range(1, 6), range(6, 11), range(11, 41)
CROWD: dict[int, Behaviour] = {
    **dict.fromkeys(GOOD, useful), **dict.fromkeys(LOSING, loses_the_root), **dict.fromkeys(EMPTY, always_empty),
}  # fmt: skip


@pytest.mark.parametrize("max_peers", [50, 12])
async def test_thirty_of_forty_peers_that_are_always_empty_and_five_that_garble_lost_roots_cost_no_speed(
    max_peers: int, pool: PeerPool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given so few slots that most nodes must be tried one after another, or enough for all
    async with town_of(CROWD, max_peers, pool, monkeypatch) as town:
        await trio.sleep(300)
        # Then all that give are connected,
        assert town.connected(GOOD) == len(GOOD)
        # and from now on give all they can: an answer every LATENCY seconds each.
        before = town.served.copy()
        await trio.sleep(60)
        for number in GOOD:
            assert town.served[number] - before[number] >= 0.98 * 60 / LATENCY
            assert town.connections[number] == 1
        # The five that garble gave something while they could; nobody was banned for what it lost.
        assert all(town.served[number] for number in LOSING)
        assert len(pool.dropped) > 0
        assert {drop.peer.partition(":")[0] for drop in pool.dropped.all()} <= {
            f"stub/1 at 20.{number}.1.1" for number in LOSING
        }
        assert len(pool.bans) == 0
        assert {drop.banned for drop in pool.dropped.all()} == {False}
        assert all(pool.is_banned(scattered(number).public_key, None) is None for number in CROWD)


async def test_useless_peers_are_rotated_out_while_others_wait_and_left_alone_for_a_while(
    pool: PeerPool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd: dict[int, Behaviour] = {1: useful, **dict.fromkeys(range(2, 20), always_empty)}
    async with town_of(crowd, 3, pool, monkeypatch) as town:
        await trio.sleep(600)
        # Everybody was tried, and nobody more than once: each has said that it has nothing.
        assert all(town.connections[number] == 1 for number in crowd)
        assert pool.replaced >= len(crowd) - 3
        assert town.connected([1]) == 1


async def test_the_one_peer_that_serves_is_found_behind_others_that_took_all_slots(
    pool: PeerPool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given slots that are taken by useless peers before the useful one is known
    async with town_of(dict.fromkeys(range(1, 4), always_empty), 3, pool, monkeypatch) as town:
        await trio.sleep(60)
        assert town.connected(range(1, 4)) == 3
        town.behaviours[9] = useful
        town.dialer.offer(Source.STORED, scattered(9))
        await trio.sleep(600)
        assert town.connected([9]) == 1


async def test_when_a_root_is_lost_by_all_who_had_it_nobody_is_rotated_out(
    pool: PeerPool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others would be no better, and those who have served before will again, when the pivot has moved."""

    def until_a_minute(now: float) -> Outcome:
        return Outcome.SERVED if now < 60 else Outcome.EMPTY

    async with town_of(dict.fromkeys(range(1, 20), until_a_minute), 3, pool, monkeypatch) as town:
        await trio.sleep(600)
        assert pool.replaced == 0
        assert len(town.connections) == 3
