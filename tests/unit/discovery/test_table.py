"""The node table: who gets in, who stays, who is given to others, and what one subnet can take of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from ethsync.discovery.addresses import subnet
from ethsync.discovery.bucket import BUCKET_SIZE, MOST_REPLACEMENTS, SUBNET_PER_BUCKET, SUBNET_PER_TABLE
from ethsync.discovery.node import Endpoint, Node, distance
from ethsync.discovery.table import FAST_CHECK, FIRST_CHECK, MOST_CREDIT, MOST_SILENCES, SLOW_CHECK, Table
from tests.oracles.nodes import id_at, node_at, sorted_by_distance

LOCAL = bytes(range(32))
SOMEWHERE = random.Random(9).randbytes(32)


@pytest.fixture
def table() -> Table:
    return Table(LOCAL, random.Random(1))


def fill(table: Table, away: int, count: int = BUCKET_SIZE, *, first: int = 0, confirmed: bool = True) -> list[Node]:
    nodes = [node_at(LOCAL, away, number, seq=1) for number in range(first, first + count)]
    for node in nodes:
        (table.confirm if confirmed else table.see)(node, 0.0)
    return nodes


def given(table: Table, away: int) -> list[Node]:
    return table.at_distances([away], 100)


# Who gets in


def test_a_node_that_was_only_heard_of_is_known_and_not_given_to_others(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.see(node, 0.0)
    assert table.get(node.node_id) == node
    assert len(table) == 1
    assert table.confirmed == 0
    assert not table.is_confirmed(node.node_id)
    assert given(table, 200) == table.closest(LOCAL, 16) == []
    assert table.closest(LOCAL, 16, confirmed=False) == [node]


def test_a_node_that_answered_is_given_to_others(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.confirm(node, 0.0)
    assert node.node_id in table
    assert table.confirmed == 1
    assert given(table, 200) == table.closest(LOCAL, 16) == [node]


@pytest.mark.parametrize(
    ("ip", "port"), [("0.0.0.0", 30303), ("224.0.0.1", 30303), ("192.0.2.7", 30303), ("20.1.1.1", 0)]
)
def test_nodes_nowhere_are_refused(table: Table, ip: str, port: int) -> None:
    table.see(node_at(LOCAL, 200, ip=ip, port=port), 0.0)
    assert len(table) == 0


def test_we_are_not_in_our_own_table(table: Table) -> None:
    ourselves = Node(LOCAL, LOCAL + LOCAL, Endpoint(IPv4Address("20.1.1.1"), 30303), 30303)
    table.see(ourselves, 0.0)
    table.confirm(ourselves, 0.0)
    assert len(table) == 0
    assert LOCAL not in table


def test_a_full_bucket_keeps_who_has_answered(table: Table) -> None:
    old = fill(table, 200)
    table.confirm(node_at(LOCAL, 200, 50), 1.0)
    assert set(table.closest(LOCAL, 100)) == set(old)
    assert table.replacements == 1


def test_a_full_bucket_makes_room_for_an_answer_if_somebody_there_never_gave_one(table: Table) -> None:
    heard_of = node_at(LOCAL, 200, 100, seq=1)
    table.see(heard_of, 0.0)
    fill(table, 200, BUCKET_SIZE - 1)
    newcomer = node_at(LOCAL, 200, 50)
    table.confirm(newcomer, 1.0)
    assert table.is_confirmed(newcomer.node_id)
    assert heard_of.node_id not in table
    # It has not lost its chance: it waits for the next place.
    assert table.replacements == 1


def test_the_one_that_answered_last_is_in_front_and_the_one_that_waited_longest_yields_first(table: Table) -> None:
    first, second = node_at(LOCAL, 200, 100), node_at(LOCAL, 200, 101)
    table.see(first, 0.0)
    table.see(second, 0.0)
    fill(table, 200, BUCKET_SIZE - 2)
    table.confirm(node_at(LOCAL, 200, 50), 1.0)
    assert first.node_id not in table
    assert second.node_id in table


# Replacements


def test_who_fails_in_a_full_bucket_is_replaced_by_any_of_those_that_wait() -> None:
    chosen = set()
    for seed in range(40):
        table = Table(LOCAL, random.Random(seed))
        old = fill(table, 200)
        waiting = fill(table, 200, 5, first=50, confirmed=False)
        table.fail(old[3], 1.0)
        (newcomer,) = set(table.closest(LOCAL, 100, confirmed=False)) - set(old)
        assert old[3].node_id not in table
        assert len(table) == BUCKET_SIZE
        assert table.replacements == 4
        # It may have gone while it waited: it is not given to others until it answers.
        assert not table.is_confirmed(newcomer.node_id)
        chosen.add(newcomer)
    assert chosen == set(waiting)


def test_of_too_many_replacements_the_oldest_goes(table: Table) -> None:
    old = fill(table, 200)
    waiting = fill(table, 200, MOST_REPLACEMENTS + 1, first=50, confirmed=False)
    assert table.replacements == MOST_REPLACEMENTS
    for node in old[:MOST_REPLACEMENTS]:
        table.fail(node, 1.0)
    assert waiting[0].node_id not in table
    assert all(node.node_id in table for node in waiting[1:])


def test_hearsay_does_not_push_out_replacements_that_have_answered(table: Table) -> None:
    old = fill(table, 200)
    proven = fill(table, 200, MOST_REPLACEMENTS, first=50)
    fill(table, 200, 100, first=70, confirmed=False)
    for node in old[:MOST_REPLACEMENTS]:
        table.fail(node, 1.0)
    assert all(node.node_id in table for node in proven)


def test_a_replacement_that_does_not_answer_waits_no_longer(table: Table) -> None:
    fill(table, 200)
    (waiting,) = fill(table, 200, 1, first=50, confirmed=False)
    table.fail(waiting, 1.0)
    assert table.replacements == 0
    assert table.share_of(subnet(waiting.endpoint.ip)) == 0


# Failures


def test_silences_cost_credit_and_a_node_that_always_answered_survives_two(table: Table) -> None:
    fill(table, 200, BUCKET_SIZE - 1)
    node = node_at(LOCAL, 200, 30)
    for _ in range(2 * MOST_CREDIT):
        table.confirm(node, 0.0)
    fill(table, 200, 1, first=50, confirmed=False)  # somebody waits for its place
    table.fail(node, 1.0)
    table.fail(node, 1.0)
    assert table.is_confirmed(node.node_id)
    table.fail(node, 1.0)
    assert node.node_id not in table


def test_who_answered_once_and_then_not_is_no_longer_given_to_others_and_goes_after_some_silences(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.confirm(node, 0.0)
    for _ in range(MOST_SILENCES - 1):
        table.fail(node, 1.0)
        assert node.node_id in table
        assert given(table, 200) == []
    table.fail(node, 1.0)
    assert node.node_id not in table
    assert table.share_of(subnet(node.endpoint.ip)) == 0


def test_an_answer_ends_a_row_of_silences(table: Table) -> None:
    node = node_at(LOCAL, 200)
    for _ in range(5):
        table.confirm(node, 0.0)
        for _ in range(MOST_SILENCES - 1):
            table.fail(node, 1.0)
    assert node.node_id in table


def test_silence_at_an_address_that_others_made_up_harms_nobody(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.confirm(node, 0.0)
    for _ in range(10):
        table.fail(replace(node, endpoint=Endpoint(IPv4Address("20.9.9.9"), 30303)), 1.0)
    assert table.is_confirmed(node.node_id)


def test_silence_of_somebody_unknown_is_nothing(table: Table) -> None:
    table.fail(node_at(LOCAL, 200), 1.0)
    assert len(table) == 0


# Records and addresses


def test_the_newer_record_wins_whoever_brings_it(table: Table) -> None:
    old, new = node_at(LOCAL, 200, seq=3), node_at(LOCAL, 200, seq=4)
    table.confirm(old, 0.0)
    table.see(new, 1.0)
    assert table.get(old.node_id) == new
    assert table.is_confirmed(old.node_id)
    table.see(old, 2.0)
    table.confirm(old, 2.0)
    assert table.get(old.node_id) == new


def test_an_answer_without_a_record_does_not_lose_the_one_that_is_known(table: Table) -> None:
    table.confirm(node_at(LOCAL, 200, seq=3), 0.0)
    table.confirm(node_at(LOCAL, 200), 1.0)
    node = table.get(id_at(LOCAL, 200))
    assert node is not None
    assert node.record is not None
    assert node.record.seq == 3


def test_hearsay_without_a_newer_record_moves_nobody(table: Table) -> None:
    node = node_at(LOCAL, 200, seq=3)
    table.confirm(node, 0.0)
    table.see(node_at(LOCAL, 200, ip="20.9.9.9"), 1.0)
    table.see(node_at(LOCAL, 200, ip="20.9.9.9", seq=3), 1.0)
    assert table.get(node.node_id) == node


def test_a_newer_record_with_another_address_moves_a_node_and_it_has_to_answer_there_soon(table: Table) -> None:
    table.confirm(node_at(LOCAL, 200, seq=3), 0.0)
    moved = node_at(LOCAL, 200, ip="20.9.9.9", seq=4)
    table.see(moved, 5.0)
    assert table.get(moved.node_id) == moved
    assert given(table, 200) == []
    assert table.due(5.0) == moved
    table.confirm(moved, 6.0)
    assert given(table, 200) == [moved]


def test_who_answers_at_another_address_has_moved_there(table: Table) -> None:
    table.confirm(node_at(LOCAL, 200, seq=3), 0.0)
    table.confirm(node_at(LOCAL, 200, ip="20.9.9.9"), 1.0)
    node = table.get(id_at(LOCAL, 200))
    assert node is not None
    assert str(node.endpoint.ip) == "20.9.9.9"
    assert table.is_confirmed(node.node_id)


def test_a_late_answer_from_the_address_before_moves_nobody_back(table: Table) -> None:
    before, after = node_at(LOCAL, 200, seq=3), node_at(LOCAL, 200, ip="20.9.9.9", seq=4)
    table.confirm(before, 0.0)
    table.see(after, 1.0)
    table.confirm(before, 1.1)
    assert table.get(after.node_id) == after
    assert not table.is_confirmed(after.node_id)


def test_a_node_that_moves_gives_its_part_in_the_old_subnet_back(table: Table) -> None:
    table.confirm(node_at(LOCAL, 200, ip="20.8.8.8", seq=3), 0.0)
    table.see(node_at(LOCAL, 200, ip="20.9.9.9", seq=4), 1.0)
    assert table.share_of((4, 20 << 16 | 8 << 8 | 8)) == 0
    assert table.share_of((4, 20 << 16 | 9 << 8 | 9)) == 1


def test_a_node_does_not_move_into_a_subnet_that_has_its_share(table: Table) -> None:
    for number in range(SUBNET_PER_BUCKET):
        table.confirm(node_at(LOCAL, 200, 10 + number, ip=f"20.9.9.{number + 1}"), 0.0)
    node = node_at(LOCAL, 200, seq=3)
    table.confirm(node, 0.0)
    table.see(node_at(LOCAL, 200, ip="20.9.9.9", seq=4), 1.0)
    table.confirm(node_at(LOCAL, 200, ip="20.9.9.9", seq=4), 1.0)
    assert table.get(node.node_id) == node
    assert table.share_of(subnet(IPv4Address("20.9.9.9"))) == SUBNET_PER_BUCKET
    assert table.share_of(subnet(node.endpoint.ip)) == 1


# Shares of subnets


def test_a_subnet_has_two_nodes_in_a_bucket_and_ten_in_the_table(table: Table) -> None:
    for away in range(200, 210):
        for number in range(5):
            table.confirm(node_at(LOCAL, away, number, ip=f"20.9.9.{5 * (away - 200) + number}"), 0.0)
    assert len(table) == SUBNET_PER_TABLE
    assert {len(given(table, away)) for away in range(200, 210)} == {SUBNET_PER_BUCKET, 0}


def test_replacements_have_their_part_in_the_share(table: Table) -> None:
    fill(table, 200)
    for number in range(5):
        table.see(node_at(LOCAL, 200, 100 + number, ip=f"20.9.9.{number}"), 0.0)
    assert table.replacements == SUBNET_PER_BUCKET


def test_in_its_subnet_who_answers_takes_the_place_of_who_never_did(table: Table) -> None:
    for number in range(SUBNET_PER_BUCKET):
        table.see(node_at(LOCAL, 200, number, ip=f"20.9.9.{number}"), 0.0)
    answered = node_at(LOCAL, 200, 9, ip="20.9.9.9")
    table.confirm(answered, 0.0)
    assert table.is_confirmed(answered.node_id)
    assert len(table) == SUBNET_PER_BUCKET


def test_a_subnet_of_ip6_is_64_bits(table: Table) -> None:
    for number in range(5):
        table.confirm(node_at(LOCAL, 200, number, ip=f"2a01:4f8:1:2::{number + 1}"), 0.0)
        table.confirm(node_at(LOCAL, 200, 5 + number, ip=f"2a01:4f8:1:{number + 100}::1"), 0.0)
    assert len(table) == SUBNET_PER_BUCKET + 5


@pytest.mark.parametrize("ip", ["127.0.0.{}", "10.0.0.{}", "192.168.1.{}", "fd00::{}"])
def test_neighbours_are_not_limited_unless_one_asks_for_that(ip: str) -> None:
    free, limited = Table(LOCAL, random.Random(1)), Table(LOCAL, random.Random(1), limit_private=True)
    for number in range(1, 13):
        free.confirm(node_at(LOCAL, 200, number, ip=ip.format(number)), 0.0)
        limited.confirm(node_at(LOCAL, 200, number, ip=ip.format(number)), 0.0)
    assert len(free) == 12
    assert len(limited) == SUBNET_PER_BUCKET


def test_ten_thousand_nodes_of_four_subnets_get_no_more_than_their_share(table: Table) -> None:
    # Given a table with some honest nodes,
    rng = random.Random(3)
    honest = [node_at(LOCAL, away, number, seq=1) for away in range(245, 257) for number in range(8)]
    for node in honest:
        table.confirm(node, 0.0)
    # when an attacker names 10,000 nodes that all answer, at ids of his choice and several times,
    subnets = [f"9{number}.66.66." for number in range(4)]
    attackers = [
        node_at(LOCAL, rng.randrange(220, 257), 100 + number, ip=f"{subnets[number % 4]}{rng.randrange(256)}")
        for number in range(10_000)
    ]
    for node in attackers:
        table.see(node, 1.0)
        table.confirm(node, 1.0)
    # then his four subnets have ten nodes each at most, two in a bucket, and no honest node is gone.
    entries = table.closest(LOCAL, 10_000, confirmed=False)
    evil = [node for node in entries if str(node.endpoint.ip).startswith(tuple(subnets))]
    per_bucket = Counter((distance(LOCAL, node.node_id), subnet(node.endpoint.ip)) for node in evil)
    assert 0 < len(evil) <= 4 * SUBNET_PER_TABLE
    assert max(per_bucket.values()) <= SUBNET_PER_BUCKET
    assert set(honest) <= set(entries)


# Questions


def test_the_closest_come_nearest_first_wherever_the_target_is(table: Table) -> None:
    rng = random.Random(4)
    nodes = []
    for number in range(300):
        node = Node(rng.randbytes(32), bytes(64), Endpoint(IPv4Address(f"10.0.{number >> 8}.{number & 255}"), 1), 1)
        table.confirm(node, 0.0)
        nodes.append(node)
    held = [node for node in nodes if node.node_id in table]
    for target in (LOCAL, held[7].node_id, *(rng.randbytes(32) for _ in range(50))):
        assert table.closest(target, 16) == sorted_by_distance(held, target)[:16]


def test_distances_are_answered_in_turn_each_once_and_no_more_than_wanted(table: Table) -> None:
    near, far = fill(table, 250, 10), fill(table, 251, 10)
    assert set(table.at_distances([250], 16)) == set(near)
    mixed = table.at_distances([251, 251, 250, 17], 16)
    assert set(mixed[:10]) == set(far)
    assert len(set(mixed)) == len(mixed) == 16
    assert table.at_distances([250], 3) != table.at_distances([250], 3)  # not always the same ones


def test_what_is_looked_at_for_an_answer_does_not_grow_with_the_nodes_that_were_heard_of() -> None:
    examined = {}
    for count in (1_000, 100_000):
        table, rng = Table(LOCAL, random.Random(1)), random.Random(2)
        for number in range(count):
            ip = IPv4Address((20 << 24) + (number << 8) + 1)
            node = Node(rng.randbytes(32), bytes(64), Endpoint(ip, 30303), 30303)
            (table.confirm if number % 2 else table.see)(node, 0.0)
        before = table.examined
        for _ in range(100):
            table.closest(rng.randbytes(32), 16)
            table.at_distances([256, 255, 254], 16)
        examined[count] = table.examined - before
    # 16 nodes of the nearest bucket, and at most one more bucket that holds the rest; then three buckets.
    assert examined[100_000] <= 2 * examined[1_000]
    assert examined[100_000] / 200 <= 2 * BUCKET_SIZE


# Checks


def test_a_new_node_is_checked_within_a_second(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.see(node, 100.0)
    assert 100.0 <= table.next_due <= 100.0 + FIRST_CHECK
    assert table.due(99.9) is None
    assert table.due(100.0 + FIRST_CHECK) == node


def test_who_is_being_checked_is_not_named_again_at_once(table: Table) -> None:
    table.see(node_at(LOCAL, 200), 0.0)
    table.due(10.0)
    assert table.due(10.0) is None
    assert table.next_due > 10.0 + FAST_CHECK


def test_checks_become_rare_for_those_that_answer_and_frequent_for_those_that_do_not(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.see(node, 0.0)
    assert table.due(1.0) == node
    table.confirm(node, 1.0)
    assert 0.8 * FAST_CHECK <= table.next_due - 1.0 <= 1.2 * FAST_CHECK
    now = table.next_due
    assert table.due(now) == node
    table.confirm(node, now)
    assert 0.8 * SLOW_CHECK <= table.next_due - now <= 1.2 * SLOW_CHECK
    table.fail(node, now)
    assert 0.8 * FAST_CHECK <= table.next_due - now <= 1.2 * FAST_CHECK


def test_nodes_that_came_together_are_not_checked_together(table: Table) -> None:
    nodes = fill(table, 200)
    for node in nodes:
        table.confirm(node, 0.0)
    due: list[float] = []
    while len(due) < len(nodes):
        due.append(table.next_due)
        assert table.due(due[-1]) is not None
    assert len(set(due)) == len(nodes)
    assert due[-1] - due[0] > 0.2 * SLOW_CHECK


def test_nobody_is_due_in_an_empty_table(table: Table) -> None:
    assert table.next_due == float("inf")
    assert table.due(1e9) is None


def test_who_has_gone_is_not_checked(table: Table) -> None:
    node = node_at(LOCAL, 200)
    table.see(node, 0.0)
    for _ in range(MOST_SILENCES):
        table.fail(node, 0.0)
    assert table.next_due == float("inf")


def test_thousands_of_answers_leave_no_plans_behind(table: Table) -> None:
    nodes = fill(table, 200, 4)
    for step in range(20_000):
        table.confirm(nodes[step % 4], float(step))
    assert len(table._checks) <= 4 * (len(table) + 1)
