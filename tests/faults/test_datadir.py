"""Data directories that cannot be used: a clear error, exit code 1 (2 for a wrong path), nothing deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from ethsync.serve.demo import demo_genesis
from ethsync.state.pages import stored_path
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, CODE, FACT_FORMAT, FACT_VERIFIED, account_key
from tests.faults.processes import Ended, run, run_ethsync, snap_command
from tests.faults.syncing import open_hosts, sync


@pytest.fixture(scope="module")
def finished(state: StateView, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the whole state in it, synced; to be copied."""
    datadir = tmp_path_factory.mktemp("finished") / "d"
    synced, _ = trio.run(sync, state, datadir, "geth")
    assert synced.verified is not None
    return datadir


def copy_of(finished: Path, to: Path) -> Path:
    """A copy of a data directory."""
    shutil.copytree(finished, to)
    return to


def files(directory: Path) -> dict[str, int]:
    """Names and sizes of all tables; logs become tables when LevelDB opens them."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): path.stat().st_size for path in found if path.suffix == ".ldb"}


async def snap_into(datadir: Path, state: StateView, *more: str) -> Ended:
    """Run `ethsync snap` into a directory, with one honest peer."""
    async with open_hosts(state, "geth") as hosts:
        return await run(snap_command(state, hosts, datadir, *more))


def assert_refused(ended: Ended, words: str, code: int = 1) -> None:
    """One line of ours that says why."""
    assert ended.code == code, ended.errors
    last = ended.errors.splitlines()[-1]
    assert last.startswith("ethsync: ")
    assert words in last
    assert "Traceback" not in ended.errors


async def test_two_processes_cannot_share_a_directory(finished: Path, state: StateView, tmp_path: Path) -> None:
    datadir = copy_of(finished, tmp_path / "d")
    with open_datadir(datadir):
        assert_refused(await snap_into(datadir, state), "is in use by process")
        assert_refused(await run_ethsync("verify", "--datadir", str(datadir)), "is in use by process")


async def test_another_network(finished: Path, state: StateView, tmp_path: Path) -> None:
    datadir = copy_of(finished, tmp_path / "d")
    genesis = tmp_path / "other.json"
    genesis.write_text(json.dumps({**demo_genesis(), "gasLimit": "0x1000000"}))
    before = files(datadir)
    async with open_hosts(state, "geth") as hosts:
        command = snap_command(state, hosts, datadir)
        command[command.index("--network") + 1] = str(genesis)
        assert_refused(await run(command), "not other (genesis")
    assert before.items() <= files(datadir).items()


async def test_a_newer_format(finished: Path, state: StateView, tmp_path: Path) -> None:
    datadir = copy_of(finished, tmp_path / "d")
    with open_datadir(datadir) as opened:
        opened.accounts.put(FACT_FORMAT, json.dumps({"version": 99, "unheard": "of"}).encode())
    assert_refused(await snap_into(datadir, state), "has format 99")
    assert_refused(await run_ethsync("status", "--datadir", str(datadir)), "has format 99")


async def test_a_file_and_a_directory_of_something_else(state: StateView, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("miaow")
    assert_refused(await snap_into(tmp_path / "file", state), "is a file", code=2)
    assert_refused(await snap_into(tmp_path / "photos", state), "holds something else", code=2)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


async def test_a_directory_without_a_state_cannot_be_verified(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(await run_ethsync("verify", "--datadir", str(tmp_path / "empty")), "is not a data directory", code=2)
    assert list((tmp_path / "empty").iterdir()) == []


def flip(path: Path, place: int, count: int = 8) -> None:
    """Turn some bytes of a file over."""
    data = bytearray(path.read_bytes())
    for at in range(place, min(place + count, len(data))):
        data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def largest(directory: Path, suffix: str) -> Path:
    return max(directory.glob(f"*{suffix}"), key=lambda path: path.stat().st_size)


def flip_within(path: Path, share: float) -> None:
    """Turn bytes over that lie after so much of a file."""
    flip(path, int(share * path.stat().st_size))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a table of accounts": lambda datadir: flip_within(largest(datadir / "accounts", ".ldb"), 0.3),
    "the end of a table": lambda datadir: flip_within(largest(datadir / "accounts", ".ldb"), 0.999),
    "a table of storage": lambda datadir: flip_within(largest(datadir / "storage", ".ldb"), 0.5),
    "a manifest": lambda datadir: flip(next((datadir / "codes").glob("MANIFEST-*")), 10),
    "the name of the manifest": lambda datadir: flip(datadir / "bundles" / "CURRENT", 0),
    "a missing table": lambda datadir: largest(datadir / "accounts", ".ldb").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_database_files(damage: str, finished: Path, state: StateView, tmp_path: Path) -> None:
    datadir = copy_of(finished, tmp_path / "d")
    in_tables(datadir)
    DAMAGES[damage](datadir)
    before = files(datadir)
    assert_refused(await run_ethsync("verify", "--datadir", str(datadir)), "into a new datadir")
    assert before.items() <= files(datadir).items()


def in_tables(datadir: Path) -> None:
    """Have LevelDB move everything from its logs into tables, which it does when it is opened."""
    with open_datadir(datadir):
        pass


async def test_a_damaged_log(finished: Path, state: StateView, tmp_path: Path) -> None:
    # Given bytes written since the database was last opened, which are in its log only
    datadir = copy_of(finished, tmp_path / "d")
    with open_datadir(datadir) as opened:
        for number in range(100):
            opened.accounts.put(b"!padding %d" % number, bytes(1_000))
    log = largest(datadir / "accounts", ".log")
    flip(log, log.stat().st_size // 2)
    size = log.stat().st_size
    # Then it is an error, not a database that has silently lost its end
    assert_refused(await run_ethsync("verify", "--datadir", str(datadir)), "is damaged")
    assert log.stat().st_size == size


def torn(value: bytes) -> bytes:
    return value[:-7]


def other_byte(value: bytes) -> bytes:
    middle = len(value) * 2 // 3
    return value[:middle] + bytes([value[middle] ^ 1]) + value[middle + 1 :]


@pytest.mark.parametrize("change", [torn, other_byte])
@pytest.mark.parametrize("family", ["page", "bundle", "code"])
async def test_bytes_that_are_not_what_was_written(
    family: str, change: Callable[[bytes], bytes], finished: Path, state: StateView, tmp_path: Path
) -> None:
    # Given a database that is whole, with a record in it that is not
    datadir = copy_of(finished, tmp_path / "d")
    with open_datadir(datadir) as opened:
        database, prefix = {
            "page": (opened.accounts, ACCOUNT_PAGE),
            "bundle": (opened.bundles, BUNDLE),
            "code": (opened.codes, CODE),
        }[family]
        records = list(database.scan(prefix))
        count, (key, value) = len(records), records[3]
        database.put(account_key(prefix, stored_path(key)) if family != "code" else prefix + key, change(value))
    # Then `verify` finds it,
    ended = await run_ethsync("verify", "--datadir", str(datadir))
    assert ended.code == 1
    assert "Traceback" not in ended.errors
    assert "is damaged" in ended.errors or "does not hold: " in ended.output
    # takes back that the state was verified, and deletes nothing.
    with open_datadir(datadir) as opened:
        assert opened.accounts.get(FACT_VERIFIED) is None
        kept = {"page": opened.accounts, "bundle": opened.bundles, "code": opened.codes}[family]
        assert len(list(kept.scan(prefix))) == count


async def test_verify_holds_for_an_undamaged_copy(finished: Path, state: StateView, tmp_path: Path) -> None:
    datadir = copy_of(finished, tmp_path / "d")
    ended = await run_ethsync("verify", "--datadir", str(datadir))
    assert (ended.code, "holds" in ended.output) == (0, True)
