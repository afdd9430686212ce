"""What we know of a peer: byte budgets, pauses and scores. Time is an argument."""

from __future__ import annotations

import pytest

from ethsync.peers import track as constants
from ethsync.peers.rtt import CAP
from ethsync.peers.track import (
    CUT_SHORT_PAUSE,
    HALF_LIFE,
    HIGHEST_SCORE,
    LARGEST_BUDGET,
    LOWEST_SCORE,
    POINTS,
    SMALLEST_BUDGET,
    START_BUDGET,
    Outcome,
    RequestKind,
    Track,
    new_record,
)

ACCOUNTS, CODES = RequestKind.ACCOUNTS, RequestKind.CODES


# Byte budgets


def test_the_budget_doubles_while_full_answers_come_quickly() -> None:
    track = Track()
    budgets = []
    for _ in range(6):
        track.answered(track.budget, 0.1)
        budgets.append(track.budget)
    assert budgets[:2] == [2 * START_BUDGET, 4 * START_BUDGET]
    assert budgets[-1] == LARGEST_BUDGET


def test_small_answers_do_not_make_it_grow() -> None:
    # An answer far below the budget says nothing about larger ones.
    track = Track()
    track.answered(START_BUDGET // 2, 0.1)
    assert track.budget == START_BUDGET


@pytest.mark.parametrize(("seconds", "budget"), [(0.99, 2 * START_BUDGET), (1.0, START_BUDGET), (4.0, START_BUDGET)])
def test_only_quick_answers_make_it_grow(seconds: float, budget: int) -> None:
    track = Track()
    track.answered(START_BUDGET, seconds)
    assert track.budget == budget


def test_slow_answers_and_timeouts_halve_it_down_to_a_limit() -> None:
    slow, silent = Track(budget=LARGEST_BUDGET), Track(budget=LARGEST_BUDGET)
    slow.answered(LARGEST_BUDGET, 4.1)
    silent.timed_out()
    assert slow.budget == silent.budget == LARGEST_BUDGET // 2
    for _ in range(10):
        slow.answered(100, 5.0)
        silent.timed_out()
    assert slow.budget == silent.budget == SMALLEST_BUDGET


def test_the_rate_follows_the_answers() -> None:
    track = Track()
    track.answered(1_000_000, 0.5)
    assert track.rate == 2_000_000
    track.answered(1_000_000, 1.0)
    assert track.rate == pytest.approx(0.7 * 2_000_000 + 0.3 * 1_000_000)


def test_an_answer_in_no_time_has_a_finite_rate() -> None:
    track = Track()
    track.answered(10_000, 0.0)
    assert track.rate == 10_000_000


def test_a_small_answer_says_little_of_the_rate() -> None:
    track = Track()
    track.answered(100, 0.1)
    assert track.rate == 10 * constants.SMALL_ANSWER


def test_a_peer_that_does_not_answer_is_slower_than_one_that_gives_little() -> None:
    silent, stingy = Track(), Track()
    silent.timed_out()
    stingy.answered(500, 0.1)
    assert silent.rate == START_BUDGET / (CAP / 2) < stingy.rate


def test_answers_and_timeouts_teach_the_waiting_time() -> None:
    track = Track()
    track.timed_out()
    assert track.round_trip.timeout() == CAP
    track.answered(100, 0.1)
    assert track.round_trip.smoothed == 0.1


# Pauses


def test_empty_answers_are_followed_by_pauses_that_double_and_end() -> None:
    record = new_record()
    pauses = []
    for number in range(9):
        now = 1000.0 * number
        record.note(ACCOUNTS, Outcome.EMPTY, now)
        pauses.append(record.tracks[ACCOUNTS].paused_until - now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_pause_is_for_one_kind_of_request() -> None:
    record = new_record()
    record.note(ACCOUNTS, Outcome.EMPTY, 5.0)
    assert record.tracks[ACCOUNTS].paused_until == 6.0
    assert record.tracks[CODES].paused_until < 5.0


def test_something_useful_makes_the_next_pause_short_again() -> None:
    record = new_record()
    for outcome in (Outcome.EMPTY, Outcome.EMPTY, Outcome.SERVED, Outcome.EMPTY):
        record.note(ACCOUNTS, outcome, 0.0)
    assert record.tracks[ACCOUNTS].paused_until == constants.FIRST_PAUSE


def test_undecodable_answers_pause_too_and_are_counted_by_kind_until_a_good_one() -> None:
    record = new_record()
    record.note(ACCOUNTS, Outcome.MALFORMED, 0.0)
    for _ in range(2):
        record.note(CODES, Outcome.MALFORMED, 0.0)
    assert record.tracks[CODES].malformed_in_a_row == 2
    assert record.tracks[CODES].paused_until == 2.0
    record.note(CODES, Outcome.SERVED, 0.0)
    assert record.tracks[CODES].malformed_in_a_row == 0
    assert record.tracks[ACCOUNTS].malformed_in_a_row == 1


def test_answers_cut_short_count_once_between_two_pauses_until_a_good_one() -> None:
    # Given answers to three requests that were under way when a block was imported
    record = new_record()
    track = record.tracks[ACCOUNTS]
    for now in (10.0, 10.1, 10.2):
        record.note(ACCOUNTS, Outcome.CUT_SHORT, now)
    # Then that is one, and a pause
    assert track.cut_short_in_a_row == 1
    assert track.paused_until == 10 + CUT_SHORT_PAUSE
    # When what is asked after the pause is cut short too
    record.note(ACCOUNTS, Outcome.CUT_SHORT, track.paused_until)
    assert track.cut_short_in_a_row == 2
    assert not record.tracks[CODES].cut_short_in_a_row
    # Then a good answer takes it back
    record.note(ACCOUNTS, Outcome.SERVED, 20.0)
    assert track.cut_short_in_a_row == 0


def test_a_peer_is_promising_until_it_fails() -> None:
    record = new_record()
    assert record.promising
    record.note(RequestKind.HEADERS, Outcome.TIMEOUT, 0.0)  # which says nothing of state
    assert record.promising
    record.note(CODES, Outcome.SERVED, 0.0)
    assert record.promising
    record.tracks[CODES].in_flight = 1
    assert not record.promising
    record.tracks[CODES].in_flight = 0
    record.note(CODES, Outcome.EMPTY, 0.0)
    assert not record.promising


def test_an_answer_that_others_had_given_before_says_nothing() -> None:
    record = new_record()
    for outcome in (Outcome.MALFORMED, Outcome.TIMEOUT, Outcome.DUPLICATE):
        record.note(CODES, outcome, 0.0)
    assert record.tracks[CODES].malformed_in_a_row == 1
    assert record.last is Outcome.TIMEOUT


def test_a_timeout_counts_as_one_for_its_kind_only() -> None:
    record = new_record()
    record.note(ACCOUNTS, Outcome.TIMEOUT, 0.0)
    assert record.tracks[ACCOUNTS].budget == START_BUDGET // 2
    assert record.tracks[CODES].budget == START_BUDGET


# Scores


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_points_and_is_counted(outcome: Outcome) -> None:
    record = new_record()
    record.note(ACCOUNTS, outcome, 0.0)
    assert record.score(0.0) == POINTS[outcome]
    assert record.outcomes == {(ACCOUNTS, outcome): 1}


def test_only_useful_answers_are_worth_anything_and_nothing_is_worse_than_a_lie() -> None:
    assert [outcome for outcome in Outcome if POINTS[outcome] > 0] == [Outcome.SERVED]
    assert min(POINTS, key=lambda outcome: POINTS[outcome]) is Outcome.DISPROVED


def test_scores_lose_half_their_distance_from_neutral_in_every_half_life() -> None:
    good, bad = new_record(), new_record()
    good.note(ACCOUNTS, Outcome.SERVED, 100.0)
    bad.note(ACCOUNTS, Outcome.MALFORMED, 100.0)
    assert [good.score(100.0 + n * HALF_LIFE) for n in range(3)] == [1.0, 0.5, 0.25]
    assert [bad.score(100.0 + n * HALF_LIFE) for n in range(3)] == [-8.0, -4.0, -2.0]
    # Points are added to what is left of the old score.
    bad.note(ACCOUNTS, Outcome.SERVED, 100.0 + HALF_LIFE)
    assert bad.score(100.0 + HALF_LIFE) == -3.0


def test_scores_are_bounded() -> None:
    good, bad = new_record(), new_record()
    for _ in range(100):
        good.note(ACCOUNTS, Outcome.SERVED, 0.0)
        bad.note(ACCOUNTS, Outcome.MALFORMED, 0.0)
    assert (good.score(0.0), bad.score(0.0)) == (HIGHEST_SCORE, LOWEST_SCORE)


def test_all_kinds_in_flight_are_summed_up() -> None:
    record = new_record()
    record.tracks[ACCOUNTS].in_flight, record.tracks[CODES].in_flight = 2, 1
    assert record.in_flight == 3


def test_the_smallest_timeout_is_a_parameter() -> None:
    record = new_record(floor=0.25)
    record.tracks[ACCOUNTS].answered(10, 0.01)
    assert record.tracks[ACCOUNTS].round_trip.timeout() == 0.25
