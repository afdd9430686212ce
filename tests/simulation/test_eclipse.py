"""10,000 attackers in four subnets, among 10,000 other nodes: what they get, and that the others still come."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ethsync.discovery.addresses import subnet
from ethsync.discovery.bucket import SUBNET_PER_BUCKET, SUBNET_PER_TABLE
from ethsync.discovery.candidates import MOST_PER_SUBNET as MOST_CANDIDATES
from ethsync.discovery.node import Node, distance
from ethsync.discovery.turns import SUBNET_BURST, SUBNET_PERIOD
from ethsync.peers.slots import MOST_PER_SUBNET as MOST_PEERS
from tests.simulation.doors import call_on_us
from tests.simulation.node import Sighted, open_node
from tests.simulation.roads import OUR_ADDRESS
from tests.simulation.world import Citizen, besieged, populate

SUBNETS = ["66.6.1", "66.6.2", "77.7.7", "88.8.8"]
SIZE = 10_000
SECONDS = 60.0
PACKETS, DIALS = 50, 5
"""Attackers that call on us per second, over UDP and over TCP."""


async def attack(node: Sighted, attackers: list[Citizen], nursery: trio.Nursery) -> None:
    """One attacker after another makes itself known, in random order; some dial us."""
    rng = random.Random("attack")
    while True:
        for number, one in enumerate(rng.sample(attackers, PACKETS)):
            light = node.post.light(one.endpoint)
            assert light is not None
            for datagram in light.call_on(node.as_seen, trio.current_time()):
                node.post.send(one.endpoint, datagram)
            if number < DIALS:
                nursery.start_soon(call_on_us, node.roads, one, node.key)
        await trio.sleep(1)


def by_subnet(addresses: Iterable[object]) -> Counter[str]:
    """How many of these addresses are in each of the attackers' subnets."""
    return Counter(place for each in addresses if (place := str(each).rpartition(".")[0]) in SUBNETS)


def dialled(node: Sighted) -> list[str]:
    """The address of each of our dials."""
    return [host for (host, _), count in node.roads.dials.items() if host != OUR_ADDRESS[0] for _ in range(count)]


@pytest.mark.slow
async def test_attackers_in_four_subnets_get_their_share_of_everything_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_clock: MockClock
) -> None:
    # Given 10,000 honest nodes, of whose ids as many are the attackers', who call on us as fast as they can
    world = besieged(populate(SIZE), SIZE, SUBNETS)
    async with open_node(world, tmp_path / "node", monkeypatch) as node, trio.open_nursery() as nursery:
        nursery.start_soon(attack, node, world.attackers.citizens, nursery)
        # When we start, then we have our peers as soon as without them, and they have little.
        await node.reaches(50, within=60)
        await trio.sleep(SECONDS - node.elapsed)
        assert node.peers > 50
        assert_fair_shares(node)
        nursery.cancel_scope.cancel()


def assert_fair_shares(node: Sighted) -> None:
    """Attackers have some part in everything, but no more than their subnets' share."""
    known = node.table.closest(node.table.local_id, 10_000, confirmed=False)
    assert 4 <= sum(by_subnet(one.endpoint.ip for one in known).values()) < len(known) / 3
    for place in SUBNETS:
        # of the table,
        assert 1 <= node.table.share_of(subnet(IPv4Address(f"{place}.1"))) <= SUBNET_PER_TABLE == 10
        # of the candidates,
        assert by_subnet(one.host for one in node.candidates)[place] <= MOST_CANDIDATES == 64
        # of our dials,
        assert by_subnet(dialled(node))[place] <= SUBNET_BURST + SECONDS / SUBNET_PERIOD == 10
        # and of the peers, whoever dialled.
        assert by_subnet(peer.enode.host for peer in node.pool.peers.values())[place] <= MOST_PEERS == 2
    buckets: dict[int, list[Node]] = {}
    for one in known:
        buckets.setdefault(distance(one.node_id, node.table.local_id), []).append(one)
    for bucket in buckets.values():
        assert all(count <= SUBNET_PER_BUCKET for count in by_subnet(one.endpoint.ip for one in bucket).values())
    # For all that they tried, 4 of 5 dials and more went to others.
    assert sum(by_subnet(dialled(node)).values()) < len(dialled(node)) / 5
    assert node.roads.dials[OUR_ADDRESS] >= DIALS * SECONDS
