"""Contracts whose storage is asked for under a newer state root than their accounts were proven under.

What differs, or for which nothing comes, is left for later: its debt stays, and it is no peer's fault (decision 9).
"""

from __future__ import annotations

import pytest

from ethsync.peers.track import Outcome
from ethsync.store.datadir import Datadir
from ethsync.store.schema import PAID, account_key
from ethsync.store.writer import Writer
from ethsync.sync.big_contracts import RangeJob
from ethsync.sync.debts import PageDebt
from ethsync.sync.storage import MOST_EMPTY_ANSWERS, StorageStage, TriesJob
from tests.unit.sync.storages import (
    ACCOUNT,
    BIG,
    BUDGET,
    PAGE,
    STATE_ROOT,
    TWIN,
    NewStage,
    all_ranges,
    first_chunk,
    owing,
    storage,
    stored_record,
    stored_root,
    stored_slots,
    whole,
    written,
)

pytestmark = pytest.mark.usefixtures("small_pages")

LATER_ROOT = b"\x78" * 32
OTHER = storage(7, 200)
"""What the contract's storage has become."""


async def begun_before_a_move(new_stage: NewStage, page: PageDebt) -> StorageStage:
    """A stage with a big contract of which the first slots came before the pivot moved."""
    stage = new_stage()
    await stage.owe(page, [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, 100)
    await stage.move(LATER_ROOT)
    return stage


def range_of(stage: StorageStage) -> RangeJob:
    job = stage.take(BUDGET)
    assert isinstance(job, RangeJob)
    return job


async def assert_parked(stage: StorageStage, page: PageDebt, datadir: Datadir, writer: Writer) -> None:
    """Nothing is asked for it any more, and nothing is said to be paid; what came of it is kept."""
    assert (stage.ready(), stage.done, page.unbundled) == (0, True, 0)
    assert page.storage == 1
    await writer.settle(datadir.ledger)
    assert datadir.ledger.get(account_key(PAID, PAGE)) is None
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert not record.complete
    assert stored_slots(datadir, ACCOUNT) == BIG.pairs[: len(stored_slots(datadir, ACCOUNT))] != []


async def test_a_big_contract_for_which_nothing_comes_is_parked(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a big contract that was begun before the pivot moved, and that has no storage any more
    page = owing(1)
    stage = await begun_before_a_move(new_stage, page)
    # When peers have nothing of it, as often as that may be chance
    for _ in range(MOST_EMPTY_ANSWERS - 1):
        assert await stage.process(range_of(stage), whole()) is Outcome.DUPLICATE
        assert not stage.done
    # Then it is left at the next such answer, and not before.
    assert await stage.process(range_of(stage), whole()) is Outcome.DUPLICATE
    await assert_parked(stage, page, datadir, writer)


async def test_a_parked_contract_is_taken_up_under_the_root_of_its_account(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    stage = await begun_before_a_move(new_stage, owing(1))
    for _ in range(MOST_EMPTY_ANSWERS):
        await stage.process(range_of(stage), whole())
    await written(writer, datadir)
    kept = len(stored_slots(datadir, ACCOUNT))
    # When its account turns out to be as it was, and the debt is read from the disk
    stage, page = new_stage(), owing(1)
    assert stage.resume_big(page, ACCOUNT, BIG.root, STATE_ROOT)
    job = range_of(stage)
    # Then it goes on behind what is stored, to the end.
    assert sum(int.from_bytes(key, "big") < job.gap.origin for key, _ in BIG.pairs) == kept > 0
    stage.give_back(job)
    await all_ranges(stage)
    assert (stage.done, page.storage) == (True, 0)
    await written(writer, datadir)
    assert stored_slots(datadir, ACCOUNT) == BIG.pairs
    assert stored_root(datadir, ACCOUNT) == BIG.root


@pytest.mark.parametrize("answers", ["one by one", "at the same time"])
async def test_ranges_of_a_parked_contract_that_are_under_way_add_nothing(
    new_stage: NewStage, datadir: Datadir, writer: Writer, answers: str
) -> None:
    # Given several ranges of such a contract under way
    page = owing(1)
    stage = await begun_before_a_move(new_stage, page)
    jobs = []
    while stage.ready():
        job = stage.take(600)
        assert isinstance(job, RangeJob)
        jobs.append(job)
    assert len(jobs) > MOST_EMPTY_ANSWERS
    # When nothing comes for all of them
    for job in jobs:
        if answers == "at the same time":
            stage.give_back(job)
    for job in jobs:
        assert await stage.process(job, whole()) is Outcome.DUPLICATE
    # Then the contract is parked once.
    assert await stage.process(jobs[0], BIG.range(jobs[0].gap.resume, 50)) is Outcome.DUPLICATE
    await assert_parked(stage, page, datadir, writer)


async def test_a_big_contract_whose_storage_has_changed_is_parked_at_the_first_answer(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    page = owing(1)
    stage = await begun_before_a_move(new_stage, page)
    job = range_of(stage)
    assert await stage.process(job, OTHER.range(job.gap.resume, 50)) is Outcome.DUPLICATE
    await assert_parked(stage, page, datadir, writer)


async def test_under_the_root_of_its_account_an_empty_answer_is_the_peers_matter(new_stage: NewStage) -> None:
    # However often nothing comes: the account is proven to have storage in this very state.
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, 100)
    for _ in range(2 * MOST_EMPTY_ANSWERS):
        assert await stage.process(range_of(stage), whole()) is Outcome.EMPTY
    assert stage.ready()
    assert not stage.done


async def test_a_small_contract_for_which_nothing_comes_is_parked(new_stage: NewStage) -> None:
    # Given two contracts, of which one was proven after the pivot had moved
    small, page = storage(3, 5), owing(2)
    stage = new_stage()
    await stage.owe(page, [(ACCOUNT, small.root)], STATE_ROOT)
    await stage.move(LATER_ROOT)
    await stage.owe(page, [(TWIN, storage(4, 5).root)], LATER_ROOT)
    # When nothing comes for the first one
    for _ in range(MOST_EMPTY_ANSWERS):
        job = stage.take(BUDGET)
        assert isinstance(job, TriesJob)
        assert [contract.account for contract in job.contracts] == [ACCOUNT]
        assert await stage.process(job, whole()) is Outcome.DUPLICATE
    # Then the other one is asked for.
    job = stage.take(BUDGET)
    assert isinstance(job, TriesJob)
    assert [contract.account for contract in job.contracts] == [TWIN]
    assert page.storage == 2
