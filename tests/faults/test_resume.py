"""Stopping and going on: nothing that was stored is asked for again, whatever stopped the sync."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.commands.status import collect
from ethsync.errors import StateUnavailable
from ethsync.serve.profiles import PROFILES
from ethsync.state.pages import path_of
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import STORAGE_PAGE, TOP, storage_key
from tests.faults.processes import run_ethsync
from tests.faults.syncing import Host, Synced, Watch, assert_state, contents, open_hosts, sync, sync_from

LITTLE = replace(PROFILES["geth"], most_bytes=8_000)
"""geth with small replies, so that a sync of the test state has some hundred."""

IN_FLIGHT = 7
"""Requests under way at one peer at the most: `ethsync.peers.assignment.SLOTS` without headers."""

UNWRITTEN = 100_000
"""Bytes of leaves that are proven but not written when a sync stops: open pages, and storage whose bundle has no end
yet. Half an account page and its storage, for each of the pages under way."""

WINDOW = IN_FLIGHT * 8_000 + UNWRITTEN
"""Bytes that may be served twice for one stop."""


async def stopped_after(host: Host, size: int, datadir: Path) -> Synced | None:
    """Run a sync until so many more bytes of leaves were served, then cancel it; None if it was cancelled."""
    finished: list[Synced] = []
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await host.watch.served(host.watch.total_leaf_bytes + size).wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        finished.append(await sync_from([host], datadir))
        nursery.cancel_scope.cancel()
    return finished[0] if finished else None


async def bytes_of_one_run(state: StateView, datadir: Path) -> int:
    """Leaf bytes that a sync costs when nothing disturbs it."""
    synced, (host,) = await sync(state, datadir, LITTLE)
    assert synced.error is None
    return host.watch.total_leaf_bytes


@pytest.mark.parametrize("seed", range(4))
async def test_a_sync_that_was_stopped_anywhere_costs_no_more_than_what_was_in_flight(
    seed: int, state: StateView, tmp_path: Path
) -> None:
    whole = await bytes_of_one_run(state, tmp_path / "undisturbed")
    async with open_hosts(state, LITTLE) as (host,):
        assert await stopped_after(host, Random(seed).randrange(whole), tmp_path / "d") is None
        synced = await sync_from([host], tmp_path / "d")
        await assert_state(synced, state, tmp_path / "d")
        assert host.watch.total_leaf_bytes <= 1.02 * whole + WINDOW


async def test_a_sync_that_is_stopped_again_and_again_gets_there(state: StateView, tmp_path: Path) -> None:
    whole = await bytes_of_one_run(state, tmp_path / "undisturbed")
    rng = Random(7)
    stops = 0
    async with open_hosts(state, LITTLE) as (host,):
        while (synced := await stopped_after(host, rng.randrange(whole // 8, whole // 3), tmp_path / "d")) is None:
            stops += 1
        await assert_state(synced, state, tmp_path / "d")
        assert stops > 3
        assert host.watch.total_leaf_bytes <= 1.02 * whole + stops * WINDOW


async def test_a_finished_sync_asks_nobody(state: StateView, tmp_path: Path) -> None:
    first, _ = await sync(state, tmp_path / "d", "geth")
    again, (host,) = await sync(state, tmp_path / "d", "geth")
    assert again.verified == first.verified
    assert host.watch.connections == 0


async def test_pages_that_no_record_speaks_for_are_named_by_verify_and_removed_by_the_next_sync(
    state: StateView, tmp_path: Path
) -> None:
    first, _ = await sync(state, tmp_path / "d", "geth")
    # Given pages of two accounts, one of which is small and one of which there is not, as a power cut can leave them
    account = min(contents(state)[1])
    for name in (account, bytes(32)):
        with open_datadir(tmp_path / "d") as opened:
            for family in (STORAGE_PAGE, TOP):
                opened.storage.put(storage_key(family, name, path_of(account, 3)), b"nobody's")
    # Then verification names them, and the state is no longer called verified
    verdict = await run_ethsync("verify", "--datadir", str(tmp_path / "d"))
    assert verdict.code == 1
    for name in (account, bytes(32)):
        assert f"account {name.hex()} has storage pages but no record of them" in verdict.output
    assert verdict.output.splitlines()[-1].startswith("run the same `ethsync snap` again; if that finds the same, ")
    # and the next sync removes them, and fetches nothing.
    again, (host,) = await sync(state, tmp_path / "d", "geth")
    await assert_state(again, state, tmp_path / "d")
    assert again.verified is not None
    assert first.verified is not None
    assert again.verified.slots == first.verified.slots
    assert host.watch.total_leaf_bytes == 0


async def test_verify_in_the_middle_of_a_sync_says_that_it_is_not_complete(state: StateView, tmp_path: Path) -> None:
    whole = await bytes_of_one_run(state, tmp_path / "undisturbed")
    async with open_hosts(state, LITTLE) as (host,):
        await stopped_after(host, whole // 2, tmp_path / "d")
    verdict = await run_ethsync("verify", "--datadir", str(tmp_path / "d"))
    assert verdict.code == 1
    assert verdict.output.splitlines()[-1].startswith("the sync is not complete: run the same `ethsync snap` again")


async def test_what_is_kept_is_shown_when_a_sync_goes_on(state: StateView, tmp_path: Path) -> None:
    whole = await bytes_of_one_run(state, tmp_path / "undisturbed")
    async with open_hosts(state, LITTLE) as (host,):
        await stopped_after(host, whole // 2, tmp_path / "d")
        synced = await sync_from([host], tmp_path / "d")
    progress = synced.progress
    assert 0 < progress.accounts.kept_items < progress.accounts.items == 3_000
    assert (progress.storage.items, progress.codes.items) == (9_000, 150)
    assert progress.storage.kept_items > 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_root_that_nobody_serves_any_more_ends_the_sync_and_keeps_everything(
    share: float, state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    whole = await bytes_of_one_run(state, tmp_path / "undisturbed")
    async with open_hosts(state, LITTLE, replace(PROFILES["nethermind"], most_bytes=8_000)) as hosts:
        watch = Watch()  # of both: either may be so much quicker that it serves nearly everything
        for host in hosts:
            host.server.counters = watch

        async def forget_after(served: trio.Event) -> None:
            await served.wait()
            for host in hosts:
                host.server.states.forget_root(state.state_root)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forget_after, watch.served(int(share * whole)))
            synced = await sync_from(hosts, tmp_path / "d")
            nursery.cancel_scope.cancel()
        # Then it says so,
        assert isinstance(synced.error, StateUnavailable)
        assert f"0x{state.state_root.hex()}" in str(synced.error)
        # Nethermind's replies are undecodable then
        assert all("undecodable" in drop.why for drop in synced.progress.dropped)
    # and goes on from there when somebody serves it again.
    synced, (host,) = await sync(state, tmp_path / "d", LITTLE)
    await assert_state(synced, state, tmp_path / "d")
    assert watch.total_leaf_bytes + host.watch.total_leaf_bytes <= 1.02 * whole + 2 * WINDOW


@pytest.mark.parametrize(("profile", "lacks"), [("no-storage", "storage"), ("no-codes", "codes")])
async def test_a_sync_that_ends_early_says_how_much_is_missing(
    profile: str, lacks: str, small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    # Given a peer that does not serve all, when the sync has given up
    synced, _ = await sync(small_state, tmp_path / "d", profile)
    assert isinstance(synced.error, StateUnavailable)
    # Then it has counted the same as whoever looks at the disk.
    with open_datadir(tmp_path / "d") as opened:
        told = collect(opened, 0.0)
    on_disk = {"storage": told["storage"]["contracts_missing"], "codes": told["codes"]["missing"]}
    found = {"storage": synced.progress.missing_contracts, "codes": synced.progress.missing_codes}
    assert found == {"storage": 0, "codes": 0} | {lacks: on_disk[lacks]}
    assert on_disk[lacks] > 0


async def test_where_accounts_are_missing_nobody_says_that_nothing_else_is(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, _ = await sync(small_state, tmp_path / "d", "no-accounts")
    assert isinstance(synced.error, StateUnavailable)
    assert (synced.progress.missing_contracts, synced.progress.missing_codes) == (None, None)
