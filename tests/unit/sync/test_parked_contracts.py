"""Contracts whose storage is asked for under a newer state root than their accounts were proven under.

What differs, or for which nothing comes, is left for later: its debt stays, and it is no peer's fault (decision 9).
"""

from __future__ import annotations

import gc
from contextlib import suppress
from random import Random

import pytest

from ethsync.errors import PeerError
from ethsync.peers.track import Outcome
from ethsync.state.pages import KEY_SPACE, decode_bundle
from ethsync.store.datadir import Datadir
from ethsync.store.schema import BUNDLE, MARKER, PAID, RECORD, Marker, TrieRecord, account_key
from ethsync.store.writer import Writer
from ethsync.sync.assemble import Assembled
from ethsync.sync.big_contracts import BigContract, RangeJob
from ethsync.sync.debts import Contract, PageDebt
from ethsync.sync.storage import MOST_EMPTY_ANSWERS, StorageStage, TriesJob
from ethsync.sync.sweep import Gap
from tests.oracles import messages
from tests.unit.sync.storages import (
    ACCOUNT,
    BIG,
    BUDGET,
    PAGE,
    STATE_ROOT,
    TWIN,
    NewStage,
    Storage,
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
    assert stage._progress.missing_contracts == 1
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


ACCOUNTS = [b"\xa1" + bytes([number]) * 31 for number in range(12)]


def some_answer(rng: Random, before: list[Storage], after: list[Storage]) -> bytes:
    """What a peer sends that has some storages as they were and others as they are, or what a liar makes of it."""
    sent = [rng.choice(pair) for pair in zip(before, after, strict=True) if rng.random() < 0.9]
    if rng.random() < 0.2:
        rng.shuffle(sent)
    sets = [each.pairs for each in sent[: rng.randrange(len(sent) + 1)]]
    if sets and rng.random() < 0.3:
        sets[-1] = sets[-1][: rng.randrange(len(sets[-1]) + 1)] or sets[-1]
    return messages.storage_ranges(1, sets)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_comes_under_another_root_only_what_an_account_names_is_stored(
    seed: int, new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given contracts proven before the pivot moved, of which some have other storage now
    rng = Random(seed)
    before = [storage(number, rng.choice((1, 5, 20, 70))) for number in range(len(ACCOUNTS))]
    after = [storage(100 + number, 10) if rng.random() < 0.5 else each for number, each in enumerate(before)]
    named = dict(zip(ACCOUNTS, before, strict=True))
    stage, page = new_stage(), owing(len(ACCOUNTS))
    await stage.owe(page, [(account, trie.root) for account, trie in named.items()], STATE_ROOT)
    await stage.move(LATER_ROOT)
    # when all sorts of answers come,
    for _ in range(60):
        if not stage.ready():
            break
        job = stage.take(BUDGET)
        if isinstance(job, TriesJob):
            places = [ACCOUNTS.index(contract.account) for contract in job.contracts]
            payload = some_answer(rng, [before[at] for at in places], [after[at] for at in places])
        else:
            trie = rng.choice((before, after))[ACCOUNTS.index(job.big.contract.account)]
            payload = trie.range(job.gap.resume, rng.randrange(1, 60))
        with suppress(PeerError):
            await stage.process(job, payload)
    await writer.settle(datadir.ledger)
    # then each trie in the bundle, and each slot in pages, is what the account named when it was proven;
    value = datadir.bundles.get(account_key(BUNDLE, PAGE))
    bundle = decode_bundle(PAGE, value) if value is not None else None
    bundled = {bundle.accounts[k].tobytes(): k for k in range(len(bundle))} if bundle is not None else {}
    for account, k in bundled.items():
        assert bundle is not None
        leaves = bundle.leaves[int(bundle.starts[k]) : int(bundle.starts[k + 1])]
        assert [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))] == named[account].pairs
    whole_ones = set(bundled)
    for account, trie in named.items():
        slots = stored_slots(datadir, account)
        assert set(slots) <= set(trie.pairs)
        record = stored_record(datadir, account)
        if record is not None and record.complete:
            assert (record.root, slots) == (trie.root, trie.pairs)
            whole_ones.add(account)
    # the page is paid only if all of that is there, and what was parked is in nobody's memory any more.
    paid = datadir.ledger.get(account_key(PAID, PAGE)) is not None
    assert paid == (len(whole_ones) == len(ACCOUNTS))
    if stage.done:
        del job
        gc.collect()
        known = [each for each in gc.get_objects() if type(each) in (Contract, BigContract)]
        assert not [each for each in known if getattr(each, "contract", each).page is page]


async def test_a_contract_that_is_parked_while_its_last_range_is_written_is_counted_once(
    new_stage: NewStage, datadir: Datadir, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a contract that lacks one range after a restart, and whose account may have changed
    stage = await begun_before_a_move(new_stage, owing(1))
    while (job := range_of(stage)).gap.end < KEY_SPACE:
        assert await stage.process(job, BIG.range(job.gap.resume, 50)) is Outcome.SERVED
    await written(writer, datadir)
    page = owing(1)
    stage = new_stage()
    assert stage.resume_big(page, ACCOUNT, BIG.root, LATER_ROOT)
    job = range_of(stage)
    keep = stage.big.keep

    async def keep_and_park(big: BigContract, claimed: Gap, assembled: Assembled) -> None:
        await keep(big, claimed, assembled)
        await stage._park(big.contract)

    monkeypatch.setattr(stage.big, "keep", keep_and_park)
    # When another one with its storage root shows meanwhile that this is another one now
    await stage.process(job, BIG.range(job.gap.resume, 200))
    # Then it is left for later, once.
    assert (stage.done, stage.missing, stage._progress.parked) == (True, "", 1)
    assert (page.storage, page.unbundled) == (1, 0)


async def test_what_a_followed_contract_holds_is_known_after_it_was_begun_anew(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a contract to which steps have added slots, which its marker does not count
    key, value = Marker(0, KEY_SPACE, 150, 9_000).encode()
    datadir.storage.put(MARKER + ACCOUNT + key, value)
    datadir.ledger.put(RECORD + ACCOUNT, TrieRecord(OTHER.root, 2, True, 200, 12_000).encode())
    # When it is to be healed, and that is interrupted
    stage = new_stage()
    assert stage.resume_big(owing(1), ACCOUNT, BIG.root, STATE_ROOT)
    await stage.big.begin_records()
    await written(writer, datadir)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert not record.complete
    # Then it is still known how many there are.
    again = new_stage().big.resume(Contract(owing(1), ACCOUNT, BIG.root, STATE_ROOT))
    assert again is not None
    assert (again.leaves, again.size) == (200, 12_000)
