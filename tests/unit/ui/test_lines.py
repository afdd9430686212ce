"""Progress as lines, and the last line of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ethsync.counters import Counters
from ethsync.peers.drops import Drop
from ethsync.sync.progress import Limit, Phase, Progress
from ethsync.ui.estimate import Estimate, Span
from ethsync.ui.lines import json_fields, kept_line, left_text, phase_text, plain_line, success_line
from ethsync.ui.snapshot import take_snapshot
from tests.unit.ui.conftest import ROOT

ESTIMATE = Estimate(accounts=52_100.0, slots=131_000.0, codes=512.0, wire_bytes=12.8e6, left=Span(190.0, 290.0))


def test_phases_are_counted() -> None:
    assert [phase_text(phase) for phase in Phase] == [
        "phase 1 of 4: connecting",
        "phase 2 of 4: downloading",
        "phase 3 of 4: healing",
        "phase 4 of 4: verifying",
        "done",
    ]


def test_a_line_while_connecting() -> None:
    progress = Progress(started=0.0, limit=Limit.PEERS, trouble="127.0.0.1:30303 refused\x1b the connection")
    assert plain_line(take_snapshot(progress, Estimate(), 61.5)) == (
        "0:01:01 phase 1 of 4: connecting | peers 0 | time left unknown | limited by peers"
        " | 127.0.0.1:30303 refused? the connection"
    )


def test_a_line_while_downloading(progress: Progress) -> None:
    assert plain_line(take_snapshot(progress, ESTIMATE, 1083.2)) == (
        "0:01:23 phase 2 of 4: downloading | block 23872855 | 43.2 % of key space | accounts 177,000,000 (52.1 k/s)"
        " | slots 600,000,000 (131 k/s) | codes 840,000 (512/s) | received 61.0 GB at 12.8 MB/s | peers 4"
        " | time left 3 to 5 min, then verification | limited by cpu"
    )


def test_a_line_says_who_was_dropped_last_and_why(progress: Progress) -> None:
    progress.dropped = [Drop("geth", "first", 1), Drop("evil\x1b[2J at 192.0.2.1:30303", "it lied", 2, 3)]
    snapshot = take_snapshot(progress, ESTIMATE, 1083.2)
    assert plain_line(snapshot).endswith("| dropped 2: evil?[2J at 192.0.2.1:30303 was dropped 3 times: it lied")
    fields = json_fields(snapshot)
    assert fields["dropped"] == 2
    assert fields["last_dropped"] == "evil?[2J at 192.0.2.1:30303 was dropped 3 times: it lied"


def test_a_line_after_a_restart_says_what_was_kept(progress: Progress) -> None:
    progress.accounts.kept_items, progress.storage.kept_items, progress.codes.kept_items = 100, 20, 3
    progress.phase = Phase.CONNECTING
    line = plain_line(take_snapshot(progress, Estimate(), 1000.0))
    assert "| 43.2 % of key space |" in line
    assert "| kept from earlier runs 123 |" in line


def test_a_line_while_healing(progress: Progress) -> None:
    progress.phase, progress.key_space, progress.healed = Phase.HEALING, 1.0, 0.25
    progress.healing = Counters(items=9_000, bytes=4_500_000, in_flight=3)
    snapshot = take_snapshot(progress, Estimate(nodes=850.0, wire_bytes=1e6, left=Span(11, 24)), 1083.2)
    line = plain_line(snapshot)
    assert line.startswith("0:01:23 phase 3 of 4: healing | block 23872855 | 99.9 % of key space | accounts ")
    assert "| 25.0 % healed (850/s) | received 61.0 GB at 1.00 MB/s |" in line
    assert "| time left 10 to 25 s, then verification |" in line
    assert json_fields(snapshot)["stages"]["healing"]["items"] == 9_000


def test_headers_are_told_where_they_are_wanted(progress: Progress) -> None:
    progress.headers = Counters(items=1_200_000, owed=22_672_856, in_flight=5)
    snapshot = take_snapshot(progress, replace(ESTIMATE, headers=41_200.0), 1083.2)
    assert "| codes 840,000 (512/s) | 5.0 % of headers (41.2 k/s) | received" in plain_line(snapshot)
    stage = json_fields(snapshot)["stages"]["headers"]
    assert (stage["share"], stage["items"], stage["owed"]) == (0.0502, 1_200_000, 22_672_856)
    progress.phase = Phase.DONE
    assert "840,000 codes, 1,200,000 headers in 1 min" in success_line(progress, 1100.0)


def test_a_line_while_verifying(progress: Progress) -> None:
    progress.phase, progress.key_space, progress.verified = Phase.VERIFYING, 1.0, 1.0
    assert plain_line(take_snapshot(progress, Estimate(leaves_verified=2.1e6, left=Span(11, 24)), 1083.2)) == (
        "0:01:23 phase 4 of 4: verifying | block 23872855 | 99.9 % verified | 2.10 M/s leaves | peers 4"
        " | time left 10 to 25 s | limited by cpu"
    )


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.DOWNLOADING, Phase.VERIFYING])
def test_nothing_is_complete_before_the_root_is_verified(progress: Progress, phase: Phase) -> None:
    progress.phase, progress.key_space, progress.verified = phase, 1.0, 1.0
    progress.storage.owed = progress.codes.owed = 0
    snapshot = take_snapshot(progress, ESTIMATE, 1083.2)
    assert "100 %" not in plain_line(snapshot)
    fields = json_fields(snapshot)
    assert fields["verified"] is False
    assert {stage["share"] for stage in fields["stages"].values()} == {0.9999}


def test_a_line_at_the_end(progress: Progress) -> None:
    progress.phase, progress.trouble = Phase.DONE, "long gone"
    snapshot = take_snapshot(progress, Estimate(), 1083.2)
    assert plain_line(snapshot) == (
        "0:01:23 done | block 23872855 | 100 % of key space | accounts 177,000,000 | slots 600,000,000"
        " | codes 840,000 | received 61.0 GB"
    )
    assert json_fields(snapshot)["verified"] is True


def test_unknown_time_is_said() -> None:
    assert left_text(take_snapshot(Progress(started=0.0), Estimate(), 1.0)) == "unknown"


def test_time_never_runs_backwards(progress: Progress) -> None:
    assert plain_line(take_snapshot(progress, ESTIMATE, 999.0)).startswith("0:00:00 ")


def test_json_has_the_same_as_values(progress: Progress) -> None:
    fields = json_fields(take_snapshot(progress, ESTIMATE, 1083.25))
    stages = fields.pop("stages")
    assert fields == {
        "elapsed_s": 83.25,
        "phase": "downloading",
        "phase_number": 2,
        "phases": 4,
        "verified": False,
        "block_number": 23_872_855,
        "state_root": ROOT,
        "kept": 0,
        "peers": 4,
        "search": None,
        "dropped": 0,
        "last_dropped": None,
        "wire_bytes": 61_000_000_000,
        "wire_bytes_per_s": 12_800_000,
        "written_bytes": 60_000_000_000,
        "write_queue": 3,
        "left_s": [190.0, 290.0],
        "limit": "cpu",
        "warning": None,
        "trouble": None,
    }
    assert list(stages) == ["accounts", "storage", "bytecodes", "verification"]
    assert stages["storage"] == {
        "share": 0.432,  # rounded down, of 0.4321 x 10,000,000 / 10,001,240
        "items": 600_000_000,
        "per_s": 131_000.0,
        "bytes": 46_000_000_000,
        "in_flight": 9,
        "owed": 1240,
    }
    unknown = json_fields(take_snapshot(Progress(started=0.0), Estimate(), 0.0))
    assert [unknown[name] for name in ("left_s", "limit", "wire_bytes_per_s", "block_number", "state_root")] == [
        None
    ] * 5


def test_success_names_everything(progress: Progress) -> None:
    progress.phase = Phase.DONE
    progress.accounts.items, progress.storage.items, progress.codes.items = 1_000_000, 1_400_000, 50_000
    progress.wire_bytes = 240_000_000
    assert success_line(progress, 1005.0) == (
        f"block 23872855 verified: state root {ROOT}, 1,000,000 accounts, 1,400,000 slots, 50,000 codes"
        " in 5.0 s (480 k leaves/s, 48.0 MB/s)"
    )


def test_rates_of_success_are_of_this_run(progress: Progress) -> None:
    progress.phase = Phase.DONE
    progress.accounts.items = progress.accounts.kept_items = 1_000_000
    progress.storage.items, progress.storage.kept_items = 1_400_000, 1_399_000
    line = success_line(progress, 1005.0)
    assert "(200 leaves/s, " in line
    assert line.endswith(", 2,399,000 leaves of it kept from before)")


def test_success_is_not_claimed_early(progress: Progress) -> None:
    progress.phase, progress.verified = Phase.VERIFYING, 1.0
    with pytest.raises(ValueError, match="not verified"):
        success_line(progress, 1005.0)


def test_an_interrupted_sync_says_what_it_kept(progress: Progress) -> None:
    counts = "177,000,000 accounts, 600,000,000 slots, 840,000 codes"
    assert kept_line(progress) == (
        f"interrupted: kept {counts}, 43.2 % of the key space; the same command continues from there"
    )
    progress.phase = Phase.VERIFYING
    assert kept_line(progress) == f"interrupted: kept {counts}; all is stored, the same command verifies it again"
    progress.phase = Phase.DONE
    assert kept_line(progress) == f"interrupted after verification: kept {counts}"
    assert kept_line(Progress(started=0.0)) == "interrupted: nothing was stored yet; the same command starts again"
