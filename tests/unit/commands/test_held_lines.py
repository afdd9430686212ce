"""What `ethsync snap --follow` says of each block that it holds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ethsync.commands.snap import _say_held
from ethsync.logs import LogFormat
from ethsync.sync.progress import Followed, Progress
from ethsync.sync.snap import Verified

STEP = Followed(1234, 1236, 2_513, 7_020, 2, 1_100_000, 1.84)
VERIFIED = Verified(1234, "0x11", "0x22", 10, 20, 3, 4, 5, 6)


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Progress:
    monkeypatch.setattr("time.time", lambda: 1_000_027.0)
    return Progress(0.0, block_time=1_000_000, followed=STEP)


def test_a_line_says_the_block_what_changed_how_long_it_took_and_how_far_the_head_is(
    progress: Progress, capsys: pytest.CaptureFixture[str]
) -> None:
    _say_held(progress, LogFormat.TEXT, VERIFIED)
    assert capsys.readouterr().err == (
        "block 1234 held | 2,513 accounts and 7,020 slots changed, 2 new codes in 1.8 s, 1.10 MB"
        " | 2 blocks behind the head, 27.0 s old | state root 0x22\n"
    )


def test_of_the_first_block_there_is_no_step(progress: Progress, capsys: pytest.CaptureFixture[str]) -> None:
    progress.followed = Followed(1234, 1235)
    _say_held(progress, LogFormat.TEXT, VERIFIED)
    assert capsys.readouterr().err == (
        "block 1234 held | 1 block behind the head, 27.0 s old | state root 0x22\n"
    )  # fmt: skip


def test_programs_get_the_same_as_values(progress: Progress, capsys: pytest.CaptureFixture[str]) -> None:
    _say_held(progress, LogFormat.JSON, VERIFIED)
    said = json.loads(capsys.readouterr().err)
    assert said["message"].startswith("block 1234 held | 2,513 accounts")
    assert Followed(**said["held"]) == STEP


def test_a_head_that_went_back_is_not_ahead() -> None:
    assert replace(STEP, head=1230).behind == 0
