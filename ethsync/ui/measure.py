"""Measuring a running process from inside: how late the event loop is, its longest steps, its peak of memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING

import trio

from ethsync.ui.machine import read_anonymous

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 0.001
"""Lag is weighed by time in this grain: at each millisecond, how long would an event that arrives now have to wait?"""

LONGEST_KEPT = 5
"""Longest steps that are remembered with the names of their tasks."""

SAMPLE_SECONDS = 0.25
"""Seconds between two looks at the memory; one look takes some 50 µs."""

_SUB_BITS = 3  # buckets per power of two, as a power of two: eight
_BUCKETS = 40 << _SUB_BITS  # up to 2^42 µs, two months


class Histogram:
    """Counts of durations in buckets an eighth of a power of two microseconds wide: fixed size, any range."""

    __slots__ = ("_counts", "maximum", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.total = 0
        self.maximum = 0.0
        """The longest duration, in seconds, exact."""

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration."""
        micros = int(seconds * 1e6)
        if micros < 16:
            index = micros if micros > 0 else 0
        else:
            shift = micros.bit_length() - 1 - _SUB_BITS
            index = (shift << _SUB_BITS) + (micros >> shift)
        self._counts[index if index < _BUCKETS else -1] += times
        self.total += times
        if seconds > self.maximum:
            self.maximum = seconds

    def quantile(self, share: float) -> float | None:
        """Return the seconds that `share` (0 to 1) of the durations do not exceed, at most an eighth too high.

        None if nothing was counted.
        """
        if not self.total:
            return None
        wanted = share * self.total
        seen = 0
        for index, times in enumerate(self._counts):
            seen += times
            if times and seen >= wanted:
                return min(_upper_edge(index), self.maximum) if index < _BUCKETS - 1 else self.maximum
        return self.maximum


def _upper_edge(index: int) -> float:
    """Return where a bucket ends, in seconds."""
    if index < 16:
        return (index + 1) / 1e6
    shift = (index >> _SUB_BITS) - 1
    return ((index - (shift << _SUB_BITS) + 1) << shift) / 1e6


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One uninterrupted stretch of a task on the event loop."""

    seconds: float
    task: str


class LoopLag(trio.abc.Instrument):
    """Instrument for `trio.run`: how late events are seen, and which tasks kept the loop to themselves longest.

    `lag` answers: of all moments of the run, how long does an event that arrives then wait until trio looks at sockets
    and timers again? Idle moments count as no lag. All hooks together cost about a microsecond per turn of the loop.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.lag = Histogram()
        self._clock = clock
        self._longest: list[Step] = []
        self._short = 0.0
        self.before_run()

    def before_run(self) -> None:
        """Begin to measure."""
        self._stretch = self._until = self._probe = self._step = self._clock()

    def before_io_wait(self, timeout: float) -> None:
        """Trio looks at sockets now: the stretch in which it could not is over."""
        now = self._clock()
        if self._probe <= now:
            self._late_until(now)
        # With tasks ready to run the timeout is 0: what this look itself takes belongs to the next stretch.
        self._until = now + timeout

    def after_io_wait(self, timeout: float) -> None:
        """Trio has looked; waking late from an idle wait (a thread held the interpreter lock) is lag as well."""
        now = self._clock()
        self._stretch = now if now < self._until else self._until
        if self._probe < self._stretch:
            idle = int((self._stretch - self._probe) / PROBE_SECONDS) + 1
            self.lag.add(0.0, idle)
            self._probe += idle * PROBE_SECONDS

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task gets the loop."""
        self._step = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task gives the loop back."""
        seconds = self._clock() - self._step
        if seconds > self._short:
            self._remember(Step(seconds, task.name))

    def longest(self) -> list[Step]:
        """Return the longest steps, the longest first."""
        return sorted(self._longest, reverse=True)

    def _late_until(self, now: float) -> None:
        self.lag.maximum = max(self.lag.maximum, now - self._stretch)
        while self._probe <= now:
            self.lag.add(now - self._probe)
            self._probe += PROBE_SECONDS

    def _remember(self, step: Step) -> None:
        if len(self._longest) < LONGEST_KEPT:
            heappush(self._longest, step)
        else:
            heappushpop(self._longest, step)
        if len(self._longest) == LONGEST_KEPT:
            self._short = self._longest[0].seconds


class PeakMemory:
    """The most anonymous memory seen, in bytes; None on systems that do not tell."""

    def __init__(self, read: Callable[[], int | None] = read_anonymous) -> None:
        self._read = read
        self.peak: int | None = None

    def look(self) -> None:
        """Look once."""
        now = self._read()
        if now is not None:
            self.peak = max(now, self.peak or 0)


async def run_memory_sampler(
    memory: PeakMemory,
    *,
    interval: float = SAMPLE_SECONDS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Look at the memory every `interval` seconds until cancelled, and once more then.

    Linux keeps the peak of all resident memory but not of its anonymous part, hence the looking.
    """
    memory.look()
    task_status.started()
    try:
        while True:
            await trio.sleep(interval)
            memory.look()
    finally:
        memory.look()
