"""The dialer: whom it dials, when and how many at a time, and what it tells the dial pool of it."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.discovery import candidates as module
from ethsync.discovery.candidate import Quality, Reason, Source, State
from ethsync.discovery.candidates import LONGEST_FIXED, MOST_DIALS, REDIAL, REDIAL_NEARBY
from ethsync.errors import (
    DisconnectReason,
    Disproved,
    HandshakeFailed,
    NoSlot,
    OtherChain,
    PeerError,
    PeerGone,
    Unreachable,
    UselessPeer,
)
from ethsync.peers.pool import PeerPool
from ethsync.peers.slots import DIALS_PER_SLOT, MOST_PER_SUBNET, Slots
from ethsync.peers.standing import MANY
from ethsync.peers.track import Outcome, RequestKind
from tests.unit.peers.dial_bench import Nodes, dialling, enode, scattered
from tests.unit.peers.stubs import StubConnection

ACCOUNTS, HEADERS = RequestKind.ACCOUNTS, RequestKind.HEADERS


@pytest.fixture
def punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses have no random part."""
    monkeypatch.setattr(module, "JITTER", 0.0)


def received(pool: PeerPool, number: int, size: int = 1000) -> None:
    """A node has sent something useful."""
    (peer,) = [each for each in pool.peers.values() if each.enode.public_key[0] == number]
    assert isinstance(peer.connection, StubConnection)
    peer.connection.bytes_received = size
    pool.note(peer, ACCOUNTS, Outcome.SERVED)


# When


async def test_an_unreachable_named_node_is_dialled_again_less_and_less_often(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock, punctual: None
) -> None:
    nodes.plans[enode(1).public_key] = [Unreachable("cannot reach it")]
    async with dialling(pool, enode(1)):
        await trio.sleep(201)
    waits = [b - a for a, b in itertools.pairwise(nodes.dialled(1))]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 45, 45, 45])
    assert (REDIAL_NEARBY, LONGEST_FIXED) == (1, 45)
    assert pool.failures == {enode(1).public_key: "cannot reach it"}


@pytest.mark.parametrize("plan", [Unreachable("no"), UselessPeer("no snap"), HandshakeFailed("no Status"), 0.1, 10.0])
async def test_no_node_is_dialled_twice_within_35_seconds(
    plan: PeerError | float, nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    everybody = [scattered(number) for number in range(1, 6)]
    for each in everybody:
        nodes.plans[each.public_key] = [plan]
    # Given nodes that were named, and others that are offered again and again
    async with dialling(pool, *everybody[:2], found=(everybody[2],), trusted=(everybody[3],)) as dialer:
        for _ in range(60):
            for each in everybody:
                dialer.offer(Source.STORED, each)
            await trio.sleep(5)
    for number in range(1, 6):
        assert nodes.dialled(number)
        # Added as the dial pool does: a difference of two times of the clock is rounded, to 34.99999999999997 s.
        assert all(b >= a + REDIAL for a, b in itertools.pairwise(nodes.dialled(number)))
    assert len(nodes.dialled(1)) >= 4


async def test_a_useful_node_is_dialled_again_soon_after_its_connection_broke(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock, punctual: None
) -> None:
    nodes.plans[scattered(1).public_key] = [100.0]
    async with dialling(pool, found=(scattered(1),)):
        received(pool, 1)
        await trio.sleep(150)
    assert nodes.dialled(1) == pytest.approx([0, 100 + REDIAL])


async def test_nodes_do_not_wait_for_one_another(nodes: Nodes, pool: PeerPool, autojump_clock: MockClock) -> None:
    nodes.plans[enode(1).public_key] = [HandshakeFailed("no Status")]
    async with dialling(pool, enode(1), enode(2), enode(2)):
        await trio.sleep(20)
        assert [peer.enode.public_key for peer in pool.peers.values()] == [enode(2).public_key]
    # A node that is named twice is dialled once.
    assert len(nodes.dialled(2)) == 1
    assert len(nodes.dialled(1)) > 2


async def test_every_connection_has_a_number_of_its_own(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [1.0]
    seen: set[int] = set()
    pool.changed = lambda: seen.update(pool.peers)
    async with dialling(pool, enode(1)):
        await trio.sleep(30)
    assert len(seen) == len(nodes.dials) > 2


async def test_a_node_that_is_offered_later_is_dialled_at_once(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    async with dialling(pool) as dialer:
        await trio.sleep(100)
        began = trio.current_time()
        dialer.offer(Source.STORED, scattered(1))
        await wait_all_tasks_blocked()
        assert nodes.dialled(1) == [began]


async def test_after_an_hour_without_network_peers_are_back_within_a_minute(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    everybody = tuple(scattered(number) for number in range(1, 30))
    async with dialling(pool, scattered(30), found=everybody):
        for each in range(1, 30):
            received(pool, each)
        # When all is lost, and every dial takes its 15 seconds
        nodes.greeting = 15.0
        down: list[PeerError | float] = [Unreachable("no answer")]
        nodes.plans = {each.public_key: list(down) for each in (*everybody, scattered(30))}
        for peer in list(pool.peers.values()):
            assert isinstance(peer.connection, StubConnection)
            peer.connection.hang_up()
        await trio.sleep(3600)
        assert not pool.peers
        nodes.plans, nodes.greeting = {}, 0.1
        await trio.sleep(60)
        # Then the named one is back, and enough of the others
        assert scattered(30).public_key in pool.slots
        assert len(pool.peers) >= 15


# How many


async def test_no_more_dials_are_under_way_than_are_useful_for_the_free_slots(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    pool.slots = Slots(3, inbound_share=0.0)
    nodes.greeting = 1.0
    useful = 3 * DIALS_PER_SLOT
    async with dialling(pool, found=tuple(scattered(number) for number in range(1, 40))):
        assert nodes.under_way == useful
        await trio.sleep(10)
        assert len(pool.peers) == 3
        # Who came too late got no slot, and nobody else is dialled.
        assert len(nodes.dials) == useful
        assert all(isinstance(each, NoSlot) for each in nodes.goodbyes)
        await trio.sleep(20)
        assert len(nodes.dials) == useful


async def test_no_more_than_fifty_dials_are_under_way(nodes: Nodes, pool: PeerPool, autojump_clock: MockClock) -> None:
    nodes.greeting = 1.0
    async with dialling(pool, found=tuple(scattered(number) for number in range(1, 100))):
        await trio.sleep(30)
        assert nodes.most_under_way == MOST_DIALS == 50
        assert len(pool.peers) == 50


async def test_no_more_peers_of_one_subnet_are_dialled_than_may_stay(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    crowd = tuple(enode(number, f"20.1.1.{number}") for number in range(1, 30))
    async with dialling(pool, found=crowd) as dialer:
        await trio.sleep(600)
        assert len(pool.peers) == MOST_PER_SUBNET
        assert len(nodes.dials) <= 2 * MOST_PER_SUBNET
        # The others are not to blame.
        assert sum(each.failures for each in dialer.candidates) == 0


async def test_who_got_no_slot_in_the_end_is_not_to_blame_and_comes_when_there_is_one(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    pool.slots = Slots(1, inbound_share=0.0)
    nodes.greeting = 1.0
    async with dialling(pool, found=(scattered(1), scattered(2))) as dialer:
        await trio.sleep(2)
        (first,) = pool.peers.values()
        late = next(each for each in dialer.candidates if each.public_key != first.enode.public_key)
        assert (late.failures, late.reason, late.state) == (0, None, State.WAITING)
        await trio.sleep(2 * REDIAL)
        assert isinstance(first.connection, StubConnection)
        first.connection.hang_up()
        await trio.sleep(REDIAL + 2)
        assert [peer.enode.public_key for peer in pool.peers.values()] == [late.public_key]


async def test_named_nodes_win_a_slot_in_a_full_pool(nodes: Nodes, pool: PeerPool, autojump_clock: MockClock) -> None:
    pool.slots = Slots(4, inbound_share=0.0)
    found = tuple(scattered(number) for number in range(1, 20))
    async with dialling(pool, found=found) as dialer:
        await trio.sleep(5)
        for peer in list(pool.peers.values()):
            received(pool, peer.enode.public_key[0])
        # Given a pool full of useful peers
        nodes.goodbyes.clear()
        assert (len(pool.slots), pool.slots.useful_dials) == (4, 0)
        pool.named, pool.trusted = frozenset({bytes([50]) * 64, bytes([60]) * 64}), frozenset({bytes([60]) * 64})
        # When a static and a trusted node are named
        dialer.offer(Source.STATIC, scattered(50))
        dialer.offer(Source.TRUSTED, scattered(60))
        await trio.sleep(5)
        # Then both are peers, and it cost one of the others its slot.
        assert {scattered(50).public_key, scattered(60).public_key} <= {e.enode.public_key for e in pool.peers.values()}
        assert len(pool.peers) == 5
        assert [goodbye.reason for goodbye in nodes.goodbyes] == [DisconnectReason.TOO_MANY_PEERS]
        assert pool.replaced == 1


async def test_more_nodes_are_wanted_while_there_are_free_slots(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    said: list[bool] = []
    pool.slots = Slots(1, inbound_share=0.0)
    nodes.plans[scattered(1).public_key] = [100.0]
    async with dialling(pool) as dialer:
        dialer.wanted = said.append
        dialer.offer(Source.STORED, scattered(1))
        await trio.sleep(50)
        assert said == [False]
        await trio.sleep(100)
        assert said[:2] == [False, True]


# What is told to the dial pool


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unreachable("no answer"), Reason.UNREACHABLE),
        (OtherChain("another fork"), Reason.OTHER_CHAIN),
        (UselessPeer("no snap"), Reason.NO_SNAP),
        (PeerGone("full", remote_reason=DisconnectReason.TOO_MANY_PEERS), Reason.TOO_MANY_PEERS),
    ],
)
async def test_why_a_dial_failed_is_remembered(
    error: PeerError, reason: Reason, nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[scattered(1).public_key] = [error]
    async with dialling(pool, found=(scattered(1),)) as dialer:
        (candidate,) = dialer.candidates
        assert (candidate.failures, candidate.reason) == (1, reason)
        # Only for nodes that the user named a sentence is kept.
        assert pool.failures == {}


@pytest.mark.parametrize(
    ("outcomes", "size", "reason", "quality"),
    [
        ([(ACCOUNTS, Outcome.SERVED)], 1000, None, Quality.GOOD),
        ([(ACCOUNTS, Outcome.EMPTY)], 1000, Reason.SERVED_NOTHING, Quality.USELESS),
        ([(HEADERS, Outcome.SERVED)], 1000, Reason.HUNG_UP, Quality.LIVE),
        ([], 0, Reason.HUNG_UP, Quality.LIVE),
    ],
)
async def test_what_a_connection_was_good_for_is_remembered(
    outcomes: list[tuple[RequestKind, Outcome]],
    size: int,
    reason: Reason | None,
    quality: Quality,
    nodes: Nodes,
    pool: PeerPool,
    autojump_clock: MockClock,
) -> None:
    nodes.plans[scattered(1).public_key] = [10.0]
    async with dialling(pool, found=(scattered(1),)) as dialer:
        (peer,) = pool.peers.values()
        assert isinstance(peer.connection, StubConnection)
        peer.connection.bytes_received = size
        for kind, outcome in outcomes:
            pool.note(peer, kind, outcome)
        await trio.sleep(11)
        (candidate,) = dialer.candidates
        assert (candidate.reason, candidate.quality) == (reason, quality)
        assert candidate.served_bytes == (size if quality is Quality.GOOD else 0)


async def test_merits_of_an_earlier_connection_are_not_counted_again(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [10.0]
    async with dialling(pool, enode(1)) as dialer:
        received(pool, 1, 1000)
        await trio.sleep(15)
        (peer,) = pool.peers.values()
        assert isinstance(peer.connection, StubConnection)
        peer.connection.bytes_received = 500
        await trio.sleep(6)
        (candidate,) = dialer.candidates
        assert len(nodes.dials) == 2
        assert candidate.served_bytes == 1000


async def test_a_liar_is_remembered_as_one(nodes: Nodes, pool: PeerPool, autojump_clock: MockClock) -> None:
    async with dialling(pool, found=(scattered(1),)) as dialer:
        (peer,) = pool.peers.values()
        pool.drop(peer, Disproved("it lied"))
        await trio.sleep(1)
        (candidate,) = dialer.candidates
        assert (candidate.reason, candidate.quality) == (Reason.LIED, Quality.USELESS)


async def test_who_had_to_go_unasked_is_not_to_blame(nodes: Nodes, pool: PeerPool, autojump_clock: MockClock) -> None:
    async with dialling(pool, found=(scattered(1), scattered(2))) as dialer:
        first, second = pool.peers.values()
        for _ in range(MANY):
            pool.note(second, ACCOUNTS, Outcome.EMPTY)
        for peer in (first, second):
            pool.release(peer.enode.public_key, "others need it", DisconnectReason.TOO_MANY_PEERS)
        await trio.sleep(1)
        unasked = dialer.candidates.get(first.enode.public_key)
        useless = dialer.candidates.get(second.enode.public_key)
        assert unasked is not None
        assert useless is not None
        assert (unasked.failures, unasked.reason) == (0, None)
        assert (useless.failures, useless.reason) == (1, Reason.SERVED_NOTHING)


async def test_at_the_end_of_the_run_nobody_is_to_blame_for_its_unfinished_dial(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.greeting = 10.0
    async with dialling(pool, found=(scattered(1),)) as dialer:
        assert nodes.under_way == 1
    (candidate,) = dialer.candidates
    assert (candidate.failures, candidate.state) == (0, State.WAITING)
