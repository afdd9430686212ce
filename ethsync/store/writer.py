"""The one task that writes. Whole batches come in, in order; nothing else touches the databases during a sync.

A batch is filled on the event loop, where the interpreter lock is held anyway (plyvel lets go of it at every `put`:
measured 13-31 thousand puts/s from a thread beside a busy loop, about 500 thousand on it), and written in a thread. A
write is never abandoned when its task is cancelled.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import trio

from ethsync.errors import DiskFull
from ethsync.store.datadir import LEDGER, Datadir, free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ethsync.store.leveldb import Database

SYNC_SECONDS = 5.0
"""How often everything written is forced to the disk: the most that a power cut can cost (docs/operating.md)."""

SPACE_CHECK_BYTES = 64 << 20
"""Free space is looked at after so many written bytes, and at every sync."""

QUEUE_BYTES = 16 << 20
"""Bytes waiting for a slow disk, beyond which the stages that produce them have to wait too."""

GROUP_BYTES = 4 << 20
"""Bytes written in one go at the most: a few tens of milliseconds of a thread."""

QUEUE_LENGTH = 1024
"""Batches waiting: most are small (a bundle, a paid debt), so bytes are what bounds the queue."""

MOST_PUTS = 400
"""Puts at a time, and after as many or up to twice as many a look at the other tasks: under 2 ms of the event loop."""


@dataclass(slots=True)
class Write:
    """What one reply changes in one database, atomically. `done` runs on the event loop once it is written."""

    database: Database
    puts: list[tuple[bytes, bytes]]
    deletes: list[bytes] = field(default_factory=list)
    done: Callable[[], None] | None = None
    after_sync: bool = False
    settle: bool = False
    """Force everything to the disk now, write what waits for that, and force it there too."""

    size: int = field(init=False)
    """Bytes of keys and values."""

    def __post_init__(self) -> None:
        self.size = sum(map(len, chain.from_iterable(self.puts)))


@dataclass(slots=True)
class WriterStatistics:
    """Running totals."""

    batches: int = 0
    bytes: int = 0
    seconds: float = 0.0
    syncs: int = 0


class Writer:
    """Handle of the writing task: `write` hands over a batch and returns as soon as it is queued."""

    def __init__(self, send: trio.MemorySendChannel[Write], statistics: WriterStatistics) -> None:
        self._send = send
        self._room = trio.Event()
        self.statistics = statistics
        self.waiting_bytes = 0
        self.finished = trio.Event()

    async def write(self, batch: Write) -> None:
        """Queue a batch; waits while the disk is behind. Once the writing task has failed, waits for its error."""
        while self.waiting_bytes > QUEUE_BYTES:
            await self._room.wait()
        self.waiting_bytes += batch.size
        try:
            await self._send.send(batch)
        except trio.BrokenResourceError:
            await trio.sleep_forever()  # the writing task has failed: its error is on the way and cancels us

    async def settle(self, ledger: Database) -> None:
        """Force everything that was handed over to the disk, what was held back until then as well."""
        written = trio.Event()
        await self.write(Write(ledger, [], done=written.set, after_sync=True, settle=True))
        await written.wait()

    async def reached(self, database: Database) -> None:
        """Wait until everything that was handed over for a database can be read from it."""
        written = trio.Event()
        await self.write(Write(database, [], done=written.set))
        await written.wait()

    def written(self, size: int) -> None:
        """So many queued bytes are written; for the writing task."""
        self.waiting_bytes -= size
        room, self._room = self._room, trio.Event()
        room.set()

    def close(self) -> None:
        """Say that no more batches come; the writing task then forces everything to the disk and ends."""
        self._send.close()

    @property
    def waiting(self) -> int:
        """Batches in the queue."""
        return self._send.statistics().current_buffer_used


async def run_writer(
    datadir: Datadir, *, floor: int, task_status: trio.TaskStatus[Writer] = trio.TASK_STATUS_IGNORED
) -> None:
    """Write batches until every sender is closed, then force everything to the disk.

    Batches with `after_sync` (they say something on the strength of other databases) are held back until two syncs of
    all databases have begun after they were queued: LevelDB syncs its current log only, and a log that it has just left
    is safe once its table is written, which takes a fraction of the time between two syncs. Stops with DiskFull when
    less than `floor` bytes are free.
    """
    send, receive = trio.open_memory_channel[Write](QUEUE_LENGTH)
    disk = _Disk(datadir, WriterStatistics())
    held: list[Write] = []
    ripe: list[Write] = []
    last_sync = trio.current_time()
    writer = Writer(send, disk.statistics)
    with receive:
        task_status.started(writer)
        while True:
            batches = await _receive(receive, last_sync + SYNC_SECONDS)
            if batches is None:
                break
            held += [batch for batch in batches if batch.after_sync]
            await disk.write([batch for batch in batches if not batch.after_sync])
            writer.written(sum(batch.size for batch in batches))
            settling = any(batch.settle for batch in batches)
            due = settling or trio.current_time() >= last_sync + SYNC_SECONDS
            if disk.unchecked >= SPACE_CHECK_BYTES or due:
                disk.check_space(floor)
            if due:
                await disk.sync(ripe)
                ripe, held = held, []
                if settling:
                    await disk.settle(ripe)
                    ripe = []
                last_sync = trio.current_time()
        await disk.sync(ripe)
        await disk.settle(held)
    writer.finished.set()


async def _receive(receive: trio.MemoryReceiveChannel[Write], until: float) -> list[Write] | None:
    """Wait for a batch, then take all others that wait already. [] if none came until then; None at the end of all."""
    batches: list[Write] = []
    with trio.move_on_at(until):
        try:
            batches = [await receive.receive()]
        except trio.EndOfChannel:
            return None
    size = sum(batch.size for batch in batches)
    while batches and size < GROUP_BYTES:
        try:
            batches.append(receive.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            break
        size += batches[-1].size
    return batches


@dataclass(slots=True, eq=False)
class _Disk:
    """The databases as the writing task has them: filled here, written in a thread."""

    datadir: Datadir
    statistics: WriterStatistics
    limiter: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    unchecked: int = 0
    """Bytes written since free space was looked at."""

    async def write(self, batches: list[Write]) -> None:
        """Write batches, those for one database together, in the order in which they came.

        Small batches come by the hundreds (a bundle, a paid debt); a write of its own for each took three times as
        long.
        """
        started = time.perf_counter()
        with trio.CancelScope(shield=True):
            for database in _in_order(batches):
                await self._commit(database, [batch for batch in batches if batch.database is database])
        written = sum(batch.size for batch in batches)
        self.unchecked += written
        self.statistics.bytes += written
        self.statistics.seconds += time.perf_counter() - started
        for batch in batches:
            if batch.done is not None:
                batch.done()

    async def _commit(self, database: Database, batches: list[Write]) -> None:
        filled = database.batch()
        count = 0
        for batch in batches:
            for key in batch.deletes:
                filled.delete(key)
            for first in range(0, len(batch.puts), MOST_PUTS):
                puts = batch.puts[first : first + MOST_PUTS]
                filled.put_all(puts)
                count += len(puts)
                if count >= MOST_PUTS:
                    count = 0
                    await trio.lowlevel.checkpoint()
        await trio.to_thread.run_sync(database.commit, filled, limiter=self.limiter)
        self.statistics.batches += 1

    async def sync(self, held: list[Write]) -> None:
        """Force everything to the disk, then write what relies on it."""
        await trio.to_thread.run_sync(_sync_all, self.datadir.databases(), limiter=self.limiter)
        await self.write(held)
        self.statistics.syncs += 1

    async def settle(self, held: list[Write]) -> None:
        """Write what was held back, and tell whoever waits for it once that is on the disk too: two syncs later."""
        for last in ([batch for batch in held if not batch.settle], [], [batch for batch in held if batch.settle]):
            await self.sync(last)

    def check_space(self, floor: int) -> None:
        """Look at the free space: raise DiskFull when less than `floor` bytes are left."""
        check_space(self.datadir, floor)
        self.unchecked = 0


def _in_order(batches: list[Write]) -> list[Database]:
    """Databases in the order in which they are written: the ledger first, because what it says without waiting for a
    sync is that something begins; then as they come."""
    found = dict.fromkeys(batch.database for batch in batches)
    return sorted(found, key=lambda database: database.path.name != LEDGER)


def _sync_all(databases: Iterable[Database]) -> None:
    for database in databases:
        empty = database.batch()
        database.commit(empty, sync=True)


def check_space(datadir: Datadir, floor: int) -> None:
    """Raise DiskFull when less than `floor` bytes are free."""
    free = free_bytes(datadir.path)
    if free < floor:
        raise DiskFull(
            f"only {free >> 20} MiB are free at {datadir.path}, the floor is {floor >> 20} MiB",
            hint="everything so far is kept: free space and run the same command again",
        )
