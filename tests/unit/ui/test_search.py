"""The search for peers in words."""

from __future__ import annotations

import pytest

from ethsync.discovery.candidate import Reason, Source
from ethsync.peers.census import Census, SourceCount
from ethsync.sync.progress import Progress
from ethsync.ui.estimate import Estimate
from ethsync.ui.lines import plain_line
from ethsync.ui.search import census_fields, dialled_text, found_text, peers_text
from ethsync.ui.snapshot import take_snapshot
from tests.unit.ui.test_view import frame

NAMED = Census({Source.STATIC: SourceCount(1, 1, 1, 1)}, SourceCount(1, 1, 1, 1), {}, 0)


@pytest.fixture
def census() -> Census:
    return Census(
        {
            Source.STATIC: SourceCount(1, 1, 1, 1),
            Source.DNS: SourceCount(310, 12, 1, 0),
            Source.DISCV5: SourceCount(1_700, 40, 3, 2),
        },
        SourceCount(1_812, 52, 4, 3),
        {
            Reason.UNREACHABLE: 30,
            Reason.TOO_MANY_PEERS: 12,
            Reason.OTHER_CHAIN: 3,
            Reason.NO_SNAP: 2,
            Reason.LIED: 1,
        },
        90,
    )


def test_what_is_found_dialled_and_serves(census: Census) -> None:
    assert found_text(census) == "1,812 nodes (1 static, 310 dns, 1,700 discv5), 90 more of other chains or forks"
    assert dialled_text(census) == (
        "52: 30 could not be reached, 12 had no room for another peer, 3 followed another chain or fork,"
        " 3 for other reasons"
    )
    assert peers_text(4, census) == "4 connected, 3 serving (1 static, 2 discv5)"


def test_what_there_is_not_is_not_said() -> None:
    nothing = Census({}, SourceCount(), {}, 0)
    assert (found_text(nothing), dialled_text(nothing), peers_text(0, nothing)) == ("0 nodes", "0", "0")
    assert peers_text(1, NAMED) == "1 connected, 1 serving"
    assert peers_text(2, None) == "2 connected"


def test_the_live_view_shows_the_search(progress: Progress, census: Census) -> None:
    progress.census = census
    lines = frame(progress, 116)
    assert "Found         1,812 nodes (1 static, 310 dns, 1,700 discv5), 90 more of other chains or forks" in lines
    assert "Peers         4 connected, 3 serving (1 static, 2 discv5)" in lines
    [dialled] = [line for line in frame(progress, 80) if line.startswith("Dialled")]
    assert dialled == "Dialled       52: 30 could not be reached, 12 had no room for another peer, 3 f…"
    progress.census = NAMED
    assert not [line for line in frame(progress, 80) if line.startswith(("Found", "Dialled"))]


def test_a_line_tells_of_the_search(progress: Progress, census: Census) -> None:
    progress.census = census
    line = plain_line(take_snapshot(progress, Estimate(), 1083.2))
    assert f"| found {found_text(census)} | dialled {dialled_text(census)} | peers {peers_text(4, census)} |" in line
    progress.census = NAMED
    assert "| peers 4 |" in plain_line(take_snapshot(progress, Estimate(), 1083.2))


def test_programs_get_everything(census: Census) -> None:
    fields = census_fields(census)
    assert fields["by_source"]["discv5"] == {"found": 1_700, "dialled": 40, "connected": 3, "serving": 2}
    assert fields["total"] == {"found": 1_812, "dialled": 52, "connected": 4, "serving": 3}
    assert fields["by_reason"] == {"unreachable": 30, "too_many_peers": 12, "other_chain": 3, "no_snap": 2, "lied": 1}
    assert fields["passed_over"] == 90


def test_a_fork_that_we_do_not_know_is_a_warning(progress: Progress) -> None:
    progress.warning = "most nodes expect a fork that this version does not know"
    assert frame(progress, 80)[-2] == f"Warning       {progress.warning}"
    assert plain_line(take_snapshot(progress, Estimate(), 1083.2)).endswith(f"| warning: {progress.warning}")
