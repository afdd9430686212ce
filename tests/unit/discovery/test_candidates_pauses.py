"""The dial pool: how long a node is left alone, after what, and while our own network is down."""

from __future__ import annotations

import pytest

from ethsync.discovery.candidate import BACKOFF, Quality, Reason, Source, State, Usefulness
from ethsync.discovery.candidates import (
    JITTER,
    LONGEST_FIXED,
    OUTAGE,
    OUTAGE_DIALS,
    REDIAL,
)
from tests.unit.discovery.crowds import fail, key, node, offer_all, pool, scattered

USELESS = Usefulness(asked=3, served_bytes=0)
USEFUL = Usefulness(asked=3, served_bytes=1000, score=2.5)


# Pauses


@pytest.mark.parametrize("reason", Reason)
def test_pauses_double_from_the_first_to_the_longest_give_or_take_a_quarter(reason: Reason) -> None:
    candidates = pool()
    offer_all(candidates, scattered(3600))  # so many that even those out of reach need not be dialled more often
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    first, longest, _ = BACKOFF[reason]
    now = 0.0
    for failures in range(15):
        pause = fail(candidates, 1, reason, now)
        expected = min(first * 2**failures, longest)
        assert max(REDIAL, (1 - JITTER) * expected) <= pause <= (1 + JITTER) * expected
        now += pause


def test_where_few_nodes_are_known_one_that_is_out_of_reach_does_not_wait_long() -> None:
    """Given 200 nodes of which one is gone, it is tried every 200 s at last; all together one a second."""
    candidates = pool()
    offer_all(candidates, scattered(199))
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    now = 0.0
    for expected in (60.0, 120.0, 200.0, 200.0, 200.0):
        pause = fail(candidates, 1, Reason.UNREACHABLE, now)
        assert (1 - JITTER) * expected <= pause <= (1 + JITTER) * expected
        now += pause
    # Who refuses us is left alone as long as in a crowd.
    assert fail(candidates, 1, Reason.TOO_MANY_PEERS, now) > (1 - JITTER) * 1800.0


def test_a_node_that_gave_something_and_is_gone_is_tried_six_times_as_soon_as_may_be() -> None:
    """So that one that comes back after a restart, or comes and goes, is a peer again within a minute."""
    candidates = pool()
    offer_all(candidates, scattered(3600))
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.connected(key(1), "Geth/v1", 0.0)
    candidates.ended(key(1), USEFUL, 1.0)
    now = 100.0
    for expected in (*[REDIAL] * 5, 60.0, 60.0, 120.0, 240.0):
        candidates.dialled(key("honest 0"), now)
        candidates.failed(key("honest 0"), Reason.TOO_MANY_PEERS, now)  # others can be reached
        pause = fail(candidates, 1, Reason.UNREACHABLE, now)
        assert max(REDIAL, (1 - JITTER) * expected) <= pause <= (1 + JITTER) * expected
        now += pause


def test_pauses_differ_by_chance() -> None:
    candidates = pool()
    offer_all(candidates, scattered(50))
    assert len({fail(candidates, f"honest {n}", Reason.UNREACHABLE, 0.0) for n in range(50)}) == 50


def test_who_cannot_be_of_use_waits_longer_than_who_has_no_room_or_does_not_answer() -> None:
    soon = (Reason.TOO_MANY_PEERS, Reason.UNREACHABLE, Reason.HUNG_UP)
    later = (Reason.OTHER_CHAIN, Reason.NO_SNAP, Reason.UNWANTED, Reason.SERVED_NOTHING, Reason.LIED)
    assert max(BACKOFF[each].first for each in soon) < min(BACKOFF[each].first for each in later)
    assert max(BACKOFF[each].longest for each in soon) < min(BACKOFF[each].longest for each in later)


@pytest.mark.parametrize("reason", Reason)
def test_a_node_that_the_user_named_is_dialled_again_within_a_minute(reason: Reason) -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.STATIC, 0.0)
    now = 0.0
    for _ in range(10):
        pause = fail(candidates, 1, reason, now)
        assert REDIAL <= pause <= (1 + JITTER) * LONGEST_FIXED < 60.0
        now += pause


@pytest.mark.parametrize(("ip", "first"), [("127.0.0.1", 1.0), ("10.0.0.1", 1.0), ("20.1.1.1", REDIAL)])
def test_a_named_node_nearby_is_dialled_again_after_a_second_then_less_and_less_often(ip: str, first: float) -> None:
    candidates = pool()
    candidates.offer(node(1, ip), Source.STATIC, 0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        pauses.append(fail(candidates, 1, Reason.UNREACHABLE, now))
        now += pauses[-1]
    for n, pause in enumerate(pauses):
        expected = min(first * 2**n, LONGEST_FIXED)
        assert max(first, (1 - JITTER) * expected) <= pause <= (1 + JITTER) * expected
    # A node there that nobody named has no such privilege.
    others = pool()
    others.offer(node(1, ip), Source.DISCV5, 0.0)
    assert fail(others, 1, Reason.UNREACHABLE, 0.0) >= REDIAL


@pytest.mark.parametrize("source", [Source.DISCV5, Source.STATIC])
def test_no_node_is_dialled_twice_within_35_seconds_even_if_it_was_useful(source: Source) -> None:
    assert REDIAL >= 35.0
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), source, 0.0)
    candidates.dialled(key(1), 100.0)
    candidates.connected(key(1), "Geth/v1", 100.5)
    candidates.ended(key(1), USEFUL, 101.0)
    assert candidates.next(100.0 + REDIAL - 0.001) is None
    assert candidates.next(101.0 + (1 + JITTER) * REDIAL) is not None


def test_nor_if_it_was_dropped_in_between_and_offered_again() -> None:
    candidates = pool(capacity=1)
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    fail(candidates, 1, Reason.UNREACHABLE, 10.0)
    candidates.offer(node(2, "20.2.2.2"), Source.DISCV5, 11.0)
    assert candidates.get(key(1)) is None
    candidates.dialled(key(2), 11.0)
    candidates.failed(key(2), Reason.UNREACHABLE, 11.0)
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 12.0)
    assert candidates.next(10.0 + REDIAL - 0.001) is None
    found = candidates.next(10.0 + REDIAL)
    assert found is not None
    assert found.public_key == key(1)


def test_a_deferred_candidate_is_left_alone_without_blame() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.defer(key(1), 20.0)
    assert candidates.next(19.9) is None
    found = candidates.next(20.0)
    assert found is not None
    assert found.failures == 0


def test_nodes_in_use_are_not_named_and_come_back_later() -> None:
    candidates = pool()
    offer_all(candidates, scattered(3))
    in_use = {key("honest 0"), key("honest 2")}
    found = candidates.next(0.0, in_use)
    assert found is not None
    assert found.public_key == key("honest 1")
    candidates.dialled(key("honest 1"), 0.0)
    assert candidates.next(0.0, in_use) is None
    assert candidates.next(REDIAL) is not None


def test_it_can_be_told_when_to_ask_again() -> None:
    candidates = pool()
    assert candidates.wake_at() == float("inf")
    candidates.offer(node(1, "192.168.1.1"), Source.DISCV5, 0.0)
    pause = fail(candidates, 1, Reason.UNREACHABLE, 0.0)
    assert candidates.wake_at() == pause
    assert candidates.next(candidates.wake_at()) is not None


# Outages


def test_while_nobody_at_all_can_be_reached_nobody_is_blamed_and_all_are_tried_again_as_soon_as_may_be() -> None:
    # Given a node that was useful, and a network that is down for more than a minute
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.connected(key(1), "Geth/v1", 0.0)
    candidates.ended(key(1), USEFUL, 1.0)
    (candidate,) = candidates
    now = 1.0 + OUTAGE + 1.0
    # When it is tried for an hour
    while now < 3600.0:
        assert fail(candidates, 1, Reason.UNREACHABLE, now) == REDIAL
        now += REDIAL
    # Then it is not judged by that
    assert (candidate.failures, candidate.quality) == (0, Quality.GOOD)
    # And when others answer again, it is.
    candidates.offer(node(2, "20.2.1.1"), Source.DISCV5, now)
    fail(candidates, 2, Reason.TOO_MANY_PEERS, now)
    assert fail(candidates, 1, Reason.UNREACHABLE, now) > REDIAL
    assert candidate.failures == 1


def test_before_the_first_answer_of_anybody_an_outage_cannot_be_told_from_dead_nodes() -> None:
    candidates = pool()
    offer_all(candidates, scattered(10))
    for n in range(10):
        assert fail(candidates, f"honest {n}", Reason.UNREACHABLE, 1000.0) > REDIAL


def test_while_the_network_is_down_four_dials_at_a_time_find_out_when_it_is_back() -> None:
    candidates = pool()
    offer_all(candidates, scattered(40))
    candidates.dialled(key("honest 0"), 0.0)
    candidates.failed(key("honest 0"), Reason.TOO_MANY_PEERS, 0.0)
    down = OUTAGE + 1
    under_way = []
    while (candidate := candidates.next(down)) is not None:
        candidates.dialled(candidate.public_key, down)
        under_way.append(candidate.public_key)
    assert len(under_way) == OUTAGE_DIALS == 4
    # When one of them answers, whatever it says, the pool goes on as before
    candidates.failed(under_way[0], Reason.TOO_MANY_PEERS, down)
    for _ in range(10):
        candidate = candidates.next(down)
        assert candidate is not None
        candidates.dialled(candidate.public_key, down)


def test_a_dial_that_we_broke_off_is_no_failure() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.dialled(key(1), 0.0)
    candidates.abandoned(key(1), 1.0)
    (candidate,) = candidates
    assert (candidate.state, candidate.failures, candidate.reason) == (State.WAITING, 0, None)
    assert candidates.statistics().dialling == 0
    assert candidates.next(REDIAL) is candidate


def test_news_of_nodes_that_are_no_candidates_are_ignored() -> None:
    candidates = pool()
    candidates.dialled(key(1), 0.0)
    candidates.failed(key(1), Reason.UNREACHABLE, 0.0)
    candidates.connected(key(1), "Geth/v1", 0.0)
    candidates.ended(key(1), USEFUL, 0.0)
    candidates.abandoned(key(1), 0.0)
    candidates.defer(key(1), 9.0)
    assert len(candidates) == 0
