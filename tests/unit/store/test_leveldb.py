"""The LevelDB wrapper: bounds of scans, and every error of LevelDB as one of ours that names the directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ethsync.errors import DatadirBusy, DatadirDamaged, DiskFull, StoreError
from ethsync.store.leveldb import Database

try:
    import plyvel
except ImportError:  # CPython 3.13 and later
    import plyvel_next as plyvel


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", create=True)
    yield opened
    opened.close()


# Reading and writing


def test_a_key_that_is_not_there_has_no_value(database: Database) -> None:
    database.put(b"empty", b"")
    assert database.get(b"empty") == b""
    assert database.get(b"missing") is None


@pytest.mark.parametrize("sync", [False, True])
def test_a_batch_is_written_as_a_whole(database: Database, sync: bool) -> None:
    database.put(b"old", b"1")
    batch = database.batch()
    batch.put(b"new", b"2")
    batch.delete(b"old")
    # Nothing shows before the batch is committed,
    assert list(database.scan(b"")) == [(b"old", b"1")]
    database.commit(batch, sync=sync)
    # everything afterwards.
    assert list(database.scan(b"")) == [(b"new", b"2")]


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    first = Database(tmp_path / "db", create=True)
    first.put(b"key", b"value")
    first.close()
    second = Database(tmp_path / "db", create=False)
    assert second.get(b"key") == b"value"
    second.close()


# Scans


@pytest.fixture
def families(database: Database) -> Database:
    for key in (
        b"",
        b"A",
        b"A\0",
        b"A\x01",
        b"A\xff",
        b"A\xff\xff",
        b"B",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
        b"\xff\xff\x01",
    ):
        database.put(key, b"value of " + key)
    return database


@pytest.mark.parametrize(
    ("prefix", "rest"),
    [
        (b"A", [b"", b"\0", b"\x01", b"\xff", b"\xff\xff"]),
        (b"A\xff", [b"", b"\xff"]),
        (b"B", [b""]),
        (b"C", []),
        (b"\xff", [b"", b"\0", b"\xff", b"\xff\x01"]),
        (b"\xff\xff", [b"", b"\x01"]),
    ],
)
def test_a_scan_has_the_keys_of_its_prefix_and_no_others(families: Database, prefix: bytes, rest: list[bytes]) -> None:
    assert list(families.scan(prefix)) == [(key, b"value of " + prefix + key) for key in rest]
    assert list(families.scan(prefix, keys_only=True)) == [(key, b"") for key in rest]


def test_a_scan_without_prefix_has_everything(families: Database) -> None:
    assert len(list(families.scan(b""))) == 11


def test_a_scan_may_begin_in_the_middle(families: Database) -> None:
    assert [key for key, _ in families.scan(b"A", start=b"\x01")] == [b"\x01", b"\xff", b"\xff\xff"]
    assert [key for key, _ in families.scan(b"A", start=b"\x02")] == [b"\xff", b"\xff\xff"]
    assert [key for key, _ in families.scan(b"\xff", start=b"\xff\x01")] == [b"\xff\x01"]
    assert list(families.scan(b"A", start=b"\xff\xff\xff")) == []


def test_a_scan_shows_the_database_as_it_was_when_it_began(families: Database) -> None:
    found = families.scan(b"A")
    next(found)
    families.put(b"A\x02", b"later")
    assert b"\x02" not in [key for key, _ in found]


# Errors


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatadirDamaged, match="db cannot be used"):
        Database(tmp_path / "db", create=False)


def test_a_second_opening_is_refused(database: Database) -> None:
    with pytest.raises(DatadirBusy, match="db is in use"):
        Database(database.path, create=False)


def filled(path: Path, *, tables: bool) -> None:
    """A database of 100 values of 1 kB: in its log, or in a table."""
    database = Database(path, create=True)
    for number in range(100):
        database.put(b"%03d" % number, bytes([number]) * 1000)
    if tables:
        database._db.compact_range()
    database.close()


def only_file(path: Path, pattern: str) -> Path:
    (found,) = path.glob(pattern)
    return found


def change(file: Path, edit: Callable[[bytes], bytes]) -> None:
    file.write_bytes(edit(file.read_bytes()))


def flipped(data: bytes) -> bytes:
    """One bit in the middle."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def test_a_flipped_bit_in_a_table_is_found_when_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path / "db", tables=True)
    change(only_file(tmp_path / "db", "*.ldb"), flipped)
    database = Database(tmp_path / "db", create=False)
    with pytest.raises(DatadirDamaged, match=r"db is damaged.*sync into a new datadir"):
        list(database.scan(b""))
    # A key whose block is whole can still be read, one in the damaged block cannot.
    assert database.get(b"000") == bytes(1000)
    with pytest.raises(DatadirDamaged):
        database.get(b"050")
    database.close()


def test_a_flipped_bit_in_the_log_is_found_when_it_is_opened(tmp_path: Path) -> None:
    filled(tmp_path / "db", tables=False)
    change(only_file(tmp_path / "db", "*.log"), flipped)
    with pytest.raises(DatadirDamaged, match="db is damaged"):
        Database(tmp_path / "db", create=False)


def test_a_log_torn_by_a_kill_loses_only_what_was_torn(tmp_path: Path) -> None:
    filled(tmp_path / "db", tables=False)
    change(only_file(tmp_path / "db", "*.log"), lambda data: data[:-10])
    database = Database(tmp_path / "db", create=False)
    assert [key for key, _ in database.scan(b"")] == [b"%03d" % number for number in range(99)]
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "CURRENT").write_bytes(b"nonsense"),
        lambda path: (path / "CURRENT").unlink(),
        lambda path: only_file(path, "MANIFEST-*").unlink(),
        lambda path: change(only_file(path, "MANIFEST-*"), flipped),
        lambda path: only_file(path, "*.ldb").unlink(),
    ],
    ids=["bad CURRENT", "no CURRENT", "no manifest", "bad manifest", "no table"],
)
def test_a_damaged_directory_is_an_error_that_names_it(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    filled(tmp_path / "db", tables=True)
    damage(tmp_path / "db")
    before = sorted(file.name for file in (tmp_path / "db").glob("*.ldb"))
    with pytest.raises(DatadirDamaged, match="db"):
        Database(tmp_path / "db", create=False)
    # Nothing is deleted because of it.
    assert sorted(file.name for file in (tmp_path / "db").glob("*.ldb")) == before


class Failing:
    """A database whose every operation fails as LevelDB would."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get(self, *_: Any, **__: Any) -> None:
        raise self._error

    put = get
    iterator = get


@pytest.mark.parametrize(
    ("error", "translated", "message"),
    [
        (plyvel.IOError("IO error: 5.log: No space left on device"), DiskFull, "no space left.*free space"),
        (OSError(28, "No space left on device"), DiskFull, "no space left"),
        (plyvel.IOError("IO error: Disk quota exceeded"), DiskFull, "no space left"),
        (plyvel.IOError("IO error: 5.ldb: Input/output error"), DatadirDamaged, "cannot be used.*Input/output"),
        (plyvel.CorruptionError("Corruption: block checksum mismatch"), DatadirDamaged, "is damaged.*checksum"),
        (plyvel.Error("something new"), DatadirDamaged, "cannot be used: something new"),
        (plyvel.IOError("lock db/LOCK: Resource temporarily unavailable"), DatadirBusy, "another process"),
    ],
)
def test_errors_of_leveldb_become_ours(
    database: Database, error: Exception, translated: type[StoreError], message: str
) -> None:
    real, database._db = database._db, Failing(error)
    try:
        with pytest.raises(translated, match=message) as caught:
            database.get(b"key")
        assert str(database.path) in str(caught.value)
        with pytest.raises(translated):
            database.put(b"key", b"value")
        with pytest.raises(translated):
            next(database.scan(b""))
    finally:
        database._db = real


def test_other_errors_are_bugs_and_stay_what_they_are(database: Database) -> None:
    real, database._db = database._db, Failing(TypeError("a bug"))
    try:
        with pytest.raises(TypeError, match="a bug"):
            database.get(b"key")
    finally:
        database._db = real
