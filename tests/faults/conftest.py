"""One small synthetic state for most tests of this directory, and a clock that makes waiting short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from tests.clocks import jumping_clock
from tests.faults.states import opened

SPEC = SyntheticSpec(accounts=3_000, contracts=300, slots=9_000, codes=150, seed=3, code_bytes=300, headers=20)
"""Two replies of accounts, contracts with shared storage and codes, one with 3,000 slots."""

SMALL_SPEC = SyntheticSpec(accounts=500, contracts=40, slots=900, codes=25, seed=5, code_bytes=60, headers=20)
"""For peers that need many replies for little."""

CLOCK_RATE = 10
"""Seconds of the test's clock per real second: what takes time takes so much longer, as seen by timeouts."""

IDLE = 0.003
"""Real seconds without anything to do after which the next deadline comes at once: many times what a message takes on
the loopback interface. Little is lost should one take longer: the next deadline is the meter's, half a second away."""


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("served") / "state"
    create_synthetic(SPEC, path)
    with opened(path) as view:
        yield view


@pytest.fixture(scope="session")
def small_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("served") / "small"
    create_synthetic(SMALL_SPEC, path)
    with opened(path) as view:
        yield view


@pytest.fixture
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> trio.abc.Clock:
    """For syncs from servers in the same process: timeouts, pauses and patience cost nothing."""
    return jumping_clock(monkeypatch, rate=CLOCK_RATE, after=IDLE)
