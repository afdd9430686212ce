"""While a state is followed there is no display, only a line for each block: so it is said when nobody is connected."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING

import trio

from ethsync.logs import LogFormat, json_line, write_line
from ethsync.sync.progress import Phase
from ethsync.ui import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.sync.progress import Progress

INTERVAL = 5.0
"""Seconds between two looks."""

ALONE = 45.0
"""Seconds without a peer after which that is said: no node is dialled twice within 35, so an only peer that hung up is
back by then if nothing is wrong. Three or four blocks."""

AGAIN = 600.0
"""Seconds after which it is said again: whoever looks at the end of a log should find it there."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be said of peers. alone: seconds for which nobody was connected; trouble: why, if that is known."""

    peers: int
    alone: float
    trouble: str
    held: int | None
    """Number of the block that stays held; None while what is stored is not of one block."""

    @property
    def text(self) -> str:
        """The notice as a line."""
        if self.peers:
            connected = f"{numbers.several(self.peers, 'peer is', 'peers are')} connected again"
            return f"{connected} after {numbers.duration(self.alone)}: following goes on"
        why = f": {self.trouble}" if self.trouble else ""
        stays = "what is stored stays" if self.held is None else f"block {self.held} stays held"
        return (
            f"no peer has been connected for {numbers.duration(self.alone)}{why} | {stays}; nodes are dialled again and"
            " again, and following goes on by itself when one is connected"
        )


class PeerWatch:
    """Notices that nobody is connected, and that somebody is again. Pure: times are in seconds of one clock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said_at: float | None = None

    def look(self, progress: Progress, now: float) -> Notice | None:
        """What is to be said now, if anything. Before anything is followed the display says it."""
        if progress.followed is None:
            return None
        held = progress.held_number if progress.phase is Phase.DONE else None
        if progress.peers:
            since, said_at = self._since, self._said_at
            self._since = self._said_at = None
            return None if since is None or said_at is None else Notice(len(progress.peers), now - since, "", held)
        if self._since is None:
            self._since = now
        if now < (self._since + ALONE if self._said_at is None else self._said_at + AGAIN):
            return None
        self._said_at = now
        return Notice(0, now - self._since, numbers.printable(progress.trouble), held)


async def run_watch(
    progress: Progress,
    *,
    log_format: LogFormat = LogFormat.TEXT,
    stream: IO[str] | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> None:
    """Say it on `stream` (stderr unless given) until cancelled; `wall_clock` only stamps JSON lines.

    A stream that nobody can see any more ends nothing but this.
    """
    watch = PeerWatch()
    try:
        while True:
            notice = watch.look(progress, trio.current_time())
            if notice is not None:
                _write(sys.stderr if stream is None else stream, notice, log_format, wall_clock())
            await trio.sleep(INTERVAL)
    except OSError:
        return


def _write(stream: IO[str], notice: Notice, log_format: LogFormat, at: float) -> None:
    text = notice.text
    if log_format is LogFormat.JSON:
        level = "info" if notice.peers else "warning"
        text = json_line(at, level, "ethsync.follow", text, {"company": asdict(notice)})
    write_line(stream, text)
