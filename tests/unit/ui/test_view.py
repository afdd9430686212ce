"""The live view, as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ethsync.counters import Counters
from ethsync.peers.drops import Drop
from ethsync.sync.progress import Phase, Progress
from ethsync.ui.estimate import Estimate, Span
from ethsync.ui.snapshot import take_snapshot
from ethsync.ui.view import Frame

ESTIMATE = Estimate(accounts=52_100.0, slots=131_000.0, codes=512.0, wire_bytes=12.8e6, left=Span(190.0, 290.0))


def frame(progress: Progress, width: int, estimate: Estimate = ESTIMATE) -> list[str]:
    """Return the lines of a frame, without colours and trailing blanks."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(file=stream, width=width, color_system=None, legacy_windows=False)
    console.print(Frame(take_snapshot(progress, estimate, 5983.2)))
    stream.seek(0)
    return [line.rstrip() for line in stream.read().splitlines()]


def test_eighty_columns(progress: Progress) -> None:
    assert frame(progress, 80) == [
        "",
        "ethsync  block 23,872,855  state root 0xd7f8974f…580f0544                1:23:03",
        "Phase 2 of 4: downloading",
        "",
        "                        share       items      rate    bytes  in flight  missing",
        "Accounts      ━━━────  43.2 %       177 M  52.1 k/s  8.70 GB          6        -",
        "Storage       ━━━────  43.2 %       600 M   131 k/s  46.0 GB          9    1,240",
        "Bytecodes     ━━━────  43.1 %     840,000     512/s  5.20 GB          2      311",
        "Verification  ───────       -           -         -        -          -        -",
        "",
        "Received      12.8 MB/s, 61.0 GB in all",
        "Written       60.0 GB, 3 batches waiting",
        "Time left     3 to 5 min, then verification",
        "Limited by    cpu",
        "Peers         4 connected",
        "              5.10 MB/s   3 in flight  127.0.0.1:30303  Geth/v1.17.2-stable/lin…",
        "              2.10 MB/s   2 in flight  [2001:db8::1]:30303  besu/v26.1.0",
        "              9.00 MB/s   0 in flight  127.0.0.1:30304  new",
        "",
    ]


def test_wide_terminals_show_numbers_and_root_in_full(progress: Progress) -> None:
    lines = frame(progress, 120)
    assert progress.state_root in lines[1]
    assert lines[4].startswith("              share of key space ")
    assert (
        lines[5] == f"Accounts      {'━' * 17 + '─' * 23}  43.2 %    177,000,000  52.1 k/s  8.70 GB          6        -"
    )


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 99, 100, 113, 200])
@pytest.mark.parametrize("phase", list(Phase))
def test_no_line_is_too_long_or_wraps(progress: Progress, width: int, phase: Phase) -> None:
    progress.phase = phase
    lines = frame(progress, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == {Phase.DONE: 17, Phase.HEALING: 20}.get(phase, 19)


def test_narrow_terminals_go_without_the_least_important(progress: Progress) -> None:
    assert frame(progress, 60)[4:7] == [
        "                        share       items      rate  missing",
        "Accounts      ━━━────  43.2 %       177 M  52.1 k/s        -",
        "Storage       ━━━────  43.2 %       600 M   131 k/s    1,240",
    ]


def test_healing_is_shown_once_there_is_some(progress: Progress) -> None:
    progress.phase, progress.healed = Phase.HEALING, 0.25
    progress.healing = Counters(items=9_000, bytes=4_500_000, in_flight=3)
    lines = frame(progress, 80, Estimate(nodes=850.0))
    assert lines[2] == "Phase 3 of 4: healing"
    assert lines[8] == "Healing       ━──────  25.0 %       9,000     850/s  4.50 MB          3        -"
    assert lines[9] == "Verification  ───────       -           -         -        -          -        -"


def test_headers_have_a_row_where_they_are_wanted(progress: Progress) -> None:
    progress.headers = Counters(items=1_200_000, bytes=750_000_000, owed=22_672_856, in_flight=5)
    lines = frame(progress, 80, Estimate(headers=41_200.0))
    assert lines[8] == "Headers       ───────   5.0 %   1,200,000  41.2 k/s   750 MB          5   22.7 M"


def test_bars_are_full_only_at_the_end(progress: Progress) -> None:
    progress.key_space = progress.verified = 1.0
    progress.phase = Phase.VERIFYING
    assert all("━━━━━━─  99.9 %" in line for line in frame(progress, 80)[5:9])
    progress.phase = Phase.DONE
    done = frame(progress, 80, Estimate())
    assert done[2] == "Done"
    assert all("━━━━━━━   100 %" in line for line in done[5:9])
    assert not [line for line in done if line.startswith(("Time left", "Limited by"))]


def test_what_was_kept_and_what_is_wrong_are_shown(progress: Progress) -> None:
    progress.accounts.kept_items = 1_234_567
    progress.trouble = "no peer serves this state root any more [bold]"
    lines = frame(progress, 80)
    assert "Kept          1,234,567 accounts, slots and codes from earlier runs" in lines
    assert lines[-2] == "Trouble       no peer serves this state root any more [bold]"


def test_who_was_dropped_and_why_is_shown(progress: Progress) -> None:
    progress.dropped = [Drop("Geth/v1 at 192.0.2.1:30303", "3 undecodable answers in a row", 1)]
    assert frame(progress, 100)[-2] == (
        "Dropped       Geth/v1 at 192.0.2.1:30303 was dropped: 3 undecodable answers in a row"
    )
    progress.dropped.append(Drop("besu", "it lied", 2))
    assert frame(progress, 80)[-2] == "Dropped       2 peers, the last: besu was dropped: it lied"


def test_names_of_peers_are_neither_markup_nor_commands(progress: Progress) -> None:
    progress.peers[1].name = "[red]evil\x1b[2J[/]"
    assert "              5.10 MB/s   3 in flight  127.0.0.1:30303  [red]evil?[2J[/]" in frame(progress, 80)


def test_a_sync_that_knows_nothing_yet_can_be_shown() -> None:
    lines = frame(Progress(started=5983.2), 80, Estimate())
    assert lines[1] == "ethsync  block unknown                                                   0:00:00"
    assert "Peers         0" in lines
