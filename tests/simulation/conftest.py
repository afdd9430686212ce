"""Virtual time that passes only when nothing is left to do, threads included."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ethsync.discovery import service


@pytest.fixture
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """A clock that jumps to the next deadline when all tasks wait and no thread works.

    trio's own autojump takes a task that waits for a thread for idle. Nor does work take any time here, so that
    discovery has no reason to pause. Tasks that could run at the same time do so in the same order each time.
    """
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", random.Random(1))
    clock = MockClock(autojump_threshold=0)
    run_sync = trio.to_thread.run_sync
    working = 0

    async def counted(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        nonlocal working
        working += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(function, *arguments, **options)
        finally:
            working -= 1
            if not working:
                clock.autojump_threshold = 0

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    monkeypatch.setattr(service, "BURST_SECONDS", math.inf)
    return clock
