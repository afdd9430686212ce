"""The download's own rules, with a stage that only counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.counters import Counters
from ethsync.errors import StateUnavailable
from ethsync.peers.changes import Changes
from ethsync.peers.peer import Request, run_peer
from ethsync.peers.pool import PeerPool
from ethsync.peers.track import START_BUDGET, Outcome, RequestKind
from ethsync.sync.download import REPLY_SLACK, Download, run_download
from ethsync.sync.patience import PATIENCE, Patience
from ethsync.sync.progress import Progress
from ethsync.wire import rlp
from ethsync.wire.snap import GetAccountRange, SnapMessage
from tests.unit.peers.stubs import VIEW, StubConnection, stub_peer

ACCOUNTS = RequestKind.ACCOUNTS
LIMIT = 2 * START_BUDGET + REPLY_SLACK
"""Bytes of the longest reply that is looked at."""


@dataclass(frozen=True)
class Job:
    budget: int

    def make(self, request_id: int) -> Request:
        return GetAccountRange(request_id, bytes(32), bytes(32), b"\xff" * 32, self.budget)


@dataclass
class OneJob:
    """A stage with one thing to do, which any reply does."""

    kind: RequestKind = ACCOUNTS
    counters: Counters = field(default_factory=Counters)
    done: bool = False
    taken: bool = False
    given_back: int = 0
    sizes: list[int] = field(default_factory=list)
    """Of the replies that reached it."""

    @property
    def missing(self) -> str:
        return "" if self.done else "one thing"

    def ready(self) -> int:
        return int(not self.taken and not self.done)

    def take(self, budget: int) -> Job:
        self.taken = True
        return Job(budget)

    def give_back(self, job: Job) -> None:
        self.taken = False
        self.given_back += 1

    async def process(self, job: Job, payload: bytes) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.sizes.append(len(payload))
        self.done = True
        return Outcome.SERVED


@dataclass
class Emptied(OneJob):
    """A stage for which nothing comes."""

    async def process(self, job: Job, payload: bytes) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.give_back(job)
        return Outcome.EMPTY


def download(pool: PeerPool, changes: Changes) -> Download:
    return Download(pool, changes, Progress(0.0), bytes(32), Patience(PATIENCE, trio.current_time()))


def arrive(stub: StubConnection, request_id: int, size: int) -> None:
    """A reply of exactly so many bytes comes."""
    payload = rlp.encode([request_id, bytes(size - 9)])
    payload = rlp.encode([request_id, bytes(size - 9 + size - len(payload))])
    assert len(payload) == size
    stub.arrive("snap", SnapMessage.ACCOUNT_RANGE, payload)


@pytest.mark.parametrize(("size", "accepted"), [(LIMIT, True), (LIMIT + 1, False)])
async def test_a_reply_may_have_twice_what_was_asked_for_and_some_slack(
    size: int, accepted: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    changes, stage = Changes(), OneJob()
    pool = PeerPool(changes.ring, VIEW)
    peer, stub = stub_peer()
    pool.peers = {peer.number: peer}
    nursery.start_soon(run_peer, peer)
    nursery.start_soon(run_download, download(pool, changes), [stage])
    await wait_all_tasks_blocked()
    arrive(stub, 1, size)
    await wait_all_tasks_blocked()
    # Then a longer one never reaches the stage, which gets its job back, and it counts as undecodable.
    assert stage.sizes == ([size] if accepted else [])
    assert stage.given_back == (not accepted)
    assert pool.outcomes == {(ACCOUNTS, Outcome.SERVED if accepted else Outcome.MALFORMED): 1}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("looked_for", [False, True])
async def test_patience_runs_while_nobody_is_connected_unless_peers_are_looked_for(
    looked_for: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    changes, stage = Changes(), OneJob()
    pool = PeerPool(changes.ring, VIEW)
    failures: list[ExceptionGroup[StateUnavailable]] = []

    async def run() -> None:
        try:
            await run_download(download(pool, changes), [stage])
        except* StateUnavailable as error:
            failures.append(error)

    # Given a sync that has nobody to ask for an hour
    if looked_for:
        pool.explain = lambda now: "nobody answers"
    nursery.start_soon(run)
    await trio.sleep(PATIENCE - 1)
    assert not failures
    await trio.sleep(3600.0)
    # Then it has ended only if nobody can come by himself;
    assert len(failures) == (not looked_for)
    if looked_for:
        # otherwise it goes on with the first who comes,
        peer, stub = stub_peer()
        nursery.start_soon(run_peer, peer)
        pool.peers = {peer.number: peer}
        changes.ring()
        await wait_all_tasks_blocked()
        assert len(stub.sent) == 1
        # and ends when that one has nothing.
        await trio.sleep(PATIENCE + 31)
        assert len(failures) == 1
    nursery.cancel_scope.cancel()


async def test_a_state_is_stale_when_most_who_served_it_have_nothing_of_it_any_more() -> None:
    changes = Changes()
    pool = PeerPool(changes.ring, VIEW)
    found = download(pool, changes)
    stale: list[bytes] = []
    found.on_stale = lambda: stale.append(found.state_root)
    peers = [stub_peer(number, bytes([number]) * 64)[0] for number in range(1, 6)]
    pool.peers = {peer.number: peer for peer in peers}
    # Given four peers that served the state, and one that never had anything
    for peer in peers[:4]:
        found.note(peer, ACCOUNTS, Outcome.SERVED, found.state_root)
    found.note(peers[4], ACCOUNTS, Outcome.EMPTY, found.state_root)
    # When half of them have nothing of it any more, it may be chance;
    for peer in peers[:2]:
        found.note(peer, ACCOUNTS, Outcome.EMPTY, found.state_root)
    # one who serves again takes back what it said;
    found.note(peers[0], ACCOUNTS, Outcome.SERVED, found.state_root)
    found.note(peers[2], ACCOUNTS, Outcome.EMPTY, found.state_root)
    assert not stale
    # three of four are most of them.
    found.note(peers[0], ACCOUNTS, Outcome.EMPTY, found.state_root)
    assert stale == [found.state_root]
    # After a move nobody has said anything yet, and answers about the former state say nothing of the new one.
    found.move(b"\1" * 32)
    for peer in peers:
        found.note(peer, ACCOUNTS, Outcome.EMPTY, bytes(32))
    assert len(stale) == 1


async def test_empty_answers_reach_whoever_moves_the_pivot(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    # Given a peer that has served state before
    changes, stage = Changes(), Emptied()
    pool = PeerPool(changes.ring, VIEW)
    peer, stub = stub_peer()
    pool.peers = {peer.number: peer}
    pool.note(peer, ACCOUNTS, Outcome.SERVED)
    found = download(pool, changes)
    stale = trio.Event()
    found.on_stale = stale.set
    nursery.start_soon(run_peer, peer)
    nursery.start_soon(run_download, found, [stage])
    await wait_all_tasks_blocked()
    # When it has nothing now
    stub.reply(1)
    # Then that is told.
    with trio.fail_after(1):
        await stale.wait()
    nursery.cancel_scope.cancel()
