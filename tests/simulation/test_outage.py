"""The network is gone for an hour of virtual time, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.simulation.node import open_node
from tests.simulation.world import populate

HOUR = 3600.0


@pytest.mark.slow
@pytest.mark.parametrize(("size", "peers"), [(10_000, 50), (400, 20)], ids=["a large network", "a small one"])
async def test_after_an_hour_without_network_there_are_peers_again_within_a_minute(
    size: int, peers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_clock: MockClock
) -> None:
    async with open_node(populate(size), tmp_path / "node", monkeypatch) as node:
        await node.reaches(peers, within=60)
        # Given that for an hour nothing got through, and all peers were lost
        node.cut()
        sent, dials = node.finder.counts["sent"], node.roads.dials.total()
        await trio.sleep(HOUR)
        assert node.peers == 0
        # (meanwhile next to nothing was sent: about one packet and one dial per second)
        assert node.finder.counts["sent"] - sent < HOUR
        assert node.roads.dials.total() - dials < HOUR
        # When the network is back, the first peer is there within seconds and the others soon after:
        # of an hour of failures nobody was blamed.
        node.cut(down=False)
        assert await node.reaches(1, within=60) < 6
        assert await node.reaches(peers, within=60) < 30
