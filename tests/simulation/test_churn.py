"""Whole syncs in virtual time, from peers that are found over discv5, dialled, lost, and found again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ethsync.peers.finding import Finding
from ethsync.serve.counters import ServerCounters
from ethsync.serve.profiles import PROFILES
from ethsync.serve.server import Server, ServerOptions, run_server
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.sync.chain import only_block
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, run_snap
from tests.faults.syncing import Synced, assert_state
from tests.simulation.node import open_wires
from tests.simulation.post import Post
from tests.simulation.world import NETWORK, OURS, PORT, Citizen, Door, Manner, populate

SPEC = SyntheticSpec(accounts=1_200, contracts=120, slots=3_600, codes=60, seed=11, code_bytes=300, headers=20)
HOSTS = 10
HOUR = 3600.0
LIFE = 20.0
"""Seconds for which a peer is there, and then is not."""

BUSY = replace(PROFILES["geth"], most_bytes=1_000, delay=0.5)
"""A server that lets one wait: so that little can be had of each peer before it goes."""


def served_by(citizen: Citizen, view: StateView) -> Callable[..., Awaitable[None]]:
    """The server of a citizen, to be run."""
    host = str(citizen.endpoint.ip)
    options = ServerOptions(host, PORT, key=citizen.key, profile=BUSY)
    return partial(run_server, view, network=NETWORK, options=options)


@dataclass(slots=True, eq=False)
class Visitor:
    """A server that comes and goes."""

    citizen: Citizen
    counters: ServerCounters = field(default_factory=ServerCounters)
    visits: int = 0

    async def run(self, view: StateView, post: Post, first: float) -> None:
        """Be there for a while, and away for as long, for ever; `first` seconds from now for the first time."""
        self.citizen.manner = Manner.DEAD
        await trio.sleep(first)
        while True:
            self.citizen.manner = Manner.HONEST
            self.visits += 1
            with trio.move_on_after(LIFE):
                async with trio.open_nursery() as nursery:
                    server: Server = await nursery.start(served_by(self.citizen, view))
                    server.counters = self.counters
                    await trio.sleep_forever()
            self.citizen.manner = Manner.DEAD
            post.lights.pop(self.citizen.endpoint, None)  # its sessions are gone, as after a restart
            await trio.sleep(LIFE)


async def test_a_sync_that_is_cut_off_for_an_hour_goes_on_within_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_clock: MockClock
) -> None:
    create_synthetic(SPEC, tmp_path / "served")
    world = populate(60, doors={Door.FULL: 1})
    hosts = [one for one in world.honest() if one.fork == OURS]
    with open_datadir(tmp_path / "served") as datadir:
        view = StateView(datadir)
        opened = open_wires(world, tmp_path / "node", monkeypatch, boot=hosts[:3])
        async with opened as wires, trio.open_nursery() as nursery:
            servers = [await nursery.start(served_by(one, view)) for one in hosts[3 : 3 + HOSTS]]
            synced, ended = Synced(Progress(trio.current_time())), trio.Event()

            async def sync() -> None:
                finding = Finding(wires.options)
                options = SnapOptions(NETWORK, [], only_block(view.header.hash), tmp_path / "node", 0, finding=finding)
                synced.verified = await run_snap(options, synced.progress)
                ended.set()

            def served() -> int:
                return sum(server.counters.total_leaf_bytes for server in servers)

            # Given a sync that has begun, and an hour without network
            nursery.start_soon(sync)
            await trio.sleep(5)
            assert served() > 0
            assert synced.verified is None
            wires.post.down = wires.roads.down = True
            await trio.sleep(HOUR)
            before = served()
            # When the network returns, then within a minute something is served again,
            wires.post.down = wires.roads.down = False
            await trio.sleep(60)
            assert served() > before
            # and in the end all is there.
            with trio.fail_after(HOUR):
                await ended.wait()
            nursery.cancel_scope.cancel()
        await assert_state(synced, view, tmp_path / "node")


async def test_a_sync_from_ten_peers_that_come_and_go_every_20_seconds_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, virtual_clock: MockClock
) -> None:
    create_synthetic(SPEC, tmp_path / "served")
    world = populate(60, doors={Door.FULL: 1})
    hosts = [one for one in world.honest() if one.fork == OURS]
    boot, visitors = hosts[:3], [Visitor(one) for one in hosts[3 : 3 + HOSTS]]
    assert len(visitors) == HOSTS
    with open_datadir(tmp_path / "served") as datadir:
        view = StateView(datadir)
        opened = open_wires(world, tmp_path / "node", monkeypatch, boot=boot)
        async with opened as wires, trio.open_nursery() as nursery:
            # Given ten peers, each there for 20 s and away for 20 s, one after another
            for number, visitor in enumerate(visitors):
                nursery.start_soon(visitor.run, view, wires.post, number * 2 * LIFE / HOSTS)
            began = trio.current_time()
            synced = Synced(Progress(began))
            finding = Finding(wires.options)
            options = SnapOptions(NETWORK, [], only_block(view.header.hash), tmp_path / "node", 0, finding=finding)
            # When we sync from them for so long that all were lost several times
            synced.verified = await run_snap(options, synced.progress)
            taken = trio.current_time() - began
            nursery.cancel_scope.cancel()
        # Then nothing is missing, and nobody is blamed for what was under way when it went.
        await assert_state(synced, view, tmp_path / "node")
    assert taken > 4 * LIFE
    assert sum(count for name, count in synced.progress.outcomes.items() if name.endswith("disconnected")) > HOSTS
    assert sum(visitor.counters.connections for visitor in visitors) > HOSTS
    # Nearly all were found again while they were there: whoever waited an hour after a failure would miss them.
    assert sum(visitor.counters.total_leaf_bytes > 0 for visitor in visitors) >= 0.8 * HOSTS
    assert synced.progress.dropped == []
