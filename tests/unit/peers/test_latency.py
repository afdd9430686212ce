"""Waiting times without a floor: peers of different latency, and one whose latency jumps, in a loop that assigns work.

The loop asks for more than all peers together can give, as a sync does; peers answer one request after another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from ethsync.errors import RequestTimeout
from ethsync.peers.assignment import Demand, assign
from ethsync.peers.peer import Peer, run_peer
from ethsync.peers.pool import PeerPool
from ethsync.peers.track import Outcome, RequestKind, new_record
from ethsync.rlpx.connection import Connection
from ethsync.wire.enode import Enode
from tests.unit.peers.stubs import VIEW, Server, accounts

ACCOUNTS = RequestKind.ACCOUNTS


@dataclass
class Loop:
    """Keeps all peers busy, and notes when each outcome came."""

    pool: PeerPool
    nursery: trio.Nursery
    outcomes: dict[int, list[tuple[float, Outcome]]] = field(default_factory=dict)

    def work(self) -> None:
        """Assign what can be assigned now."""
        for each in assign(self.pool.askable(trio.current_time()), [Demand(ACCOUNTS, 100)]):
            peer = self.pool.peers[each.peer]
            peer.record.tracks[ACCOUNTS].in_flight += 1
            self.nursery.start_soon(self._ask, peer)

    async def _ask(self, peer: Peer) -> None:
        outcome = Outcome.SERVED
        try:
            await peer.request(ACCOUNTS, accounts)
        except RequestTimeout:
            outcome = Outcome.TIMEOUT
        peer.record.tracks[ACCOUNTS].in_flight -= 1
        self.pool.note(peer, ACCOUNTS, outcome)
        self.outcomes.setdefault(peer.number, []).append((trio.current_time(), outcome))
        self.work()

    def since(self, number: int, start: float, end: float = float("inf")) -> list[Outcome]:
        """How the requests of one peer ended between two times."""
        return [outcome for at, outcome in self.outcomes[number] if start <= at < end]


@asynccontextmanager
async def running(*latencies: float) -> AsyncIterator[tuple[Loop, list[Server]]]:
    """Peers 0, 1, … of these latencies, with a floor of 0, being asked for more than they can give."""
    pool = PeerPool(lambda: None, VIEW)
    servers = [Server(latency=latency) for latency in latencies]
    async with trio.open_nursery() as nursery:
        with ExitStack() as stack:
            for number, server in enumerate(servers):
                peer = Peer(number, Enode(bytes([number]) * 64, "127.0.0.1", 30303, 30303), cast("Connection", server))
                stack.enter_context(pool.connected(peer))
                peer.record = new_record(floor=0.0)
                nursery.start_soon(server.serve)
                nursery.start_soon(run_peer, peer)
            loop = Loop(pool, nursery)
            loop.work()
            yield loop, servers
            nursery.cancel_scope.cancel()


def timeout_of(loop: Loop, number: int) -> float:
    return loop.pool.peers[number].record.tracks[ACCOUNTS].round_trip.timeout()


async def test_two_peers_of_50_and_500_ms_are_soon_waited_for_half_a_second_and_two_at_most(
    autojump_clock: MockClock,
) -> None:
    async with running(0.05, 0.5) as (loop, _):
        await trio.sleep(10.0)
        assert 0.05 < timeout_of(loop, 0) < 0.5
        assert 0.5 < timeout_of(loop, 1) < 2.0
        # And that is enough: nobody is ever given up.
        assert set(loop.since(0, 0.0)) == set(loop.since(1, 0.0)) == {Outcome.SERVED}


@pytest.mark.parametrize("settle", [0.5, 10.0, 120.0])
@pytest.mark.parametrize("others", [(), (0.05,), (0.05, 0.05, 0.2)])
async def test_a_peer_whose_latency_jumps_twentyfold_is_kept_and_used_again_within_30_seconds(
    others: tuple[float, ...], settle: float, autojump_clock: MockClock
) -> None:
    async with running(0.05, *others) as (loop, servers):
        await trio.sleep(settle)
        assert set(loop.since(0, 0.0)) == {Outcome.SERVED}
        # When it takes a second instead of 50 ms
        servers[0].latency = 1.0
        jump = trio.current_time()
        await trio.sleep(30.0)
        # Then it is still connected, was of use again before long
        assert 0 in loop.pool.peers
        assert not loop.pool.dropped
        assert loop.pool.slots.rotation(trio.current_time(), replacements=100) is None
        assert len(loop.pool.slots) == len(loop.pool.peers) == 1 + len(others)
        assert Outcome.TIMEOUT in loop.since(0, jump)
        assert Outcome.SERVED in loop.since(0, jump + 1.0, jump + 30.0)
        # and after the 30 seconds answers whatever it is asked, while the others never noticed.
        await trio.sleep(60.0)
        later = loop.since(0, jump + 30.0)
        assert later
        assert later.count(Outcome.TIMEOUT) <= len(later) // 10
        assert all(set(loop.since(number, 0.0)) == {Outcome.SERVED} for number in range(1, 1 + len(others)))
