"""All that makes peers, put together: what is kept between runs, who is named, and forks that pass meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import coincurve
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.discovery import start
from ethsync.discovery.candidate import Source
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.identity import KEY_FILE, open_identity
from ethsync.discovery.node import Endpoint, Node, node_of_record
from ethsync.discovery.options import DiscoveryOptions
from ethsync.errors import Disproved
from ethsync.peers import finding as module
from ethsync.peers.dialer import Dialer
from ethsync.peers.finding import Finding, named_only, run_finding, run_fork_clock
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView, our_status
from ethsync.peers.keeping import BANS_FILE, CANDIDATES_FILE, SAVE_INTERVAL
from ethsync.peers.pool import PeerPool
from ethsync.peers.track import Outcome, RequestKind
from ethsync.wire import keys, rlp
from ethsync.wire.enode import Enode
from ethsync.wire.enr import address_pairs, sign_record
from ethsync.wire.forkid import ForkId, ForkSchedule
from tests.unit.peers.dial_bench import Nodes, enode, scattered
from tests.unit.peers.stubs import NETWORK, VIEW, StubConnection

EPOCH = 1_700_000_000
"""The time in Unix seconds when a test begins."""

FORK = EPOCH + 1000
FORKING = replace(NETWORK, forks=ForkSchedule(b"\xaa" * 32, 1000, (), (2000, FORK)))


def clock() -> float:
    return EPOCH + trio.current_time()


def new_pool(view: ChainView = VIEW) -> PeerPool:
    return PeerPool(lambda: None, view, wall=clock)


def only(directory: Path, *static: Enode, trusted: tuple[Enode, ...] = ()) -> Finding:
    """Nobody is looked for."""
    return replace(named_only(directory, VIEW.fork_id), static=static, trusted=trusted)


@asynccontextmanager
async def finding(pool: PeerPool, options: Finding) -> AsyncIterator[Dialer]:
    async with trio.open_nursery() as nursery:
        dialer: Dialer = await nursery.start(run_finding, pool, options)
        await wait_all_tasks_blocked()
        yield dialer
        nursery.cancel_scope.cancel()


# What is kept


async def test_a_ban_is_written_at_once_and_survives_a_restart(
    nodes: Nodes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    # Given a peer that is found to lie
    pool = new_pool()
    async with finding(pool, only(tmp_path, enode(1))):
        (peer,) = pool.peers.values()
        pool.drop(peer, Disproved("its range is not the truth"))
        while not (tmp_path / BANS_FILE).exists():  # the clock jumps on while a thread writes
            await trio.lowlevel.checkpoint()
    dials = len(nodes.dials)
    assert dials == 1
    # When another run begins
    pool = new_pool()
    async with finding(pool, only(tmp_path, enode(1))):
        await trio.sleep(100)
    # Then it does not dial that node, and says why.
    assert len(nodes.dials) == dials
    (failure,) = pool.failures.values()
    assert "is banned: " in failure
    assert "its range is not the truth" in failure


async def test_what_was_learned_of_nodes_is_written_now_and_then_and_at_the_end(
    nodes: Nodes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with finding(pool := new_pool(), only(tmp_path)) as dialer:
        await trio.sleep(1.5 * SAVE_INTERVAL)
        while not (tmp_path / CANDIDATES_FILE).exists():
            await trio.lowlevel.checkpoint()
        dialer.offer(Source.DISCV5, node_at("20.1.1.1"))
        await wait_all_tasks_blocked()
        (peer,) = pool.peers.values()
        assert isinstance(peer.connection, StubConnection)
        peer.connection.bytes_received = 1000
        pool.note(peer, RequestKind.ACCOUNTS, Outcome.SERVED)
    # The next run dials it without being told of it.
    async with finding(pool := new_pool(), only(tmp_path)) as dialer:
        await trio.sleep(100)
        assert [str(peer.enode.host) for peer in pool.peers.values()] == ["20.1.1.1"]
        assert [candidate.served_bytes for candidate in dialer.candidates] == [1000]


def node_at(ip: str, eth: bytes = rlp.encode_list([VIEW.fork_id.encode()]), number: int = 7) -> Node:
    """A node with a record; `eth` is its entry of that name."""
    pairs = address_pairs(IPv4Address(ip), None, tcp=30303, udp=30303) | {b"eth": eth}
    found = node_of_record(sign_record(coincurve.PrivateKey(bytes([number]) * 32), 1, pairs))
    assert found is not None
    return found


# Who is named


async def test_named_nodes_are_dialled_with_the_key_of_the_data_directory(
    nodes: Nodes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with finding(new_pool(), only(tmp_path, enode(1), trusted=(enode(2),))):
        await wait_all_tasks_blocked()
    assert nodes.keys == {bytes.fromhex((tmp_path / KEY_FILE).read_text().strip())}
    assert nodes.keys == {open_identity(tmp_path).key.secret}
    assert sorted(number for _, number in nodes.dials) == [1, 2]


async def test_we_never_dial_ourselves(nodes: Nodes, tmp_path: Path, autojump_clock: MockClock) -> None:
    own = keys.identity(open_identity(tmp_path).key.public_key)
    async with finding(new_pool(), only(tmp_path, Enode(own, "127.0.0.1", 30303, 0))):
        await trio.sleep(10)
    assert nodes.dials == []


async def test_without_a_listener_all_slots_are_for_nodes_that_we_dial(
    nodes: Nodes, tmp_path: Path, autojump_clock: MockClock
) -> None:
    everybody = [scattered(number) for number in range(1, 30)]
    async with finding(pool := new_pool(), replace(only(tmp_path), max_peers=20)) as dialer:
        for each in everybody:
            dialer.offer(Source.STORED, each)
        await trio.sleep(100)
        assert len(pool.peers) == 20


async def test_we_listen_where_we_are_told_to_even_if_nobody_is_looked_for(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    where: list[Sequence[Endpoint]] = []

    async def listen(
        pool: PeerPool, candidates: Candidates, key: coincurve.PrivateKey, addresses: Sequence[Endpoint], *,
        task_status: trio.TaskStatus[None],
    ) -> None:  # fmt: skip
        assert key.secret == open_identity(tmp_path).key.secret
        where.append(addresses)
        task_status.started()

    monkeypatch.setattr(module, "run_listener", listen)
    options, here = only(tmp_path), [Endpoint(ip_address("127.0.0.1"), 30303)]
    async with finding(new_pool(), options):
        assert where == []
    async with finding(pool := new_pool(), replace(options, discovery=replace(options.discovery, listen=here))):
        assert where == [here]
        # Then a third of the slots is for those who dial us.
        assert (pool.slots.max_inbound, pool.slots.max_outbound) == (16, 34)


# Forks


async def test_a_fork_that_passes_during_the_run_is_told_to_everybody(autojump_clock: MockClock) -> None:
    # Given a head that is a while ago
    pool = new_pool(ChainView(FORKING, 10, EPOCH - 100))
    before, passed = pool.view.fork_id, []
    pool.fork_passed = lambda: passed.append(clock())
    assert before.next == FORK
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_fork_clock, pool)
        await trio.sleep(999)
        assert (pool.view.fork_id, passed) == (before, [])
        await trio.sleep(2)
        # Then our Status and all that goes by `fork_passed` names the new one, as of the second at which it passed.
        assert passed == [pytest.approx(FORK)]
        after = FORKING.forks.fork_id(10, FORK)
        assert pool.view.fork_id == our_status(68, pool.view).fork_id == after != before


async def test_forks_that_had_passed_before_are_for_the_head_to_say(autojump_clock: MockClock) -> None:
    pool = new_pool(ChainView(FORKING, 10, 1500))
    passed = []
    pool.fork_passed = lambda: passed.append(pool.view.fork_id)
    pool.set_head(11, 1999)
    assert passed == []
    pool.set_head(12, 2000)
    assert passed == [FORKING.forks.fork_id(12, 2000)]


async def test_the_clock_may_be_set_while_a_fork_is_awaited(autojump_clock: MockClock) -> None:
    ahead = [0.0]
    pool = PeerPool(lambda: None, ChainView(FORKING, 10, EPOCH), wall=lambda: clock() + ahead[0])
    before = pool.view.fork_id
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_fork_clock, pool)
        await trio.sleep(10)
        ahead[0] = -5000.0
        await trio.sleep(2000)
        assert pool.view.fork_id == before
        await trio.sleep(4000)
        assert pool.view.fork_id != before


async def test_when_a_fork_has_passed_our_record_is_renewed_and_nodes_passed_over_are_looked_at_again(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    announced: list[ForkId] = []

    class Quiet:
        def __init__(self) -> None:
            self.finder, self.announcer = self, self

        def want(self, wanted: bool, now: float) -> None:
            pass

        def set_fork(self, fork_id: ForkId) -> None:
            announced.append(fork_id)

    @asynccontextmanager
    async def open_quietly(*_: object) -> AsyncIterator[Quiet]:
        yield Quiet()

    monkeypatch.setattr(start, "open_discovery", open_quietly)
    rechecked: list[float] = []
    monkeypatch.setattr(Candidates, "recheck", lambda self, now: rechecked.append(now))
    pool = new_pool(ChainView(FORKING, LATER_THAN_ANY_FORK, EPOCH))
    discovery = DiscoveryOptions(frozenset({"v5"}), (), (), (), tmp_path, pool.view.fork_id)
    async with finding(pool, Finding(discovery)):
        pool.set_head(5, EPOCH - 10)  # moves no fork
        assert (announced, rechecked) == ([], [])
        await trio.sleep(1100)
        assert announced == [FORKING.forks.fork_id(5, FORK)]
        assert len(rechecked) == 1


async def test_a_node_is_passed_over_once_our_head_is_past_a_fork_that_it_does_not_know() -> None:
    forked = replace(NETWORK, forks=ForkSchedule(b"\xaa" * 32, 1000, (100,), ()))
    pool = new_pool(ChainView(forked, 0, 1000))
    old = node_at("20.1.1.1", rlp.encode_list([ForkId(forked.forks.fork_id(0, 1000).hash, 0).encode()]))
    refuses = module._fork_filter(pool)
    assert refuses(old) is None
    pool.set_head(100, 1000)
    assert "too old" in str(refuses(old))


async def test_a_fork_that_most_records_announce_and_we_do_not_know_is_told() -> None:
    pool = new_pool(ChainView(NETWORK, 5, EPOCH))
    refuses = module._fork_filter(pool)
    assert pool.fork_hint is not None
    assert pool.fork_hint() is None
    present = NETWORK.forks.fork_id(5, EPOCH).hash
    announced = rlp.encode_list([ForkId(present, 3_000_000_000).encode()])
    for number in range(1, 21):
        assert refuses(node_at(f"20.1.1.{number}", announced, number)) is None
    assert "expect a fork at 3000000000" in str(pool.fork_hint())
