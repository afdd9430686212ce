"""A datadir that holds one state is brought to another: only what differs is fetched, and the result is that state.

Over sockets, with threads, on a disk. Thousands of states without these are in tests/property.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from shutil import rmtree

import pytest
import trio

from tests.faults.changing_states import changed, some_account
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import assert_state, open_hosts, sync, sync_from
from tests.faults.test_resume import LITTLE, stopped_after


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that some hundred accounts have many of them."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


async def finished_becomes_another(seed: int, tmp_path: Path) -> None:
    # Given a datadir with state A,
    rng = Random(seed)
    before = [some_account(rng) for _ in range(rng.choice((1, 3, 40, 300)))]
    create_demo_state(tmp_path / "a", before)
    with opened(tmp_path / "a") as state:
        await sync(state, tmp_path / "d", "geth")
    # and a peer that serves state B only
    after = changed(rng, before, rng.choice((0.02, 0.3, 1.0))) or before
    create_demo_state(tmp_path / "b", after)
    with opened(tmp_path / "b") as state:
        # when it is synced with B's block as the head, then it holds exactly B.
        synced, _ = await sync(state, tmp_path / "d", "geth")
        await assert_state(synced, state, tmp_path / "d")
        if after != before:
            assert synced.progress.healing.items > 0


async def unfinished_becomes_another(seed: int, tmp_path: Path) -> None:
    # Given a sync of state A that was stopped somewhere
    rng = Random(seed)
    before = [some_account(rng) for _ in range(300)]
    create_demo_state(tmp_path / "a", before)
    with opened(tmp_path / "a") as state:
        async with open_hosts(state, LITTLE) as (host,):
            await stopped_after(host, rng.randrange(5_000, 60_000), tmp_path / "d")
    # When it goes on from a peer that serves state B only, then it ends with exactly B.
    create_demo_state(tmp_path / "b", changed(rng, before, rng.choice((0.02, 0.3, 1.0))))
    with opened(tmp_path / "b") as state:
        synced, _ = await sync(state, tmp_path / "d", "geth")
        await assert_state(synced, state, tmp_path / "d")


@pytest.mark.parametrize("seed", range(4))
async def test_a_finished_state_becomes_another(seed: int, tmp_path: Path) -> None:
    await finished_becomes_another(seed, tmp_path)


@pytest.mark.parametrize("seed", range(20, 23))
async def test_an_unfinished_sync_goes_on_with_another_block(seed: int, tmp_path: Path) -> None:
    await unfinished_becomes_another(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1040))
async def test_many_states_become_others(seed: int, tmp_path: Path) -> None:
    for case in (finished_becomes_another, unfinished_becomes_another):
        place = tmp_path / case.__name__
        place.mkdir()
        await case(seed, place)
        rmtree(place)


async def test_a_head_that_nobody_knows_changes_nothing(tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    rng = Random(40)
    create_demo_state(tmp_path / "a", [some_account(rng) for _ in range(40)])
    create_demo_state(tmp_path / "b", [some_account(rng) for _ in range(40)])
    with opened(tmp_path / "a") as state, opened(tmp_path / "b") as other:
        await sync(state, tmp_path / "d", "geth")
        async with open_hosts(state, "geth") as hosts:
            hosts[0].server.head = other.header
            synced = await sync_from(hosts, tmp_path / "d")
        assert "sent the header of block" in str(synced.error)
        again, _ = await sync(state, tmp_path / "d", "geth")
        await assert_state(again, state, tmp_path / "d")
