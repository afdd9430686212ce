"""How long a part of the download took: from its first work to when it ran out of it for good."""

from __future__ import annotations

from ethsync.counters import Counters


def test_time_runs_from_the_first_work_until_it_runs_out() -> None:
    counters = Counters()
    counters.keep_time(1.0, done=False)
    assert (counters.started, counters.ended) == (None, None)
    counters.in_flight = 2
    counters.keep_time(2.0, done=False)
    counters.keep_time(3.0, done=False)
    assert (counters.started, counters.ended) == (2.0, None)
    counters.in_flight = 0
    counters.keep_time(4.0, done=True)
    # Then nothing is added while others work on.
    counters.keep_time(9.0, done=True)
    assert (counters.started, counters.ended) == (2.0, 4.0)


def test_time_runs_on_if_there_is_more_work() -> None:
    counters = Counters(started=2.0, ended=4.0)
    counters.keep_time(5.0, done=False)
    running = counters.ended
    assert running is None
    counters.keep_time(6.0, done=True)
    assert (counters.started, counters.ended) == (2.0, 6.0)


def test_where_nothing_is_to_be_done_no_time_passes() -> None:
    counters = Counters()
    counters.keep_time(1.0, done=True)
    assert (counters.started, counters.ended) == (None, None)
