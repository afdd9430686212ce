"""Bytecodes: matched by hash whatever their order, asked for once, and paid for every page that waits."""

from __future__ import annotations

import pytest
import trio

from ethsync.counters import Counters
from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.peers.track import Outcome
from ethsync.state.pages import path_of
from ethsync.store.datadir import Datadir
from ethsync.store.leveldb import Database
from ethsync.store.schema import CODE, FACT_CODES
from ethsync.store.writer import Writer
from ethsync.sync import bytecodes
from ethsync.sync.bytecodes import CodeJob, CodeStage, prove_codes
from ethsync.sync.debts import DebtBook, PageDebt
from ethsync.sync.fingerprints import Fingerprints
from ethsync.wire.snap import MAX_CODE_LOOKUPS, GetByteCodes
from tests.oracles import messages
from tests.unit.sync.storages import written

CODES = [b"\x60", b"\x60\x80" * 100, bytes(24_576), b"\xfe"]
HASHES = [keccak256(code) for code in CODES]
JOB = CodeJob(tuple(HASHES), 1 << 20)
PATHS = [path_of(bytes([first]) * 32, 1) for first in (0x10, 0x20, 0x30)]


def by_hash(*codes: bytes) -> dict[bytes, bytes]:
    return {keccak256(code): code for code in codes}


# Proving


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2,), (3, 0), ()])
def test_codes_are_known_by_their_hash_in_any_order(order: tuple[int, ...]) -> None:
    sent = [CODES[number] for number in order]
    assert prove_codes(JOB, messages.blobs(1, sent)) == by_hash(*sent)


def test_a_code_sent_twice_counts_once() -> None:
    assert prove_codes(JOB, messages.blobs(1, [CODES[0], CODES[1], CODES[0]])) == by_hash(CODES[0], CODES[1])


@pytest.mark.parametrize("wrong", [b"", b"\x61", bytes(24_575)])
def test_a_code_that_was_not_asked_for_is_a_lie(wrong: bytes) -> None:
    with pytest.raises(Disproved, match=keccak256(wrong).hex()):
        prove_codes(JOB, messages.blobs(1, [CODES[0], wrong]))


def test_more_codes_than_were_asked_for_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        prove_codes(JOB, messages.blobs(1, [CODES[0]] * 5))


def test_bytes_that_are_no_list_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        prove_codes(JOB, b"\xc2\x01\x80")


def test_a_request_names_the_hashes() -> None:
    assert JOB.make(7) == GetByteCodes(7, tuple(HASHES), 1 << 20)


# The stage


@pytest.fixture
def stage(datadir: Datadir, writer: Writer) -> CodeStage:
    return CodeStage(datadir, writer, trio.CapacityLimiter(1), Counters(), DebtBook(datadir, writer), Fingerprints())


def owing(number: int, codes: int) -> PageDebt:
    return PageDebt(PATHS[number], codes=codes)


async def test_a_code_that_several_pages_owe_is_asked_for_once(
    stage: CodeStage, datadir: Datadir, writer: Writer
) -> None:
    pages = [owing(0, 2), owing(1, 1), owing(2, 1)]
    stage.owe(pages[0], HASHES[:2])
    stage.owe(pages[1], HASHES[:1])
    stage.owe(pages[2], HASHES[1:2])
    assert (stage.waiting, stage.ready()) == (2, 1)
    # When both come
    job = stage.take(1 << 20)
    assert set(job.hashes) == set(HASHES[:2])
    assert await stage.process(job, messages.blobs(1, CODES[:2])) is Outcome.SERVED
    # Then nobody owes any more, and they are stored.
    assert [page.codes for page in pages] == [0, 0, 0]
    assert stage.done
    await written(writer, datadir)
    assert dict(datadir.codes.scan(CODE)) == by_hash(*CODES[:2])
    assert datadir.codes.get(FACT_CODES) == b"2"


async def test_how_many_codes_are_stored_is_counted_on_from_an_earlier_run(
    datadir: Datadir, writer: Writer, stage: CodeStage
) -> None:
    stage.owe(owing(0, 4), HASHES)
    await stage.process(stage.take(1 << 20), messages.blobs(1, CODES[1:]))
    await written(writer, datadir)
    again = CodeStage(datadir, writer, trio.CapacityLimiter(1), Counters(), DebtBook(datadir, writer), Fingerprints())
    again.resumed = True
    page = owing(1, 4)
    await again.look_up(HASHES)
    again.owe(page, HASHES)
    await again.process(again.take(1 << 20), messages.blobs(1, CODES[:1]))
    await written(writer, datadir)
    assert datadir.codes.get(FACT_CODES) == b"4"


async def test_codes_that_were_left_out_are_asked_for_again(stage: CodeStage) -> None:
    page = owing(0, 4)
    stage.owe(page, HASHES)
    assert await stage.process(stage.take(1 << 20), messages.blobs(1, CODES[1:3])) is Outcome.SERVED
    assert (page.codes, stage.done) == (2, False)
    assert set(stage.take(1 << 20).hashes) == {HASHES[0], HASHES[3]}


async def test_a_peer_without_any_of_them_changes_nothing(stage: CodeStage) -> None:
    page = owing(0, 4)
    stage.owe(page, HASHES)
    assert await stage.process(stage.take(1 << 20), messages.blobs(1, [])) is Outcome.EMPTY
    assert page.codes == 4
    assert set(stage.take(1 << 20).hashes) == set(HASHES)


@pytest.mark.parametrize("payload", [messages.blobs(1, [b"a lie"]), b"nonsense"])
async def test_after_a_lie_the_codes_are_to_be_had_again(stage: CodeStage, datadir: Datadir, payload: bytes) -> None:
    stage.owe(owing(0, 4), HASHES)
    with pytest.raises((Disproved, MalformedMessage)):
        await stage.process(stage.take(1 << 20), payload)
    assert set(stage.take(1 << 20).hashes) == set(HASHES)
    assert list(datadir.codes.scan(CODE)) == []


async def test_a_code_that_an_earlier_run_stored_is_not_asked_for(stage: CodeStage, datadir: Datadir) -> None:
    # Given two codes of an earlier run
    datadir.codes.put(CODE + HASHES[0], CODES[0])
    datadir.codes.put(CODE + HASHES[2], CODES[2])
    stage.resumed = True
    # When a page owes them and others
    page = owing(0, 4)
    await stage.look_up(HASHES)
    stage.owe(page, HASHES)
    # Then the others are asked for
    assert (page.codes, stage.waiting) == (2, 2)
    assert stage.take(1 << 20).hashes == (HASHES[1], HASHES[3])


async def test_the_database_is_asked_about_a_code_once(
    stage: CodeStage, datadir: Datadir, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    get = Database.get

    def note(database: Database, key: bytes) -> bytes | None:
        asked.append(key)
        return get(database, key)

    monkeypatch.setattr(Database, "get", note)
    datadir.codes.put(CODE + HASHES[0], CODES[0])
    # Given a run that began from nothing: what is stored is known.
    await stage.look_up(HASHES[:2])
    assert asked == []
    # When it goes on from another
    stage.resumed = True
    await stage.look_up(HASHES[:2])
    assert asked == [CODE + HASHES[0], CODE + HASHES[1]]
    # Then neither those that are stored nor those that are owed are looked up again.
    page = owing(0, 2)
    stage.owe(page, HASHES[:2])
    await stage.look_up(HASHES[:2])
    assert len(asked) == 2
    assert page.codes == 1


async def test_more_codes_than_can_be_remembered_are_asked_for_again(
    stage: CodeStage, datadir: Datadir, writer: Writer
) -> None:
    # Given that one code can be remembered, and that two were stored
    stage._stored = Fingerprints(capacity=1)
    stage.owe(owing(0, 2), HASHES[:2])
    await stage.process(stage.take(1 << 20), messages.blobs(1, CODES[:2]))
    await written(writer, datadir)
    # When another page owes both
    page = owing(1, 2)
    stage.owe(page, HASHES[:2])
    assert (page.codes, stage.waiting) == (1, 1)
    # Then the one that was forgotten is asked for again.
    job = stage.take(1 << 20)
    again = [code for code, digest in zip(CODES, HASHES, strict=True) if digest in job.hashes]
    await stage.process(job, messages.blobs(1, again))
    assert (page.codes, stage.done) == (0, True)


async def test_a_code_is_not_asked_for_while_it_is_being_written(stage: CodeStage) -> None:
    # Given a code that has just come, in the moment before the database has it
    stage.owe(owing(0, 1), HASHES[:1])
    await stage.process(stage.take(1 << 20), messages.blobs(1, CODES[:1]))
    # When another page owes it
    page = owing(1, 1)
    stage.owe(page, HASHES[:1])
    assert (page.codes, stage.done) == (0, True)


async def test_the_number_of_hashes_follows_the_budget_and_the_size_of_codes(stage: CodeStage) -> None:
    many = [number.to_bytes(32, "big") for number in range(5000)]
    stage.owe(owing(0, 5000), many)
    assert len(stage.take(10 * bytecodes.LIKELY_CODE).hashes) == 11
    assert len(stage.take(1).hashes) == 1
    assert len(stage.take(1 << 30).hashes) == MAX_CODE_LOOKUPS


async def test_small_codes_once_seen_make_requests_longer(stage: CodeStage) -> None:
    tiny = [bytes([number]) for number in range(100)]
    stage.owe(owing(0, 100), [keccak256(code) for code in tiny])
    first = stage.take(bytecodes.LIKELY_CODE)
    assert len(first.hashes) == 2
    stage.give_back(first)
    for _ in range(20):
        job = stage.take(1)
        await stage.process(job, messages.blobs(1, [code for code in tiny if keccak256(code) in job.hashes]))
    assert len(stage.take(bytecodes.LIKELY_CODE).hashes) > 20


async def test_a_job_that_came_to_nothing_is_to_be_had_again(stage: CodeStage) -> None:
    stage.owe(owing(0, 4), HASHES)
    job = stage.take(1 << 20)
    assert stage.ready() == 0
    stage.give_back(job)
    assert stage.take(1 << 20).hashes == job.hashes
