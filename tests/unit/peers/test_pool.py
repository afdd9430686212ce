"""Staying connected: dialling again with patience, hanging up on liars for good, and what is known of whom."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import coincurve
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.errors import Disproved, HandshakeFailed, MalformedMessage, PeerError, PeerGone, UselessPeer
from ethsync.peers import pool as module
from ethsync.peers.greeting import ChainView
from ethsync.peers.peer import Peer
from ethsync.peers.pool import FIRST_RETRY, LONGEST_RETRY, MOST_MALFORMED, STEADY, PeerPool, run_pool
from ethsync.peers.track import Outcome, RequestKind
from ethsync.wire.enode import Enode
from tests.unit.peers.stubs import VIEW, StubConnection, stub_peer

KEY = coincurve.PrivateKey(b"\1" * 32)
ACCOUNTS, CODES = RequestKind.ACCOUNTS, RequestKind.CODES


def enode(number: int) -> Enode:
    return Enode(bytes([number]) * 64, "127.0.0.1", 30_000 + number, 0)


@dataclass
class Nodes:
    """Nodes that can be dialled: what each dial comes to, one after another; the last holds for all that follow.

    An error is raised; a number is for how many seconds the connection lasts.
    """

    plans: dict[bytes, list[PeerError | float]] = field(default_factory=dict)
    dials: list[tuple[float, int]] = field(default_factory=list)
    goodbyes: list[PeerError] = field(default_factory=list)
    """What was told to peers at the end."""

    @asynccontextmanager
    async def open(self, number: int, node: Enode, key: coincurve.PrivateKey, view: ChainView) -> AsyncIterator[Peer]:
        """Stands in for `dial_peer`."""
        assert (key, view) == (KEY, VIEW)
        self.dials.append((trio.current_time(), node.public_key[0]))
        plan = self.plans[node.public_key]
        step = plan.pop(0) if len(plan) > 1 else plan[0]
        await trio.lowlevel.checkpoint()
        if isinstance(step, PeerError):
            raise step
        peer, connection = stub_peer(number, node.public_key)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_later, connection, step)
            try:
                yield peer
            except PeerError as error:
                nursery.cancel_scope.cancel()
                failure = error
            else:
                return
        self.goodbyes.append(failure)
        raise failure

    async def _end_later(self, connection: StubConnection, seconds: float) -> None:
        await trio.sleep(seconds)
        connection.hang_up()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    found = Nodes()
    monkeypatch.setattr(module, "dial_peer", found.open)
    return found


@pytest.fixture
def pool() -> PeerPool:
    return PeerPool(lambda: None, VIEW)


async def run_for(seconds: float, pool: PeerPool, targets: Sequence[Enode]) -> None:
    with trio.move_on_after(seconds):
        await run_pool(pool, targets, KEY)


@asynccontextmanager
async def running(pool: PeerPool, *targets: Enode) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_pool, pool, targets, KEY))
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


# Dialling


async def test_an_unreachable_node_is_dialled_again_less_and_less_often(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [PeerGone("cannot reach it")]
    await run_for(250, pool, [enode(1)])
    at = [when for when, _ in nodes.dials]
    waits = [b - a for a, b in itertools.pairwise(at)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert (FIRST_RETRY, LONGEST_RETRY) == (1, 60)
    assert pool.failures == {enode(1).public_key: "cannot reach it"}


async def test_a_node_that_cannot_help_is_not_asked_soon_again(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [UselessPeer("it follows another chain")]
    await run_for(130, pool, [enode(1)])
    assert [when for when, _ in nodes.dials] == pytest.approx([0, 60, 120])
    assert pool.failures[enode(1).public_key] == "it follows another chain"


async def test_after_a_steady_connection_patience_begins_anew(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    # Given three failures, a connection that lasts, then a short one
    gone = PeerGone("cannot reach it")
    nodes.plans[enode(1).public_key] = [gone, gone, gone, STEADY + 1, 5.0, gone]
    await run_for(85, pool, [enode(1)])
    # Then the node is dialled a second after the steady connection, and two seconds after the short one.
    assert [when for when, _ in nodes.dials] == pytest.approx([0, 1, 3, 7, 7 + 61 + 1, 69 + 5 + 2, 76 + 4, 80 + 8][:7])


async def test_nodes_do_not_wait_for_one_another(nodes: Nodes, pool: PeerPool, autojump_clock: MockClock) -> None:
    nodes.plans[enode(1).public_key] = [HandshakeFailed("no Status")]
    nodes.plans[enode(2).public_key] = [1000.0]
    async with running(pool, enode(1), enode(2), enode(2)):
        await trio.sleep(3.5)
        assert [peer.enode.public_key for peer in pool.peers.values()] == [enode(2).public_key]
    # A node that is named twice is dialled once.
    assert [number for _, number in nodes.dials].count(2) == 1
    assert [number for _, number in nodes.dials].count(1) == 3


async def test_every_connection_has_a_number_of_its_own(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [1.0]
    seen: set[int] = set()
    pool.changed = lambda: seen.update(pool.peers)
    await run_for(30, pool, [enode(1)])
    assert len(seen) == len(nodes.dials) > 2


async def test_the_end_of_a_connection_is_announced_and_its_bytes_are_kept(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    changes: list[int] = []
    pool.changed = lambda: changes.append(len(pool.peers))
    nodes.plans[enode(1).public_key] = [10.0]
    async with running(pool, enode(1)):
        (peer,) = pool.peers.values()
        assert isinstance(peer.connection, StubConnection)
        peer.connection.bytes_received = 1000
        assert pool.bytes_received == 1000
        await trio.sleep(10.5)
        assert (pool.peers, pool.bytes_received) == ({}, 1000)
        assert changes[:2] == [1, 0]
        with pytest.raises(PeerGone):
            await peer.request(ACCOUNTS, lambda _: pytest.fail("nothing is sent"))


# Hanging up


async def test_a_liar_is_told_why_and_never_dialled_again(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [1000.0]
    async with running(pool, enode(1)):
        (peer,) = pool.peers.values()
        pool.drop(peer, Disproved("its range is not the truth"))
        await trio.sleep(300)
        assert pool.peers == {}
    assert len(nodes.dials) == 1
    (goodbye,) = nodes.goodbyes
    assert isinstance(goodbye, Disproved)
    assert "its range is not the truth" in pool.banned[enode(1).public_key]
    assert str(peer) in pool.banned[enode(1).public_key]


async def test_a_node_that_is_banned_already_is_not_dialled(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    pool.banned[enode(1).public_key] = "it lied"
    await run_for(10, pool, [enode(1)])
    assert nodes.dials == []


async def test_undecodable_answers_end_a_connection_but_not_for_good(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [1000.0]
    async with running(pool, enode(1)):
        (peer,) = pool.peers.values()
        for _ in range(MOST_MALFORMED - 1):
            pool.note(peer, ACCOUNTS, Outcome.MALFORMED)
        await wait_all_tasks_blocked()
        assert pool.peers
        # A useful answer makes up for it.
        pool.note(peer, ACCOUNTS, Outcome.SERVED)
        for _ in range(MOST_MALFORMED - 1):
            pool.note(peer, ACCOUNTS, Outcome.MALFORMED)
        await wait_all_tasks_blocked()
        assert pool.peers
        # One too many
        pool.note(peer, ACCOUNTS, Outcome.MALFORMED)
        await trio.sleep(0.1)
        assert not pool.peers
        await trio.sleep(5)
        assert len(pool.peers) == 1
    assert "3 undecodable answers" in str(nodes.goodbyes[0])
    assert pool.banned == {}


async def test_a_message_that_cannot_be_decoded_ends_the_connection(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [1000.0]
    async with running(pool, enode(1)):
        (peer,) = pool.peers.values()
        assert isinstance(peer.connection, StubConnection)
        peer.connection.reply(99)
        await trio.sleep(0.5)
        assert pool.peers == {}
        assert "never made" in pool.failures[enode(1).public_key]
        await trio.sleep(1)
        # Once it is connected again, its failure is forgotten.
        assert (len(pool.peers), pool.failures) == (1, {})
    assert isinstance(nodes.goodbyes[0], MalformedMessage)


async def test_dropping_someone_who_has_left_is_nothing(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    peer, _ = stub_peer(9, enode(1).public_key)
    pool.drop(peer, PeerError("too late"))
    nodes.plans[enode(1).public_key] = [1000.0]
    async with running(pool, enode(1)):
        assert len(pool.peers) == 1


# What is known


async def test_what_was_learned_of_a_node_outlives_its_connection(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [10.0]
    async with running(pool, enode(1)):
        (first,) = pool.peers.values()
        first.record.tracks[ACCOUNTS].answered(1_000_000, 0.5)
        first.record.tracks[ACCOUNTS].in_flight = 2
        pool.note(first, ACCOUNTS, Outcome.SERVED)
        await trio.sleep(12)
        (second,) = pool.peers.values()
        assert second is not first
        assert second.record.tracks[ACCOUNTS].rate == 2_000_000
        assert second.record.outcomes[ACCOUNTS, Outcome.SERVED] == 1
        # Requests of the old connection are not under way any more.
        assert second.record.tracks[ACCOUNTS].in_flight == 0


async def test_outcomes_are_counted_over_all_peers(pool: PeerPool) -> None:
    for number in (1, 2):
        pool.note(stub_peer(number)[0], ACCOUNTS, Outcome.SERVED)
    pool.note(stub_peer(3)[0], CODES, Outcome.TIMEOUT)
    assert pool.outcomes == {(ACCOUNTS, Outcome.SERVED): 2, (CODES, Outcome.TIMEOUT): 1}


async def test_candidates_are_the_connected_peers_as_plain_data(pool: PeerPool, mock_clock: MockClock) -> None:
    # Given two peers, of which one was just empty
    peers = [stub_peer(number, bytes([number]) * 64)[0] for number in (1, 2)]
    with pool.connected(peers[0]), pool.connected(peers[1]):
        peers[0].record.tracks[CODES].in_flight = 1
        peers[0].record.tracks[CODES].answered(10_000, 0.1)
        pool.note(peers[1], ACCOUNTS, Outcome.EMPTY)
        now = trio.current_time()
        first, second = pool.candidates(now)
        assert (first.number, first.in_flight[CODES], first.rates[CODES], first.blocked) == (1, 1, 100_000, frozenset())
        assert (second.number, second.blocked, second.score) == (2, frozenset({ACCOUNTS}), -1.0)
        # Its pause ends in a second.
        assert pool.next_pause_end(now) == now + 1
        assert pool.candidates(now + 1)[1].blocked == frozenset()
        assert pool.next_pause_end(now + 1) == float("inf")
    assert pool.candidates(now) == []
