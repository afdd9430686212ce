"""Contracts with much storage: cut into ranges, continued after a kill, copied for accounts with the same root."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ethsync.peers.track import Outcome
from ethsync.state.pages import (
    KEY_SPACE,
    SMALL_TRIE,
    decode_bundle,
    path_of,
)
from ethsync.store.datadir import Datadir
from ethsync.store.schema import (
    BUNDLE,
    MARKER,
    PAID,
    RECORD,
    STORAGE_PAGE,
    TrieRecord,
    account_key,
    decode_marker,
)
from ethsync.store.writer import Writer
from ethsync.sync.big_contracts import REQUESTS_AT_ONCE, RangeJob
from ethsync.sync.debts import PageDebt
from tests.oracles import messages
from tests.oracles.tries import trie_of
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
    cut_off,
    first_chunk,
    next_range,
    owing,
    storage,
    storage_at,
    stored_record,
    stored_root,
    stored_slots,
    synced,
    whole,
    written,
)

pytestmark = pytest.mark.usefixtures("small_pages")


# Requests


async def test_the_first_request_for_ranges_continues_where_the_reply_ended(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, 50)
    # When a range is asked for
    job = stage.take(BUDGET)
    assert isinstance(job, RangeJob)
    request = job.make(9)
    # Then it begins behind the last slot, and names the account, the state root and a limit.
    assert (request.request_id, request.root, request.accounts) == (9, STATE_ROOT, (ACCOUNT,))
    assert BIG.pairs[49][0] < request.origin <= BIG.pairs[50][0]
    assert request.limit == b"\xff" * 32
    assert request.response_bytes == BUDGET


async def test_a_request_from_zero_on_has_no_limit(new_stage: NewStage, datadir: Datadir) -> None:
    # Given a record without a single range: the process was killed between the two.
    datadir.ledger.put(RECORD + ACCOUNT, TrieRecord(BIG.root, 2, False, 0, 0).encode())
    stage = new_stage()
    assert stage.resume_big(owing(1), ACCOUNT, BIG.root, STATE_ROOT)
    # When it is taken up, then it begins at zero, where a limit would bring no proof.
    request = stage.take(BUDGET).make(1)
    assert (request.origin, request.limit) == (b"", b"")


async def test_only_a_few_ranges_of_one_contract_are_under_way(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, 10)
    jobs = []
    while stage.ready():
        jobs.append(stage.take(400))
    assert len(jobs) == REQUESTS_AT_ONCE
    # When one fails, then the same range is to be had again.
    stage.give_back(jobs[1])
    again = stage.take(400)
    assert isinstance(again, RangeJob)
    assert isinstance(jobs[1], RangeJob)
    assert again.gap is jobs[1].gap


async def test_an_answer_without_anything_leaves_the_range_open(new_stage: NewStage) -> None:
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, 50)
    job = stage.take(BUDGET)
    assert isinstance(job, RangeJob)
    assert await stage.process(job, whole()) is Outcome.EMPTY
    again = stage.take(BUDGET)
    assert isinstance(again, RangeJob)
    assert again.gap is job.gap


# From the first chunk to the record


@pytest.mark.parametrize(("chunk", "most"), [(1, 1), (50, 7), (150, 100), (199, 1)])
async def test_all_slots_are_stored_and_the_record_says_so_last(
    new_stage: NewStage, datadir: Datadir, writer: Writer, chunk: int, most: int
) -> None:
    stage, page = new_stage(), owing(1)
    await stage.owe(page, [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, chunk)
    await all_ranges(stage, most)
    assert stage.done
    await written(writer, datadir)
    # Before a sync the record does not claim what could still be lost,
    record = stored_record(datadir, ACCOUNT)
    assert record is None or not record.complete
    # afterwards it says complete, and the debt of the page is paid.
    await synced(datadir, writer)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert (record.root, record.complete, record.leaves) == (BIG.root, True, 200)
    assert stored_slots(datadir, ACCOUNT) == BIG.pairs
    assert stored_root(datadir, ACCOUNT) == BIG.root
    assert datadir.ledger.get(account_key(PAID, PAGE)) == b""


async def test_a_large_trie_in_one_reply_has_pages_too(new_stage: NewStage, datadir: Datadir, writer: Writer) -> None:
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await stage.process(stage.take(BUDGET), whole(BIG))
    assert stage.done
    await synced(datadir, writer)
    assert stored_slots(datadir, ACCOUNT) == BIG.pairs
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert record.complete


async def test_a_trie_that_turns_out_to_be_small_goes_into_the_bundle(
    new_stage: NewStage, datadir: Datadir, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a peer that cuts off even small tries
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 1000)
    small = storage(2, SMALL_TRIE)
    stage, page = new_stage(), owing(2)
    await stage.owe(page, [(ACCOUNT, small.root), (TWIN, small.root)], STATE_ROOT)
    await first_chunk(stage, 30, small)
    await next_range(stage, 100, small)
    # Then it is stored like other small ones, also for the account with the same root.
    assert stage.done
    await synced(datadir, writer)
    value = datadir.bundles.get(account_key(BUNDLE, PAGE))
    assert value is not None
    bundle = decode_bundle(PAGE, value)
    assert [bundle.accounts[k].tobytes() for k in range(len(bundle))] == [ACCOUNT, TWIN]
    assert bundle.starts.tolist() == [0, SMALL_TRIE, 2 * SMALL_TRIE]
    assert list(datadir.storage.scan(STORAGE_PAGE + ACCOUNT)) == []
    assert stored_record(datadir, ACCOUNT) is None


# After a kill


async def test_a_contract_is_continued_from_its_markers(new_stage: NewStage, datadir: Datadir, writer: Writer) -> None:
    # Given a process that was killed in the middle
    first = new_stage()
    await first.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(first, 50)
    await next_range(first, 60)
    await written(writer, datadir)
    kept = len(stored_slots(datadir, ACCOUNT))
    assert kept > 80
    # When another one takes it up
    stage, page = new_stage(), owing(1)
    assert stage.resume_big(page, ACCOUNT, BIG.root, STATE_ROOT)
    assert page.unbundled == 0
    job = await next_range(stage, 10)
    # Then it asks for nothing that is stored,
    assert sum(int.from_bytes(key, "big") < job.gap.origin for key, _ in BIG.pairs) == kept
    await all_ranges(stage)
    await synced(datadir, writer)
    # and counts all slots in the end.
    assert stored_slots(datadir, ACCOUNT) == BIG.pairs
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert (record.complete, record.leaves) == (True, 200)
    assert datadir.ledger.get(account_key(PAID, PAGE)) == b""


async def test_the_width_of_ranges_is_known_after_a_kill(new_stage: NewStage, datadir: Datadir, writer: Writer) -> None:
    first = new_stage()
    await first.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(first, 100)
    await written(writer, datadir)
    stage = new_stage()
    stage.resume_big(owing(1), ACCOUNT, BIG.root, STATE_ROOT)
    # When a budget of about a tenth of the trie is given
    job = stage.take(200 * 68 // 10)
    assert isinstance(job, RangeJob)
    assert KEY_SPACE // 20 < job.gap.width < KEY_SPACE // 5


@pytest.mark.parametrize("record", [None, TrieRecord(BIG.root, 2, True, 200, 1)])
async def test_what_has_no_record_or_is_stored_is_not_taken_up(
    new_stage: NewStage, datadir: Datadir, record: TrieRecord | None
) -> None:
    if record is not None:
        datadir.ledger.put(RECORD + ACCOUNT, record.encode())
    stage, page = new_stage(), owing(1)
    assert not stage.resume_big(page, ACCOUNT, BIG.root, STATE_ROOT)
    assert (page.unbundled, stage.waiting) == (1, 0)


async def test_a_contract_whose_last_range_was_written_just_before_a_kill_is_finished(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a process that was killed when all ranges were written, but not yet the record that says complete
    first = new_stage()
    await first.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(first, 100)
    await all_ranges(first)
    await written(writer, datadir)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert not record.complete
    # When another one takes it up, of which there is nothing to ask for
    stage = new_stage()
    assert stage.resume_big(owing(1), ACCOUNT, BIG.root, STATE_ROOT)
    assert stage.ready() == 0
    await stage.close_whole()
    # Then it is closed nevertheless.
    assert stage.done
    await synced(datadir, writer)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert (record.complete, record.leaves) == (True, 200)
    assert datadir.ledger.get(account_key(PAID, PAGE)) == b""


# Accounts with the same root


async def test_a_finished_trie_is_copied_from_our_own_disk(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given two accounts on different pages with the same storage
    other = PageDebt(path_of(b"\xb0" + bytes(31), 1), 1, 1, 0)
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await stage.owe(other, [(b"\xb1" * 32, BIG.root)], STATE_ROOT)
    # When one of them is downloaded
    await first_chunk(stage, 100)
    requests = await all_ranges(stage)
    # Then the other one is there too, without one more request, and both debts are paid.
    assert requests == 2
    assert stage.done
    await synced(datadir, writer)
    for account in (ACCOUNT, b"\xb1" * 32):
        assert stored_slots(datadir, account) == BIG.pairs
        assert stored_root(datadir, account) == BIG.root
        record = stored_record(datadir, account)
        assert record is not None
        assert (record.root, record.complete, record.leaves) == (BIG.root, True, 200)
    for path in (PAGE, other.path):
        assert datadir.ledger.get(account_key(PAID, path)) == b""


async def test_an_account_with_the_root_of_a_contract_that_is_continued_waits_for_it(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given two accounts with one root, of which the later one was begun when the process was killed
    first = new_stage()
    await first.owe(owing(1), [(TWIN, BIG.root)], STATE_ROOT)
    await first_chunk(first, 100)
    await written(writer, datadir)
    # When another process meets the earlier one first
    stage, pages = new_stage(), [owing(1), PageDebt(path_of(b"\xb0" + bytes(31), 1), 1, 1, 0)]
    await stage.owe(pages[0], [(ACCOUNT, BIG.root)], STATE_ROOT)
    assert stage.resume_big(pages[1], TWIN, BIG.root, STATE_ROOT)
    while stage.ready():
        job = stage.take(BUDGET)
        answer = BIG.range(job.gap.resume, 1000) if isinstance(job, RangeJob) else cut_off(BIG, slots=150)
        await stage.process(job, answer)
    # Then each is stored once.
    assert stage.waiting == 0
    assert [page.storage for page in pages] == [0, 0]


async def test_two_contracts_with_one_root_that_were_both_begun_are_paid_once_each(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a process that was killed after it had begun both
    for account in (ACCOUNT, TWIN):
        begun = new_stage()
        await begun.owe(owing(1), [(account, BIG.root)], STATE_ROOT)
        await first_chunk(begun, 100)
        await written(writer, datadir)
    # When another process takes both up
    stage, page = new_stage(), owing(2)
    assert stage.resume_big(page, ACCOUNT, BIG.root, STATE_ROOT)
    assert stage.resume_big(page, TWIN, BIG.root, STATE_ROOT)
    await all_ranges(stage)
    await written(writer, datadir)
    # Then nothing is owed any more, not less than nothing either, and both have all slots.
    assert (stage.waiting, stage.done, page.storage, page.unbundled) == (0, True, 0, 0)
    assert stored_slots(datadir, ACCOUNT) == stored_slots(datadir, TWIN) == BIG.pairs


async def test_a_copy_that_was_interrupted_is_continued_at_its_depth(
    new_stage: NewStage, datadir: Datadir, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that was killed before the copy for an account with the same root was complete
    first = new_stage()
    await first.owe(owing(2), [(ACCOUNT, BIG.root), (TWIN, BIG.root)], STATE_ROOT)
    await first_chunk(first, 100)
    await all_ranges(first)
    await written(writer, datadir)
    assert list(datadir.storage.scan(STORAGE_PAGE + TWIN, keys_only=True))
    # When another process takes it up, and the first slots make it guess another depth
    stage, page = new_stage(), owing(1)
    if not stage.resume_big(page, TWIN, BIG.root, STATE_ROOT):
        await stage.owe(page, [(TWIN, BIG.root)], STATE_ROOT)
        monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 100)
        await first_chunk(stage, 100)
    await all_ranges(stage)
    await synced(datadir, writer)
    # Then no page of the earlier copy lies under or over the new ones.
    assert stored_slots(datadir, TWIN) == BIG.pairs


async def test_a_copy_is_as_whole_as_what_it_was_made_of(new_stage: NewStage, datadir: Datadir, writer: Writer) -> None:
    # Given a finished trie and its copy
    first = new_stage()
    await first.owe(owing(2), [(ACCOUNT, BIG.root), (TWIN, BIG.root)], STATE_ROOT)
    await first_chunk(first, 100)
    await all_ranges(first)
    await writer.settle(datadir.ledger)
    # When both accounts come to have other storage, which is small,
    stage, page = new_stage(), owing(2)
    small = storage(9, 5)
    for account in (ACCOUNT, TWIN):
        assert stage.resume_big(page, account, small.root, STATE_ROOT)
    await stage.close_whole()
    # then no range of either is asked for: both are healed from what is there.
    assert stage.ready() == 0
    assert [trie.account for trie in stage.nodes.tries] == [ACCOUNT, TWIN]
    # When the state root moves meanwhile, both are left for later, once each.
    await stage.move(b"\x78" * 32)
    assert (stage.waiting, page.unbundled, stage.nodes.tries) == (0, 0, [])


async def healed(new_stage: NewStage, after: Storage) -> None:
    """What is stored of a contract is healed, in another process, to what its storage has become."""
    stage = new_stage()
    assert stage.resume_big(owing(1), ACCOUNT, after.root, STATE_ROOT)
    await stage.close_whole()
    while not stage.nodes.done:
        job = stage.nodes.take(BUDGET)
        nodes = [bytes(after.trie.db[wanted.tobytes()]) for _, part in job.parts for wanted in part.hashes]
        await stage.nodes.process(job, messages.blobs(1, nodes))


def first_slots(slots: int) -> Storage:
    """What a contract's storage has become that lost all but its first slots."""
    return Storage(BIG.pairs[:slots], trie_of(*map(list, zip(*BIG.pairs[:slots], strict=True))))


def count_too_little(datadir: Datadir) -> None:
    """Markers say less than there is."""
    for key, value in list(datadir.storage.scan(MARKER + ACCOUNT)):
        marker = replace(decode_marker(key, value), leaves=1, size=1)
        datadir.storage.put(MARKER + ACCOUNT + key, marker.encode()[1])


async def came_in_ranges(new_stage: NewStage, datadir: Datadir, writer: Writer) -> None:
    """A contract is downloaded in several ranges."""
    first = new_stage()
    await first.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(first, 50)
    await all_ranges(first)
    await writer.settle(datadir.ledger)


async def test_slots_are_counted_while_a_contract_is_healed(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a contract that came in several ranges, and comes to have other storage
    await came_in_ranges(new_stage, datadir, writer)
    before = stored_record(datadir, ACCOUNT)
    assert before is not None
    after = first_slots(3)
    # When it is healed, and another process has to do with it later
    await healed(new_stage, after)
    await synced(datadir, writer)
    # Then what is said of it is what there is: in its record, and in one marker.
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert (record.root, record.complete, record.leaves) == (after.root, True, 3)
    assert 0 < record.size < before.size / 2
    assert stored_slots(datadir, ACCOUNT) == after.pairs
    (marker,) = (decode_marker(key, value) for key, value in datadir.storage.scan(MARKER + ACCOUNT))
    assert (marker.origin, marker.end, marker.leaves) == (0, KEY_SPACE, 3)


async def test_what_following_counted_in_the_record_is_what_there_is(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a contract to which steps of following added slots, which left its markers alone
    await came_in_ranges(new_stage, datadir, writer)
    count_too_little(datadir)
    # when it is healed, then all of them are counted.
    await healed(new_stage, first_slots(150))
    await synced(datadir, writer)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert record.leaves == 150


async def test_a_contract_of_which_too_few_slots_are_counted_can_be_healed(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a contract whose healing a power cut has stopped, so that what is counted is not what there is
    await came_in_ranges(new_stage, datadir, writer)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    datadir.ledger.put(RECORD + ACCOUNT, replace(record, complete=False, leaves=0, size=0).encode())
    count_too_little(datadir)
    # when it is healed, then it ends right, whatever is counted.
    after = first_slots(20)
    await healed(new_stage, after)
    await synced(datadir, writer)
    record = stored_record(datadir, ACCOUNT)
    assert record is not None
    assert (record.root, record.complete) == (after.root, True)
    assert stored_slots(datadir, ACCOUNT) == after.pairs


# Bundles that are stored already


async def test_a_bundle_that_is_stored_is_not_replaced_by_a_smaller_one(
    new_stage: NewStage, datadir: Datadir, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two small tries on one page, of which one looked big because its first slots lie close together
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 384)
    dense, small = storage_at([bytes(31) + bytes([number]) for number in range(20)]), storage(4, 5)
    first = new_stage()
    await first.owe(owing(2), [(ACCOUNT, dense.root), (TWIN, small.root)], STATE_ROOT)
    await first_chunk(first, 5, dense)
    await first.process(first.take(BUDGET), whole(small))
    await written(writer, datadir)
    assert datadir.bundles.get(account_key(BUNDLE, PAGE)) is not None
    assert stored_record(datadir, ACCOUNT) is None
    # When the process is killed before a page of the other one is complete, and then a peer sends all of it
    stage = new_stage()
    await stage.owe(PageDebt(PAGE, 1, 1, 0, bundled=True), [(ACCOUNT, dense.root)], STATE_ROOT)
    await stage.process(stage.take(BUDGET), whole(dense))
    await synced(datadir, writer)
    # Then the other trie is still there.
    value = datadir.bundles.get(account_key(BUNDLE, PAGE))
    assert value is not None
    bundle = decode_bundle(PAGE, value)
    assert TWIN in [bundle.accounts[k].tobytes() for k in range(len(bundle))]


async def test_markers_are_written_with_their_pages(new_stage: NewStage, datadir: Datadir, writer: Writer) -> None:
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(stage, 100)
    await written(writer, datadir)
    (found,) = datadir.storage.scan(MARKER + ACCOUNT)
    covered = int.from_bytes(found[1][:32], "big") + 1
    slots = stored_slots(datadir, ACCOUNT)
    assert slots == [pair for pair in BIG.pairs if int.from_bytes(pair[0], "big") < covered]
    assert 90 < len(slots) <= 100
