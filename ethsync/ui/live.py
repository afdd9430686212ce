"""The live view of a sync on a terminal, by way of rich."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from rich.console import Console
from rich.live import Live

from ethsync.ui.view import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.ui.snapshot import Snapshot


class ErrorConsole(Console):
    """A console that says when its reader has gone instead of leaving the program."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError on, once; rich itself would raise SystemExit."""
        self.quiet = True
        raise


class LiveScreen:
    """A view on a terminal that stays in its place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def show(self, snapshot: Snapshot) -> None:
        """Draw in a thread: laying out takes milliseconds, and a slow terminal must not hold up the sync."""
        await trio.to_thread.run_sync(partial(self._live.update, Frame(snapshot), refresh=True))

    def finish(self, snapshot: Snapshot) -> None:
        """Leave this as the frame that rich draws when the view closes."""
        self._live.update(Frame(snapshot))


@contextmanager
def open_live(console: ErrorConsole | None) -> Iterator[LiveScreen | None]:
    """The view on a console, stderr unless given; None if that is no terminal, or one that cannot show it."""
    console = console or ErrorConsole(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal or console.options.ascii_only:
        yield None
        return
    with Live(console=console, auto_refresh=False) as live:
        yield LiveScreen(live)
