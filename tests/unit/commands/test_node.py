"""`ethsync node`: who the node of a data directory is."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from ethsync.discovery.identity import IDENTITY_FILE, KEY_FILE, open_identity, save_identity
from ethsync.discovery.local_record import Announcement, LocalRecord
from ethsync.discovery.node import Endpoint
from ethsync.store.datadir import MARK
from ethsync.wire import keys
from ethsync.wire.enr import parse_record
from ethsync.wire.forkid import ForkId
from tests.unit.commands.running import Run

# EIP-778
DIGITS = "b71c71a67e1177ad4e901695e1b4b9ee17ae16c6668d313eac2f96dbcda3f291"
NODE_ID = "a448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7"
NOW = 1790000000.0
HOME = Announcement(IPv4Address("89.12.3.4"), tcp=30303, udp=30305, fork_id=ForkId(bytes.fromhex("07c9462e"), 0))


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)


@pytest.fixture
def datadir(tmp_path: Path) -> Path:
    """A data directory with the key of EIP-778, before its first start."""
    path = tmp_path / "data"
    path.mkdir()
    (path / KEY_FILE).touch(mode=0o600)
    (path / KEY_FILE).write_text(DIGITS)
    return path


class TestNewDirectory:
    def test_a_key_is_made_and_said_so_once(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "data"

        code, out, err = run("node", "info", "--datadir", str(path), "--json")
        _, again, silent = run("node", "info", "--datadir", str(path), "--json")

        assert code == 0
        assert err == f"made a new node key: {path / KEY_FILE}\n"
        assert (again, silent) == (out, "")
        assert {file.name for file in path.iterdir()} == {KEY_FILE, IDENTITY_FILE, MARK}

    def test_a_key_that_was_brought_along_is_used(self, run: Run, datadir: Path) -> None:
        _, out, err = run("node", "info", "--datadir", str(datadir), "--json")

        assert json.loads(out)["node_id"] == NODE_ID
        assert err == ""

    def test_the_default_directory_is_that_of_the_network(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

        _, mainnet, _ = run("node", "info", "--json")
        _, sepolia, _ = run("node", "info", "--network", "sepolia", "--json")

        assert json.loads(mainnet)["datadir"] == str(tmp_path / "ethsync" / "mainnet")
        assert json.loads(sepolia)["datadir"] == str(tmp_path / "ethsync" / "sepolia")
        assert json.loads(mainnet)["chain"] == "mainnet, after BPO2"
        assert json.loads(sepolia)["chain"].startswith("sepolia, after BPO2; next fork at 1791294816 (2026-10-06")

    def test_a_directory_with_something_else_is_left_alone(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()

        code, out, err = run("node", "info", "--datadir", str(tmp_path))

        assert (code, out) == (2, "")
        assert "holds something else" in err
        assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]

    def test_an_unknown_network_makes_nothing(self, run: Run, tmp_path: Path) -> None:
        code, _, err = run("node", "info", "--datadir", str(tmp_path / "data"), "--network", "mainet")

        assert code == 2
        assert "neither a built-in network nor a file" in err
        assert not (tmp_path / "data").exists()

    def test_a_key_that_others_may_read_is_refused(self, run: Run, datadir: Path) -> None:
        (datadir / KEY_FILE).chmod(0o644)

        code, out, err = run("node", "enr", "--datadir", str(datadir))

        assert (code, out) == (2, "")
        assert f"chmod 600 {datadir / KEY_FILE}" in err

    def test_a_damaged_key_is_a_failure(self, run: Run, datadir: Path) -> None:
        (datadir / KEY_FILE).write_text("damaged")

        code, _, err = run("node", "enr", "--datadir", str(datadir))

        assert code == 1
        assert "is not a private key" in err


class TestAfterASync:
    @pytest.fixture
    def used(self, datadir: Path) -> Path:
        """The same after a sync that has learnt its address."""
        identity = open_identity(datadir)
        local = LocalRecord(identity.key, HOME, None, NOW - 5000)
        seen = (Endpoint(IPv4Address("89.12.3.4"), 30305), Endpoint(IPv6Address("2a02::1"), 30303))
        save_identity(datadir, local.record, seen)
        return datadir

    def test_what_it_told_others_and_what_they_told_it_is_shown(self, run: Run, used: Path) -> None:
        _, out, _ = run("node", "info", "--datadir", str(used), "--json")

        facts = json.loads(out)
        key = keys.identity(open_identity(used).key.public_key).hex()
        record = parse_record(facts.pop("record"))
        assert record.seq == 1789995000000
        assert facts == {
            "datadir": str(used),
            "key_file": str(used / KEY_FILE),
            "node_id": NODE_ID,
            "public_key": key,
            "enode": f"enode://{key}@89.12.3.4:30303?discport=30305",
            "seq": 1789995000000,
            "addresses": {"ip": "89.12.3.4", "tcp": 30303, "udp": 30305, "ip6": None, "tcp6": None, "udp6": None},
            "seen": ["89.12.3.4:30305", "[2a02::1]:30303"],
            "fork_id": "07c9462e/0",
            "chain": "mainnet, after BPO2",
        }

    def test_the_same_for_people(self, run: Run, used: Path) -> None:
        _, out, _ = run("node", "info", "--datadir", str(used))

        rows = {line[:12].strip(): line[12:].strip() for line in out.splitlines()}
        assert rows["node id"] == NODE_ID
        assert rows["address"] == "89.12.3.4 (TCP 30303, UDP 30305)"
        assert rows["seen as"] == "89.12.3.4:30305, [2a02::1]:30303"
        assert rows["chain"] == "mainnet, after BPO2"
        assert rows["enode"].endswith("@89.12.3.4:30303?discport=30305")

    def test_the_record_alone_for_scripts(self, run: Run, used: Path) -> None:
        code, out, err = run("node", "enr", "--datadir", str(used))

        assert (code, err) == (0, "")
        assert out == f"{open_identity(used).record}\n"

    def test_looking_changes_nothing(self, run: Run, used: Path) -> None:
        before = (used / IDENTITY_FILE).read_bytes()

        run("node", "info", "--datadir", str(used), "--network", "sepolia")
        run("node", "enr", "--datadir", str(used))

        assert (used / IDENTITY_FILE).read_bytes() == before

    def test_a_record_that_was_shown_is_followed_by_a_higher_one(self, run: Run, datadir: Path) -> None:
        """Given a look at a new directory, and then a sync with a clock that is behind."""
        shown = parse_record(run("node", "enr", "--datadir", str(datadir))[1])
        identity = open_identity(datadir)

        local = LocalRecord(identity.key, replace(HOME, udp=1), identity.record, NOW - 100_000)

        assert local.record.seq == shown.seq + 1


def test_before_anything_is_known_it_says_so(run: Run, datadir: Path) -> None:
    _, out, _ = run("node", "info", "--datadir", str(datadir))

    rows = {line[:12].strip(): line[12:].strip() for line in out.splitlines()}
    assert rows["enode"] == "none: our address is not known yet"
    assert rows["address"] == "none announced yet"
    assert rows["seen as"] == "nobody has said yet"
    assert rows["chain"] == "not in the record yet: the next sync puts it there"
