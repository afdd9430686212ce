"""A sync in a process of its own is killed at 25 random moments, and interrupted politely."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.errors import DisconnectReason
from ethsync.serve.profiles import PROFILES
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from tests.faults.processes import open_process, run, run_ethsync, snap_command
from tests.faults.states import opened
from tests.faults.syncing import open_hosts, sync

SPEC = SyntheticSpec(accounts=60_000, contracts=3_000, slots=80_000, codes=1_000, seed=11, code_bytes=600)
"""Some 11 MB of leaves."""

REPLY = 12_000
LITTLE = replace(PROFILES["geth"], most_bytes=REPLY)
"""geth with small replies: some hundreds for the whole state, so that a kill can hit any part of it."""

KILLS = 25

IN_FLIGHT = 7 * REPLY
"""Bytes under way at one peer at the most: requests as of `ethsync.peers.assignment.SLOTS`, without headers."""

UNWRITTEN = 96_000
"""Bytes proven but not yet written: two open account pages of 16 kB, open pages of the contract with a third of all
slots, and storage of account pages whose bundle is not complete."""

WINDOW = IN_FLIGHT + UNWRITTEN
"""Bytes that may be served twice for one kill. 25 times this is much less than the state: a sync that kept nothing
would not pass."""

FAREWELL_SECONDS = 2.0


@pytest.fixture(scope="module")
def large_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("served") / "large"
    create_synthetic(SPEC, path)
    with opened(path) as view:
        yield view


async def test_killed_at_25_random_moments(large_state: StateView, tmp_path: Path) -> None:
    # Given what a sync costs that nothing disturbs
    _, (host,) = await sync(large_state, tmp_path / "undisturbed", LITTLE)
    whole = host.watch.total_leaf_bytes
    rng = Random(25)
    moments = sorted(rng.randrange(whole) for _ in range(KILLS))
    # When a sync is killed each time that so many bytes were served in all
    async with open_hosts(large_state, LITTLE) as (host,):
        command = snap_command(large_state, [host], tmp_path / "d")
        for moment in moments:
            async with open_process(command) as running:
                await host.watch.served(moment).wait()
                ended = await running.stop(signal.SIGKILL)
                assert ended.code == -signal.SIGKILL
                assert "verified" not in ended.output
        # Then the same command finishes it,
        ended = await run(command)
    assert ended.code == 0, ended.errors
    assert f"state root 0x{large_state.state_root.hex()}" in ended.output
    # at a price that is bounded,
    twice = host.watch.total_leaf_bytes - whole
    print(f"{whole:,} bytes, and {twice // KILLS:,} of {WINDOW:,} twice for each kill")
    assert twice <= 0.02 * whole + KILLS * WINDOW
    # and all of it holds.
    verdict = await run_ethsync("verify", "--datadir", str(tmp_path / "d"), "--json")
    assert verdict.code == 0
    facts = json.loads(verdict.output)
    assert (facts["holds"], facts["accounts"], facts["slots"]) == (True, SPEC.accounts, SPEC.slots)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_soon_and_says_what_is_kept(
    number: signal.Signals, large_state: StateView, tmp_path: Path
) -> None:
    slow = replace(LITTLE, delay=0.01)
    async with open_hosts(large_state, slow) as (host,):
        async with open_process(snap_command(large_state, [host], tmp_path / "d")) as running:
            await host.watch.served(2_000_000).wait()
            began = trio.current_time()
            ended = await running.stop(number)
            assert trio.current_time() - began < FAREWELL_SECONDS
        assert ended.code == 130
        assert "interrupted: kept" in ended.errors
        assert "the same command continues from there" in ended.errors
        kept = await run_ethsync("status", "--datadir", str(tmp_path / "d"), "--json")
        assert json.loads(kept.output)["accounts"]["stored"] > 0


async def test_a_signal_before_anything_was_reached(state: StateView, tmp_path: Path) -> None:
    async with open_hosts(state, "silent") as (host,):
        connected = host.watch.requested()
        async with open_process(snap_command(state, [host], tmp_path / "d")) as running:
            await connected.wait()
            ended = await running.stop(signal.SIGINT)
        # Its peer is told that it quits, as by other clients.
        with trio.fail_after(FAREWELL_SECONDS):
            await host.watch.goodbye.wait()
        assert host.watch.farewells == [DisconnectReason.CLIENT_QUITTING]
    assert ended.code == 130
    assert "nothing was stored yet" in ended.errors
