"""How long to wait for an answer: the figures of RFC 6298, and peers that become slow."""

from __future__ import annotations

import pytest

from ethsync.peers.rtt import CAP, FLOOR, GRANULARITY, RoundTrip


def test_the_first_answer_sets_both_figures() -> None:
    # RFC 6298, 2.2: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 · RTTVAR
    track = RoundTrip(floor=0.0)
    track.observe(1.0)
    assert (track.smoothed, track.deviation, track.timeout()) == (1.0, 0.5, 3.0)


def test_later_answers_move_them_by_an_eighth_and_a_quarter() -> None:
    # RFC 6298, 2.3: the deviation is updated first, with the old smoothed value.
    track = RoundTrip(floor=0.0)
    track.observe(1.0)
    track.observe(2.0)
    assert track.smoothed == pytest.approx(7 / 8 * 1.0 + 1 / 8 * 2.0)
    assert track.deviation == pytest.approx(3 / 4 * 0.5 + 1 / 4 * abs(1.0 - 2.0))
    assert track.timeout() == pytest.approx(1.125 + 4 * 0.625)


def test_a_peer_that_always_takes_the_same_time_is_waited_for_a_little_longer_than_that() -> None:
    # RFC 6298, 2.3: RTO = SRTT + max(G, 4 · RTTVAR)
    track = RoundTrip(floor=0.0)
    for _ in range(1000):
        track.observe(0.5)
    assert track.timeout() == pytest.approx(0.5 + GRANULARITY)


def test_the_timeout_has_a_floor_and_a_cap() -> None:
    quick, slow = RoundTrip(), RoundTrip()
    quick.observe(0.01)
    slow.observe(100.0)
    assert (quick.timeout(), slow.timeout()) == (FLOOR, CAP)


def test_each_timeout_doubles_the_next_wait_up_to_the_cap() -> None:
    track = RoundTrip()
    track.observe(0.1)
    waits = []
    for _ in range(8):
        waits.append(track.timeout())
        track.timed_out()
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


def test_an_answer_ends_the_doubling() -> None:
    track = RoundTrip()
    track.observe(0.1)
    track.timed_out()
    track.observe(0.1)
    assert track.timeout() == FLOOR


def test_an_unknown_peer_gets_time_and_more_after_it_was_silent() -> None:
    track = RoundTrip()
    assert track.timeout() == CAP / 2
    track.timed_out()
    assert track.timeout() == CAP


@pytest.mark.parametrize(("latency", "settled"), [(0.05, 0.5), (0.5, 2.0)])
def test_a_steady_peer_is_soon_waited_for_little_longer_than_it_takes(latency: float, settled: float) -> None:
    track = RoundTrip(floor=0.0)
    for _ in range(10):
        track.observe(latency)
    assert latency < track.timeout() < settled


@pytest.mark.parametrize(("factor", "floor"), [(2, 0.0), (20, 0.0), (200, FLOOR)])
def test_a_jump_in_latency_is_survived(factor: int, floor: float) -> None:
    # Given a peer that answered in 50 ms for long
    track = RoundTrip(floor)
    for _ in range(100):
        track.observe(0.05)
    # When it suddenly takes many times as long, and a reply that comes too late teaches nothing
    answered = []
    for _ in range(100):
        if track.timeout() > 0.05 * factor:
            track.observe(0.05 * factor)
            answered.append(True)
        else:
            track.timed_out()
            answered.append(False)
    # Then only a few requests are lost on the way, and none later on.
    assert answered.count(False) <= 12
    assert all(answered[30:])
