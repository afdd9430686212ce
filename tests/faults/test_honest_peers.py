"""Every honest server, alone and in company: the sync ends with the right root, and nobody is blamed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from ethsync.errors import DisconnectReason, StateUnavailable
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.state.view import StateView
from ethsync.wire.snap import SnapMessage
from tests.faults.conftest import SMALL_SPEC
from tests.faults.syncing import Synced, assert_state, open_hosts, sync, sync_from

HONEST_ALONE = [
    "geth",
    "nethermind",
    "importing",
    "bloated-proof",
    "reversed-proof",
    "proof-of-full-set",
    "late-duplicates",
    "reordered-codes",
]
"""Profiles from each of which the whole state can be had by itself, without waiting."""

TIRESOME = ["besu", "silent", "no-accounts", "no-storage", "no-codes", "missing-codes", "disconnecting", "capped"]
"""Profiles that do no harm but of which most give little or nothing."""

MIXES: dict[str, list[str]] = {
    "real clients": ["geth", "besu", "nethermind", "importing"],
    "one does the work": ["besu", "silent", "no-accounts", "no-storage", "no-codes", "geth"],
    "each does its part": ["no-accounts", "no-storage", "no-codes"],
    "strange but true": ["bloated-proof", "reversed-proof", "proof-of-full-set", "late-duplicates", "reordered-codes"],
    "stingy and unsteady": ["capped", "disconnecting", "geth", "missing-codes"],
}


async def assert_whole(synced: Synced, state: StateView, datadir: Path) -> None:
    """The sync ended well, and nobody was blamed for anything."""
    await assert_state(synced, state, datadir)
    assert synced.progress.dropped == []


@pytest.mark.parametrize("profile", HONEST_ALONE)
async def test_one_honest_peer_is_enough(
    profile: str, state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, _ = await sync(state, tmp_path / "d", profile)
    await assert_whole(synced, state, tmp_path / "d")


async def test_peers_are_told_when_the_sync_is_done(small_state: StateView, tmp_path: Path) -> None:
    async with open_hosts(small_state, "geth", "besu") as hosts:
        await sync_from(hosts, tmp_path / "d")
        for host in hosts:
            await host.watch.goodbye.wait()
            assert host.watch.farewells == [DisconnectReason.CLIENT_QUITTING]


@pytest.mark.parametrize("profile", TIRESOME)
async def test_a_tiresome_peer_beside_an_honest_one_does_no_harm(
    profile: str, state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, _ = await sync(state, tmp_path / "d", profile, "geth", patience=40)
    await assert_whole(synced, state, tmp_path / "d")


@pytest.mark.parametrize("mix", MIXES)
async def test_mixes(mix: str, state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    synced, _ = await sync(state, tmp_path / "d", *MIXES[mix], patience=40)
    await assert_whole(synced, state, tmp_path / "d")


async def test_a_peer_that_sends_500_bytes_at_a_time_is_enough(small_state: StateView, tmp_path: Path) -> None:
    synced, (host,) = await sync(small_state, tmp_path / "d", "capped")
    await assert_whole(synced, small_state, tmp_path / "d")
    assert host.watch.replies[SnapMessage.BYTE_CODES] == SMALL_SPEC.codes  # one code per reply


async def test_a_peer_that_hangs_up_again_and_again_is_dialled_again(
    state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, (host,) = await sync(state, tmp_path / "d", "disconnecting", patience=40)
    await assert_whole(synced, state, tmp_path / "d")
    assert host.watch.connections > 1


async def test_a_slow_peer_is_used_less_than_a_quick_one(
    state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    few = replace(PROFILES["geth"], most_bytes=4_000)
    slow = replace(few, delay=2.0)
    synced, (sluggish, quick) = await sync(state, tmp_path / "d", slow, few, patience=40)
    await assert_whole(synced, state, tmp_path / "d")
    assert quick.watch.total_leaf_bytes > 5 * sluggish.watch.total_leaf_bytes > 0


@pytest.mark.parametrize(
    "profile",
    [PROFILES["besu"], PROFILES["silent"], replace(PROFILES["silent"], first_lie=1)],
    ids=lambda one: one.name,
)
async def test_peers_that_give_nothing_end_in_a_clear_error_and_keep_everything(
    profile: Profile, state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, _ = await sync(state, tmp_path / "d", profile)
    assert isinstance(synced.error, StateUnavailable)
    assert "run the same command again" in str(synced.error)
    # When somebody serves the state, the same directory goes on
    synced, _ = await sync(state, tmp_path / "d", "geth")
    await assert_whole(synced, state, tmp_path / "d")


async def test_an_answer_that_comes_after_its_time_does_no_harm(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    # Given a peer that needs longer for its first answer than anyone waits
    async with open_hosts(small_state, replace(PROFILES["slow"], delay=20.0)) as (host,):

        async def wake_up() -> None:
            await host.watch.served(1).wait()
            host.server.profile = PROFILES["geth"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wake_up)
            synced = await sync_from([host], tmp_path / "d", patience=60)
    # Then that answer is too late, and the next one is as good
    assert synced.progress.outcomes["accounts timeout"] == 1
    await assert_whole(synced, small_state, tmp_path / "d")
    assert host.watch.connections == 1


async def test_an_honest_peer_is_found_among_many_silent_ones(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    """Each silent peer costs the first request its time; together they cost more than patience."""
    synced, hosts = await sync(small_state, tmp_path / "d", "silent", "silent", "geth", patience=10)
    await assert_whole(synced, small_state, tmp_path / "d")
    assert hosts[-1].watch.total_leaf_bytes > 0
