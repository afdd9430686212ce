"""The pool: who gets a slot, who is hung up on and why, and what stays known of whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.errors import DisconnectReason, Disproved, MalformedMessage, NoSlot, PeerError, PeerGone
from ethsync.peers.bans import DURATION
from ethsync.peers.peer import Peer
from ethsync.peers.pool import MOST_MALFORMED, PeerPool
from ethsync.peers.slots import TRIAL, Slots
from ethsync.peers.track import Outcome, RequestKind
from tests.unit.peers.dial_bench import Nodes, dialling, enode, scattered
from tests.unit.peers.stubs import StubConnection, stub_peer

ACCOUNTS, CODES, HEADERS = RequestKind.ACCOUNTS, RequestKind.CODES, RequestKind.HEADERS


async def test_the_end_of_a_connection_is_announced_and_its_bytes_are_kept(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    changes: list[int] = []
    pool.changed = lambda: changes.append(len(pool.peers))
    nodes.plans[enode(1).public_key] = [10.0]
    async with dialling(pool, enode(1)):
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


async def test_a_liar_is_told_why_banned_and_not_dialled_again(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    async with dialling(pool, enode(1)):
        (peer,) = pool.peers.values()
        pool.drop(peer, Disproved("its range is not the truth"))
        await trio.sleep(300)
        assert pool.peers == {}
    assert len(nodes.dials) == 1
    (goodbye,) = nodes.goodbyes
    assert isinstance(goodbye, Disproved)
    why = pool.is_banned(enode(1).public_key, None)
    assert why is not None
    assert "its range is not the truth" in why
    assert str(peer) in why
    assert pool.bans_changed.is_set()


@pytest.mark.parametrize(
    "verdict", [PeerError("it is slow"), MalformedMessage("it is gibberish"), PeerGone("it is gone")]
)
async def test_nobody_is_banned_for_anything_but_a_lie(
    verdict: PeerError, nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    async with dialling(pool, enode(1)):
        (peer,) = pool.peers.values()
        pool.drop(peer, verdict)
        await wait_all_tasks_blocked()
        assert len(pool.bans) == 0
        await trio.sleep(5)
        assert len(pool.peers) == 1


async def test_three_undecodable_answers_in_a_row_end_a_connection_but_not_for_good(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    async with dialling(pool, enode(1)):
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
    assert len(pool.bans) == 0


async def test_a_message_that_cannot_be_decoded_ends_the_connection(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    async with dialling(pool, enode(1)):
        (peer,) = pool.peers.values()
        assert isinstance(peer.connection, StubConnection)
        peer.connection.reply(99)
        await trio.sleep(0.5)
        assert pool.peers == {}
        assert "never made" in pool.failures[enode(1).public_key]
        await trio.sleep(2)
        # Once it is connected again, its failure is forgotten.
        assert (len(pool.peers), pool.failures) == (1, {})
    assert isinstance(nodes.goodbyes[0], MalformedMessage)


async def test_dropping_someone_who_has_left_is_nothing(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    peer, _ = stub_peer(9, enode(1).public_key)
    pool.drop(peer, PeerError("too late"))
    async with dialling(pool, enode(1)):
        assert len(pool.peers) == 1


async def test_the_first_reason_for_hanging_up_is_the_one_that_counts(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    async with dialling(pool, enode(1)):
        (peer,) = pool.peers.values()
        pool.drop(peer, Disproved("it lied"))
        pool.release(enode(1).public_key, "somebody else comes", DisconnectReason.TOO_MANY_PEERS)
        await wait_all_tasks_blocked()
    assert isinstance(nodes.goodbyes[0], Disproved)


# Bans


async def test_a_banned_node_is_not_dialled_and_the_user_is_told_why_until_the_ban_ends(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    for each in (enode(1), enode(2)):
        pool.bans.ban(each.public_key, "it lied", pool.wall())
    async with dialling(pool, enode(1), found=(enode(2),)):
        await trio.sleep(DURATION - 1)
        assert nodes.dials == []
        assert pool.failures == {enode(1).public_key: "127.0.0.1:30001 is banned: it lied"}
        await trio.sleep(1000)
        assert sorted(number for _, number in nodes.dials) == [1, 2]
        assert pool.failures == {}


# Slots


@asynccontextmanager
async def held(pool: PeerPool, *peers: Peer) -> AsyncIterator[dict[int, Exception | None]]:
    """Peers in the pool, each in a task of its own; what became of those that left, by number."""
    ends: dict[int, Exception | None] = {}

    async def hold(peer: Peer) -> None:
        try:
            with pool.connected(peer):
                await trio.sleep_forever()
        except PeerError as error:
            ends[peer.number] = error

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(hold, peer)
            await wait_all_tasks_blocked()
        yield ends
        nursery.cancel_scope.cancel()


def made(number: int, *, inbound: bool = False) -> Peer:
    peer, _ = stub_peer(number, scattered(number).public_key)
    peer.enode, peer.inbound = scattered(number), inbound
    return peer


async def test_who_finds_all_slots_taken_is_told_so(pool: PeerPool, autojump_clock: MockClock) -> None:
    pool.slots = Slots(2, inbound_share=0.0)
    async with held(pool, made(1), made(2), made(3)) as ends:
        assert list(pool.peers) == [1, 2]
        refusal = ends[3]
        assert isinstance(refusal, NoSlot)
        assert refusal.reason is DisconnectReason.TOO_MANY_PEERS


async def test_a_slot_is_free_again_when_its_peer_has_gone(pool: PeerPool, autojump_clock: MockClock) -> None:
    pool.slots = Slots(1, inbound_share=0.0)
    async with held(pool, made(1)):
        pass
    async with held(pool, made(2)) as ends:
        assert (list(pool.peers), ends) == ([2], {})


async def test_a_node_has_one_connection_and_the_second_one_does_not_cost_it_the_first(
    pool: PeerPool, autojump_clock: MockClock
) -> None:
    again = made(1, inbound=True)
    again.number = 2
    async with held(pool, made(1), again) as ends:
        refusal = ends[2]
        assert isinstance(refusal, NoSlot)
        assert refusal.reason is DisconnectReason.ALREADY_CONNECTED
        assert list(pool.peers) == [1]
        assert scattered(1).public_key in pool.slots


async def test_a_useless_peer_makes_room_for_a_newcomer_and_a_useful_one_does_not(
    pool: PeerPool, autojump_clock: MockClock
) -> None:
    pool.slots = Slots(2, inbound_share=0.0)
    useless, useful, first, second = made(1), made(2), made(3), made(4)
    async with held(pool, useless, useful):
        pool.note(useless, ACCOUNTS, Outcome.EMPTY)
        pool.note(useful, ACCOUNTS, Outcome.SERVED)
        await trio.sleep(TRIAL)
        async with held(pool, first, second) as ends:
            assert set(pool.peers) == {2, 3}
            assert isinstance(ends[4], NoSlot)
            assert pool.replaced == 1
        # It was no crime.
        assert len(pool.bans) == len(pool.dropped) == 0


async def test_what_a_peer_did_before_does_not_cost_it_its_new_slot(pool: PeerPool, autojump_clock: MockClock) -> None:
    pool.slots = Slots(1, inbound_share=0.0)
    peer = made(1)
    async with held(pool, peer):
        pool.note(peer, ACCOUNTS, Outcome.EMPTY)
    async with held(pool, made(1)):
        await trio.sleep(TRIAL)
        async with held(pool, made(2)) as ends:
            assert isinstance(ends[2], NoSlot)
        # Only if it has nothing again
        pool.note(pool.peers[1], ACCOUNTS, Outcome.EMPTY)
        async with held(pool, made(2)) as ends:
            assert (list(pool.peers), ends) == ([2], {})


async def test_answers_about_the_chain_are_nothing_to_a_sync_of_the_state(
    pool: PeerPool, autojump_clock: MockClock
) -> None:
    pool.slots = Slots(1, inbound_share=0.0)
    peer = made(1)
    async with held(pool, peer):
        pool.note(peer, HEADERS, Outcome.SERVED)
        pool.note(peer, ACCOUNTS, Outcome.EMPTY)
        await trio.sleep(TRIAL)
        async with held(pool, made(2)) as ends:
            assert (list(pool.peers), ends) == ([2], {})


async def test_a_static_peer_takes_somebodys_slot_and_a_trusted_one_comes_beyond_the_maximum(
    pool: PeerPool, autojump_clock: MockClock
) -> None:
    pool.slots = Slots(3)
    pool.named = frozenset({scattered(8).public_key, scattered(9).public_key})
    pool.trusted = frozenset({scattered(9).public_key})
    useful = [made(number, inbound=number == 3) for number in (1, 2, 3)]
    async with held(pool, *useful) as ends:
        for peer in useful:
            pool.note(peer, ACCOUNTS, Outcome.SERVED)
        async with held(pool, made(9, inbound=True)):
            assert set(pool.peers) == {1, 2, 3, 9}
            assert not ends
        async with held(pool, made(8)):
            assert len(pool.peers) == 3
            assert 8 in pool.peers
            assert len(ends) == 1
    # However full of named peers the pool is
    pool.slots = Slots(1)
    pool.named = frozenset(scattered(number).public_key for number in (6, 7, 8))
    async with held(pool, made(6), made(7), made(8)) as ends:
        assert (set(pool.peers), ends) == ({6, 7, 8}, {})


# What is known


async def test_what_was_learned_of_a_node_outlives_its_connection(
    nodes: Nodes, pool: PeerPool, autojump_clock: MockClock
) -> None:
    nodes.plans[enode(1).public_key] = [10.0]
    async with dialling(pool, enode(1)):
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
        first, second = pool.askable(now)
        assert (first.number, first.in_flight[CODES], first.rates[CODES], first.blocked) == (1, 1, 100_000, frozenset())
        assert (second.number, second.blocked, second.score) == (2, frozenset({ACCOUNTS}), -1.0)
        # Its pause ends in a second.
        assert pool.next_pause_end(now) == now + 1
        assert pool.askable(now + 1)[1].blocked == frozenset()
        assert pool.next_pause_end(now + 1) == float("inf")
    assert pool.askable(now) == []
