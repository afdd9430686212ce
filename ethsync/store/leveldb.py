"""LevelDB by way of plyvel, behind one import: plyvel-next takes over where plyvel has no wheels."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ethsync.errors import DatadirBusy, DatadirDamaged, DiskFull, LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ethsync.store.patches import Overlay

try:
    import plyvel
except ImportError:  # CPython 3.13 and later
    import plyvel_next as plyvel

WRITE_BUFFER = 4 << 20
"""Bytes collected in memory before a table is written, unless said otherwise. LevelDB holds up to two of them."""

TABLE_SIZE = 2 << 20
"""Bytes per table file. A merge rewrites whole files, so small ones keep it to what really overlaps: 20 million leaves
were written 3.2 times with 8 MiB, 3.1 with 4, 2.9 with 2. LevelDB's own size, and goleveldb's (geth): 150 GB are 75,000
files."""

BLOCK_CACHE = 4 << 20
"""Reads are sequential or rare; pages are larger than a block."""

OPEN_FILES = 256
"""Tables of a database that are kept open with their index. Whatever this says, LevelDB takes no more than a fifth of
the process's file descriptors for all databases together (util/env_posix.cc, MaxOpenFiles)."""


class Batch:
    """Changes of one database, written atomically by `Database.commit`."""

    def __init__(self, batch: object, place: Callable[[bytes], bytes]) -> None:
        self.native: Any = batch
        self._place = place

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        self.native.put(self._place(key), value)

    def put_all(self, puts: Iterable[tuple[bytes, bytes]]) -> None:
        """Set these keys."""
        put, place = self.native.put, self._place
        for key, value in puts:
            put(place(key), value)

    def delete(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        self.native.delete(self._place(key))


FACTS = b"!"
"""Family of the facts about a whole directory: first of all keys, whatever the neighbourhoods."""


class Database:
    """One LevelDB database. Errors come out as our own, naming the directory.

    Keys are a family (one byte) and the rest. With `neighbourhood` > 0 so many bytes of the rest come before the family
    on disk. A sweep writes several families (pages, tops, markers) at the same place of each: side by side they make
    tables that do not overlap with earlier ones, and LevelDB moves these down without rewriting them.
    """

    def __init__(self, path: Path, *, create: bool, neighbourhood: int = 0, write_buffer: int = WRITE_BUFFER) -> None:
        self.path = path
        self.neighbourhood = neighbourhood
        self.overlay: Overlay | None = None
        """Changes that are laid over what is stored whenever it is read; writing does not concern them."""
        with self._translated():
            self._db = plyvel.DB(
                str(path),
                create_if_missing=create,
                write_buffer_size=write_buffer,
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
                f"{self.path} is damaged: {error}",
                hint="keep it, and restore it from a copy or sync into a new datadir",
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

    def _place(self, key: bytes) -> bytes:
        """Where a key is on disk."""
        near = self.neighbourhood
        if not near:
            return key
        if key[:1] == FACTS:
            return bytes(near) + key
        return key[1 : 1 + near] + key[:1] + key[1 + near :]

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None. Checksums are verified."""
        overlay = self.overlay
        return self.get_stored(key) if overlay is None else overlay.get(self, key)

    def get_stored(self, key: bytes) -> bytes | None:
        """As `get`, without the changes that are laid over it."""
        with self._translated():
            value: bytes | None = self._db.get(self._place(key), verify_checksums=True)
            return value

    def scan(self, prefix: bytes, *, start: bytes = b"", keys_only: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over (key without the prefix, value) in key order, from prefix + start on.

        The prefix is a family, or more. In a database with neighbourhoods of more than one byte it must reach beyond.
        """
        overlay = self.overlay
        if overlay is None:
            return self.scan_stored(prefix, start=start, keys_only=keys_only)
        return overlay.scan(self, prefix, start, keys_only)

    def scan_stored(
        self, prefix: bytes, *, start: bytes = b"", keys_only: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As `scan`, without the changes that are laid over it."""
        near = self.neighbourhood
        if len(prefix) > near or not near or prefix[:1] == FACTS:
            yield from self._run(self._place(prefix), b"", start, keys_only)
            return
        if len(prefix) + 1 != 1 + near:
            raise LocalProtocolError(f"{self.path.name} cannot be scanned across neighbourhoods")
        for first in range(start[0] if start else 0, 256):
            cut = start[1:] if start and first == start[0] else b""
            yield from self._run(bytes([first]) + prefix, bytes([first]), cut, keys_only)

    def _run(self, prefix: bytes, shown: bytes, start: bytes, keys_only: bool) -> Iterator[tuple[bytes, bytes]]:
        """Scan one stretch of the disk; keys come out as `shown` and what follows the prefix."""
        with self._translated(), self._db.iterator(
            start=prefix + start, stop=_after(prefix), include_value=not keys_only, verify_checksums=True,
            fill_cache=False,
        ) as found:  # fmt: skip
            cut = len(prefix)
            if keys_only:
                for key in found:
                    yield shown + key[cut:], b""
            else:
                for key, value in found:
                    yield shown + key[cut:], value

    def neighbourhoods(self, first: bytes = b"") -> Iterator[bytes]:
        """Every neighbourhood that holds something, in order, from one on. Skips what is in them: one seek for each."""
        overlay = self.overlay
        return self.stored_neighbourhoods(first) if overlay is None else overlay.neighbourhoods(self, first)

    def stored_neighbourhoods(self, first: bytes = b"") -> Iterator[bytes]:
        """As `neighbourhoods`, without the changes that are laid over it."""
        with self._translated(), self._db.raw_iterator(verify_checksums=True, fill_cache=False) as found:
            found.seek(first)
            while found.valid():
                near: bytes = found.key()[: self.neighbourhood]
                yield near
                beyond = _after(near)
                if beyond is None:
                    return
                found.seek(beyond)

    def batch(self) -> Batch:
        """An empty batch."""
        return Batch(self._db.write_batch(), self._place)

    def commit(self, batch: Batch, *, sync: bool = False) -> None:
        """Write a batch atomically. After `sync` it, and everything written before to this database, survives a power
        cut; without, it survives the death of the process."""
        with self._translated():
            if sync:
                synced = self._db.write_batch(sync=True)
                synced.append(batch.native)
                synced.write()
            else:
                batch.native.write()

    def put(self, key: bytes, value: bytes, *, sync: bool = False) -> None:
        """Write one key."""
        with self._translated():
            self._db.put(self._place(key), value, sync=sync)

    def close(self) -> None:
        """Close the database; later use is an error."""
        self._db.close()


def _after(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key with this prefix."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else None
