"""Nodes that dial us, with real handshakes over streams in memory: who is let in, who is told to go, who not heard."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address

import coincurve
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from ethsync.discovery.candidate import Source, State
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.node import Endpoint
from ethsync.errors import ConfigError, DisconnectReason, PeerGone
from ethsync.peers.bans import OFFENDERS
from ethsync.peers.greeting import dial_peer
from ethsync.peers.listener import MOST_GREETINGS, THROTTLE, Listener, Throttle, run_listener
from ethsync.peers.pool import PeerPool
from ethsync.peers.slots import Slots
from ethsync.peers.track import Outcome, RequestKind
from ethsync.rlpx.connection import Connection, open_connection
from ethsync.wire import keys
from ethsync.wire.enode import Enode
from ethsync.wire.eth import EthMessage
from ethsync.wire.p2p import Capability, Hello
from ethsync.wire.status import Status, encode_status
from tests.unit.peers.stubs import NETWORK, VIEW

KEY = coincurve.PrivateKey(b"\1" * 32)
OURS = keys.identity(KEY.public_key)
BOTH = (Capability("eth", 68), Capability("snap", 1))
STATUS = Status(
    68, 7, NETWORK.genesis_hash, NETWORK.forks.fork_id(5, 2000), b"\xcc" * 32, total_difficulty=0, earliest=0, latest=5
)


def key_of(number: int) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(number.to_bytes(32, "big"))


def identity_of(number: int) -> bytes:
    return keys.identity(key_of(number).public_key)


def public(number: int) -> str:
    """An address in a /24 of its own."""
    return f"20.{number}.1.1"


@dataclass
class House:
    """Our end."""

    pool: PeerPool
    candidates: Candidates
    listener: Listener
    nursery: trio.Nursery

    def knock(self, host: str) -> trio.abc.Stream:
        """A connection from an address arrives; the other end of it."""
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.listener.accept, ours, Endpoint(ip_address(host), 40_000))
        return theirs

    @asynccontextmanager
    async def called_by(self, number: int, host: str = "", status: Status = STATUS) -> AsyncIterator[Connection]:
        """A node dials us and says Hello and Status; our Status has come inside the block."""
        key = key_of(number)
        hello = Hello("Geth/v1", BOTH, identity_of(number))
        stream = self.knock(host or public(number))
        async with open_connection(stream, key=key, remote_public_key=OURS, hello=hello) as connection:
            await connection.send("eth", EthMessage.STATUS, encode_status(status))
            await connection.receive()
            await wait_all_tasks_blocked()
            yield connection

    async def call(self, number: int, host: str = "", status: Status = STATUS) -> int | None:
        """Let a node dial us and stay for 5 s; with which reason it was told to go, None if it may stay."""
        try:
            async with self.called_by(number, host, status) as connection:
                with trio.move_on_after(5):
                    await connection.receive()
        except PeerGone as gone:
            return gone.remote_reason
        return None

    @property
    def peers(self) -> set[bytes]:
        """Public keys of our peers."""
        return {peer.enode.public_key for peer in self.pool.peers.values()}


@pytest.fixture
async def house(pool: PeerPool) -> AsyncIterator[House]:
    candidates = Candidates(random.Random(1))
    async with trio.open_nursery() as nursery:
        yield House(pool, candidates, Listener(pool, candidates, KEY), nursery)
        nursery.cancel_scope.cancel()


# Who is let in


async def test_a_node_that_dials_us_is_a_peer_like_all_others(house: House, autojump_clock: MockClock) -> None:
    async with house.called_by(7):
        (peer,) = house.pool.peers.values()
        assert peer.inbound
        assert (peer.enode.public_key, peer.enode.host) == (identity_of(7), public(7))
        house.pool.note(peer, RequestKind.ACCOUNTS, Outcome.SERVED)
    await wait_all_tasks_blocked()
    assert not house.pool.peers
    assert len(house.pool.slots) == 0


async def test_what_it_was_good_for_is_told_to_the_dial_pool_if_that_knows_it(
    house: House, autojump_clock: MockClock
) -> None:
    house.candidates.offer(Enode(identity_of(7), public(7), 30303, 0), Source.STORED, trio.current_time())
    (candidate,) = house.candidates
    async with house.called_by(7):
        assert candidate.state is State.CONNECTED
        (peer,) = house.pool.peers.values()
        house.pool.note(peer, RequestKind.ACCOUNTS, Outcome.SERVED)
    await trio.sleep(3)
    assert (candidate.state, candidate.served_bytes > 0) == (State.WAITING, True)


async def test_nodes_that_dial_us_get_a_third_of_the_slots(house: House, autojump_clock: MockClock) -> None:
    house.pool.slots = Slots(9)
    async with house.called_by(1), house.called_by(2), house.called_by(3):
        assert await house.call(4) == DisconnectReason.TOO_MANY_PEERS
        assert len(house.pool.peers) == 3
        # When one of them has left there is room again.
        house.pool.release(identity_of(1), "make room", DisconnectReason.REQUESTED)
        await wait_all_tasks_blocked()
        assert await house.call(5) is None


async def test_a_trusted_node_is_let_in_beyond_the_maximum(house: House, autojump_clock: MockClock) -> None:
    house.pool.slots = Slots(3)
    house.pool.trusted = house.pool.named = frozenset({identity_of(9)})
    async with house.called_by(1), house.called_by(9):
        assert house.peers == {identity_of(1), identity_of(9)}
        assert await house.call(2) == DisconnectReason.TOO_MANY_PEERS


async def test_a_node_of_another_chain_gets_no_slot_and_nobody_has_to_go_for_it(
    house: House, autojump_clock: MockClock
) -> None:
    house.pool.slots = Slots(3)
    async with house.called_by(1):
        (peer,) = house.pool.peers.values()
        house.pool.note(peer, RequestKind.ACCOUNTS, Outcome.EMPTY)
        await trio.sleep(40)
        other = replace(STATUS, genesis_hash=b"\xdd" * 32)
        assert await house.call(2, status=other) == DisconnectReason.USELESS_PEER
        assert house.peers == {identity_of(1)}


async def test_whoever_is_connected_already_is_told_so(house: House, autojump_clock: MockClock) -> None:
    async with house.called_by(1):
        assert await house.call(1, "20.200.1.1") == DisconnectReason.ALREADY_CONNECTED
        assert house.peers == {identity_of(1)}


# Bans


async def test_a_banned_node_is_told_that_it_is_of_no_use_until_its_ban_ends(
    house: House, autojump_clock: MockClock
) -> None:
    house.pool.bans.ban(identity_of(1), "it lied", house.pool.wall(), 1000.0)
    assert await house.call(1) == DisconnectReason.USELESS_PEER
    await trio.sleep(1000)
    assert await house.call(1) is None


async def test_an_address_of_several_liars_is_not_even_greeted(house: House, autojump_clock: MockClock) -> None:
    for number in range(1, 1 + OFFENDERS):
        house.pool.bans.ban(identity_of(number), "it lied", house.pool.wall(), ip=ip_address(public(50)))
    assert await house.knock(public(50)).receive_some() == b""
    assert await house.call(60, public(51)) is None


# How many at a time


async def test_one_subnet_may_connect_once_in_thirty_seconds(house: House, autojump_clock: MockClock) -> None:
    assert await house.call(1, "20.1.1.1") is None
    # Another node from the same /24 is not heard, whatever it would say
    assert await house.knock("20.1.1.2").receive_some() == b""
    # while its neighbours' subnet, and those at home, are not concerned;
    assert await house.call(3, "20.1.2.1") is None
    for number in (4, 5, 6):
        assert await house.call(number, "10.0.0.5") is None
        assert await house.call(number + 10, "127.0.0.1") is None
    # until the time is over.
    await trio.sleep(THROTTLE)
    assert await house.call(2, "20.1.1.2") is None


async def test_ten_thousand_callers_from_four_subnets_are_heard_four_times_in_thirty_seconds() -> None:
    throttle, heard = Throttle(), 0
    for n in range(10_000):
        heard += throttle.allow(ip_address(f"66.6.{n % 4}.{n // 4 % 250}"), n * 0.001)
    assert heard == 4


async def test_fifty_silent_callers_keep_others_out_for_as_long_as_a_handshake_may_take(
    house: House, autojump_clock: MockClock
) -> None:
    for number in range(MOST_GREETINGS):
        house.knock(public(number))
    await wait_all_tasks_blocked()
    assert await house.knock(public(100)).receive_some() == b""
    # Who is turned away like that is not counted against its subnet.
    await trio.sleep(15.1)
    assert await house.call(100) is None


async def test_who_has_greeted_does_not_count_among_those_who_have_not(house: House, autojump_clock: MockClock) -> None:
    async with house.called_by(1), house.called_by(2):
        for number in range(3, 3 + MOST_GREETINGS):
            house.knock(public(number))
        await wait_all_tasks_blocked()
        assert await house.knock(public(100)).receive_some() == b""
        assert house.peers == {identity_of(1), identity_of(2)}


@pytest.mark.parametrize("junk", [b"", b"GET / HTTP/1.1\r\n\r\n" * 40, bytes(400)])
async def test_whatever_a_stranger_sends_ends_its_own_connection_only(
    junk: bytes, house: House, autojump_clock: MockClock
) -> None:
    async with house.called_by(1):
        stream = house.knock(public(2))
        if junk:
            await stream.send_all(junk)
        await stream.aclose()
        await trio.sleep(20)
        assert house.peers == {identity_of(1)}
    assert await house.call(3) is None


# Over real sockets


async def test_we_are_dialled_over_a_real_socket_and_say_where_we_listen(pool: PeerPool) -> None:
    async with trio.open_nursery() as nursery:
        start = partial(run_listener, pool, Candidates(random.Random(1)), KEY)
        (bound,) = await nursery.start(start, [Endpoint(ip_address("127.0.0.1"), 0)])
        async with dial_peer(1, Enode(OURS, str(bound.ip), bound.port, 0), key_of(7), VIEW):
            with trio.fail_after(5):
                while not pool.peers:
                    await trio.testing.wait_all_tasks_blocked(0.001)
        # An address that is taken is named.
        with pytest.raises(ConfigError, match=f"cannot listen on TCP 127.0.0.1:{bound.port}"):
            await run_listener(pool, Candidates(random.Random(1)), KEY, [bound])
        nursery.cancel_scope.cancel()
