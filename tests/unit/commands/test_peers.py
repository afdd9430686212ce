"""`ethsync peers`: what it says of the peers of a running sync, and of one that has ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ethsync.commands.peers import HEADINGS, MISSED, run
from ethsync.errors import ConfigError
from ethsync.peers.roster import FILE, write_roster

SERVER: dict[str, Any] = {
    "node_id": "0x11", "address": "192.0.2.1:30303", "direction": "outbound", "named": "static",
    "client": "Geth/v1.17\x1b[2J", "connected": True, "connections": 1, "score": 4.0, "worth": "serves",
    "latency_ms": {"headers": 9.4, "codes": 0.25, "accounts": 17.7}, "bytes": 157_168,
    "outcomes": {"headers served": 1, "accounts served": 12}, "dropped": None, "banned": None,
}  # fmt: skip
LIAR = {
    **SERVER, "node_id": "0x22", "address": "198.51.100.7:30303", "direction": "inbound", "connected": False,
    "worth": "useless", "score": -9.5, "latency_ms": {}, "bytes": 0, "outcomes": {},
    "dropped": "sent data that are wrong",
}  # fmt: skip


def shown(directory: Path, rows: list[dict[str, Any]], age: float, capsys: pytest.CaptureFixture[str]) -> list[str]:
    write_roster(directory / FILE, rows, int(time.time() - age))
    assert run(directory, as_json=False) == 0
    return capsys.readouterr().out.splitlines()


def test_every_column_has_its_heading_and_its_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, headings, server, outcomes, liar, dropped = shown(tmp_path, [SERVER, LIAR], 1, capsys)

    assert first.startswith("2 peers, 1 connected, as of ")
    assert headings == HEADINGS
    for name, text in (("score", "4.0"), ("bytes", "157 kB"), ("latency", "17.7 ms")):
        assert server[: headings.index(name) + len(name)].endswith(text)
    for name, text in (
        ("dialled", "outbound"),
        ("worth", "serves"),
        ("address", "192.0.2.1:30303"),
        ("client", "Geth"),
    ):
        assert server[headings.index(name) :].startswith(text)
    assert "\x1b" not in server
    assert outcomes.split(", ") == ["           12 accounts served", "1 headers served"]
    assert (server[0], liar[0]) == ("*", " ")
    assert liar.split()[:6] == ["-9.5", "0", "B", "-", "inbound", "useless"]
    assert dropped.strip() == "sent data that are wrong"


def test_of_a_sync_that_has_ended_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = shown(tmp_path, [SERVER], MISSED + 2, capsys)
    assert first.startswith("1 peer, 1 connected then: no sync is running, as of ")


def test_a_sync_without_peers_has_no_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (only,) = shown(tmp_path, [], 1, capsys)
    assert only.startswith("0 peers, 0 connected")


def test_json_has_all_that_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_roster(tmp_path / FILE, [SERVER, LIAR], 5)
    assert run(tmp_path, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"at": 5, "peers": [SERVER, LIAR]}


def test_a_directory_without_peers_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="knows of no peers"):
        run(tmp_path, as_json=False)
