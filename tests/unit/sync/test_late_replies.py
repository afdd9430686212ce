"""An answer after its time: used unless others have brought the same; nothing is stored or counted twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import pytest
import trio

from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.peers.track import Outcome
from ethsync.state.pages import decode_bundle, path_of
from ethsync.store.datadir import Datadir
from ethsync.store.schema import BUNDLE, CODE, FACT_DEPTH, PAID, account_key
from ethsync.store.writer import Writer
from ethsync.sync.accounts import AccountStage
from ethsync.sync.big_contracts import RangeJob
from ethsync.sync.bytecodes import CodeStage
from ethsync.sync.debts import DebtBook, PageDebt
from ethsync.sync.fingerprints import Fingerprints
from ethsync.sync.progress import Progress
from ethsync.sync.storage import StorageStage, TriesJob
from tests.oracles import messages
from tests.oracles.accounts import Account
from tests.unit.sync.account_ranges import ACCOUNTS, assert_all_accounts_once
from tests.unit.sync.storages import (
    BIG,
    BUDGET,
    PAGE,
    STATE_ROOT,
    cut_off,
    storage,
    stored_record,
    stored_root,
    stored_slots,
    synced,
    whole,
    written,
)

Job = TypeVar("Job")

NAMES = [bytes([0xA1 + number]) * 32 for number in range(4)]
SMALL = [storage(seed, 5 + seed) for seed in range(4)]


@pytest.fixture
def debts(datadir: Datadir, writer: Writer) -> DebtBook:
    return DebtBook(datadir, writer)


@pytest.fixture
def stage(datadir: Datadir, writer: Writer, progress: Progress, debts: DebtBook) -> StorageStage:
    return StorageStage(STATE_ROOT, datadir, writer, trio.CapacityLimiter(2), progress, debts)


def in_vain(give_back: Callable[[Job], None], job: Job) -> Job:
    """A request that got no answer in time: what it asks for may be asked of others."""
    give_back(job)
    return job


async def outcomes_at_once(*answers: Callable[[], Awaitable[Outcome]]) -> list[str]:
    """What becomes of answers that are proven at the same time."""
    outcomes: list[str] = []

    async def take(answer: Callable[[], Awaitable[Outcome]]) -> None:
        outcomes.append((await answer()).value)

    async with trio.open_nursery() as nursery:
        for answer in answers:
            nursery.start_soon(take, answer)
    return sorted(outcomes)


# Small tries


async def owing_small(stage: StorageStage, debts: DebtBook) -> PageDebt:
    page = debts.open(PAGE, 4, 0)
    await stage.owe(page, [(name, small.root) for name, small in zip(NAMES, SMALL, strict=True)], STATE_ROOT)
    return page


def taken(stage: StorageStage, budget: int = BUDGET) -> TriesJob:
    job = stage.take(budget)
    assert isinstance(job, TriesJob)
    return job


async def assert_bundled_once(page: PageDebt, progress: Progress, datadir: Datadir, writer: Writer) -> None:
    await synced(datadir, writer)
    value = datadir.bundles.get(account_key(BUNDLE, PAGE))
    assert value is not None
    bundle = decode_bundle(PAGE, value)
    assert [account.tobytes() for account in bundle.accounts] == NAMES
    assert [root.tobytes() for root in bundle.roots] == [small.root for small in SMALL]
    assert (page.storage, page.unbundled) == (0, 0)
    assert (progress.contracts, progress.storage.items) == (4, sum(map(len, SMALL)))
    assert datadir.ledger.get(account_key(PAID, PAGE)) == b""


@pytest.mark.parametrize("asked_again", [False, True])
async def test_tries_that_come_late_are_kept(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer, asked_again: bool
) -> None:
    # Given tries that were asked for in vain, and perhaps are asked for anew
    page = await owing_small(stage, debts)
    first = in_vain(stage.give_back, taken(stage))
    second = taken(stage) if asked_again else None
    # When the first answer comes nevertheless
    assert await stage.process(first, whole(*SMALL)) is Outcome.SERVED
    # Then nothing is left to be asked for,
    assert stage.done
    assert stage.ready() == 0
    # and the second answer is dropped.
    if second is not None:
        assert await stage.process(second, whole(*SMALL)) is Outcome.DUPLICATE
    assert progress.storage.in_flight == 0
    await assert_bundled_once(page, progress, datadir, writer)


async def test_tries_that_come_late_fill_what_is_missing(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    page = await owing_small(stage, debts)
    first = in_vain(stage.give_back, taken(stage))
    # Given a second peer that has only two of the four
    second = taken(stage)
    assert await stage.process(second, whole(SMALL[1], SMALL[2])) is Outcome.SERVED
    assert not stage.done
    # When the first one's answer has all
    assert await stage.process(first, whole(*SMALL)) is Outcome.SERVED
    # Then
    assert stage.ready() == 0
    await assert_bundled_once(page, progress, datadir, writer)


async def test_tries_that_come_late_and_in_part_leave_the_others_to_be_asked_for_once(
    stage: StorageStage, debts: DebtBook
) -> None:
    await owing_small(stage, debts)
    first = in_vain(stage.give_back, taken(stage))
    second = taken(stage)
    assert await stage.process(first, whole(SMALL[0], SMALL[3])) is Outcome.SERVED
    # When the second request comes to nothing
    stage.give_back(second)
    assert [contract.account for contract in taken(stage).contracts] == [NAMES[1], NAMES[2]]
    assert stage.ready() == 0


async def test_late_tries_that_others_have_brought_are_not_even_looked_at(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    page = await owing_small(stage, debts)
    first = in_vain(stage.give_back, taken(stage))
    assert await stage.process(taken(stage), whole(*SMALL)) is Outcome.SERVED
    assert await stage.process(first, b"whatever it is") is Outcome.DUPLICATE
    await assert_bundled_once(page, progress, datadir, writer)


async def test_a_late_lie_about_tries_changes_nothing(stage: StorageStage, debts: DebtBook) -> None:
    await owing_small(stage, debts)
    first = in_vain(stage.give_back, taken(stage))
    second = taken(stage)
    with pytest.raises(Disproved):
        await stage.process(first, whole(storage(9, 3)))
    # Then the second request is as good as before
    assert stage.ready() == 0
    assert await stage.process(second, whole(*SMALL)) is Outcome.SERVED
    assert stage.done


async def test_the_same_account_with_an_equal_root_met_later_is_another_matter(
    stage: StorageStage, debts: DebtBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a trie that came, and is not remembered
    monkeypatch.setattr("ethsync.sync.contract_queue.POPULAR_BYTES", 0)
    page = debts.open(PAGE, 1, 0)
    await stage.owe(page, [(NAMES[0], SMALL[0].root)], STATE_ROOT)
    first = in_vain(stage.give_back, taken(stage))
    assert await stage.process(taken(stage), whole(SMALL[0])) is Outcome.SERVED
    # When another account with its root is met, and then the late answer comes for the first one
    later = debts.open(path_of(b"\xb0" + bytes(31), 1), 1, 0)
    await stage.owe(later, [(NAMES[1], SMALL[0].root)], STATE_ROOT)
    assert await stage.process(first, whole(SMALL[0])) is Outcome.DUPLICATE
    # Then the second one is still to be had.
    assert (page.storage, later.storage) == (0, 1)
    assert await stage.process(taken(stage), whole(SMALL[0])) is Outcome.SERVED
    assert (page.storage, later.storage) == (0, 0)


# Big contracts


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that 200 slots are a trie of depth 2."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 1)
    monkeypatch.setattr("ethsync.sync.assemble.ENOUGH_LEAVES", 1)


async def owing_big(stage: StorageStage, debts: DebtBook) -> PageDebt:
    page = debts.open(PAGE, 1, 0)
    await stage.owe(page, [(NAMES[0], BIG.root)], STATE_ROOT)
    return page


async def begun_big(stage: StorageStage, debts: DebtBook) -> PageDebt:
    """The first slots have come, and show that there are more."""
    page = await owing_big(stage, debts)
    await stage.process(taken(stage), cut_off(BIG, slots=30))
    return page


def ranged(stage: StorageStage, budget: int = BUDGET) -> RangeJob:
    job = stage.take(budget)
    assert isinstance(job, RangeJob)
    return job


async def finish(stage: StorageStage) -> None:
    while stage.ready():
        job = ranged(stage)
        assert await stage.process(job, BIG.range(job.gap.resume, 50)) is Outcome.SERVED


async def assert_stored_once(page: PageDebt, progress: Progress, datadir: Datadir, writer: Writer) -> None:
    await synced(datadir, writer)
    assert stored_slots(datadir, NAMES[0]) == BIG.pairs
    assert stored_root(datadir, NAMES[0]) == BIG.root
    record = stored_record(datadir, NAMES[0])
    assert record is not None
    assert (record.complete, record.leaves) == (True, 200)
    assert (progress.contracts, progress.storage.items) == (1, 200)
    assert (page.storage, page.unbundled) == (0, 0)


@pytest.mark.usefixtures("small_pages")
async def test_the_beginning_of_a_trie_that_comes_twice_begins_it_once(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    page = await owing_big(stage, debts)
    first = in_vain(stage.give_back, taken(stage))
    second = taken(stage)
    assert await stage.process(first, cut_off(BIG, slots=80)) is Outcome.SERVED
    assert await stage.process(second, cut_off(BIG, slots=30)) is Outcome.DUPLICATE
    assert await stage.process(second, whole(BIG)) is Outcome.DUPLICATE
    await finish(stage)
    await assert_stored_once(page, progress, datadir, writer)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("slots", [1, 40, 150])
@pytest.mark.parametrize("parts", [0, 1, 3])
async def test_a_range_that_comes_late_is_kept(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer, slots: int, parts: int
) -> None:
    page = await begun_big(stage, debts)
    # Given a range that was asked for in vain, and of which smaller parts are asked for anew
    first = in_vain(stage.give_back, ranged(stage))
    again = [ranged(stage, 1000) for _ in range(parts)]
    # When the first answer comes
    assert await stage.process(first, BIG.range(first.gap.resume, slots)) is Outcome.SERVED
    # Then what is beyond it is asked for, and the other answers add nothing or what it does not have.
    late = [await stage.process(job, BIG.range(job.gap.resume, 50)) for job in again]
    assert late == sorted(late, key=lambda outcome: outcome is Outcome.SERVED)
    await finish(stage)
    assert stage.done
    assert progress.storage.in_flight == 0
    await assert_stored_once(page, progress, datadir, writer)


@pytest.mark.usefixtures("small_pages")
async def test_a_range_that_comes_after_all_is_stored_is_dropped(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    page = await begun_big(stage, debts)
    first = in_vain(stage.give_back, ranged(stage))
    part = ranged(stage, 1000)
    assert await stage.process(part, BIG.range(part.gap.resume, 50)) is Outcome.SERVED
    # When the late answer has what is stored, and more
    assert await stage.process(first, BIG.range(first.gap.resume, 170)) is Outcome.DUPLICATE
    await finish(stage)
    assert await stage.process(first, BIG.range(first.gap.resume, 170)) is Outcome.DUPLICATE
    await assert_stored_once(page, progress, datadir, writer)


@pytest.mark.usefixtures("small_pages")
async def test_two_answers_for_one_range_at_the_same_time_are_stored_once(
    stage: StorageStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    page = await begun_big(stage, debts)
    first = in_vain(stage.give_back, ranged(stage))
    second = ranged(stage)
    answers = [partial(stage.process, job, BIG.range(job.gap.resume, 200)) for job in (first, second)]
    assert await outcomes_at_once(*answers) == ["duplicate", "served"]
    await assert_stored_once(page, progress, datadir, writer)


# Codes


CODES = [bytes([number]) * 50 for number in range(6)]
HASHES = [keccak256(code) for code in CODES]


@pytest.fixture
def codes(datadir: Datadir, writer: Writer, progress: Progress, debts: DebtBook) -> CodeStage:
    return CodeStage(datadir, writer, trio.CapacityLimiter(1), progress.codes, debts, Fingerprints())


async def test_codes_that_come_late_are_kept(
    codes: CodeStage, debts: DebtBook, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    page = debts.open(PAGE, 0, 6)
    codes.owe(page, HASHES)
    first = in_vain(codes.give_back, codes.take(BUDGET))
    second = codes.take(BUDGET)
    # When the first answer has four of them
    assert await codes.process(first, messages.blobs(1, CODES[:4])) is Outcome.SERVED
    assert page.codes == 2
    # and the second has others and some of the same
    assert await codes.process(second, messages.blobs(1, CODES[3:5])) is Outcome.SERVED
    assert (page.codes, progress.codes.items) == (1, 5)
    # Then the last one is asked for, once.
    assert codes.take(BUDGET).hashes == (HASHES[5],)
    assert codes.ready() == 0
    await written(writer, datadir)
    assert {digest for digest, _ in datadir.codes.scan(CODE)} == set(HASHES[:5])


async def test_codes_that_others_have_brought_are_dropped(codes: CodeStage, debts: DebtBook) -> None:
    page = debts.open(PAGE, 0, 6)
    codes.owe(page, HASHES)
    first = in_vain(codes.give_back, codes.take(BUDGET))
    second, third = codes.take(BUDGET), first
    assert await codes.process(second, messages.blobs(1, CODES)) is Outcome.SERVED
    assert await codes.process(third, b"whatever it is") is Outcome.DUPLICATE
    assert (page.codes, codes.done, codes.ready()) == (0, True, 0)


async def test_codes_that_wait_in_the_queue_and_come_late_are_not_asked_for(codes: CodeStage, debts: DebtBook) -> None:
    codes.owe(debts.open(PAGE, 0, 6), HASHES)
    first = in_vain(codes.give_back, codes.take(BUDGET))
    assert await codes.process(first, messages.blobs(1, CODES[1:])) is Outcome.SERVED
    assert codes.take(BUDGET).hashes == (HASHES[0],)


async def test_after_a_late_lie_the_codes_are_asked_for_once(codes: CodeStage, debts: DebtBook) -> None:
    codes.owe(debts.open(PAGE, 0, 6), HASHES)
    first = in_vain(codes.give_back, codes.take(BUDGET))
    with pytest.raises(Disproved):
        await codes.process(first, messages.blobs(1, [b"a lie"]))
    assert sorted(codes.take(BUDGET).hashes) == sorted(HASHES)
    assert codes.ready() == 0


# Accounts


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("late", [1, 40, 200, 300])
@pytest.mark.parametrize("again", [1, 30, 300])
async def test_the_first_range_of_accounts_answered_twice(
    account_stage: AccountStage, progress: Progress, datadir: Datadir, writer: Writer, late: int, again: int
) -> None:
    # Given the very first request, of which the depth of all pages is learned, made twice
    stage = account_stage
    first = in_vain(stage.give_back, stage.take(BUDGET))
    second = stage.take(BUDGET)
    # When both are answered, each by a different part of the beginning
    assert await stage.process(first, ACCOUNTS.answer(first, late)) is Outcome.SERVED
    depth = stage.sweep.depth
    assert await stage.process(second, ACCOUNTS.answer(second, again)) is Outcome.DUPLICATE
    # Then there is one depth and one answer.
    await written(writer, datadir)
    stored = datadir.accounts.get(FACT_DEPTH)
    assert stored is not None
    assert (stored[0], stage.sweep.depth) == (depth, depth)
    await assert_all_accounts_once(stage, progress, datadir, writer)


@pytest.mark.usefixtures("small_pages")
async def test_both_answers_to_the_first_request_are_proven_at_the_same_time(
    account_stage: AccountStage, progress: Progress, datadir: Datadir, writer: Writer
) -> None:
    stage = account_stage
    first = in_vain(stage.give_back, stage.take(BUDGET))
    second = stage.take(BUDGET)
    answers = [partial(stage.process, job, ACCOUNTS.answer(job, most)) for job, most in ((first, 40), (second, 200))]
    assert await outcomes_at_once(*answers) == ["duplicate", "served"]
    await assert_all_accounts_once(stage, progress, datadir, writer)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("payload", [b"nonsense", messages.account_range(1, [(bytes(32), Account(1).slim)])])
async def test_a_late_lie_about_accounts_changes_nothing(
    account_stage: AccountStage, progress: Progress, datadir: Datadir, writer: Writer, payload: bytes
) -> None:
    stage = account_stage
    first = in_vain(stage.give_back, stage.take(BUDGET))
    second = stage.take(BUDGET)
    with pytest.raises((Disproved, MalformedMessage)):
        await stage.process(first, payload)
    assert stage.ready() == 0
    assert await stage.process(second, ACCOUNTS.answer(second, 100)) is Outcome.SERVED
    await assert_all_accounts_once(stage, progress, datadir, writer)
