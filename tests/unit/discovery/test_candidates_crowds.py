"""The dial pool among many: whoever brings much does not crowd out the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ethsync.discovery.candidate import Quality, Reason, Source, State, Usefulness
from ethsync.discovery.candidates import CAPACITY, MOST_PER_SUBNET, Candidates
from ethsync.discovery.turns import CYCLE
from ethsync.discovery.turns import MOST_PER_SUBNET as MOST_DIALS_PER_SUBNET
from tests.unit.discovery.crowds import crowded, dial_round, node, offer_all, pool, scattered

ATTACKERS = ["66.6.1", "66.6.2", "66.6.3", "66.6.4"]


def dial_for(candidates: Candidates, seconds: int, reason: Reason = Reason.UNREACHABLE) -> Counter[str]:
    """Dial one node per second, all in vain; count how often somebody of each subnet was dialled."""
    dialled: Counter[str] = Counter()
    for now in range(seconds):
        candidate = candidates.next(float(now))
        if candidate is not None:
            candidates.dialled(candidate.public_key, float(now))
            candidates.failed(candidate.public_key, reason, float(now) + 0.5)
            dialled[candidate.host.rpartition(".")[0]] += 1
    return dialled


def prove(candidates: Candidates, keys: list[bytes], now: float = 0.0, served: int = 1000) -> None:
    """Let nodes have been connected and useful."""
    for each in keys:
        candidates.connected(each, "Geth/v1", now)
        candidates.ended(each, Usefulness(5, served), now)


# Who gets the dials


def test_ten_thousand_nodes_of_four_subnets_get_no_more_turns_than_four_nodes_do() -> None:
    # Given an attacker who was there first with 10,000 nodes, and 200 honest ones, all told by one source
    candidates = pool()
    offer_all(candidates, crowded(10_000, ATTACKERS))
    offer_all(candidates, scattered(200))
    # When two hundred dials are made
    dialled = dial_for(candidates, 200)
    # Then the attacker got its 4 of 204 shares, give or take chance, and most of the honest nodes were tried.
    assert sum(dialled[each] for each in ATTACKERS) <= 12
    assert len(dialled) >= 180


def test_an_attacker_gets_no_more_of_the_dials_at_a_time_than_two_per_subnet() -> None:
    candidates = pool()
    offer_all(candidates, crowded(10_000, ATTACKERS))
    under_way = []
    while (candidate := candidates.next(0.0)) is not None:
        candidates.dialled(candidate.public_key, 0.0)
        under_way.append(candidate.host)
    assert len(under_way) == MOST_DIALS_PER_SUBNET * len(ATTACKERS)
    offer_all(candidates, scattered(20))
    assert candidates.next(0.0) is not None


def test_all_of_an_ipv6_network_gets_the_turns_of_one_subnet() -> None:
    # A /64 costs nothing: here are two thousand of one /32.
    candidates = pool()
    offer_all(candidates, [node(f"attacker {n}", f"2a0e:b1:{n:x}::1") for n in range(2000)])
    offer_all(candidates, scattered(500))
    dialled = Counter(":" in host for host in _hosts(candidates, 200))
    assert dialled[True] <= 3  # of 200; by their number it would be 160


def _hosts(candidates: Candidates, count: int) -> list[str]:
    hosts = []
    for now in range(count):
        candidate = candidates.next(float(now))
        assert candidate is not None
        candidates.dialled(candidate.public_key, float(now))
        candidates.failed(candidate.public_key, Reason.UNREACHABLE, float(now))
        hosts.append(candidate.host)
    return hosts


def test_every_source_gets_its_share_however_much_another_one_brings() -> None:
    # Given a source that floods us with 10,000 nodes of as many subnets, and three that bring 60 each
    candidates = pool()
    offer_all(candidates, scattered(10_000, name="flood"), Source.DISCV4)
    modest = (Source.DNS, Source.DISCV5, Source.INBOUND)
    for number, source in enumerate(modest):
        offer_all(candidates, [node(f"{source} {n}", f"{150 + number}.1.{n}.1") for n in range(60)], source)
    # When 200 dials are made
    by_source: Counter[Source] = Counter()
    for now in range(200):
        candidate = candidates.next(float(now))
        assert candidate is not None
        by_source[candidate.source] += 1
        candidates.dialled(candidate.public_key, float(now))
        candidates.failed(candidate.public_key, Reason.OTHER_CHAIN, float(now))
    # Then each has had a quarter.
    assert by_source == dict.fromkeys((*modest, Source.DISCV4), 50)


def test_proven_nodes_come_first_and_new_ones_have_their_share() -> None:
    # Given plenty of the best, the good, the live, the new and the silent
    candidates = pool()
    nodes = scattered(2500)
    offer_all(candidates, nodes)
    keys = [each.public_key for each in nodes]
    prove(candidates, keys[:500], served=64 << 20)
    prove(candidates, keys[500:1000])
    for number, each in enumerate(keys[1000:2000]):
        candidates.dialled(each, 0.0)
        candidates.failed(each, Reason.TOO_MANY_PEERS if number < 500 else Reason.UNREACHABLE, 0.0)
    # When 120 dials are made once all are due
    by_quality: Counter[Quality] = Counter()
    for tenth in range(120):
        now = 100.0 + tenth / 10
        candidate = candidates.next(now)
        assert candidate is not None
        by_quality[candidate.quality] += 1
        candidates.dialled(candidate.public_key, now)
        candidates.failed(candidate.public_key, Reason.OTHER_CHAIN, now)
    # Then seven of twelve went to proven nodes and three to new ones.
    assert by_quality == {quality: 10 * CYCLE.count(quality) for quality in set(CYCLE)}
    assert by_quality[Quality.BEST] + by_quality[Quality.GOOD] == 70
    assert by_quality[Quality.NEW] == 30


def test_nodes_that_answered_discovery_go_before_those_that_others_name() -> None:
    candidates = pool()
    named = scattered(60)
    offer_all(candidates, named)
    for each in named[:30]:
        assert candidates.offer(replace(each, answered=True), Source.DISCV5, 0.0)
    answered = {each.public_key for each in named[:30]}
    # Hearsay keeps its three turns of twelve.
    first = dial_round(candidates, 0.0)[:36]
    assert len(answered.intersection(first)) == 27


def test_turns_that_nobody_wants_go_to_the_next_best() -> None:
    candidates = pool()
    offer_all(candidates, scattered(64))
    assert len(dial_round(candidates, 0.0)) == 50
    assert len(dial_round(candidates, 1.0)) == 14
    assert dial_round(candidates, 2.0) == []


# Who is kept when there are too many


def test_far_more_than_the_kademlia_table_is_held_and_never_more_than_there_is_room_for() -> None:
    candidates = pool(capacity=12_000)
    assert offer_all(candidates, scattered(15_000)) == 15_000
    assert len(candidates) == 12_000
    assert CAPACITY >= 10_000


def test_a_flood_pushes_out_only_what_its_own_source_brought() -> None:
    candidates = pool(capacity=1000)
    offer_all(candidates, scattered(200, name="dns"), Source.DNS)
    offer_all(candidates, scattered(200, name="v5"), Source.DISCV5)
    offer_all(candidates, scattered(5000, name="flood"), Source.INBOUND)
    assert candidates.statistics().by_source == {Source.DNS: 200, Source.DISCV5: 200, Source.INBOUND: 600}


def test_the_crowded_and_the_dead_make_room_before_others() -> None:
    # Given a full pool of one source: 640 of an attacker, 300 honest new nodes and 60 that were tried in vain
    candidates = pool(capacity=1000)
    subnets = [f"66.6.{n}" for n in range(10)]
    offer_all(candidates, crowded(640, subnets))
    nodes = scattered(360)
    offer_all(candidates, nodes)
    for each in nodes[300:]:
        candidates.dialled(each.public_key, 0.0)
        candidates.failed(each.public_key, Reason.UNREACHABLE, 0.0)
    # When 200 more nodes come
    offer_all(candidates, scattered(200, name="newcomer"))
    # Then first the dead have gone, then mostly the attacker's.
    assert not any(each.public_key in candidates_keys(candidates) for each in nodes[300:])
    honest = sum(each.public_key in candidates_keys(candidates) for each in nodes[:300])
    assert honest >= 295
    assert len(candidates) == 1000


def candidates_keys(candidates: Candidates) -> set[bytes]:
    return {each.public_key for each in candidates}


def test_proven_busy_and_named_nodes_are_never_dropped() -> None:
    candidates = pool(capacity=40)
    nodes = scattered(40)
    keys = [each.public_key for each in nodes]
    offer_all(candidates, nodes[:10], Source.STATIC)
    offer_all(candidates, nodes[10:])
    prove(candidates, keys[10:20])
    for each in keys[20:30]:
        candidates.connected(each, "Geth/v1", 0.0)
    for each in keys[30:]:
        candidates.dialled(each, 0.0)
    assert offer_all(candidates, scattered(100, name="late")) == 0
    assert candidates_keys(candidates) == set(keys)


def test_a_subnet_holds_64_candidates_and_a_dead_one_makes_room() -> None:
    candidates = pool()
    nodes = crowded(70, ["66.6.6"])
    assert offer_all(candidates, nodes) == MOST_PER_SUBNET == 64
    candidates.dialled(nodes[5].public_key, 0.0)
    candidates.failed(nodes[5].public_key, Reason.UNREACHABLE, 0.0)
    assert candidates.offer(nodes[69], Source.DISCV5, 1.0)
    assert candidates.get(nodes[5].public_key) is None
    assert not candidates.offer(nodes[68], Source.DISCV5, 1.0)


def test_a_private_network_may_hold_any_number() -> None:
    candidates = pool()
    assert offer_all(candidates, [node(n, f"10.0.0.{n + 1}") for n in range(200)]) == 200


# What is left behind


def test_pauses_that_were_changed_leave_nothing_behind() -> None:
    candidates = pool()
    offer_all(candidates, scattered(10))
    for number in range(5000):
        for each in list(candidates):
            candidates.defer(each.public_key, 1e6 + number)
    assert len(candidates._waiting) <= 2 * 10 + 64 + 1
    candidates.next(2e6)
    assert candidates.ready == 10


def test_dropped_candidates_and_past_dials_leave_nothing_behind() -> None:
    candidates = pool(capacity=100)
    for number in range(2000):
        now = float(number)
        candidates.offer(node(number, f"{20 + number // 256}.1.{number % 256}.1"), Source.DISCV5, now)
        dial_round(candidates, now)
    assert len(candidates) == 100
    assert len(candidates._waiting) <= 2 * 100 + 64 + 1
    # Subnets without candidates are remembered until what was dialled there has been paid for, then forgotten.
    candidates.next(1e6)
    assert len(candidates._turns._neighbours) <= 100 + 1
    assert len(candidates._turns._networks) <= 100
    assert sum(each.state is State.READY for each in candidates) == candidates.ready
