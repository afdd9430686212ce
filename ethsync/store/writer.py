"""The one task that writes. Whole batches come in, in order; nothing else touches the databases during a sync.

A batch is filled on the event loop, where the interpreter lock is held anyway (plyvel lets go of it at every `put`:
measured 13-31 thousand puts/s from a thread beside a busy loop, about 500 thousand on it), and written in a thread. A
write is never abandoned when its task is cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import trio

from ethsync.errors import DiskFull
from ethsync.store.datadir import Datadir, free_bytes
from ethsync.store.leveldb import Database

SYNC_SECONDS = 5.0
"""How often everything written is forced to the disk: the most that a power cut can cost (design, section 3)."""

SPACE_CHECK_BYTES = 64 << 20
"""Free space is looked at after so many written bytes, and at every sync."""

QUEUE_LENGTH = 32
"""Batches waiting: a batch is one reply's worth (1-2 MiB), so at most 64 MiB wait for a slow disk before the stages
that produce them have to wait too."""

MOST_PUTS = 400
"""Puts between two looks at the other tasks: well under 2 ms of the event loop."""


@dataclass(slots=True)
class Write:
    """What one reply changes in one database, atomically. `done` runs on the event loop once it is written."""

    database: Database
    puts: list[tuple[bytes, bytes]]
    deletes: list[bytes] = field(default_factory=list)
    done: Callable[[], None] | None = None
    after_sync: bool = False

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(len(key) + len(value) for key, value in self.puts)


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
        self.statistics = statistics
        self.finished = trio.Event()

    async def write(self, batch: Write) -> None:
        """Queue a batch; waits while the disk is behind. Raises trio.BrokenResourceError if the writer has failed."""
        await self._send.send(batch)

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

    Batches with `after_sync` (they erase debts on the strength of other databases) are held back until the next
    sync of all databases has begun after they were queued. Stops with DiskFull when less than `floor` bytes are free.
    """
    send, receive = trio.open_memory_channel[Write](QUEUE_LENGTH)
    statistics = WriterStatistics()
    limiter = trio.CapacityLimiter(1)
    held: list[Write] = []
    unchecked = 0
    last_sync = trio.current_time()
    writer = Writer(send, statistics)
    with receive:
        task_status.started(writer)
        while True:
            batch: Write | None = None
            with trio.move_on_at(last_sync + SYNC_SECONDS):
                try:
                    batch = await receive.receive()
                except trio.EndOfChannel:
                    break
            if batch is not None and batch.after_sync:
                held.append(batch)
                continue
            if batch is not None:
                unchecked += await _write(batch, limiter, statistics)
            if unchecked >= SPACE_CHECK_BYTES or batch is None:
                check_space(datadir, floor)
                unchecked = 0
            if trio.current_time() >= last_sync + SYNC_SECONDS:
                await _sync(datadir, held, limiter, statistics)
                held = []
                last_sync = trio.current_time()
        await _sync(datadir, held, limiter, statistics)
    writer.finished.set()


async def _write(batch: Write, limiter: trio.CapacityLimiter, statistics: WriterStatistics) -> int:
    size = batch.size
    started = time.perf_counter()
    filled = batch.database.batch()
    for count, (key, value) in enumerate(batch.puts, 1):
        filled.put(key, value)
        if count % MOST_PUTS == 0:
            await trio.lowlevel.checkpoint()
    for key in batch.deletes:
        filled.delete(key)
    await trio.to_thread.run_sync(batch.database.commit, filled, limiter=limiter)
    statistics.batches += 1
    statistics.bytes += size
    statistics.seconds += time.perf_counter() - started
    if batch.done is not None:
        batch.done()
    return size


def _sync_all(databases: Iterable[Database]) -> None:
    for database in databases:
        empty: Any = database.batch()
        database.commit(empty, sync=True)


async def _sync(
    datadir: Datadir, held: list[Write], limiter: trio.CapacityLimiter, statistics: WriterStatistics
) -> None:
    """Force everything to the disk, then write what relies on it."""
    await trio.to_thread.run_sync(_sync_all, datadir.databases(), limiter=limiter)
    for batch in held:
        await _write(batch, limiter, statistics)
    statistics.syncs += 1


def check_space(datadir: Datadir, floor: int) -> None:
    """Raise DiskFull when less than `floor` bytes are free."""
    free = free_bytes(datadir.path)
    if free < floor:
        raise DiskFull(
            f"only {free >> 20} MiB are free at {datadir.path}, the floor is {floor >> 20} MiB",
            hint="everything so far is kept: free space and run the same command again",
        )
