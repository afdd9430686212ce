"""Lookups: whom they ask, in which order, when they end, and what liars can do to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address

from ethsync.discovery.lookup import MOST_PER_SUBNET, MOST_QUERIES, PARALLEL, RESULT_SIZE, Lookup
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.protocol import Target
from tests.oracles.nodes import node_at, sorted_by_distance

LOCAL = random.Random(5).randbytes(32)
TARGET = Target(bytes(64), random.Random(6).randbytes(32))


def near(away: int, number: int = 0, *, ip: str | None = None) -> Node:
    """A node at a logarithmic distance from the target."""
    return node_at(TARGET.node_id, away, number, ip=ip)


def begin(*seeds: Node) -> Lookup:
    return Lookup(TARGET, seeds, local_id=LOCAL)


def run(lookup: Lookup, answer: Callable[[Node], Iterable[Node] | None]) -> None:
    """Ask until it is done; `answer` returns None for those that say nothing."""
    while not lookup.done:
        for node in lookup.next_queries():
            found = answer(node)
            if found is None:
                lookup.failed(node)
            else:
                lookup.answered(node, found)


def test_the_nearest_seeds_are_asked_first_three_at_a_time() -> None:
    seeds = [near(away) for away in (250, 200, 240, 210, 230)]
    lookup = begin(*seeds)
    asked = lookup.next_queries()
    assert asked == sorted_by_distance(seeds, TARGET.node_id)[:PARALLEL]
    assert lookup.next_queries() == []
    lookup.answered(asked[1], [])
    assert lookup.next_queries() == [near(240)]
    assert lookup.queries == 4


def test_nearer_nodes_that_are_found_go_before_the_seeds() -> None:
    lookup = begin(*[near(250, number) for number in range(10)])
    asked = lookup.next_queries()
    lookup.answered(asked[0], [near(100), near(251)])
    assert lookup.next_queries() == [near(100)]


def test_it_ends_when_the_nearest_sixteen_have_all_been_asked() -> None:
    # Given more nodes than a result has, all known to the seed,
    nodes = [near(200, number) for number in range(40)]
    asked: list[Node] = []

    def answer(node: Node) -> list[Node]:
        asked.append(node)
        return nodes if node == near(250) else []

    lookup = begin(near(250))
    run(lookup, answer)
    # then the sixteen nearest are asked, and nobody beyond.
    expected = sorted_by_distance(nodes, TARGET.node_id)[:RESULT_SIZE]
    assert set(asked) == {near(250), *expected}
    assert lookup.closest == expected
    assert lookup.queries == len(asked) == RESULT_SIZE + 1


def test_without_seeds_it_is_done_at_once() -> None:
    lookup = begin()
    assert lookup.done
    assert lookup.next_queries() == []
    assert lookup.closest == []


def test_while_an_answer_is_awaited_it_is_not_done() -> None:
    lookup = begin(near(200))
    lookup.next_queries()
    assert not lookup.done
    lookup.answered(near(200), [])
    assert lookup.done


def test_others_move_up_for_those_that_do_not_answer() -> None:
    nodes = [near(200, number) for number in range(24)]
    ordered = sorted_by_distance(nodes, TARGET.node_id)
    dead = set(ordered[:8])
    lookup = begin(*nodes)
    run(lookup, lambda node: None if node in dead else [])
    assert lookup.closest == ordered[8:]
    assert lookup.queries == 24


def test_nobody_is_asked_twice_and_we_are_not_asked() -> None:
    ourselves = Node(LOCAL, LOCAL + LOCAL, Endpoint(IPv4Address("20.1.1.1"), 1), 1)
    nodes = [near(200, number) for number in range(5)]
    asked: list[Node] = []

    def answer(node: Node) -> list[Node]:
        asked.append(node)
        moved = [replace(each, endpoint=Endpoint(IPv4Address("20.99.1.1"), 1)) for each in nodes]
        return [*nodes, *moved, ourselves, *asked]

    lookup = begin(nodes[0], ourselves)
    run(lookup, answer)
    assert sorted(node.node_id for node in asked) == sorted(node.node_id for node in nodes)


def test_an_answer_that_nobody_waits_for_is_not_taken() -> None:
    lookup = begin(near(200))
    lookup.answered(near(199), [near(100)])
    assert lookup.next_queries() == [near(200)]
    lookup.answered(near(200), [])
    lookup.answered(near(200), [near(100)])
    assert lookup.done


def test_one_answer_brings_sixteen_candidates_at_most() -> None:
    nodes = [near(200, number) for number in range(100)]
    lookup = begin(near(250))
    (asked,) = lookup.next_queries()
    lookup.answered(asked, nodes)
    taken = []
    while found := lookup.next_queries():
        taken += found
        for node in found:
            lookup.failed(node)
    assert taken == sorted_by_distance(nodes, TARGET.node_id)[:RESULT_SIZE]


# Liars


def test_a_liar_who_always_knows_of_nearer_nodes_cannot_keep_it_running() -> None:
    # Given an attacker with an address in every network, who invents nearer nodes without end,
    rng = random.Random(1)

    def answer(node: Node) -> list[Node]:
        away = (int.from_bytes(node.node_id, "big") ^ int.from_bytes(TARGET.node_id, "big")).bit_length()
        ips = [f"{rng.randrange(20, 90)}.{rng.randrange(256)}.{rng.randrange(256)}.1" for _ in range(RESULT_SIZE)]
        return [near(max(away - 1, 20), rng.getrandbits(18), ip=ip) for ip in ips]

    lookup = begin(near(250))
    run(lookup, answer)
    # then it ends nevertheless.
    assert lookup.queries == MOST_QUERIES
    assert lookup.done


def test_nodes_invented_in_one_subnet_displace_few_honest_ones() -> None:
    # Given honest nodes, and a liar who invents nodes right beside the target, in one subnet, some of which answer,
    rng = random.Random(1)
    honest = [near(200, number) for number in range(RESULT_SIZE)]
    asked_evil: set[bytes] = set()

    def answer(node: Node) -> list[Node] | None:
        if node not in honest:
            asked_evil.add(node.node_id)
        return [near(100, rng.getrandbits(80), ip=f"66.6.6.{rng.randrange(256)}") for _ in range(RESULT_SIZE)]

    lookup = begin(*honest)
    run(lookup, answer)
    # then a quarter of the result is invented at most.
    assert len(asked_evil) == MOST_PER_SUBNET
    assert set(lookup.closest) >= set(sorted_by_distance(honest, TARGET.node_id)[: RESULT_SIZE - MOST_PER_SUBNET])


def test_in_a_subnet_the_nearer_ones_are_asked_whichever_came_first() -> None:
    far = [near(250, number, ip=f"66.6.6.{number}") for number in range(MOST_PER_SUBNET)]
    nearer = [near(200, number, ip=f"66.6.6.{number + 100}") for number in range(MOST_PER_SUBNET)]
    lookup = begin(*far, *nearer)
    run(lookup, lambda node: [])
    assert lookup.closest == sorted_by_distance(nearer, TARGET.node_id)


def test_neighbours_are_not_limited() -> None:
    nodes = [near(200, number, ip=f"192.168.1.{number + 1}") for number in range(12)]
    lookup = begin(*nodes)
    run(lookup, lambda node: [])
    assert len(lookup.closest) == 12


def test_a_node_that_was_passed_over_gives_its_part_in_the_subnet_back() -> None:
    # Given candidates of one subnet that are then pushed out by many nearer ones of other subnets,
    far = [near(250, number, ip=f"66.6.6.{number}") for number in range(MOST_PER_SUBNET)]
    crowd = [near(210, number) for number in range(2 * RESULT_SIZE)]
    late = [near(100, number, ip=f"66.6.6.{number + 100}") for number in range(MOST_PER_SUBNET)]
    lookup = begin(*far, *crowd, *late)
    # then others of that subnet are not shut out.
    run(lookup, lambda node: [])
    assert set(late) <= set(lookup.closest)
