"""A sync during which the chain goes on: the pivot moves, and in the end there is exactly the state of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.serve.profiles import PROFILES
from ethsync.serve.small_state import StatedAccount
from ethsync.wire.snap import SnapMessage
from tests.faults.changing_states import changed, some_account
from tests.faults.live_chain import (
    LiveChain,
    follow,
    follow_until_served,
    make_chain,
    open_live_chain,
    open_states,
)
from tests.faults.syncing import Synced, assert_state

LITTLE = replace(PROFILES["geth"], most_bytes=1_500)
"""geth with small replies, so that a sync of some hundred accounts has many, and parts of pages are in hand."""

DISTANCE, STEP = 64, 57
"""Blocks from a pivot to the head in whose light it is chosen, and to the next pivot: that is chosen when the head is
121 blocks on."""

FIRST = 10
"""Number of the first pivot."""

IN_FLIGHT = 100
"""Accounts that may be asked for twice: those of the replies under way, and of the pages that were in hand."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that some hundred accounts have many of them."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


def some_states(rng: Random, accounts: int, count: int, share: float) -> dict[int, list[StatedAccount]]:
    """States of blocks that become pivots, each with changes to the one before, by number."""
    states = [[some_account(rng) for _ in range(accounts)]]
    while len(states) < count:
        states.append(changed(rng, states[-1], share))
    return {FIRST + STEP * k: state for k, state in enumerate(states)}


async def move_when_served(live: LiveChain, moments: Sequence[int]) -> None:
    """Let the next block that is to be a pivot become one whenever so many more bytes were served in all."""
    for moment in moments:
        await live.served(moment)
        live.grow(live.head.number + STEP)


async def assert_last(synced: Synced, live: LiveChain, datadir: Path) -> None:
    """What is held is exactly the state of the pivot that the newest head demands."""
    assert synced.error is None
    assert synced.verified is not None
    assert synced.verified.block_number == live.head.number - DISTANCE
    await assert_state(synced, live.chain.states[synced.verified.block_number], datadir)


@pytest.mark.parametrize("seed", range(4))
async def test_the_pivot_moves_again_and_again(seed: int, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    # Given a chain in which accounts, storage and codes change from pivot to pivot, of which servers have two states
    rng = Random(seed)
    states = some_states(rng, 200, 5, rng.choice((0.02, 0.1, 0.3)))
    async with open_states(tmp_path, states) as views:
        chain = make_chain(views, max(views) + DISTANCE + 1)
        async with open_live_chain(chain, FIRST + DISTANCE, LITTLE) as live, trio.open_nursery() as nursery:
            # When it moves on while it is synced
            nursery.start_soon(move_when_served, live, [rng.randrange(1_000, 12_000) for _ in range(4)])
            synced = await follow(live, tmp_path / "d")
            nursery.cancel_scope.cancel()
        # Then the state of the last pivot is whole, and nothing else is there;
        await assert_last(synced, live, tmp_path / "d")
        assert synced.progress.pivot_moves == len(live.named) - 1 == 4
    # and no key space was asked for again that was finished.
    asked = live.watch.items[SnapMessage.ACCOUNT_RANGE]
    assert asked <= max(map(len, states.values())) + 4 * IN_FLIGHT


async def test_a_pivot_that_does_not_move_costs_no_healing(tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    rng = Random(10)
    async with open_states(tmp_path, some_states(rng, 150, 1, 0)) as views:
        chain = make_chain(views, 200)
        async with open_live_chain(chain, FIRST + DISTANCE, LITTLE) as live, trio.open_nursery() as nursery:

            async def go_on() -> None:
                while True:
                    await live.served(1_000)
                    live.grow(min(live.head.number + 8, FIRST + 120))

            nursery.start_soon(go_on)
            synced = await follow(live, tmp_path / "d")
            nursery.cancel_scope.cancel()
        assert len(live.named) > 5
        assert synced.progress.pivot_moves == 0
        assert live.watch.requests[SnapMessage.TRIE_NODES] == 0
        assert synced.error is None
        await assert_state(synced, views[FIRST], tmp_path / "d")


@pytest.mark.parametrize("seed", range(2))
async def test_a_sync_that_is_stopped_between_moves_goes_on_with_a_newer_pivot(
    seed: int, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    rng = Random(100 + seed)
    async with open_states(tmp_path, some_states(rng, 200, 4, 0.1)) as views:
        chain = make_chain(views, max(views) + DISTANCE + 1)
        async with open_live_chain(chain, FIRST + DISTANCE, LITTLE) as live:
            # Given a sync that is stopped three times, while the chain goes on each time
            for _ in range(3):
                if await follow_until_served(live, rng.randrange(2_000, 12_000), tmp_path / "d") is None:
                    live.grow(live.head.number + STEP)
            # When it is run to its end, then it holds the state of the newest pivot.
            synced = await follow(live, tmp_path / "d")
        await assert_last(synced, live, tmp_path / "d")


@pytest.mark.parametrize("client", ["geth", "nethermind"])
async def test_a_state_that_peers_have_no_more_is_left_at_once(
    client: str, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    # Given peers that keep one state only, and answer in their way when they are asked for another
    rng = Random(30)
    before = [some_account(rng) for _ in range(200)]
    states = {FIRST: before, FIRST + 20: changed(rng, before, 0.1)}
    profile = replace(PROFILES[client], most_bytes=1_500)
    async with open_states(tmp_path, states) as views:
        chain = make_chain(views, 200)
        async with (
            open_live_chain(chain, FIRST + DISTANCE, profile, profile) as live,
            trio.open_nursery() as nursery,
        ):
            live.serve_states(FIRST)

            async def lose_it() -> None:
                await live.served(8_000)
                live.grow(FIRST + DISTANCE + 20)
                live.serve_states(FIRST + 20)

            # When they drop the state of the pivot, of which the head is no more than 84 blocks away
            nursery.start_soon(lose_it)
            began = trio.current_time()
            synced = await follow(live, tmp_path / "d", patience=60.0)
            nursery.cancel_scope.cancel()
        # Then the pivot moves, and patience need not run out for it.
        assert synced.progress.pivot_moves == 1
        assert trio.current_time() - began < 30
        await assert_last(synced, live, tmp_path / "d")
