"""The one task that writes: order, what waits for a sync, a slow disk, a full disk, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.errors import DatadirDamaged, DiskFull
from ethsync.store import writer as module
from ethsync.store.datadir import Datadir
from ethsync.store.leveldb import Batch, Database
from ethsync.store.writer import QUEUE_BYTES, SYNC_SECONDS, Write, Writer, WriterStatistics, run_writer


@dataclass
class Disk:
    """Every commit as (database, forced to the disk or not), and a gate that a slow one waits at."""

    commits: list[tuple[str, bool]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None
    entered: Callable[[], None] = lambda: None


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    found = Disk()
    found.gate.set()
    real = Database.commit

    def commit(database: Database, batch: Batch, *, sync: bool = False) -> None:
        found.commits.append((database.path.name, sync))
        found.entered()
        assert found.gate.wait(30)
        if found.failure is not None:
            raise found.failure
        real(database, batch, sync=sync)

    monkeypatch.setattr(Database, "commit", commit)
    yield found
    found.gate.set()


@pytest.fixture
async def writer(datadir: Datadir, disk: Disk, nursery: trio.Nursery, mock_clock: MockClock) -> Writer:
    """A writer on a clock that stands still."""
    started: Writer = await nursery.start(partial(run_writer, datadir, floor=0))
    return started


async def write_and_wait(writer: Writer, database: Database, *puts: tuple[bytes, bytes]) -> None:
    done = trio.Event()
    await writer.write(Write(database, list(puts), done=done.set))
    await done.wait()


async def close_and_wait(writer: Writer) -> None:
    writer.close()
    await writer.finished.wait()


# Writing


async def test_a_batch_is_written_and_says_so(writer: Writer, datadir: Datadir) -> None:
    datadir.codes.put(b"Cold", b"1")
    seen: list[bytes | None] = []
    done = trio.Event()

    def note() -> None:
        seen.append(datadir.codes.get(b"Cnew"))
        done.set()

    await writer.write(Write(datadir.codes, [(b"Cnew", b"2")], [b"Cold"], done=note))
    await done.wait()
    # When `done` runs, the batch can be read.
    assert seen == [b"2"]
    assert datadir.codes.get(b"Cold") is None
    assert (writer.statistics.bytes, writer.statistics.batches, writer.waiting) == (5, 1, 0)


async def test_later_batches_win(writer: Writer, datadir: Datadir) -> None:
    for number in range(50):
        await writer.write(Write(datadir.codes, [(b"Ckey", b"%d" % number)]))
    await close_and_wait(writer)
    assert datadir.codes.get(b"Ckey") == b"49"


async def test_a_delete_after_a_put_and_a_put_after_a_delete(writer: Writer, datadir: Datadir) -> None:
    await writer.write(Write(datadir.codes, [(b"Ca", b""), (b"Cb", b"")]))
    await writer.write(Write(datadir.codes, [], [b"Ca", b"Cb"]))
    await writer.write(Write(datadir.codes, [(b"Cb", b"again")]))
    await close_and_wait(writer)
    assert list(datadir.codes.scan(b"C")) == [(b"b", b"again")]


async def test_batches_that_wait_are_written_together_by_database(writer: Writer, datadir: Datadir, disk: Disk) -> None:
    # Given a disk that is busy with a first batch
    disk.gate.clear()
    await writer.write(Write(datadir.headers, [(b"H", b"")]))
    await wait_all_tasks_blocked()
    # When batches for two databases come in turn
    for number in range(10):
        database = (datadir.bundles, datadir.codes)[number % 2]
        await writer.write(Write(database, [(b"B%d" % number, b"")]))
    assert writer.waiting == 10
    disk.gate.set()
    await close_and_wait(writer)
    # Then each database has one commit.
    assert [name for name, sync in disk.commits if not sync] == ["headers", "bundles", "codes"]


async def test_large_batches_are_not_put_together_without_end(
    writer: Writer, datadir: Datadir, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES", 100)
    disk.gate.clear()
    await writer.write(Write(datadir.headers, [(b"H", b"")]))
    await wait_all_tasks_blocked()
    for number in range(6):
        await writer.write(Write(datadir.codes, [(b"C%d" % number, bytes(48))]))  # two of them are 100 bytes
    disk.gate.set()
    await close_and_wait(writer)
    assert [name for name, sync in disk.commits if not sync] == ["headers", "codes", "codes", "codes"]


async def test_many_small_puts_leave_the_loop_to_others(
    writer: Writer, datadir: Datadir, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PUTS", 10)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while not writer.finished.is_set():
            turns += 1
            await trio.lowlevel.checkpoint()

    await writer.write(Write(datadir.codes, [(b"C%d" % number, b"") for number in range(1000)]))
    nursery.start_soon(count)
    await close_and_wait(writer)
    assert turns >= 100


# What waits for a sync


async def test_a_batch_that_relies_on_others_is_written_after_they_were_synced(
    writer: Writer, datadir: Datadir, disk: Disk, mock_clock: MockClock
) -> None:
    # Given a bundle, and the note that its debt is paid
    paid = trio.Event()
    await writer.write(Write(datadir.bundles, [(b"Bpath", b"bundle")]))
    await writer.write(Write(datadir.ledger, [(b"Ppath", b"")], after_sync=True, done=paid.set))
    await write_and_wait(writer, datadir.headers, (b"H", b""))
    # Then the note is not written at first,
    assert datadir.bundles.get(b"Bpath") == b"bundle"
    assert datadir.ledger.get(b"Ppath") is None
    # nor after one sync, which may miss a log that LevelDB has just left,
    every = [(database.path.name, True) for database in datadir.databases()]
    del disk.commits[:]
    mock_clock.jump(SYNC_SECONDS)
    while disk.commits != every:
        await wait_all_tasks_blocked(0.01)
    await write_and_wait(writer, datadir.headers, (b"H", b""))
    assert datadir.ledger.get(b"Ppath") is None
    # but when everything has been forced to the disk twice.
    del disk.commits[:]
    mock_clock.jump(SYNC_SECONDS)
    await paid.wait()
    assert datadir.ledger.get(b"Ppath") == b""
    assert disk.commits == [*every, ("ledger", False)]


async def test_a_sync_that_began_before_is_not_enough(
    writer: Writer, datadir: Datadir, disk: Disk, mock_clock: MockClock
) -> None:
    # Given a sync under way
    disk.gate.clear()
    entered = threading.Event()
    disk.entered = entered.set
    mock_clock.jump(SYNC_SECONDS)
    await trio.to_thread.run_sync(entered.wait)
    assert disk.commits == [("bundles", True)]
    # When a batch and one that relies on it come in the meantime
    await writer.write(Write(datadir.bundles, [(b"Bpath", b"bundle")]))
    await writer.write(Write(datadir.ledger, [(b"Ppath", b"")], after_sync=True))
    disk.gate.set()
    await write_and_wait(writer, datadir.headers, (b"H", b""))
    # Then it still waits,
    assert datadir.ledger.get(b"Ppath") is None
    # for the next sync.
    await close_and_wait(writer)
    assert datadir.ledger.get(b"Ppath") == b""


async def test_syncs_come_at_intervals_also_when_nothing_is_written(
    writer: Writer, disk: Disk, mock_clock: MockClock
) -> None:
    for expected in (1, 2, 3):
        mock_clock.jump(SYNC_SECONDS)
        while writer.statistics.syncs < expected:
            await wait_all_tasks_blocked(0.001)
    assert [name for name, _ in disk.commits].count("ledger") == 3


async def test_syncs_come_also_when_the_writer_is_never_idle(
    writer: Writer, datadir: Datadir, disk: Disk, mock_clock: MockClock
) -> None:
    for number in range(20):
        await write_and_wait(writer, datadir.codes, (b"C%d" % number, b""))
        mock_clock.jump(SYNC_SECONDS / 4)
    await close_and_wait(writer)
    assert 4 <= writer.statistics.syncs <= 9


# A slow disk


async def test_writers_wait_while_the_disk_is_behind(
    writer: Writer, datadir: Datadir, disk: Disk, nursery: trio.Nursery
) -> None:
    # Given a disk that does not move
    disk.gate.clear()
    megabyte = bytes((1 << 20) - 16)
    queued = 0

    async def produce() -> None:
        nonlocal queued
        for number in range(40):
            await writer.write(Write(datadir.codes, [(b"C%015d" % number, megabyte)]))
            queued += 1

    nursery.start_soon(produce)
    await wait_all_tasks_blocked()
    # Then no more is taken than the queue is meant to hold, and the one batch that went over it.
    assert queued == (QUEUE_BYTES >> 20) + 1
    assert writer.waiting_bytes == (QUEUE_BYTES >> 20) + 1 << 20
    # When it moves again, then everything is written.
    disk.gate.set()
    while queued < 40:
        await wait_all_tasks_blocked(0.001)
    await close_and_wait(writer)
    assert writer.waiting_bytes == 0
    assert len(list(datadir.codes.scan(b"C", keys_only=True))) == 40


# A full or broken disk


async def run_until_it_fails(datadir: Datadir, floor: int, body: Callable[[Writer], object]) -> None:
    async with trio.open_nursery() as nursery:
        writer = await nursery.start(partial(run_writer, datadir, floor=floor))
        await body(writer)  # type: ignore[misc]
        await trio.sleep_forever()


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how much space there is."""

    def set_free(size: int) -> None:
        monkeypatch.setattr(module, "free_bytes", lambda _: size)

    return set_free


async def test_it_stops_below_the_floor_and_keeps_what_is_written(
    datadir: Datadir, free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(module, "SPACE_CHECK_BYTES", 1000)
    free(5 << 20)

    async def fill(writer: Writer) -> None:
        await write_and_wait(writer, datadir.codes, (b"Ca", bytes(900)))
        free((4 << 20) - 1)
        await writer.write(Write(datadir.codes, [(b"Cb", bytes(900))]))

    with pytest.raises(ExceptionGroup) as caught:
        await run_until_it_fails(datadir, 4 << 20, fill)
    (error,) = caught.value.exceptions
    assert isinstance(error, DiskFull)
    assert "only 3 MiB are free" in str(error)
    assert "the floor is 4 MiB" in str(error)
    assert "run the same command again" in str(error)
    assert [key for key, _ in datadir.codes.scan(b"C")] == [b"a", b"b"]


@pytest.mark.parametrize("busy", [False, True])
async def test_space_is_looked_at_in_every_interval(
    datadir: Datadir, free: Callable[[int], None], mock_clock: MockClock, busy: bool
) -> None:
    free(0)

    async def wait(writer: Writer) -> None:
        for number in range(5 if busy else 0):
            mock_clock.jump(SYNC_SECONDS / 4)
            await writer.write(Write(datadir.codes, [(b"C%d" % number, b"")]))
            await wait_all_tasks_blocked(0.001)
        mock_clock.jump(SYNC_SECONDS)

    with pytest.raises(ExceptionGroup) as caught:
        await run_until_it_fails(datadir, 1, wait)
    assert caught.group_contains(DiskFull, depth=1)


async def test_an_error_of_the_disk_ends_the_writer_and_whoever_waits_for_it(datadir: Datadir, disk: Disk) -> None:
    disk.failure = DatadirDamaged("broken")

    async def write(writer: Writer) -> None:
        await write_and_wait(writer, datadir.codes, (b"C", b""))

    with pytest.raises(ExceptionGroup) as caught:
        await run_until_it_fails(datadir, 0, write)
    assert caught.group_contains(DatadirDamaged, match="broken", depth=1)


async def test_who_writes_on_waits_for_the_error_instead_of_making_one(
    datadir: Datadir, autojump_clock: MockClock
) -> None:
    """Given a writing task that has failed, then its error is to be seen, not that its channel is broken."""
    send, receive = trio.open_memory_channel[Write](1)
    writer = Writer(send, WriterStatistics())
    receive.close()
    with trio.move_on_after(60) as until_cancelled:
        await writer.write(Write(datadir.codes, []))
    assert until_cancelled.cancelled_caught


async def test_a_writer_that_has_ended_takes_nothing_more(writer: Writer, datadir: Datadir) -> None:
    await close_and_wait(writer)
    with pytest.raises(trio.ClosedResourceError):
        await writer.write(Write(datadir.codes, []))


# The end


async def test_everything_is_on_the_disk_when_it_has_finished(writer: Writer, datadir: Datadir, disk: Disk) -> None:
    for number in range(5):
        await writer.write(Write(datadir.codes, [(b"C%d" % number, b"")]))
    await writer.write(Write(datadir.ledger, [(b"P", b"")], after_sync=True))
    await close_and_wait(writer)
    assert len(list(datadir.codes.scan(b"C"))) == 5
    assert datadir.ledger.get(b"P") == b""
    # The databases are synced first, twice, then comes what relies on them, and is made as safe as they are.
    every = [(database.path.name, True) for database in datadir.databases()]
    relying = disk.commits.index(("ledger", False))
    assert disk.commits[relying - 2 * len(every) :] == [*every, *every, ("ledger", False), *every, *every]


async def test_what_was_held_back_is_on_the_disk_when_the_writer_has_settled(
    writer: Writer, datadir: Datadir, disk: Disk
) -> None:
    await writer.write(Write(datadir.ledger, [(b"P", b"")], after_sync=True))
    await writer.settle(datadir.ledger)
    assert datadir.ledger.get(b"P") == b""
    synced = [number for number, commit in enumerate(disk.commits) if commit == ("ledger", True)]
    # As safe as all others: it may have been the last thing in a log that was left right behind it.
    assert disk.commits.index(("ledger", False)) < synced[-2]
    await close_and_wait(writer)


async def test_a_write_that_has_begun_is_never_abandoned(datadir: Datadir, disk: Disk) -> None:
    # Given a write under way in a thread
    disk.gate.clear()
    entered = threading.Event()
    disk.entered = entered.set
    async with trio.open_nursery() as nursery:
        writer = await nursery.start(partial(run_writer, datadir, floor=0))
        await writer.write(Write(datadir.codes, [(b"C", b"")]))
        await trio.to_thread.run_sync(entered.wait)
        # When everything is cancelled
        nursery.cancel_scope.cancel()
        nursery.start_soon(partial(_open_later, disk))
    # Then it has ended before the task did.
    assert datadir.codes.get(b"C") == b""


async def _open_later(disk: Disk) -> None:
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()
        disk.gate.set()


# What begins is said first


async def fill_a_group(writer: Writer, datadir: Datadir) -> None:
    """A storage page and the record that it begins, in the wrong order, beside a bundle and a page of accounts."""
    await writer.write(Write(datadir.bundles, [(b"Bpath", b"bundle")]))
    await writer.write(Write(datadir.storage, [(b"S" + bytes(33), b"page")]))
    await writer.write(Write(datadir.accounts, [(b"Apath", b"page")]))
    await writer.write(Write(datadir.ledger, [(b"R" + bytes(32), b"begun")]))


async def test_the_ledger_is_written_before_what_it_says_begins(writer: Writer, datadir: Datadir, disk: Disk) -> None:
    # Given batches that wait for a busy disk, so that they are written together
    disk.gate.clear()
    await writer.write(Write(datadir.headers, [(b"H", b"")]))
    await wait_all_tasks_blocked()
    await fill_a_group(writer, datadir)
    disk.gate.set()
    await close_and_wait(writer)
    # Then a kill between two of the databases leaves a record without pages, never pages without their record.
    assert [name for name, sync in disk.commits if not sync] == ["headers", "ledger", "bundles", "storage", "accounts"]


async def test_of_a_group_that_is_being_written_nothing_is_left_out(datadir: Datadir, disk: Disk) -> None:
    busy, entered = threading.Event(), threading.Event()

    def hold() -> None:
        disk.entered = lambda: None
        disk.gate.clear()
        entered.set()

    async with trio.open_nursery() as nursery:
        writer = await nursery.start(partial(run_writer, datadir, floor=0))
        disk.gate.clear()
        disk.entered = busy.set
        await writer.write(Write(datadir.headers, [(b"H", b"")]))
        await trio.to_thread.run_sync(busy.wait)
        # Given the first database of a group under way in a thread
        await fill_a_group(writer, datadir)
        disk.entered = hold
        disk.gate.set()
        await trio.to_thread.run_sync(entered.wait)
        assert [name for name, _ in disk.commits] == ["headers", "ledger"]
        # When everything is cancelled
        nursery.cancel_scope.cancel()
        nursery.start_soon(partial(_open_later, disk))
    # Then the others are written nevertheless.
    assert [name for name, _ in disk.commits] == ["headers", "ledger", "bundles", "storage", "accounts"]
    assert datadir.accounts.get(b"Apath") == b"page"
