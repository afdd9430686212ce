"""Heads on other branches, chains that stall, beacon nodes that go back: what is held is an ancestor's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.errors import StateUnavailable
from ethsync.heads.source import BeaconNodes
from ethsync.serve.profiles import PROFILES
from ethsync.store.datadir import open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.wire.snap import SnapMessage
from tests.faults.changing_states import changed, some_account
from tests.faults.live_chain import (
    LiveChain,
    beacon_replies,
    follow,
    follow_until_served,
    make_chain,
    open_live_chain,
    open_states,
)
from tests.faults.syncing import Synced, assert_state
from tests.oracles.beacon_node import SYNCING, open_beacon_node, syncing

LITTLE = replace(PROFILES["geth"], most_bytes=1_500)
DISTANCE = 64
PIVOT = 100
HEAD = PIVOT + DISTANCE
SOME_SLOTS = 4.0
"""Seconds of the test's clock; a slot is one."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


async def assert_held(synced: Synced, live: LiveChain, number: int, datadir: Path) -> None:
    """The state of this block of the present chain is held, and the headers from the head down to the genesis."""
    assert synced.error is None
    assert synced.verified is not None
    assert synced.verified.block_hash == f"0x{live.chain.headers[number].hash.hex()}"
    await assert_state(synced, live.chain.states[number], datadir)
    with open_datadir(datadir) as opened:
        store = HeaderStore(opened.headers)
        assert store.low == 0
        assert store.top is not None
        assert store.top.number >= number
        assert [store.raw(at) for at in range(store.top.number + 1)] == [
            header.raw for header in live.chain.headers[: store.top.number + 1]
        ]


@pytest.mark.parametrize(
    ("fork", "head", "pivot"),
    [
        pytest.param(HEAD - 1, HEAD + 1, PIVOT, id="of the head"),
        pytest.param(PIVOT + 1, HEAD + 5, PIVOT, id="of all blocks above the pivot"),
        pytest.param(PIVOT, HEAD + 5, PIVOT + 5, id="of the pivot"),
        pytest.param(PIVOT - 1, HEAD + 1, PIVOT + 1, id="one block deeper than the pivot"),
        pytest.param(3, HEAD + 60, PIVOT + 60, id="nearly of the whole chain"),
        pytest.param(20, PIVOT - 10, PIVOT - 10 - DISTANCE, id="to a branch that is shorter than the way to the pivot"),
    ],
)
async def test_a_reorganisation(fork: int, head: int, pivot: int, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    rng = Random(fork)
    before = [some_account(rng) for _ in range(200)]
    states = {PIVOT: before, pivot: changed(rng, before, 0.1)} if pivot != PIVOT else {PIVOT: before}
    async with open_states(tmp_path, states) as views:
        chain = make_chain({PIVOT: views[PIVOT]}, HEAD + 1)
        branch = chain.branch(fork, views if fork > PIVOT else {pivot: views[pivot]}, head + 1, seed=2)
        async with open_live_chain(chain, HEAD, LITTLE) as live, trio.open_nursery() as nursery:

            async def reorganise() -> None:
                await live.served(6_000)
                live.grow(head, branch)

            # When the head is on another branch in the middle of a sync
            nursery.start_soon(reorganise)
            synced = await follow(live, tmp_path / "d")
            nursery.cancel_scope.cancel()
        # Then the pivot moves if it must, and only then;
        assert synced.progress.pivot_moves == (pivot != PIVOT)
        if pivot == PIVOT:
            assert live.watch.requests[SnapMessage.TRIE_NODES] == 0
        # what is held in the end is the state of an ancestor of the newest head.
        await assert_held(synced, live, pivot, tmp_path / "d")


async def test_a_branch_that_is_left_again(tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    rng = Random(1)
    before = [some_account(rng) for _ in range(250)]
    after = changed(rng, before, 0.1)
    async with open_states(tmp_path, {PIVOT: before, PIVOT + 1: after, PIVOT + 2: changed(rng, before, 0.05)}) as views:
        chain = make_chain({PIVOT: views[PIVOT], PIVOT + 2: views[PIVOT + 2]}, HEAD + 3)
        branch = chain.branch(50, {PIVOT + 1: views[PIVOT + 1]}, HEAD + 2, seed=2)
        async with open_live_chain(chain, HEAD, LITTLE) as live, trio.open_nursery() as nursery:

            async def reorganise() -> None:
                await live.served(6_000)
                live.grow(HEAD + 1, branch)
                await live.served(6_000)
                live.grow(HEAD + 2, chain)

            nursery.start_soon(reorganise)
            synced = await follow(live, tmp_path / "d")
            nursery.cancel_scope.cancel()
        assert synced.progress.pivot_moves == 2
        await assert_held(synced, live, PIVOT + 2, tmp_path / "d")


async def test_a_chain_that_stalls(tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    # Given a chain that stands still, whose newest state peers have dropped all the same
    rng = Random(2)
    before = [some_account(rng) for _ in range(200)]
    async with open_states(tmp_path, {PIVOT: before, PIVOT + 1: changed(rng, before, 0.1)}) as views:
        chain = make_chain(views, HEAD + 2)
        async with open_live_chain(chain, HEAD, LITTLE) as live:

            async def lose_it() -> None:
                await live.served(6_000)
                live.serve_states()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose_it)
                synced = await follow(live, tmp_path / "d")
            # Then the sync says which root nobody serves, and keeps what it has;
            assert isinstance(synced.error, StateUnavailable)
            assert f"0x{views[PIVOT].state_root.hex()}" in str(synced.error)
            asked = live.watch.items[SnapMessage.ACCOUNT_RANGE]
            # once the chain goes on by a block, so does the sync.
            live.grow(HEAD + 1)
            live.serve_states(PIVOT + 1)
            synced = await follow(live, tmp_path / "d")
        await assert_held(synced, live, PIVOT + 1, tmp_path / "d")
        assert asked < live.watch.items[SnapMessage.ACCOUNT_RANGE] < len(before) + 100


async def test_a_minority_without_the_state_does_not_move_the_pivot(
    tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    rng = Random(3)
    before = [some_account(rng) for _ in range(300)]
    async with open_states(tmp_path, {PIVOT: before, PIVOT + 1: changed(rng, before, 0.1)}) as views:
        chain = make_chain(views, HEAD + 2)
        async with open_live_chain(chain, HEAD, LITTLE, LITTLE, LITTLE) as live, trio.open_nursery() as nursery:

            async def lose_it() -> None:
                await live.served(8_000)
                live.grow(HEAD + 1)
                live.hosts[0].server.states.forget_root(views[PIVOT].state_root)

            nursery.start_soon(lose_it)
            synced = await follow(live, tmp_path / "d")
            nursery.cancel_scope.cancel()
        assert live.named == [HEAD, HEAD + 1]
        assert synced.progress.pivot_moves == 0
        await assert_held(synced, live, PIVOT, tmp_path / "d")


@pytest.mark.parametrize("trouble", ["goes back", "is away", "is syncing"])
async def test_a_beacon_node_with_troubles(trouble: str, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    rng = Random(4)
    before = [some_account(rng) for _ in range(250)]
    async with open_states(tmp_path, {PIVOT: before, PIVOT + 60: changed(rng, before, 0.1)}) as views:
        chain = make_chain(views, HEAD + 61)
        async with open_live_chain(chain, HEAD, LITTLE) as live, open_beacon_node() as beacon:
            beacon.replies = beacon_replies(chain.headers[HEAD])
            source = BeaconNodes((beacon.url,))
            troubles: dict[str, Callable[[], None]] = {
                "goes back": lambda: beacon.replies.update(beacon_replies(chain.headers[HEAD - 30])),
                "is away": beacon.replies.clear,
                "is syncing": lambda: beacon.replies.update({SYNCING: syncing(1_000, is_syncing=True)}),
            }
            async with trio.open_nursery() as nursery:

                async def move() -> None:
                    # When the beacon node has its troubles for a while in the middle of a sync
                    await live.served(5_000)
                    troubles[trouble]()
                    live.serve_states()
                    asked = len(beacon.asked)
                    await trio.sleep(SOME_SLOTS)
                    assert len(beacon.asked) > asked
                    # and then goes on where the chain is by then, whose newest state alone is served
                    live.grow(HEAD + 60)
                    live.serve_states(PIVOT + 60)
                    beacon.replies = beacon_replies(chain.headers[HEAD + 60])

                nursery.start_soon(move)
                synced = await follow(live, tmp_path / "d", source=source, patience=5 * SOME_SLOTS)
                nursery.cancel_scope.cancel()
        await assert_held(synced, live, PIVOT + 60, tmp_path / "d")


async def test_a_beacon_node_that_is_behind_what_is_stored_does_not_hold_up_the_start(
    tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    rng = Random(5)
    before = [some_account(rng) for _ in range(200)]
    async with open_states(tmp_path, {PIVOT: before}) as views:
        chain = make_chain(views, HEAD + 61)
        async with open_live_chain(chain, HEAD, LITTLE) as live:
            # Given a sync that was stopped, and another beacon node, which is some blocks behind
            assert await follow_until_served(live, 6_000, tmp_path / "d") is None
            live.trust(HEAD - 3)
            # When it goes on, then to its end, with the pivot that it has.
            synced = await follow(live, tmp_path / "d")
        assert synced.progress.pivot_moves == 0
        await assert_held(synced, live, PIVOT, tmp_path / "d")
