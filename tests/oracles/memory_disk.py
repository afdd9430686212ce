"""A disk of LevelDB databases in memory that remembers every write, and what of them a kill or a power cut leaves.

A write survives the death of the process as soon as it is made. A power cut leaves of each database all writes up to
the last one that was forced to the disk, and of those after it as many as it pleases, in their order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

from ethsync.store.leveldb import Batch, Database

Change = tuple[bytes, bytes | None]


@dataclass(slots=True)
class WriteBatch:
    """Puts, and deletes with None."""

    changes: list[Change] = field(default_factory=list)

    def put(self, key: bytes, value: bytes) -> None:
        self.changes.append((key, value))

    def delete(self, key: bytes) -> None:
        self.changes.append((key, None))


@dataclass(frozen=True, slots=True)
class Write:
    """One batch of one database."""

    path: Path
    changes: list[Change]
    sync: bool


@dataclass(slots=True)
class MemoryDisk:
    """Databases by their paths, and all writes since it was made."""

    contents: dict[Path, dict[bytes, bytes]] = field(default_factory=dict)
    journal: list[Write] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)
    """Batches are atomic for other threads too."""

    def database(self, path: Path, **options: Any) -> MemoryDatabase:
        """In place of `Database`."""
        if not path.exists():
            path.mkdir()  # so that the directory does not look empty
        return MemoryDatabase(self, path, options.get("neighbourhood", 0))

    def copy(self) -> MemoryDisk:
        """The same contents, nothing written yet."""
        return MemoryDisk({path: dict(held) for path, held in self.contents.items()})

    def apply(self, write: Write) -> None:
        held = self.contents.setdefault(write.path, {})
        with self.lock:
            for key, value in write.changes:
                if value is None:
                    held.pop(key, None)
                else:
                    held[key] = value

    def after(self, writes: list[Write]) -> MemoryDisk:
        """These contents and the writes that a kill leaves: all that were made."""
        left = self.copy()
        for write in writes:
            left.apply(write)
        return left

    def after_power_cut(self, writes: list[Write], rng: Random) -> MemoryDisk:
        """These contents and such writes as a power cut leaves."""
        return self.after(_left_of_each(writes, lambda mine: mine[: rng.randint(_synced(mine), len(mine))]))

    def after_loss(self, writes: list[Write], database: str) -> MemoryDisk:
        """These contents and all writes but for those of one database that were not forced to the disk."""
        mine = [write for write in writes if write.path.name == database]
        lost = mine[_synced(mine) :]
        return self.after([write for write in writes if not any(write is each for each in lost)])

    def after_lost_log(self, writes: list[Write], rng: Random) -> MemoryDisk:
        """The same, and of the writes before the last sync those are lost that stood in an earlier log of LevelDB's.

        It forces the present log to the disk only. An earlier one is safe once its table is, some time later.
        """

        def left(mine: list[Write]) -> list[Write]:
            synced = _synced(mine)
            before = _synced(mine[: max(0, synced - 1)])
            lost = sorted(rng.randint(before, max(before, synced - 1)) for _ in range(2))
            return mine[: lost[0]] + mine[lost[1] : rng.randint(synced, len(mine))]

        return self.after(_left_of_each(writes, left))


def _synced(writes: list[Write]) -> int:
    """How many writes there are up to the last that was forced to the disk."""
    return max((at + 1 for at, write in enumerate(writes) if write.sync), default=0)


def _left_of_each(writes: list[Write], left: Callable[[list[Write]], list[Write]]) -> list[Write]:
    """What is left of the writes of each database."""
    paths = sorted({write.path for write in writes})
    return [kept for path in paths for kept in left([write for write in writes if write.path == path])]


class MemoryDatabase(Database):
    """One database of such a disk."""

    def __init__(self, disk: MemoryDisk, path: Path, neighbourhood: int) -> None:
        self._disk = disk
        self._held = disk.contents.setdefault(path, {})
        self._sorted: list[bytes] | None = None
        self.path, self.neighbourhood = path, neighbourhood
        self.overlay = None

    def _keys(self) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self._held)
        return self._sorted

    def get_stored(self, key: bytes) -> bytes | None:
        return self._held.get(key)

    def scan_stored(
        self, prefix: bytes, *, start: bytes = b"", keys_only: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._disk.lock:
            keys, held = self._keys(), dict(self._held) if not keys_only else {}
        at = bisect_left(keys, prefix + start)
        while at < len(keys) and keys[at].startswith(prefix):
            yield keys[at][len(prefix) :], held.get(keys[at], b"")
            at += 1

    def stored_neighbourhoods(self, first: bytes = b"") -> Iterator[bytes]:
        with self._disk.lock:
            found = sorted({key[1 : 1 + self.neighbourhood] for key in self._held})
        yield from (near for near in found if near >= first[: self.neighbourhood])

    def batch(self) -> Batch:
        return Batch(WriteBatch(), lambda key: key)

    def commit(self, batch: Batch, *, sync: bool = False) -> None:
        write = Write(self.path, batch.native.changes, sync)
        self._sorted = None
        self._disk.apply(write)
        self._disk.journal.append(write)
        self._sorted = None

    def put(self, key: bytes, value: bytes, *, sync: bool = False) -> None:
        batch = self.batch()
        batch.put(key, value)
        self.commit(batch, sync=sync)

    def close(self) -> None:
        pass
