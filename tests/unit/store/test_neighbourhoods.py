"""Databases in which keys of several families lie side by side: they are read as if they did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from ethsync.errors import LocalProtocolError
from ethsync.state.pages import path_of
from ethsync.store.leveldb import Database
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    FACT_DEPTH,
    FACT_FORMAT,
    MARKER,
    STORAGE_PAGE,
    TOP,
    account_key,
    storage_key,
)

Open = Callable[[int], Database]


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Open]:
    opened: list[Database] = []

    def make(neighbourhood: int) -> Database:
        opened.append(Database(tmp_path / str(neighbourhood), create=True, neighbourhood=neighbourhood))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def account_records() -> dict[bytes, bytes]:
    """Pages and tops of several depths, markers, and facts, as the database of accounts has them."""
    rng = Random(1)
    found = {FACT_FORMAT: b"format", FACT_DEPTH: b"\2"}
    for family in (ACCOUNT_PAGE, TOP):
        for _ in range(100):
            path = path_of(rng.randbytes(32), rng.choice((1, 2, 3, 5, 64)))
            found[account_key(family, path)] = rng.randbytes(4)
    for edge in (bytes(32), b"\xff" * 32, b"!" + bytes(31), b"A" * 32):
        found[MARKER + edge] = b"marker"
    return found


@pytest.mark.parametrize("neighbourhood", [0, 1])
def test_accounts_are_read_back_in_key_order(new: Open, neighbourhood: int) -> None:
    database, records = new(neighbourhood), account_records()
    for key, value in records.items():
        database.put(key, value)
    assert all(database.get(key) == value for key, value in records.items())
    assert database.get(b"A" + b"\x12" * 5) is None
    for family in (ACCOUNT_PAGE, TOP, MARKER):
        expected = sorted((key[1:], value) for key, value in records.items() if key[:1] == family)
        assert list(database.scan(family)) == expected
        assert list(database.scan(family, keys_only=True)) == [(key, b"") for key, _ in expected]
        for start in (b"", b"\0", b"\x40", b"\x40\x01", b"\xff", b"\xff\xff", expected[3][0], expected[-1][0]):
            assert list(database.scan(family, start=start)) == [pair for pair in expected if pair[0] >= start]


@pytest.mark.parametrize("neighbourhood", [0, 1])
def test_a_page_of_the_whole_trie_has_a_place_too(new: Open, neighbourhood: int) -> None:
    # Given a trie of one page: its path has no nibble
    database = new(neighbourhood)
    database.put(account_key(ACCOUNT_PAGE, path_of(bytes(32), 0)), b"page")
    database.put(account_key(TOP, path_of(bytes(32), 0)), b"top")
    assert list(database.scan(ACCOUNT_PAGE)) == [(b"\0", b"page")]
    assert list(database.scan(TOP)) == [(b"\0", b"top")]


def test_batches_go_to_the_same_places(new: Open) -> None:
    database, records = new(1), account_records()
    batch = database.batch()
    for key, value in records.items():
        batch.put(key, value)
    batch.put(MARKER + b"\x12" * 32, b"gone")
    batch.delete(MARKER + b"\x12" * 32)
    database.commit(batch, sync=True)
    assert all(database.get(key) == value for key, value in records.items())
    assert database.get(MARKER + b"\x12" * 32) is None


@pytest.mark.parametrize("neighbourhood", [0, 32])
def test_the_storage_of_an_account_is_read_back_in_key_order(new: Open, neighbourhood: int) -> None:
    # Given the pages of neighbouring accounts
    database, rng = new(neighbourhood), Random(2)
    accounts = [b"\x11" * 32, b"\x11" * 31 + b"\x12", b"\xff" * 32]
    expected: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for account in accounts:
        paths = sorted({path_of(rng.randbytes(32), rng.choice((0, 1, 2))).stored for _ in range(20)})
        expected[account] = [(path, rng.randbytes(3)) for path in paths]
        for path, value in expected[account]:
            database.put(STORAGE_PAGE + account + path, value)
        database.put(storage_key(TOP, account, path_of(bytes(32), 0)), b"top")
        database.put(MARKER + account + b"\x80" + bytes(31), b"marker")
    for account in accounts:
        assert list(database.scan(STORAGE_PAGE + account)) == expected[account]
        start = expected[account][5][0]
        assert list(database.scan(STORAGE_PAGE + account, start=start)) == expected[account][5:]
        assert list(database.scan(TOP + account)) == [(b"\0", b"top")]
        assert list(database.scan(MARKER + account)) == [(b"\x80" + bytes(31), b"marker")]


def test_families_lie_side_by_side_on_disk(new: Open) -> None:
    # What is written at one place of the sweep must be one stretch of the disk.
    database = new(1)
    for first in (1, 2):
        for family in (ACCOUNT_PAGE, TOP, MARKER):
            database.put(family + bytes([first]) * 3, b"")
    database.put(FACT_DEPTH, b"\5")
    with database._db.iterator(include_value=False) as found:
        assert list(found) == [
            b"\0!depth", b"\1A\1\1", b"\1M\1\1", b"\1T\1\1", b"\2A\2\2", b"\2M\2\2", b"\2T\2\2",
        ]  # fmt: skip


def test_a_scan_across_contracts_is_a_bug(new: Open) -> None:
    with pytest.raises(LocalProtocolError, match="across neighbourhoods"):
        next(new(32).scan(STORAGE_PAGE))


def test_neighbourhoods_are_named_once_each_from_one_on(new: Open) -> None:
    # Given accounts with some keys each, the last of them the highest there is
    database = new(32)
    accounts = [b"\x11" * 32, b"\x11" * 31 + b"\x12", b"\x80" + b"\xff" * 31, b"\xff" * 32]
    for account in accounts:
        for number in range(3):
            database.put(STORAGE_PAGE + account + bytes([number]), b"page")
            database.put(TOP + account + bytes([number]), b"top")
    assert list(database.neighbourhoods()) == accounts
    assert list(database.neighbourhoods(accounts[1])) == accounts[1:]
    assert list(database.neighbourhoods(b"\x12")) == accounts[2:]
    assert list(new(1).neighbourhoods()) == []
