"""A node that knows three boot nodes, in a network of 10,000: how soon it has its peers. In virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.simulation.node import open_node
from tests.simulation.world import HEAD, NETWORK, Manner, populate

SIZE = 10_000
PEERS = 50


@pytest.mark.parametrize(
    ("dead", "lying", "within"), [(0.0, 0.0, 20.0), (0.3, 0.2, 40.0)], ids=["all honest", "30 % dead, 20 % lying"]
)
async def test_fifty_peers_within_a_minute_from_three_boot_nodes(
    dead: float, lying: float, within: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_clock: MockClock
) -> None:
    world = populate(SIZE, dead=dead, lying=lying)
    async with open_node(world, tmp_path / "node", monkeypatch) as node:
        taken = await node.reaches(PEERS, within=60)
        # Each of them is a node of our fork that is what its record says;
        for peer in node.pool.peers.values():
            (citizen,) = (one for one in world.residents.citizens if one.public_key == peer.enode.public_key)
            assert citizen.record.fork_id == NETWORK.forks.fork_id(*HEAD)
        # it was done with time to spare, and without a flood;
        assert taken < within
        assert node.finder.counts["sent"] < 100 * taken
        # and only nodes that exist and answered are given to others.
        known = node.table.at_distances(list(range(1, 257)), 10_000)
        assert len(known) == node.table.confirmed > 50
        assert all(world.at[each.endpoint].manner is not Manner.DEAD for each in known)


async def test_lost_packets_make_little_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_clock: MockClock
) -> None:
    async with open_node(populate(SIZE), tmp_path / "node", monkeypatch, loss=0.1) as node:
        await node.reaches(PEERS, within=45)
