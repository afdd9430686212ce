"""Trie nodes that come after their time: used unless others have brought the same, and each node once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import trio
from trie import HexaryTrie

from ethsync.counters import Counters
from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.kernels.trie import LEAF
from ethsync.peers.track import Outcome
from ethsync.store.leveldb import Database
from ethsync.sync.healing import HealingStage, NodesJob
from ethsync.sync.local_trie import LocalTrie
from ethsync.sync.page_updates import UpdatedPage, page_writes
from tests.oracles import messages
from tests.oracles.stored_tries import PAGES, TOPS
from tests.oracles.tries import all_nodes, trie_of
from tests.oracles.walks import Contents, held, put
from tests.unit.sync.test_walk import changed

DEPTH = 1
STATE_ROOT = b"\x77" * 32


@dataclass
class Healed:
    """A stage that heals one stored trie, and a peer that has all nodes of the other one."""

    database: Database
    stage: HealingStage
    after: Contents
    nodes: dict[bytes, bytes]
    missing: int
    """How many of them the stored trie does not have."""
    finished: int = 0

    def take(self, nodes: int = 1024) -> NodesJob:
        """Ask for so many nodes at the most."""
        self.stage._node_bytes = 1.0  # so that a budget is a number of nodes
        return self.stage.take(nodes)

    def answer(self, job: NodesJob, most: int = 1024) -> bytes:
        """The first of the nodes that are asked for."""
        wanted = [digest.tobytes() for _, part in job.parts for digest in part.hashes]
        return messages.blobs(1, [self.nodes[digest] for digest in wanted[:most]])

    async def finish(self) -> None:
        """Answer all that is still asked for: then the trie is healed."""
        while not self.stage.done:
            job = self.take()
            assert await self.stage.process(job, self.answer(job)) is Outcome.SERVED
        self.assert_healed()

    def assert_healed(self) -> None:
        """The pages are those of the other trie; the walk ended once, and used each node that was missing once."""
        assert held(self.database) == self.after
        assert (self.finished, self.stage.ready(), self.stage.counters.in_flight) == (1, 0, 0)
        assert self.stage.counters.items == self.missing


def nodes_of(leaves: Contents) -> tuple[HexaryTrie, dict[bytes, bytes]]:
    """The trie of these leaves, and its nodes by their hashes."""
    trie = trie_of(sorted(leaves), [leaves[key] for key in sorted(leaves)])
    return trie, {keccak256(node): node for node in all_nodes(trie).values() if node is not None}


def begin(database: Database, before: Contents, after: Contents) -> Healed:
    put(database, before, DEPTH)
    remote, nodes = nodes_of(after)
    missing = len(nodes.keys() - nodes_of(before)[1].keys())
    stage = HealingStage(STATE_ROOT, trio.CapacityLimiter(2), Counters())
    healed = Healed(database, stage, after, nodes, missing)

    async def keep(pages: list[UpdatedPage]) -> None:
        puts, deletes = page_writes(pages, PAGES, TOPS)
        batch = database.batch()
        for key, value in puts:
            batch.put(key, value)
        for key in deletes:
            batch.delete(key)
        database.commit(batch)

    async def finished() -> None:
        healed.finished += 1

    local = LocalTrie(database, PAGES, TOPS, DEPTH, LEAF)
    stage.heal(b"", local, bytes(remote.root_hash), keep, finished)
    return healed


def contents(rng: Random, count: int) -> Contents:
    return {rng.randbytes(32): rng.randbytes(rng.choice((1, 33))) for _ in range(count)}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", create=True)
    yield opened
    opened.close()


@pytest.fixture
async def healed(database: Database) -> Healed:
    """A trie all of whose 150 leaves differ; its root has come, and the sixteen nodes below it are wanted."""
    rng = Random(5)
    before = contents(rng, 150)
    healed = begin(database, before, {key: rng.randbytes(33) for key in before})
    job = healed.take()
    assert await healed.stage.process(job, healed.answer(job)) is Outcome.SERVED
    return healed


@pytest.mark.parametrize("asked_again", [False, True])
async def test_nodes_that_come_late_are_used(healed: Healed, asked_again: bool) -> None:
    # Given nodes that were asked for in vain, and perhaps are asked for anew
    first = healed.take()
    healed.stage.give_back(first)
    second = healed.take() if asked_again else None
    # When the first answer comes nevertheless
    assert await healed.stage.process(first, healed.answer(first)) is Outcome.SERVED
    # Then the walk goes on below them, and the second answer adds nothing.
    below = healed.take()
    asked = {digest.tobytes() for _, part in first.parts for digest in part.hashes}
    assert not asked & {digest.tobytes() for _, part in below.parts for digest in part.hashes}
    if second is not None:
        assert await healed.stage.process(second, healed.answer(second)) is Outcome.DUPLICATE
    assert await healed.stage.process(below, healed.answer(below)) is Outcome.SERVED
    await healed.finish()


async def test_of_nodes_that_come_late_in_part_the_others_are_asked_for_once(healed: Healed) -> None:
    first = healed.take()
    healed.stage.give_back(first)
    second = healed.take()
    assert await healed.stage.process(first, healed.answer(first, 5)) is Outcome.SERVED
    # When the second request comes to nothing
    healed.stage.give_back(second)
    # Then the eleven others are to be had again, beside what the five have shown.
    again = {digest.tobytes() for _, part in healed.take().parts for digest in part.hashes}
    wanted = [digest.tobytes() for _, part in first.parts for digest in part.hashes]
    assert len(wanted) == 16
    assert again >= {*wanted[5:]}
    assert not again & {*wanted[:5]}


async def test_the_second_answer_adds_what_the_late_one_did_not_have(healed: Healed) -> None:
    first = healed.take()
    healed.stage.give_back(first)
    second = healed.take()
    assert await healed.stage.process(first, healed.answer(first, 5)) is Outcome.SERVED
    assert await healed.stage.process(second, healed.answer(second)) is Outcome.SERVED
    await healed.finish()


async def test_late_nodes_that_others_have_brought_are_dropped(healed: Healed) -> None:
    first = healed.take()
    healed.stage.give_back(first)
    second = healed.take()
    assert await healed.stage.process(second, healed.answer(second)) is Outcome.SERVED
    assert await healed.stage.process(first, healed.answer(first)) is Outcome.DUPLICATE
    await healed.finish()
    # Once the trie is healed, an answer is not even looked at.
    assert await healed.stage.process(first, b"whatever it is") is Outcome.DUPLICATE
    healed.assert_healed()


async def test_late_nodes_for_another_state_root_are_dropped(healed: Healed) -> None:
    first = healed.take()
    healed.stage.give_back(first)
    await healed.stage.move(b"\x78" * 32)
    assert await healed.stage.process(first, healed.answer(first)) is Outcome.DUPLICATE


@pytest.mark.parametrize("payload", [messages.blobs(1, [b"\xc1\x80"]), b"\xc0"], ids=["unasked", "malformed"])
async def test_a_late_lie_about_nodes_changes_nothing(healed: Healed, payload: bytes) -> None:
    first = healed.take()
    healed.stage.give_back(first)
    second = healed.take()
    with pytest.raises((Disproved, MalformedMessage)):
        await healed.stage.process(first, payload)
    # Then the second request is as good as before, also after an answer that is late and has nothing.
    assert await healed.stage.process(first, messages.blobs(1, [])) is Outcome.EMPTY
    assert await healed.stage.process(second, healed.answer(second)) is Outcome.SERVED
    await healed.finish()


@pytest.mark.parametrize("seed", range(8))
async def test_nodes_in_any_order(database: Database, seed: int) -> None:
    rng = Random(seed)
    before = contents(rng, 120)
    healed = begin(database, before, changed(rng, before, 0.5))
    jobs: list[NodesJob] = []

    async def answer(job: NodesJob, most: int) -> None:
        await healed.stage.process(job, healed.answer(job, most))

    # Given requests that are given up at random, and asked again,
    while not healed.stage.done:
        while healed.stage.ready() and healed.stage.counters.in_flight < 4:
            jobs.append(healed.take(rng.choice((1, 5, 40))))
            if rng.random() < 0.4:
                healed.stage.give_back(jobs[-1])
        for job in jobs[:-8]:
            healed.stage.give_back(job)  # no peer has more time than this
        # when any of them are answered at the same time, in part, some of them twice
        async with trio.open_nursery() as nursery:
            for job in rng.sample(jobs[-8:], min(len(jobs), 4)):
                for _ in range(rng.randint(1, 2)):
                    nursery.start_soon(answer, job, rng.choice((1, 5, 100)))
    for job in jobs:
        healed.stage.give_back(job)  # those who were never answered
    # then each node is used once, and the trie is healed.
    healed.assert_healed()
