"""The report of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ethsync.counters import Counters
from ethsync.discovery.candidate import Reason, Source
from ethsync.errors import ConfigError
from ethsync.peers.census import Census, SourceCount
from ethsync.peers.drops import Drop
from ethsync.sync.progress import Followed, PeerView, Phase, Progress
from ethsync.ui.machine import Machine, Resources, ThreadTime
from ethsync.ui.measure import LoopLag
from ethsync.ui.report import build_report, write_report

MACHINE = Machine("AMD EPYC", 2, 8 << 30, "avx512", "Linux-6.1", "CPython 3.11.7", {"trio": "0.35.0", "plyvel": None})
RESOURCES = Resources(
    cpu_user=5.5,
    cpu_system=0.5,
    threads=(ThreadTime(7, "python", 3.0, 0.25), ThreadTime(9, "worker", 2.0, 0.25)),
    peak_resident=500_000_000,
    anonymous=100_000_000,
    disk_read=4096,
    disk_written=400_000_000,
)


def report(progress: Progress, resources: Resources = RESOURCES, lag: LoopLag | None = None) -> dict[str, Any]:
    return build_report(
        progress,
        now=1005.0,
        date="2026-01-31T12:00:00Z",
        command=["ethsync", "snap", "--network", "demo"],
        machine=MACHINE,
        resources=resources,
        peak_anonymous=123_456_789,
        lag=lag,
    )


@pytest.fixture
def finished() -> Progress:
    """A second run: 200,000 accounts and their bytes were there before."""
    progress = Progress(started=1000.0, phase=Phase.DONE, block_number=600, restarts=1, key_space=1.0, verified=1.0)
    progress.accounts = Counters(1_000_000, 72_000_000, 200_000, 12_000_000, started=1000.0, ended=1004.0)
    progress.storage = Counters(1_400_000, 66_000_000, started=1000.5, ended=1004.5)
    progress.codes = Counters(50_000, 74_000_000, started=1000.5, ended=1003.0)
    progress.verification = Counters(2_400_000, 212_000_000, started=1004.5, ended=1005.0)
    progress.outcomes.update({"storage served": 3, "accounts served": 10, "accounts timeout": 1})
    progress.wire_bytes = 150_000_000
    return progress


def test_rates_are_of_what_this_run_did(finished: Progress) -> None:
    found = report(finished)
    assert found["verified"] is True
    assert found["sync"]["wall_s"] == 5.0
    assert found["sync"]["leaves"] == 2_200_000
    assert found["sync"]["leaves_per_s"] == 440_000.0
    assert found["sync"]["restarts"] == 1
    assert found["stages"]["accounts"] == {
        "items": 1_000_000,
        "kept_items": 200_000,
        "bytes": 72_000_000,
        "kept_bytes": 12_000_000,
        "missing": 0,
        "seconds": 4.0,
        "items_per_s": 200_000.0,
        "bytes_per_s": 15_000_000.0,
    }
    assert list(found["stages"]) == ["accounts", "storage", "bytecodes", "headers", "healing", "verification"]
    assert found["following"] is None


def test_what_is_missing_of_an_interrupted_sync_is_a_number_only_where_one_is_known() -> None:
    # Given a sync that has half of the accounts, some of which lack storage; all of their codes are there
    progress = Progress(started=1000.0, phase=Phase.DOWNLOADING, key_space=0.5)
    progress.storage.owed, progress.parked = 40, 2
    progress.headers.items, progress.headers.owed = 100, 900

    def missing() -> dict[str, int | None]:
        return {name: stage["missing"] for name, stage in report(progress)["stages"].items()}

    # Then it is known of these, and of headers; other accounts may lack what nobody knows.
    unknown = dict.fromkeys(("accounts", "bytecodes", "healing", "verification"))
    assert missing() == unknown | {"storage": 42, "headers": 900}
    # When all accounts are there, then that no more codes are missing is known too,
    progress.key_space = 1.0
    assert missing() == unknown | {"accounts": 0, "storage": 42, "bytecodes": 0, "headers": 900}
    # but not while they may be others in the pivot's state.
    progress.doubtful = True
    assert missing() == unknown | {"storage": 42, "headers": 900}
    # Once everything is verified, nothing is.
    finished = Progress(started=1000.0, phase=Phase.DONE, key_space=1.0, verified=1.0)
    assert {stage["missing"] for stage in report(finished)["stages"].values()} == {0}


def test_a_report_says_how_far_the_chain_was_followed(finished: Progress) -> None:
    finished.followed, finished.steps = Followed(1234, 1236, accounts=2_513, seconds=1.8), 40
    following = report(finished)["following"]
    assert following.items() >= {"steps": 40, "number": 1234, "head": 1236, "accounts": 2_513, "seconds": 1.8}.items()


def test_amplification_is_disk_over_state(finished: Progress) -> None:
    """Given 200 MB of new state and 400 MB written to the disk, then it is 2."""
    found = report(finished)["sync"]
    assert found["state_bytes"] == 200_000_000
    assert found["write_amplification"] == 2.0
    assert found["peak_anon_bytes"] == 123_456_789
    assert found["peak_resident_bytes"] == 500_000_000


def test_requests_are_listed_by_outcome(finished: Progress) -> None:
    assert list(report(finished)["requests"].items()) == [
        ("accounts served", 10),
        ("accounts timeout", 1),
        ("storage served", 3),
    ]


def test_peers_are_those_until_the_end(finished: Progress) -> None:
    finished.last_peers = [PeerView("geth", "192.0.2.1:30303", 5, 0, 1.0, 2.0, "dns")]
    assert report(finished)["peers"] == [
        {
            "name": "geth",
            "address": "192.0.2.1:30303",
            "bytes": 5,
            "in_flight": 0,
            "rate": 1.0,
            "score": 2.0,
            "source": "dns",
        }
    ]


def test_dropped_peers_are_listed_with_the_reason(finished: Progress) -> None:
    finished.dropped = [Drop("geth at 192.0.2.1:30303", "it lied", 4, 2, banned=True)]
    assert report(finished)["dropped"] == [
        {"peer": "geth at 192.0.2.1:30303", "why": "it lied", "times": 2, "banned": True}
    ]


def test_the_search_for_peers_is_reported_in_full(finished: Progress) -> None:
    finished.census = Census({Source.DNS: SourceCount(5, 3, 1, 1)}, SourceCount(5, 3, 1, 1), {Reason.UNREACHABLE: 2}, 0)
    finished.warning = "a fork comes"
    found = report(finished)
    assert found["search"] == {
        "by_source": {"dns": {"found": 5, "dialled": 3, "connected": 1, "serving": 1}},
        "total": {"found": 5, "dialled": 3, "connected": 1, "serving": 1},
        "by_reason": {"unreachable": 2},
        "passed_over": 0,
    }
    assert found["warning"] == "a fork comes"


def test_processor_time_is_split_by_thread(finished: Progress) -> None:
    assert report(finished)["cpu"] == {
        "total_s": 6.0,
        "user_s": 5.5,
        "system_s": 0.5,
        "threads": [
            {"id": 7, "name": "python", "user_s": 3.0, "system_s": 0.25},
            {"id": 9, "name": "worker", "user_s": 2.0, "system_s": 0.25},
        ],
        "ended_threads_s": 0.5,
    }


def test_lag_in_milliseconds(finished: Progress) -> None:
    lag = LoopLag(lambda: 0.0)
    for _ in range(98):
        lag.lag.add(0.0005)
    lag.lag.add(0.012, times=2)
    found = report(finished, lag=lag)
    assert found["loop"]["lag_ms"] == {"p50": pytest.approx(0.5, rel=0.125), "p99": 12.0, "max": 12.0}
    assert found["sync"]["loop_lag_p99_ms"] == 12.0
    assert report(finished)["loop"] is None


def test_what_the_system_does_not_tell_is_null(finished: Progress) -> None:
    silent = replace(RESOURCES, threads=None, peak_resident=None, anonymous=None, disk_read=None, disk_written=None)
    found = report(finished, silent)
    assert found["sync"]["write_amplification"] is None
    assert found["sync"]["disk_written_bytes"] is None
    assert found["cpu"]["threads"] is None
    assert found["cpu"]["total_s"] == 6.0


def test_a_sync_that_did_nothing_has_no_rates() -> None:
    found = report(Progress(started=1005.0))
    assert found["verified"] is False
    assert found["sync"]["leaves_per_s"] is None
    assert found["sync"]["write_amplification"] is None
    assert found["stages"]["accounts"]["seconds"] is None


def test_a_stage_that_still_runs_is_counted_until_now(finished: Progress) -> None:
    finished.accounts.ended = None
    assert report(finished)["stages"]["accounts"]["seconds"] == 5.0


def test_a_report_is_written_whole(finished: Progress, tmp_path: Path) -> None:
    path = tmp_path / "R.json"
    path.write_text("an older one")
    write_report(path, report(finished, lag=LoopLag()))
    assert json.loads(path.read_text())["machine"]["instruction_set"] == "avx512"
    assert [entry.name for entry in tmp_path.iterdir()] == ["R.json"]


def test_a_report_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "R.json"
    path.write_text("an older one")
    with pytest.raises(TypeError):
        write_report(path, {"not": {"json"}})
    assert path.read_text() == "an older one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["R.json"]


def test_a_path_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/R\.json.*No such file"):
        write_report(tmp_path / "missing" / "R.json", {})
