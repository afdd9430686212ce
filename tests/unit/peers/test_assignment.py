"""Whom to ask next: work goes where it is done first, and nobody is forgotten."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.peers.assignment import SLOTS, Askable, Assignment, Demand, assign
from ethsync.peers.track import LARGEST_BUDGET, SMALLEST_BUDGET, START_BUDGET, RequestKind

HEADERS, ACCOUNTS, STORAGE, CODES, *_ = RequestKind
IDLE = dict.fromkeys(RequestKind, 0)
BUDGETS = dict.fromkeys(RequestKind, START_BUDGET)


def peer(
    number: int,
    rate: float = 0.0,
    *,
    busy: dict[RequestKind, int] | None = None,
    blocked: frozenset[RequestKind] = frozenset(),
    score: float = 0.0,
) -> Askable:
    return Askable(number, {**IDLE, **(busy or {})}, dict.fromkeys(RequestKind, rate), BUDGETS, blocked, score)


def counts(chosen: list[Assignment]) -> Counter[tuple[int, RequestKind]]:
    return Counter((each.peer, each.kind) for each in chosen)


def test_without_peers_or_work_nothing_is_assigned() -> None:
    assert assign([], [Demand(ACCOUNTS, 5)]) == []
    assert assign([peer(1)], []) == []
    assert assign([peer(1)], [Demand(ACCOUNTS, 0)]) == []


def test_one_peer_gets_as_many_as_it_has_slots_for() -> None:
    chosen = assign([peer(1)], [Demand(kind, 100) for kind in RequestKind])
    assert counts(chosen) == {(1, kind): SLOTS[kind] for kind in RequestKind}


def test_slots_that_are_taken_are_not_given_again() -> None:
    chosen = assign([peer(1, busy={STORAGE: 2, ACCOUNTS: 2})], [Demand(STORAGE, 9), Demand(ACCOUNTS, 9)])
    assert counts(chosen) == {(1, STORAGE): SLOTS[STORAGE] - 2}


def test_no_more_is_assigned_than_there_is() -> None:
    assert len(assign([peer(1), peer(2)], [Demand(STORAGE, 3)])) == 3


def test_work_is_spread_over_equal_peers() -> None:
    chosen = assign([peer(number) for number in range(4)], [Demand(ACCOUNTS, 4)])
    assert {each.peer for each in chosen} == {0, 1, 2, 3}


def test_faster_peers_get_more() -> None:
    # Given a peer that is five times as fast
    slow, fast = peer(1, 1e6), peer(2, 5e6)
    # When there is less work than slots, then it gets all of it: even its second request is done first.
    assert counts(assign([slow, fast], [Demand(ACCOUNTS, 2)])) == {(2, ACCOUNTS): 2}


def test_a_slow_peer_is_never_left_without_work_when_there_is_enough() -> None:
    chosen = assign([peer(1, 100.0), peer(2, 5e6)], [Demand(ACCOUNTS, 4)])
    assert counts(chosen) == {(1, ACCOUNTS): 2, (2, ACCOUNTS): 2}


def test_a_new_peer_is_tried_before_one_that_is_known_to_be_slow() -> None:
    chosen = assign([peer(1, 1e5), peer(2)], [Demand(CODES, 1)])
    assert chosen == [Assignment(2, CODES)]


def test_requests_of_other_kinds_count_as_waiting_too() -> None:
    # Given two equal peers, of which one has codes to send first
    chosen = assign([peer(1, 1e6, busy={CODES: 2}), peer(2, 1e6)], [Demand(ACCOUNTS, 1)])
    assert chosen == [Assignment(2, ACCOUNTS)]


def test_a_bad_score_weighs_like_slowness_and_a_good_one_buys_nothing() -> None:
    assert assign([peer(1, 1e6, score=-3.0), peer(2, 0.5e6)], [Demand(ACCOUNTS, 1)]) == [Assignment(2, ACCOUNTS)]
    assert assign([peer(1, 1e6, score=-3.0), peer(2, 0.2e6)], [Demand(ACCOUNTS, 1)]) == [Assignment(1, ACCOUNTS)]
    assert assign([peer(1, 1e6, score=20.0), peer(2, 1.1e6)], [Demand(ACCOUNTS, 1)]) == [Assignment(2, ACCOUNTS)]


def test_a_peer_is_not_asked_for_a_kind_that_it_is_left_alone_with() -> None:
    paused = peer(1, 1e9, blocked=frozenset({ACCOUNTS}))
    chosen = assign([paused, peer(2)], [Demand(ACCOUNTS, 9), Demand(CODES, 1)])
    assert counts(chosen) == {(2, ACCOUNTS): 2, (1, CODES): 1}


def test_the_same_peers_and_work_are_always_assigned_alike() -> None:
    peers = [peer(3), peer(1), peer(2)]
    first = assign(peers, [Demand(ACCOUNTS, 1)])
    assert first == assign(peers[::-1], [Demand(ACCOUNTS, 1)]) == [Assignment(1, ACCOUNTS)]


RATES = st.sampled_from([0.0, 0.1, 1.0, 1e3, 1e6, 1e9])


@st.composite
def candidates(draw: st.DrawFn) -> list[Askable]:
    def one(number: int) -> Askable:
        return Askable(
            number,
            {kind: draw(st.integers(0, SLOTS[kind])) for kind in RequestKind},
            {kind: draw(RATES) for kind in RequestKind},
            {kind: draw(st.sampled_from([SMALLEST_BUDGET, LARGEST_BUDGET])) for kind in RequestKind},
            draw(st.frozensets(st.sampled_from(RequestKind), max_size=2)),
            draw(st.floats(-50, 20)),
        )

    return [one(number) for number in range(draw(st.integers(0, 4)))]


DEMANDS = st.lists(
    st.builds(Demand, st.sampled_from(RequestKind), st.integers(0, 12)),
    max_size=4,
    unique_by=lambda demand: demand.kind,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(candidates(), DEMANDS)
def test_every_free_slot_is_used_and_no_other(peers: list[Askable], demands: list[Demand]) -> None:
    chosen = counts(assign(peers, demands))
    for demand in demands:
        willing = [one for one in peers if demand.kind not in one.blocked]
        room = {one.number: SLOTS[demand.kind] - one.in_flight[demand.kind] for one in willing}
        given_out = {number: count for (number, kind), count in chosen.items() if kind is demand.kind}
        assert all(count <= room.get(number, 0) for number, count in given_out.items())
        # Work is left over only if everybody who may do it is busy: nobody starves.
        assert sum(given_out.values()) == min(demand.requests, sum(room.values()))
    assert {kind for _, kind in chosen} <= {demand.kind for demand in demands}
