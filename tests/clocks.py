"""Virtual time that does not pass in vain, for tests whose work is done in threads as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock


def jumping_clock(monkeypatch: pytest.MonkeyPatch, *, rate: float = 0.0, after: float = 0.0) -> MockClock:
    """A clock that jumps to the next deadline when all tasks have waited `after` real seconds and no thread works.

    trio's own autojump takes a task that waits for a thread for idle. `rate`: seconds that pass in each real second
    besides. For tests of one process only: what others do does not keep time from jumping.
    """
    clock = MockClock(rate, after)
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
                clock.autojump_threshold = after

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    return clock
