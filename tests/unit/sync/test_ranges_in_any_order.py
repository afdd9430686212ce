"""Ranges of one trie under way at the same time, answered in any order, late or twice: each is kept once."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing

from ethsync.counters import Counters
from ethsync.peers.track import Outcome
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.pages import path_of
from ethsync.store.datadir import Datadir
from ethsync.store.schema import MARKER, STORAGE_PAGE, TOP, Marker, storage_key
from ethsync.store.writer import Write, Writer
from ethsync.sync.accounts import AccountJob, AccountStage
from ethsync.sync.assemble import assemble_whole
from ethsync.sync.big_contracts import BigContracts, RangeJob
from ethsync.sync.debts import Contract, DebtBook, PageDebt
from ethsync.sync.progress import Progress
from ethsync.sync.storage import StorageStage, TriesJob
from tests.oracles.leaf_sets import leaf_set
from tests.unit.sync.account_ranges import ACCOUNTS, assert_all_accounts_once
from tests.unit.sync.storages import (
    ACCOUNT,
    BIG,
    PAGE,
    STATE_ROOT,
    cut_off,
    stored_record,
    stored_root,
    stored_slots,
    synced,
    written,
)

BUDGET = 4_000
OTHER = b"\xa2" * 32


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, of which none has more than twelve."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)
    monkeypatch.setattr("ethsync.sync.assemble.MOST_LEAVES", 12)
    monkeypatch.setattr("ethsync.sync.assemble.MOST_CARRIED", 12)


@pytest.fixture
async def stage(datadir: Datadir, writer: Writer, progress: Progress) -> StorageStage:
    """A stage with one contract under way, whose first slots have come."""
    debts = DebtBook(datadir, writer)
    stage = StorageStage(STATE_ROOT, datadir, writer, trio.CapacityLimiter(3), progress, debts)
    await stage.owe(debts.open(PAGE, 1, 0), [(ACCOUNT, BIG.root)], STATE_ROOT)
    job = stage.take(BUDGET)
    assert isinstance(job, TriesJob)
    assert await stage.process(job, cut_off(BIG, slots=40)) is Outcome.SERVED
    return stage


async def assert_kept_once(stage: StorageStage, datadir: Datadir, writer: Writer, progress: Progress) -> None:
    assert (stage.done, stage.ready()) == (True, 0)
    await synced(datadir, writer)
    assert stored_slots(datadir, ACCOUNT) == BIG.pairs
    assert stored_root(datadir, ACCOUNT) == BIG.root
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert (record.complete, record.leaves) == (True, 200)
    assert (progress.contracts, progress.storage.items) == (1, 200)


def ranges(stage: StorageStage) -> list[RangeJob]:
    """All ranges that may be under way at once."""
    jobs = []
    while stage.ready():
        job = stage.take(BUDGET)
        assert isinstance(job, RangeJob)
        jobs.append(job)
    return jobs


async def test_ranges_that_end_together_close_the_contract_once(
    stage: StorageStage, datadir: Datadir, writer: Writer, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the last ranges of a contract, and a disk for which everybody waits
    jobs = ranges(stage)
    assert len(jobs) > 1
    gate, waiting = trio.Event(), 0
    real = Writer.write

    async def held(writer: Writer, batch: Write) -> None:
        nonlocal waiting
        if batch.database is datadir.storage:
            waiting += 1
            await gate.wait()
        await real(writer, batch)

    monkeypatch.setattr(Writer, "write", held)
    outcomes: list[Outcome] = []

    async def answer(job: RangeJob) -> None:
        outcomes.append(await stage.process(job, BIG.range(job.gap.resume, 200)))

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(answer, job)
        while waiting < len(jobs):
            await trio.testing.wait_all_tasks_blocked(0.01)
        # When all of them can be written at the same moment
        gate.set()
    # Then each is kept, and whoever is last closes the contract.
    assert outcomes == [Outcome.SERVED] * len(jobs)
    await assert_kept_once(stage, datadir, writer, progress)


@pytest.mark.parametrize("seed", range(12))
async def test_storage_in_any_order(
    stage: StorageStage, datadir: Datadir, writer: Writer, progress: Progress, seed: int
) -> None:
    rng = Random(seed)
    jobs: list[RangeJob] = []

    async def answer(job: RangeJob, most: int) -> None:
        await stage.process(job, BIG.range(job.gap.resume, most))

    # Given requests that are given up at random, and asked again
    while not stage.done:
        jobs += (fresh := ranges(stage))
        for job in fresh:
            if rng.random() < 0.4:
                stage.give_back(job)
        # When any of them are answered at the same time, by any number of slots, some of them twice
        for job in jobs[:-8]:
            stage.give_back(job)  # no peer has more time than this
        async with trio.open_nursery() as nursery:
            for job in rng.sample(jobs[-8:], min(len(jobs), 4)):
                for _ in range(rng.randint(1, 2)):
                    nursery.start_soon(answer, job, rng.choice((1, 5, 30, 200)))
    # Then
    await assert_kept_once(stage, datadir, writer, progress)


@pytest.mark.parametrize("seed", range(6))
async def test_accounts_in_any_order(
    account_stage: AccountStage, datadir: Datadir, writer: Writer, progress: Progress, seed: int
) -> None:
    stage, rng = account_stage, Random(seed)
    jobs: list[AccountJob] = []

    async def answer(job: AccountJob, most: int) -> None:
        await stage.process(job, ACCOUNTS.answer(job, most))

    # From the first request on, which must not be the only one that shows how many accounts there are
    while not stage.done:
        while stage.ready() and stage.counters.in_flight < 4:
            job = stage.take(BUDGET)
            jobs.append(job)
            if rng.random() < 0.4:
                stage.give_back(job)
                break
        for job in jobs[:-8]:
            stage.give_back(job)  # no peer has more time than this
        async with trio.open_nursery() as nursery:
            for job in rng.sample(jobs[-8:], min(len(jobs), 4)):
                for _ in range(rng.randint(1, 2)):
                    nursery.start_soon(answer, job, rng.choice((1, 5, 30, 300)))
    for job in jobs:
        stage.give_back(job)  # those who were never answered
    await assert_all_accounts_once(stage, progress, datadir, writer)


async def test_what_a_contract_begun_before_has_left_goes_with_its_first_pages(
    datadir: Datadir, writer: Writer
) -> None:
    # Given pages, tops and a marker of a contract whose record a power cut has taken, cut at another depth,
    leaves = assemble_whole(leaves_in_order()).leaves
    stale = [path_of(leaves.key(row), 4) for row in range(0, len(leaves), 7)]
    for account in (ACCOUNT, OTHER):
        for path in stale:
            datadir.storage.put(storage_key(STORAGE_PAGE, account, path), b"stale")
            datadir.storage.put(storage_key(TOP, account, path), b"stale")
        key, value = Marker(0, 1 << 200, 3, 3).encode()
        datadir.storage.put(MARKER + account + key, value)
    # When the contract is begun anew
    contracts = BigContracts(STATE_ROOT, datadir, writer, Counters())
    assembled = assemble_whole(leaves)
    big = contracts.begin(Contract(PageDebt(PAGE, 1, 1, 0), ACCOUNT, b"\x55" * 32), assembled, 1, 0.0)
    await written(writer, datadir)
    # Then it is all there until there is something better,
    assert len(list(datadir.storage.scan(STORAGE_PAGE + ACCOUNT))) == len(stale)
    await contracts.write(big, assembled)
    await written(writer, datadir)
    # and then there is only that; other contracts keep what they have.
    paths = [page.path.stored for page in assembled.pages]
    for family in (STORAGE_PAGE, TOP):
        assert [path for path, _ in datadir.storage.scan(family + ACCOUNT)] == paths
        assert len(list(datadir.storage.scan(family + OTHER))) == len(stale)
    assert len(list(datadir.storage.scan(MARKER + ACCOUNT))) == 1


def leaves_in_order() -> Leaves:
    truth = leaf_set(Random(1), "random_keys", 100)
    return leaves_of(truth.keys, truth.values)
