"""A whole sync among forty real servers, of which most give nothing. How fast it is, is measured in virtual time
(tests/unit/peers/test_crowds.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import trio

from ethsync.peers import bans
from ethsync.peers.keeping import BANS_FILE
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.state.view import StateView
from tests.faults.syncing import assert_state, open_hosts, sync_from

LITTLE = replace(PROFILES["geth"], most_bytes=4_000)
"""Serves so little at a time that everybody is asked many times."""


async def test_thirty_of_forty_peers_always_empty_and_five_garbling_roots_that_they_lost(
    state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    profiles: list[str | Profile] = [
        *["besu"] * 30,
        *[replace(PROFILES["nethermind"], most_bytes=4_000)] * 5,
        *[LITTLE] * 5,
    ]
    async with open_hosts(state, *profiles) as hosts:
        losing, good = hosts[30:35], hosts[35:]

        async def forget_after(first_reply: trio.Event) -> None:
            await first_reply.wait()
            for host in losing:
                host.server.states.forget_root(state.state_root)

        # When five have served something, and then lose the root
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget_after, losing[0].watch.served(1))
            synced = await sync_from(hosts, tmp_path / "d", patience=40)
            nursery.cancel_scope.cancel()
    # Then the others give the rest,
    await assert_state(synced, state, tmp_path / "d")
    assert synced.progress.outcomes["accounts empty"] + synced.progress.outcomes["storage empty"] > 0
    assert all(host.watch.total_leaf_bytes for host in good)
    # some of the five are hung up on for what cannot be decoded, and nobody is banned.
    dropped = {drop.peer.rpartition(":")[2]: drop for drop in synced.progress.dropped}
    assert set(dropped) <= {str(host.server.enode.tcp_port) for host in losing}
    assert not any(drop.banned for drop in dropped.values())
    assert synced.progress.outcomes["accounts malformed"] + synced.progress.outcomes["storage malformed"] > 0
    assert len(bans.load(tmp_path / "d" / BANS_FILE, 0.0)) == 0
    # Those that only had nothing were never hung up on.
    assert all(host.watch.connections == 1 for host in hosts[:30])
