"""The dial pool: when a node may be dialled, how often, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ethsync.discovery.candidate import BACKOFF, LONGEST_BACKOFF, NEVER, Quality, Reason, Source, State, Usefulness
from ethsync.discovery.candidates import (
    JITTER,
    MOST_DIALS,
    REDIAL,
)
from ethsync.wire.enode import Enode
from tests.unit.discovery.crowds import crowded, fail, key, node, offer_all, pool, scattered

USELESS = Usefulness(asked=3, served_bytes=0)
USEFUL = Usefulness(asked=3, served_bytes=1000, score=2.5)


# Coming in


def test_a_node_that_was_offered_is_dialled_next() -> None:
    candidates = pool()
    assert candidates.next(0.0) is None
    assert candidates.offer(node(1, "20.1.1.1", tcp_port=30304, seq=5), Source.DISCV5, 0.0)
    candidate = candidates.next(0.0)
    assert candidate is not None
    assert candidate.enode == Enode(key(1), "20.1.1.1", 30304, 30303)
    assert (candidate.seq, candidate.fork_checked, candidate.quality) == (5, True, Quality.NEW)
    assert (candidate.source, candidate.state, candidate.failures) == (Source.DISCV5, State.READY, 0)


def test_it_is_remembered_who_named_a_node_and_the_best_source_counts() -> None:
    candidates = pool()
    for source in (Source.INBOUND, Source.DISCV4, Source.DNS):
        assert candidates.offer(node(1, "20.1.1.1"), source, 0.0)
    (candidate,) = candidates
    assert candidate.sources == {Source.INBOUND, Source.DISCV4, Source.DNS}
    assert candidate.source is Source.DNS
    assert candidates.statistics().by_source == {Source.DNS: 1, Source.DISCV4: 1, Source.INBOUND: 1}


def test_a_node_without_a_tcp_port_ourselves_and_impossible_addresses_are_no_candidates() -> None:
    candidates = pool(own_key=key("us"))
    assert not candidates.offer(node(1, "20.1.1.1", tcp_port=0), Source.DISCV5, 0.0)
    assert not candidates.offer(node("us", "20.1.1.1"), Source.DISCV5, 0.0)
    assert not candidates.offer(node(2, "224.0.0.1"), Source.DISCV5, 0.0)
    assert not candidates.offer(node(3, "0.0.0.0"), Source.STORED, 0.0)
    assert not candidates.offer(Enode(key(4), "node.example", 30303, 30303), Source.DNS, 0.0)
    assert len(candidates) == 0


def test_the_user_may_name_a_node_by_its_host_name() -> None:
    candidates = pool()
    assert candidates.offer(Enode(key(1), "node.example", 30303, 0), Source.STATIC, 0.0)
    candidate = candidates.next(0.0)
    assert candidate is not None
    assert (candidate.host, candidate.ip) == ("node.example", None)


def test_a_mapped_address_counts_as_the_ipv4_address_that_it_is() -> None:
    candidates = pool()
    candidates.offer(Enode(key(1), "::ffff:20.1.1.1", 30303, 0), Source.STORED, 0.0)
    (candidate,) = candidates
    assert candidate.ip == ip_address("20.1.1.1")


def test_a_node_of_another_fork_is_passed_over_until_it_has_a_newer_record_that_passes() -> None:
    wrong = "the peer follows another chain or a fork we do not know (fork id 01020304/0)"
    candidates = pool(refuses=lambda each: wrong if each.record is not None and each.record.seq < 7 else None)
    assert not candidates.offer(node(1, "20.1.1.1", seq=6), Source.DISCV5, 0.0)
    assert candidates.statistics().passed_over == 1
    assert candidates.offer(node(1, "20.1.1.1", seq=7), Source.DISCV5, 1.0)
    assert candidates.statistics().passed_over == 0


def test_a_candidate_whose_newer_record_does_not_pass_is_none_any_more() -> None:
    candidates = pool(refuses=lambda each: "no" if each.record is not None and each.record.seq == 7 else None)
    assert candidates.offer(node(1, "20.1.1.1", seq=6), Source.DISCV5, 0.0)
    assert not candidates.offer(node(1, "20.1.1.1", seq=7), Source.DISCV5, 0.0)
    assert candidates.next(0.0) is None


def test_nodes_that_were_passed_over_are_looked_at_again_when_the_head_has_moved() -> None:
    allowed: set[bytes] = set()
    candidates = pool(refuses=lambda each: None if each.public_key in allowed else "no")
    offer_all(candidates, scattered(3))
    allowed.add(key("honest 1"))
    candidates.recheck(5.0)
    assert [each.public_key for each in candidates] == [key("honest 1")]
    assert candidates.statistics().passed_over == 2


def test_what_the_user_named_is_not_filtered() -> None:
    candidates = pool(refuses=lambda each: "no")
    assert candidates.offer(node(1, "20.1.1.1"), Source.STATIC, 0.0)


# A node that moves


@pytest.mark.parametrize(
    ("known_seq", "offered_seq", "moves"),
    [(5, 6, True), (5, 5, False), (5, 4, False), (5, None, False), (None, 1, True)],
)
def test_only_a_newer_signed_record_gives_a_node_another_address(
    known_seq: int | None, offered_seq: int | None, moves: bool
) -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1", seq=known_seq), Source.DISCV5, 0.0)
    candidates.offer(node(1, "66.6.6.6", seq=offered_seq), Source.DISCV4, 0.0)
    candidate = candidates.next(0.0)
    assert candidate is not None
    assert candidate.host == ("66.6.6.6" if moves else "20.1.1.1")


def test_an_unsigned_address_is_replaced_by_another_only_once_it_was_out_of_reach() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV4, 0.0)
    candidates.offer(node(1, "66.6.6.6"), Source.DISCV4, 0.0)
    (candidate,) = candidates
    assert candidate.host == "20.1.1.1"
    fail(candidates, 1, Reason.UNREACHABLE, 0.0)
    candidates.offer(node(1, "20.2.2.2"), Source.DISCV4, 1.0)
    assert candidate.host == "20.2.2.2"
    # And it is dialled there without the rest of the pause, yet not within 35 s.
    assert candidates.next(REDIAL - 0.1) is None
    assert candidates.next(REDIAL) is candidate


def test_the_address_that_the_user_gave_stays_unless_it_fails_and_a_newer_record_has_another() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.9.9.9", seq=3), Source.DISCV5, 0.0)
    candidates.offer(Enode(key(1), "20.1.1.1", 30303, 0), Source.STATIC, 0.0)
    (candidate,) = candidates
    candidates.offer(node(1, "20.2.2.2", seq=4), Source.DISCV5, 0.0)
    assert candidate.host == "20.1.1.1"
    fail(candidates, 1, Reason.UNREACHABLE, 0.0)
    candidates.offer(node(1, "20.2.2.2", seq=5), Source.DISCV5, 0.0)
    assert candidate.host == "20.2.2.2"


# What becomes of a dial


def test_a_connected_node_is_not_dialled_and_its_client_is_known() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.connected(key(1), "Geth/v1.16.7", 3.0)  # it dialled us
    (candidate,) = candidates
    assert (candidate.state, candidate.client, candidate.last_success) == (State.CONNECTED, "Geth/v1.16.7", 3.0)
    assert candidates.next(1e6) is None


def test_a_dial_that_fails_because_the_node_has_dialled_us_is_no_failure() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.dialled(key(1), 0.0)
    candidates.connected(key(1), "Geth/v1", 1.0)
    candidates.failed(key(1), Reason.TOO_MANY_PEERS, 2.0)
    (candidate,) = candidates
    assert (candidate.state, candidate.failures) == (State.CONNECTED, 0)


@pytest.mark.parametrize(
    ("usefulness", "quality", "reason"),
    [
        (USEFUL, Quality.GOOD, None),
        (Usefulness(9, 64 << 20), Quality.BEST, None),
        (USELESS, Quality.USELESS, Reason.SERVED_NOTHING),
        (Usefulness(0, 0), Quality.LIVE, Reason.HUNG_UP),
        (Usefulness(9, 1000, reason=Reason.LIED), Quality.USELESS, Reason.LIED),
        (Usefulness(9, 1000, reason=Reason.TOO_MANY_PEERS), Quality.GOOD, Reason.TOO_MANY_PEERS),
    ],
)
def test_what_a_connection_was_good_for_is_what_the_node_counts_as(
    usefulness: Usefulness, quality: Quality, reason: Reason | None
) -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.dialled(key(1), 0.0)
    candidates.connected(key(1), "Geth/v1", 0.0)
    candidates.ended(key(1), usefulness, 60.0)
    (candidate,) = candidates
    assert (candidate.quality, candidate.reason) == (quality, reason)
    assert candidate.score == usefulness.score


def test_a_success_makes_the_next_pause_short_again() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    for n in range(5):
        fail(candidates, 1, Reason.UNREACHABLE, 10_000.0 * n)
    candidates.dialled(key(1), 90_000.0)
    candidates.connected(key(1), "Geth/v1", 90_000.0)
    candidates.ended(key(1), USEFUL, 90_001.0)
    pause = fail(candidates, 1, Reason.UNREACHABLE, 100_000.0)
    assert pause <= (1 + JITTER) * BACKOFF[Reason.UNREACHABLE].first


def test_former_merits_are_forgotten_after_six_failures_in_a_row() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.DISCV5, 0.0)
    candidates.connected(key(1), "Geth/v1", 0.0)
    candidates.ended(key(1), USEFUL, 1.0)
    (candidate,) = candidates
    candidates.offer(node(2, "20.2.1.1"), Source.DISCV5, 0.0)
    for n in range(1, 7):
        assert candidate.quality is Quality.GOOD
        fail(candidates, 2, Reason.TOO_MANY_PEERS, 10_000.0 * n)  # others can be reached
        fail(candidates, 1, Reason.UNREACHABLE, 10_000.0 * n)
    assert candidate.quality is Quality.SILENT


# Limits


def test_fifty_dials_are_under_way_at_most() -> None:
    candidates = pool()
    offer_all(candidates, scattered(100))
    under_way = []
    while (candidate := candidates.next(0.0)) is not None:
        candidates.dialled(candidate.public_key, 0.0)
        under_way.append(candidate.public_key)
    assert len(under_way) == MOST_DIALS == 50
    candidates.failed(under_way[0], Reason.UNREACHABLE, 1.0)
    assert candidates.next(1.0) is not None
    assert candidates.next(1.0, most=15) is None


@pytest.mark.parametrize(
    ("template", "most"), [("66.6.6.{}", 2), ("2a01:4f8:1:2::{}", 2), ("10.0.0.{}", 50), ("fd00::{}", 50)]
)
def test_two_dials_are_under_way_per_public_subnet_at_most(template: str, most: int) -> None:
    candidates = pool()
    offer_all(candidates, [node(n, template.format(n + 1)) for n in range(60)])
    under_way = []
    while (candidate := candidates.next(0.0)) is not None:
        candidates.dialled(candidate.public_key, 0.0)
        under_way.append(candidate.public_key)
    assert len(under_way) == most
    candidates.failed(under_way[0], Reason.UNREACHABLE, 1.0)
    assert candidates.next(1.0) is not None


def test_a_subnet_is_dialled_eight_times_in_a_row_and_then_once_in_thirty_seconds() -> None:
    candidates = pool()
    offer_all(candidates, crowded(60, ["66.6.6"]))
    times = []
    for tenth in range(3000):
        now = tenth / 10
        if (candidate := candidates.next(now)) is not None:
            candidates.dialled(candidate.public_key, now)
            candidates.failed(candidate.public_key, Reason.UNREACHABLE, now)
            times.append(now)
    assert times[7] < 1.0
    assert times[8] == pytest.approx(30.0, abs=0.2)
    assert len(times) == 8 + 9  # in 300 seconds


def test_what_the_user_named_has_no_subnet_limits_and_comes_first() -> None:
    candidates = pool()
    offer_all(candidates, scattered(100))
    for n in range(10):
        candidates.offer(node(n, f"66.6.6.{n + 1}"), Source.TRUSTED if n % 2 else Source.STATIC, 0.0)
    first = []
    for _ in range(10):
        candidate = candidates.next(0.0)
        assert candidate is not None
        candidates.dialled(candidate.public_key, 0.0)
        first.append(candidate.public_key)
    assert set(first) == {key(n) for n in range(10)}


# What an earlier run learned


def test_facts_of_an_earlier_run_are_taken_over() -> None:
    candidates, earlier = pool(), pool()
    for each in (candidates, earlier):
        each.offer(node(1, "20.1.1.1"), Source.STORED, 1000.0)
    earlier.connected(key(1), "Besu/v25", 900.0)
    earlier.ended(key(1), USEFUL, 950.0)
    (facts,) = earlier
    candidates.remember(facts, 1000.0)
    (candidate,) = candidates
    assert (candidate.client, candidate.quality, candidate.last_success) == ("Besu/v25", Quality.GOOD, 900.0)


def test_facts_from_a_clock_that_went_wrong_do_no_harm() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.STORED, 1000.0)
    (candidate,) = candidates
    candidates.remember(replace(candidate, due=1e18, last_dial=1e18, last_success=1e18), 1000.0)
    assert candidate.last_dial == candidate.last_success == 1000.0
    assert candidates.next(1000.0 + LONGEST_BACKOFF) is candidate
    candidates.remember(replace(candidate, due=NEVER, last_dial=NEVER), 2000.0)
    assert candidates.next(2000.0) is candidate


def test_facts_of_nodes_unknown_or_connected_are_not_taken_over() -> None:
    candidates = pool()
    candidates.offer(node(1, "20.1.1.1"), Source.STORED, 0.0)
    (facts,) = candidates
    candidates.connected(key(1), "Geth/v1", 0.0)
    candidates.remember(replace(facts, client="old"), 1.0)
    assert facts.client == "Geth/v1"
    candidates.remember(replace(facts, public_key=key(2)), 1.0)
    assert len(candidates) == 1
