"""LevelDB by way of plyvel, behind one import: plyvel-next takes over where plyvel has no wheels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ethsync.errors import DatadirBusy, DatadirDamaged, DiskFull

try:
    import plyvel
except ImportError:  # CPython 3.13 and later
    import plyvel_next as plyvel

WRITE_BUFFER = 16 << 20
"""Bytes collected in memory before a table is written. LevelDB holds two of them; 32 MiB gained nothing (measured)."""

TABLE_SIZE = 64 << 20
"""Bytes per table file: few files for hundreds of gigabytes, and tables move down a level whole (measured: write
amplification 2.0 for pages in ascending order)."""

BLOCK_CACHE = 4 << 20
"""Reads are sequential or rare; pages are larger than a block."""

OPEN_FILES = 256


class Database:
    """One LevelDB database. Errors come out as our own, naming the directory."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        with self._translated():
            self._db = plyvel.DB(
                str(path),
                create_if_missing=create,
                write_buffer_size=WRITE_BUFFER,
                max_file_size=TABLE_SIZE,
                lru_cache_size=BLOCK_CACHE,
                max_open_files=OPEN_FILES,
                compression=None,  # hashes do not compress
                paranoid_checks=True,  # a damaged log is an error, never silently shorter
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except plyvel.CorruptionError as error:
            raise DatadirDamaged(
                f"{self.path} is damaged: {error}", hint="keep it, and restore it from a copy or sync into a new datadir"
            ) from error
        except (plyvel.IOError, OSError) as error:
            text = str(error)
            if "No space left" in text or "Disk quota" in text:
                raise DiskFull(f"no space left while writing {self.path}", hint="free space and run again") from error
            if "lock" in text and ("temporarily unavailable" in text or "already held" in text):
                raise DatadirBusy(f"{self.path} is in use by another process") from error
            raise DatadirDamaged(f"{self.path} cannot be used: {text}") from error
        except plyvel.Error as error:
            raise DatadirDamaged(f"{self.path} cannot be used: {error}") from error

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None. Checksums are verified."""
        with self._translated():
            value: bytes | None = self._db.get(key, verify_checksums=True)
            return value

    def scan(self, prefix: bytes, *, start: bytes = b"", keys_only: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over (key without the prefix, value) in key order, from prefix + start on."""
        stop = _after(prefix)
        with self._translated(), self._db.iterator(
            start=prefix + start, stop=stop, include_value=not keys_only, verify_checksums=True, fill_cache=False
        ) as found:
            cut = len(prefix)
            if keys_only:
                for key in found:
                    yield key[cut:], b""
            else:
                for key, value in found:
                    yield key[cut:], value

    def batch(self) -> Any:
        """A write batch: `put`, `delete`, then `write` by way of `commit`."""
        return self._db.write_batch()

    def commit(self, batch: Any, *, sync: bool = False) -> None:
        """Write a batch atomically. After `sync` it, and everything written before to this database, survives a power
        cut; without, it survives the death of the process."""
        with self._translated():
            if sync:
                synced = self._db.write_batch(sync=True)
                synced.append(batch)
                synced.write()
            else:
                batch.write()

    def put(self, key: bytes, value: bytes, *, sync: bool = False) -> None:
        """Write one key."""
        with self._translated():
            self._db.put(key, value, sync=sync)

    def close(self) -> None:
        """Close the database; later use is an error."""
        self._db.close()


def _after(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key with this prefix."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None
