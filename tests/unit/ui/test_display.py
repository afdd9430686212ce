"""The service that shows progress: on a terminal, in a pipe, as JSON."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from ethsync.logs import LogFormat
from ethsync.sync.progress import Phase, Progress
from ethsync.ui.display import run_display
from ethsync.ui.live import ErrorConsole

NOVEMBER_2023 = 1_700_000_000.25


def pipe() -> tuple[ErrorConsole, io.StringIO]:
    stream = io.StringIO()
    return ErrorConsole(file=stream, force_terminal=False, width=80), stream


@asynccontextmanager
async def displayed(
    progress: Progress, console: ErrorConsole, log_format: LogFormat = LogFormat.TEXT
) -> AsyncIterator[trio.Nursery]:
    progress.started = trio.current_time()
    async with trio.open_nursery() as nursery:
        show = partial(
            run_display, progress, console=console, log_format=log_format, wall_clock=lambda: 1_700_000_000.25
        )
        await nursery.start(show)
        yield nursery


async def test_a_pipe_gets_a_line_every_ten_seconds_and_at_each_phase(
    progress: Progress, autojump_clock: trio.testing.MockClock
) -> None:
    console, stream = pipe()
    progress.phase = Phase.CONNECTING
    async with displayed(progress, console):
        await trio.sleep(2.2)
        progress.phase = Phase.DOWNLOADING
        await trio.sleep(25)
        progress.phase = Phase.VERIFYING
        await trio.sleep(3)
        progress.phase = Phase.DONE
    starts = [line.partition(" |")[0] for line in stream.getvalue().splitlines()]
    assert starts == [
        "0:00:00 phase 1 of 4: connecting",
        "0:00:02 phase 2 of 4: downloading",
        "0:00:12 phase 2 of 4: downloading",
        "0:00:22 phase 2 of 4: downloading",
        "0:00:27 phase 4 of 4: verifying",
        "0:00:30 done",
    ]


async def test_an_interrupted_display_claims_nothing(
    progress: Progress, autojump_clock: trio.testing.MockClock
) -> None:
    console, stream = pipe()
    async with displayed(progress, console) as nursery:
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert len(stream.getvalue().splitlines()) == 1
    assert "100 %" not in stream.getvalue()


async def test_the_end_is_shown_even_if_cancelled_before_the_next_look(
    progress: Progress, autojump_clock: trio.testing.MockClock
) -> None:
    console, stream = pipe()
    async with displayed(progress, console) as nursery:
        await trio.sleep(2.1)
        progress.phase = Phase.DONE
        nursery.cancel_scope.cancel()
    assert stream.getvalue().splitlines()[-1].startswith("0:00:02 done |")


async def test_json_lines(progress: Progress, autojump_clock: trio.testing.MockClock) -> None:
    """Given JSON is asked for, then even a terminal gets lines, one object each."""
    stream = io.StringIO()
    console = ErrorConsole(file=stream, force_terminal=True)
    async with displayed(progress, console, LogFormat.JSON):
        for second in range(10):
            progress.accounts.items += 1000
            progress.key_space = 0.4 + second / 100
            await trio.sleep(1)
        progress.phase = Phase.DONE
    first, *_, last = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {key: first[key] for key in ("time", "level", "logger")} == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "ethsync.progress",
    }
    assert first["message"].startswith("0:00:00 phase 2 of 4: downloading")
    assert first["progress"]["left_s"] is None
    assert last["progress"]["verified"] is True


async def test_rates_and_range_come_from_what_was_seen(
    progress: Progress, autojump_clock: trio.testing.MockClock
) -> None:
    console, stream = pipe()
    progress.key_space = progress.accounts.items = progress.storage.owed = progress.codes.owed = 0
    async with displayed(progress, console) as nursery:
        for until in range(11):
            await trio.sleep_until(progress.started + until + 0.25)
            progress.accounts.items += 1000
            progress.key_space += 0.01
        nursery.cancel_scope.cancel()
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("0:00:10 ")
    assert "(1.00 k/s)" in last
    assert "time left 80 s to 2 min, then verification" in last


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


async def test_a_closed_pipe_ends_the_display_and_nothing_else(
    progress: Progress, autojump_clock: trio.testing.MockClock
) -> None:
    async with displayed(progress, ErrorConsole(file=_Closed(), force_terminal=False)) as nursery:
        await trio.sleep(1)
        assert not nursery.child_tasks


async def _eventually(condition: Callable[[], bool]) -> None:
    """Wait, without a clock, for what a thread is about to do."""
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()


async def test_a_terminal_gets_a_view_that_stays_in_place(progress: Progress) -> None:
    stream = io.StringIO()
    console = ErrorConsole(file=stream, force_terminal=True, width=80, height=30, legacy_windows=False)
    async with displayed(progress, console) as nursery:
        await _eventually(lambda: "Phase 2 of 4" in stream.getvalue())
        progress.phase = Phase.DONE
        nursery.cancel_scope.cancel()
    shown = stream.getvalue()
    assert shown.count("Accounts") == 2
    assert "\x1b[2J" not in shown  # nothing is ever cleared, hence no flicker
    assert "Done" in shown[shown.rindex("ethsync") :]
    assert shown.index("\x1b[?25l") < shown.index("\x1b[?25h")  # the cursor is hidden, and comes back


async def test_a_view_on_a_terminal_that_goes_away_ends_nothing_else(progress: Progress) -> None:
    console = ErrorConsole(file=_Closed(), force_terminal=True, width=80)
    async with displayed(progress, console) as nursery:
        await _eventually(lambda: not nursery.child_tasks)


@pytest.mark.parametrize("module", ["ethsync.ui.lines", "ethsync.ui.report", "ethsync.ui.measure", "ethsync.logs"])
def test_imports_are_light(module: str) -> None:
    """Given a command that shows nothing, then neither rich nor the kernels are loaded for it."""
    check = f"import sys, {module}; print([m for m in ('rich', 'numba', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"
