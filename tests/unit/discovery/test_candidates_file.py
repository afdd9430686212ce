"""Candidates kept between runs: what is kept, and that no file, however damaged, does harm."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest

from ethsync.discovery.candidate import Quality, Reason, Source, Usefulness
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.candidates_file import MOST, OLDEST, facts, load, restore, save
from ethsync.wire.enode import Enode
from tests.unit.discovery.crowds import key, node, offer_all, pool, scattered

NOW, WALL = 5000.0, 1_800_000_000.0


def experienced() -> Candidates:
    """A pool with one node of each kind."""
    candidates = pool()
    for name in ("best", "good", "live", "new", "silent", "useless"):
        candidates.offer(node(name, f"20.{len(candidates)}.1.1"), Source.DISCV5, NOW)
    candidates.offer(node("static", "20.9.1.1"), Source.STATIC, NOW)
    candidates.offer(Enode(key("named"), "node.example", 30303, 0), Source.STATIC, NOW)
    for name, served in (("best", 1 << 30), ("good", 1000)):
        candidates.dialled(key(name), NOW - 200)
        candidates.connected(key(name), "Geth/v1.16.7", NOW - 199)
        candidates.ended(key(name), Usefulness(9, served, score=3.0), NOW - 100)
    for name, reason in (("live", Reason.TOO_MANY_PEERS), ("silent", Reason.UNREACHABLE), ("useless", Reason.NO_SNAP)):
        candidates.dialled(key(name), NOW - 50)
        candidates.failed(key(name), reason, NOW - 45)
    return candidates


def test_the_better_nodes_come_back_in_the_next_run_with_what_was_learned(tmp_path: Path) -> None:
    # Given a pool of one run
    path = tmp_path / "candidates.json"
    before = experienced()
    assert save(facts(before, NOW, WALL), path)
    # When another run starts an hour later, with another clock
    after = Candidates(random.Random(2))
    assert restore(after, load(path), 7.0, WALL + 3600) == 4
    # Then it knows who was good
    by_key = {each.public_key: each for each in after}
    assert {name: by_key[key(name)].quality for name in ("best", "good", "live", "new")} == {
        "best": Quality.BEST,
        "good": Quality.GOOD,
        "live": Quality.LIVE,
        "new": Quality.NEW,
    }
    best = by_key[key("best")]
    assert (best.enode, best.client) == (Enode(key("best"), "20.0.1.1", 30303, 30303), "Geth/v1.16.7")
    assert (best.served_bytes, best.score, best.sources) == (1 << 30, 3.0, frozenset({Source.STORED}))
    assert (best.last_dial, best.last_success) == (7.0 - 3600 - 200, 7.0 - 3600 - 199)
    live = by_key[key("live")]
    assert (live.reason, live.failures) == (Reason.TOO_MANY_PEERS, 1)
    # and all may be dialled at once.
    assert after.statistics().known == 4
    after.next(7.0)
    assert after.ready == 4


def test_a_pause_goes_on_in_the_next_run(tmp_path: Path) -> None:
    before, after = experienced(), Candidates(random.Random(2))
    old = before.get(key("live"))
    assert old is not None
    save(facts(before, NOW, WALL), tmp_path / "c")
    restore(after, load(tmp_path / "c"), 100.0, WALL + 1)
    new = after.get(key("live"))
    assert new is not None
    assert new.due == pytest.approx(100.0 + (old.due - NOW) - 1, abs=0.01)


def test_the_best_are_kept_if_there_are_too_many() -> None:
    candidates = pool()
    nodes = scattered(MOST + 10)
    offer_all(candidates, nodes, now=NOW)
    proven = [each.public_key for each in nodes[-5:]]
    for each in proven:
        candidates.connected(each, "Geth/v1", NOW)
        candidates.ended(each, Usefulness(1, 1), NOW)
    kept = facts(candidates, NOW, WALL)
    assert len(kept) == MOST
    assert {each.public_key for each in kept[:5]} == {each.hex() for each in proven}


def test_nodes_that_were_not_heard_of_for_a_month_are_forgotten(tmp_path: Path) -> None:
    save(facts(experienced(), NOW, WALL), tmp_path / "c")
    assert restore(pool(), load(tmp_path / "c"), NOW, WALL + OLDEST + 7200) == 0


def test_without_a_file_there_are_no_facts_and_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(tmp_path / "none") == []
    assert not caplog.records


def written(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "candidates.json"
    save(facts(experienced(), NOW, WALL), path)
    return path, json.loads(path.read_text())


WRONG_FIELDS: dict[str, list[object]] = {
    "public_key": ["zz" * 64, "00" * 63, 7, None],
    "host": ["node.example", "999.1.1.1", 7, None],
    "tcp_port": [0, -1, 65536, 1.5, "30303", None, True],
    "udp_port": [-1, 65536, None],
    "client": [None, 7, "x" * 257],
    "last_dial": ["then", True, 10**400],
    "due": [None, "soon", float("nan"), float("inf")],
    "failures": [-1, 1 << 40, None, 0.5],
    "reason": ["WEATHER", 3, ["x"]],
    "served_bytes": [-1, 1 << 80, None],
    "score": [None, float("nan"), "good"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, each in WRONG_FIELDS.items() for value in each])
def test_a_file_with_a_wrong_value_is_set_aside_with_a_warning(
    name: str, value: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, document = written(tmp_path)
    document["nodes"][1][name] = value
    path.write_text(json.dumps(document))
    assert load(path) == []
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert not path.exists()
    assert (tmp_path / "candidates.json.damaged").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"version":2,"nodes":[]}',
        b'{"version":1}',
        b'{"version":1,"nodes":7}',
        b'{"version":1,"nodes":{"a":1}}',
        b'{"version":1,"nodes":[7]}',
        b'{"version":1,"nodes":[{}]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_set_aside_with_a_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "candidates.json"
    path.write_bytes(content)
    assert load(path) == []
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert (tmp_path / "candidates.json.damaged").read_bytes() == content
    # And the next run finds no fault any more.
    assert load(path) == []
    assert len(caplog.records) == 1


def test_whatever_is_cut_off_a_file_is_never_an_error(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert load(path) == []


def test_a_file_that_is_absurdly_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = written(tmp_path)
    monkeypatch.setattr("ethsync.jsonfile.LARGEST", 100)
    assert load(path) == []
    assert "too large" in caplog.text


def test_a_directory_that_cannot_be_written_costs_the_file_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not save(facts(experienced(), NOW, WALL), tmp_path / "missing" / "c")
    assert "could not be written" in caplog.text
    (tmp_path / "directory").mkdir()
    assert load(tmp_path / "directory") == []
    assert not save([], tmp_path / "directory")
    assert [each.name for each in tmp_path.iterdir()] == ["directory"]


def test_the_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = written(tmp_path)
    before = path.read_bytes()

    def interrupted(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ethsync.jsonfile.os.fsync", interrupted)
    assert not save([], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
