"""The service that shows a sync's progress: a live view on a terminal, lines everywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

import trio

from ethsync.logs import LogFormat, json_line, write_line
from ethsync.sync.progress import Phase, Progress
from ethsync.ui.estimate import Window, take_sample
from ethsync.ui.lines import json_fields, plain_line
from ethsync.ui.snapshot import Snapshot, take_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethsync.ui.live import ErrorConsole

INTERVAL = 0.5
"""Seconds between two looks at the counters."""

LINE_SECONDS = 10.0
"""Seconds between two lines where there is no live view."""


class Screen(Protocol):
    """Where snapshots are shown."""

    async def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot. Raises OSError if nobody can see it any more."""

    def finish(self, snapshot: Snapshot) -> None:
        """Show the last snapshot, without waiting. Raises OSError like `show`."""


class LineScreen:
    """A line every ten seconds and at each change of phase."""

    def __init__(self, stream: IO[str], line: Callable[[Snapshot], str], every: float) -> None:
        self._stream = stream
        self._line = line
        self._every = every
        self._phase: Phase | None = None
        self._written_at = 0.0

    async def show(self, snapshot: Snapshot) -> None:
        """Write a line if it is time for one."""
        if snapshot.phase is not self._phase or snapshot.elapsed >= self._written_at + self._every:
            self._write(snapshot)

    def finish(self, snapshot: Snapshot) -> None:
        """Write a line if the sync came to its end unseen."""
        if snapshot.done and self._phase is not Phase.DONE:
            self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        self._phase = snapshot.phase
        self._written_at = snapshot.elapsed
        write_line(self._stream, self._line(snapshot))


async def run_display(
    progress: Progress,
    *,
    log_format: LogFormat = LogFormat.TEXT,
    console: ErrorConsole | None = None,
    interval: float = INTERVAL,
    line_seconds: float = LINE_SECONDS,
    wall_clock: Callable[[], float] = time.time,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Show `progress` until its phase is DONE or this is cancelled; `console` is stderr unless given.

    A terminal (that knows Unicode) gets the live view, anything else a line every `line_seconds` and at each change of
    phase; with LogFormat.JSON lines are JSON objects like those of the log. Seconds are trio's; `wall_clock` only
    stamps JSON lines.

    A display that nobody can see any more (closed pipe) ends by itself and leaves the sync alone.
    """
    window = Window()

    def look() -> Snapshot:
        now = trio.current_time()
        window.add(take_sample(progress, now))
        return take_snapshot(progress, window.estimate(), now)

    task_status.started()
    try:
        with _open_screen(console, log_format, line_seconds, wall_clock) as screen:
            try:
                while not (snapshot := look()).done:
                    await screen.show(snapshot)
                    await trio.sleep(interval)
            finally:
                screen.finish(look())
    except OSError:
        return


@contextmanager
def _open_screen(
    console: ErrorConsole | None, log_format: LogFormat, every: float, wall_clock: Callable[[], float]
) -> Iterator[Screen]:
    file = sys.stderr if console is None else console.file
    if log_format is LogFormat.JSON:
        yield LineScreen(file, lambda snapshot: _json(snapshot, wall_clock()), every)
    elif console is None and not file.isatty():
        yield LineScreen(file, plain_line, every)
    else:
        from ethsync.ui.live import open_live  # and with it rich: a twentieth of a second that only people need

        with open_live(console) as live:
            yield live or LineScreen(file, plain_line, every)


def _json(snapshot: Snapshot, at: float) -> str:
    return json_line(at, "info", "ethsync.progress", plain_line(snapshot), {"progress": json_fields(snapshot)})
