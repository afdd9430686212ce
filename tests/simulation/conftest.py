"""Virtual time that passes only when nothing is left to do, threads included."""

from __future__ import annotations

import math
import random

import pytest
from trio.testing import MockClock

from ethsync.discovery import service
from tests.clocks import jumping_clock


@pytest.fixture
def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """A clock that jumps to the next deadline as soon as all tasks wait and no thread works.

    Work takes no time here, so that discovery has no reason to pause. Tasks that could run at the same time do so in
    the same order each time.
    """
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", random.Random(1))
    monkeypatch.setattr(service, "BURST_SECONDS", math.inf)
    return jumping_clock(monkeypatch)
