"""What a lookup costs in networks of 100, 1,000 and 10,000 nodes, and that it finds the right ones, liars or not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from math import log2
from statistics import mean

import pytest

from ethsync.discovery.discv5_messages import FindNode
from ethsync.discovery.discv5_nodes import claimed_node, lookup_distances
from ethsync.discovery.lookup import MOST_QUERIES, RESULT_SIZE, Lookup
from ethsync.discovery.node import Node, distance
from ethsync.discovery.protocol import Target
from tests.simulation.light import names
from tests.simulation.world import Manner, World, populate

SIZES = 100, 1_000, 10_000
LOOKUPS = 30


@dataclass(frozen=True)
class Survey:
    """Of many lookups: the queries of each, and which part of the truly nearest nodes that live it found."""

    queries: list[int]
    right: list[float]


def ask(world: World, node: Node, target: Target) -> list[Node] | None:
    """What a node says when it is asked for nodes near the target, after the checks of discv5; None for nothing."""
    citizen = world.at.get(node.endpoint)
    if citizen is None or citizen.manner is Manner.DEAD:
        return None
    distances = lookup_distances(distance(node.node_id, target.node_id))
    told = names(world, citizen, FindNode(b"", distances))
    return [found for one in told if (found := claimed_node(one.record, node, distances)) is not None]


def look_up(world: World, local_id: bytes, target: Target) -> Lookup:
    """A lookup from the table that a node with this id has."""
    wanted = int.from_bytes(target.node_id, "big")
    place = int.from_bytes(local_id, "big")
    known = [one for each in range(1, 257) for one in world.residents.bucket(place, each)]
    seeds = sorted(known, key=lambda one: one.number ^ wanted)[:RESULT_SIZE]
    lookup = Lookup(target, [one.node for one in seeds], local_id=local_id)
    while not lookup.done:
        for node in lookup.next_queries():
            found = ask(world, node, target)
            if found is None:
                lookup.failed(node)
            else:
                lookup.answered(node, found)
    return lookup


@cache
def survey(size: int, dead: float = 0.0, lying: float = 0.0) -> Survey:
    """Lookups of random targets by random nodes."""
    world = populate(size, seed=size, dead=dead, lying=lying)
    rng = random.Random(f"survey {size}")
    alive = [one for one in world.residents.citizens if one.manner is not Manner.DEAD]
    queries, right = [], []
    for _ in range(LOOKUPS):
        local_id, target = rng.randbytes(32), Target(bytes(64), rng.randbytes(32))
        lookup = look_up(world, local_id, target)
        wanted = int.from_bytes(target.node_id, "big")
        nearest = sorted(alive, key=lambda one: one.number ^ wanted)[:RESULT_SIZE]
        queries.append(lookup.queries)
        right.append(len({one.node_id for one in nearest} & {one.node_id for one in lookup.closest}) / RESULT_SIZE)
    return Survey(queries, right)


def growth(surveys: list[Survey]) -> list[float]:
    """Queries that each doubling of the network costs, from one size to the next."""
    counts = [mean(one.queries) for one in surveys]
    steps = zip(SIZES, SIZES[1:], counts, counts[1:], strict=False)
    return [(more - fewer) / log2(larger / smaller) for smaller, larger, fewer, more in steps]


@pytest.mark.parametrize(("dead", "lying"), [(0.0, 0.0), (0.3, 0.2)], ids=["all honest", "30 % dead, 20 % lying"])
def test_a_network_twice_as_large_costs_a_lookup_one_query_more_at_most(dead: float, lying: float) -> None:
    surveys = [survey(size, dead, lying) for size in SIZES]
    # 16 have to be asked in any case, because a lookup ends when the 16 nearest have answered. What comes on top of
    # them is of the order of log n: each doubling adds less than a query, and no more at the large end.
    first, last = growth(surveys)
    assert 0 < last <= first + 0.1 <= 1.1
    assert mean(surveys[-1].queries) < RESULT_SIZE + log2(SIZES[-1])


def test_a_lookup_among_honest_nodes_finds_the_nearest() -> None:
    for size in SIZES:
        found = survey(size)
        assert mean(found.right) > 0.97
        assert max(found.queries) <= 24


def test_the_dead_and_the_liars_cost_queries_and_hide_next_to_nobody() -> None:
    for size in SIZES:
        honest, hostile = survey(size), survey(size, 0.3, 0.2)
        assert mean(hostile.right) > 0.9
        assert mean(hostile.queries) < 1.7 * mean(honest.queries)
        assert max(hostile.queries) < MOST_QUERIES
