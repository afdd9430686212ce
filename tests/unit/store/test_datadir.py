"""Opening a data directory: whose it is, who else has it, and that nothing is lost by a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ethsync.errors import ConfigError, DatadirBusy, DatadirDamaged, DatadirMismatch, DiskFull
from ethsync.store import datadir as module
from ethsync.store.datadir import LOCK_FILE, MARK, claim, free_bytes, open_datadir
from ethsync.store.leveldb import Database
from ethsync.store.schema import FACT_FORMAT, FORMAT_VERSION, Format


def files(path: Path) -> set[Path]:
    return {file for file in path.rglob("*") if file.is_file()}


def made(path: Path, network: Format) -> Path:
    """A data directory of a network, with something in it."""
    with open_datadir(path, network) as opened:
        opened.codes.put(b"Ckey", b"code")
    return path


# Making and opening


def test_a_missing_directory_is_made_with_its_parents(tmp_path: Path, network: Format) -> None:
    with open_datadir(tmp_path / "a" / "b", network) as opened:
        assert opened.format == network
        assert {database.path.name for database in opened.databases()} == {
            "accounts", "bundles", "storage", "codes", "headers", "ledger",
        }  # fmt: skip


def test_an_empty_directory_is_used(tmp_path: Path, network: Format) -> None:
    with open_datadir(tmp_path, network) as opened:
        assert opened.path == tmp_path


def test_what_relies_on_other_databases_reaches_the_disk_last(tmp_path: Path, network: Format) -> None:
    with open_datadir(tmp_path, network) as opened:
        assert opened.databases()[-1] is opened.ledger


def test_it_is_continued_for_the_same_network(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    with open_datadir(tmp_path / "data", network) as opened:
        assert opened.codes.get(b"Ckey") == b"code"


def test_it_is_read_without_naming_a_network(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    with open_datadir(tmp_path / "data") as opened:
        assert opened.format == network


def test_the_network_is_known_by_its_genesis_not_by_its_name(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    with open_datadir(tmp_path / "data", replace(network, network="other-name")) as opened:
        assert opened.format.network == "testnet"


# What is not ours


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a data directory"), open_datadir(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()


def test_a_file_is_not_a_directory(tmp_path: Path, network: Format) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"), open_datadir(tmp_path / "file", network):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path, network: Format) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"), open_datadir(tmp_path, network):
        pass
    assert files(tmp_path) == {tmp_path / "thesis.tex"}


def test_a_directory_that_was_made_but_never_filled_is_used(tmp_path: Path, network: Format) -> None:
    # Given a process that was killed between its first files
    (tmp_path / LOCK_FILE).touch()
    with open_datadir(tmp_path, network):
        pass


def test_a_node_key_may_be_there_before(tmp_path: Path, network: Format) -> None:
    (tmp_path / "nodekey").write_text("11" * 32)
    with open_datadir(tmp_path, network):
        pass
    assert (tmp_path / "nodekey").read_text() == "11" * 32


def test_a_directory_that_is_claimed_can_be_filled_but_not_read(tmp_path: Path, network: Format) -> None:
    claim(tmp_path / "data")
    with pytest.raises(ConfigError, match="is empty"), open_datadir(tmp_path / "data"):
        pass
    assert files(tmp_path) == {tmp_path / "data" / MARK}
    with open_datadir(tmp_path / "data", network):
        pass


def test_what_holds_something_else_cannot_be_claimed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        claim(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        claim(tmp_path / "thesis.tex")
    assert files(tmp_path) == {tmp_path / "thesis.tex"}


def test_a_directory_without_its_first_fact_cannot_be_read(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    with open_datadir(tmp_path / "data") as opened:
        batch = opened.accounts.batch()
        batch.delete(FACT_FORMAT)
        opened.accounts.commit(batch)
    with pytest.raises(ConfigError, match="is empty"), open_datadir(tmp_path / "data"):
        pass


def test_no_permission_is_an_error_that_says_so(
    tmp_path: Path, network: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(ConfigError, match=r"no permission to use .*data: Permission denied"),
        open_datadir(tmp_path / "data", network),
    ):
        pass


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path, network: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DiskFull, match="cannot be written: No space left"), open_datadir(tmp_path / "data", network):
        pass


# Another network, another format


def test_another_network_is_refused_and_nothing_is_deleted(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    before = {file for file in files(tmp_path) if file.suffix == ".ldb"}
    other = Format(FORMAT_VERSION, "mainnet", 1, "0x" + "cd" * 32)
    with (
        pytest.raises(DatadirMismatch, match=r"holds testnet.*not mainnet.*use another --datadir"),
        open_datadir(tmp_path / "data", other),
    ):
        pass
    assert before <= files(tmp_path)
    with open_datadir(tmp_path / "data", network) as opened:
        assert opened.codes.get(b"Ckey") == b"code"


@pytest.mark.parametrize("create", [False, True])
def test_a_newer_format_is_refused_whatever_else_it_says(tmp_path: Path, network: Format, create: bool) -> None:
    made(tmp_path / "data", network)
    with open_datadir(tmp_path / "data") as opened:
        opened.accounts.put(FACT_FORMAT, b'{"version": %d, "new": []}' % (FORMAT_VERSION + 1))
    with (
        pytest.raises(DatadirMismatch, match="use a newer ethsync"),
        open_datadir(tmp_path / "data", network if create else None),
    ):
        pass


def test_a_first_fact_that_cannot_be_read_is_damage(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    with open_datadir(tmp_path / "data") as opened:
        opened.accounts.put(FACT_FORMAT, b"{")
    with pytest.raises(DatadirDamaged), open_datadir(tmp_path / "data", network):
        pass


def test_a_damaged_database_is_an_error_and_lets_go_of_the_others(tmp_path: Path, network: Format) -> None:
    made(tmp_path / "data", network)
    current = tmp_path / "data" / "headers" / "CURRENT"
    good = current.read_bytes()
    current.write_bytes(b"nonsense")
    with pytest.raises(DatadirDamaged, match="headers"), open_datadir(tmp_path / "data"):
        pass
    # When it is repaired, then nothing else is in the way.
    current.write_bytes(good)
    with open_datadir(tmp_path / "data") as opened:
        assert opened.codes.get(b"Ckey") == b"code"


# One process at a time


def test_a_directory_in_use_is_refused_by_naming_the_process(tmp_path: Path, network: Format) -> None:
    with open_datadir(tmp_path / "data", network):
        with (
            pytest.raises(DatadirBusy, match=f"in use by process {os.getpid()}.*wait for it or stop it"),
            open_datadir(tmp_path / "data"),
        ):
            pass
        # The refused one must not have taken the name out of the file.
        assert (tmp_path / "data" / LOCK_FILE).read_text() == str(os.getpid())


def test_it_is_free_again_when_it_was_closed(tmp_path: Path, network: Format) -> None:
    for _ in range(3):
        made(tmp_path / "data", network)


def test_it_is_free_again_when_its_process_was_killed(tmp_path: Path, network: Format) -> None:
    # Given a process that holds the directory
    program = (
        "import os, signal, pathlib\n"
        "from ethsync.store.datadir import open_datadir\n"
        "from ethsync.store.schema import Format\n"
        f"opened = open_datadir(pathlib.Path({str(tmp_path / 'data')!r}), Format{tuple(vars_of(network))!r})\n"
        "datadir = opened.__enter__()\n"
        "datadir.codes.put(b'Ckey', b'code')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # When it dies without a chance to tidy up
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ended.returncode == -9
    # Then the directory is free, and what it had written is there.
    with open_datadir(tmp_path / "data") as opened:
        assert opened.codes.get(b"Ckey") == b"code"


def vars_of(form: Format) -> list[object]:
    return [form.version, form.network, form.chain_id, form.genesis_hash]


def test_an_error_inside_closes_everything(tmp_path: Path, network: Format) -> None:
    with pytest.raises(RuntimeError, match="a bug"), open_datadir(tmp_path / "data", network):
        raise RuntimeError("a bug")
    for name in module.DATABASES:
        Database(tmp_path / "data" / name, create=False).close()
    assert (tmp_path / "data" / MARK).exists()


def test_free_space_is_what_the_system_says(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert free_bytes(tmp_path) == pytest.approx(found.f_bavail * found.f_frsize, rel=0.05)
