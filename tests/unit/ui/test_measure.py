"""Loop lag, the longest steps, and the peak of memory."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ethsync.ui.measure import LONGEST_KEPT, Histogram, LoopLag, PeakMemory, run_memory_sampler


class Clock:
    """A clock that is set by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 10_000), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_an_eighth_too_high_at_most(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    ordered = sorted(durations)
    exact = next(d for rank, d in enumerate(ordered, 1) if rank >= share * len(ordered))
    found = histogram.quantile(share)
    assert found is not None
    assert exact <= found * (1 + 1e-9)
    assert found <= exact * 1.125 + 1e-6
    assert histogram.maximum == ordered[-1]
    assert histogram.total == len(durations)


def test_an_empty_histogram_knows_nothing() -> None:
    assert Histogram().quantile(0.99) is None


def test_a_histogram_is_of_fixed_size() -> None:
    histogram = Histogram()
    histogram.add(1e9)
    histogram.add(-1.0)
    assert histogram.quantile(1) == 1e9


def turn(lag: LoopLag, clock: Clock, busy: float, idle: float, planned: float | None = None) -> None:
    """One turn of the loop: tasks run for `busy`, then it waits for `idle` of a timeout of `planned` seconds."""
    clock.now += busy
    timeout = idle if planned is None else planned
    lag.before_io_wait(timeout)
    clock.now += idle
    lag.after_io_wait(timeout)


def test_lag_is_weighed_by_time() -> None:
    """Given one second with a single stall of 20 ms, then 1 % of all moments had to wait longer than 10 ms."""
    clock = Clock()
    lag = LoopLag(clock)
    turn(lag, clock, busy=0.0, idle=0.49)
    turn(lag, clock, busy=0.0200001, idle=0.49)
    assert lag.lag.total == pytest.approx(1000, abs=2)
    assert lag.lag.quantile(0.5) == pytest.approx(0, abs=2e-6)
    assert lag.lag.quantile(0.985) == pytest.approx(0.005, rel=0.3)
    assert lag.lag.quantile(0.995) == pytest.approx(0.015, rel=0.15)
    assert lag.lag.maximum == pytest.approx(0.02, rel=1e-3)


def test_many_short_turns_are_no_lag() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    for _ in range(20_000):
        turn(lag, clock, busy=50e-6, idle=0.0)
    found = lag.lag.quantile(1)
    assert found is not None
    assert found <= 60e-6


def test_waking_late_from_an_idle_wait_is_lag() -> None:
    """Given a wait that was to end after 5 ms and ended after 25, because the interpreter was held elsewhere."""
    clock = Clock()
    lag = LoopLag(clock)
    turn(lag, clock, busy=0.0, idle=0.025, planned=0.005)
    turn(lag, clock, busy=0.0, idle=0.0)
    assert lag.lag.maximum == pytest.approx(0.02, rel=1e-3)


def test_time_before_the_run_does_not_count() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    clock.now += 60
    lag.before_run()
    turn(lag, clock, busy=0.001, idle=0.0)
    assert lag.lag.maximum < 0.01


def test_the_longest_steps_are_remembered_with_their_tasks() -> None:
    clock = Clock()
    lag = LoopLag(clock)
    for millis in (3, 1, 9, 2, 7, 8, 4, 5, 6):
        task: Any = SimpleNamespace(name=f"task {millis}")
        lag.before_task_step(task)
        clock.now += millis / 1000
        lag.after_task_step(task)
    assert [step.task for step in lag.longest()] == [f"task {millis}" for millis in (9, 8, 7, 6, 5)]
    assert len(lag.longest()) == LONGEST_KEPT
    assert lag.longest()[0].seconds == pytest.approx(0.009)


def test_trio_calls_it() -> None:
    """Given a task that keeps a real loop for 50 ms (of the clock in use), then lag and step show it."""
    clock = Clock()
    lag = LoopLag(clock)

    async def hold() -> None:
        await trio.lowlevel.checkpoint()
        clock.now += 0.05
        await trio.lowlevel.checkpoint()

    trio.run(hold, instruments=[lag])
    assert lag.lag.maximum == pytest.approx(0.05)
    assert lag.longest()[0].seconds == pytest.approx(0.05)
    assert lag.longest()[0].task.endswith("hold")


async def test_the_peak_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    """Given memory that rises and falls between looks, then the highest look counts, the last one included."""
    looks: Iterator[int] = iter([100, 700, 300, 900])
    memory = PeakMemory(lambda: next(looks))
    async with trio.open_nursery() as nursery:
        await nursery.start(run_memory_sampler, memory)
        assert memory.peak == 100
        await trio.sleep(0.6)
        assert memory.peak == 700
        nursery.cancel_scope.cancel()
    assert memory.peak == 900


def test_a_system_that_does_not_tell_has_no_peak() -> None:
    memory = PeakMemory(lambda: None)
    memory.look()
    assert memory.peak is None
