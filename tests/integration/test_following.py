"""`ethsync snap --follow` against a peer whose head moves, over real sockets: every block, and nothing between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.heads.head import HeadFeed, TrustedHead
from ethsync.heads.source import BeaconNodes
from ethsync.networks import Network
from ethsync.serve.blocks import HeaderChain
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.server import Server, open_server
from ethsync.serve.small_state import StatedAccount, create_state
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.patches import last_step
from ethsync.sync.chain import ALL, ChainOptions
from ethsync.sync.pivots import PivotRules
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from ethsync.wire.headers import Header, decode_header
from tests.faults.changing_states import changed, some_account
from tests.faults.states import opened
from tests.faults.stepping import assert_holds

AT_THE_HEAD = PivotRules(0, 0)
"""The head's state is served as soon as the head is named."""


@dataclass(slots=True)
class World:
    """A peer, the blocks it has, and who names its head."""

    server: Server
    path: Path
    rng: Random
    heads: trio.MemorySendChannel[bytes]
    stack: AsyncExitStack
    headers: list[Header]
    views: dict[bytes, StateView] = field(default_factory=dict)
    accounts: dict[bytes, Sequence[StatedAccount]] = field(default_factory=dict)

    async def build(self, number: int, share: float = 0.1) -> StateView:
        """A new block on top of the one before `number`, with some accounts changed; it becomes the head."""
        self.headers = self.headers[:number]
        parent = self.headers[-1]
        accounts = changed(self.rng, list(self.accounts[parent.hash]), share)
        view = self.add(accounts, parent)
        self.server.states.add(view)
        self.server.head = view.header
        self.server.service.chain = HeaderChain(self.headers, view.header)
        await self.heads.send(view.header.hash)
        return view

    def add(self, accounts: Sequence[StatedAccount], parent: Header) -> StateView:
        path = self.path / f"{parent.number + 1}-{len(self.views)}"
        header = create_state(
            accounts,
            path,
            demo_network(),
            lambda root: head_header(root, len(self.views), parent.number + 1, parent.hash),
        )
        self.headers.append(header)
        self.accounts[header.hash] = accounts
        self.views[header.hash] = self.stack.enter_context(opened(path))
        return self.views[header.hash]


@asynccontextmanager
async def open_world(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A peer that serves a first block with a few hundred accounts."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 8)
    heads, received = trio.open_memory_channel[bytes](100)

    async def name_heads(
        source: object, network: Network, feed: HeadFeed, *, task_status: trio.TaskStatus[None]
    ) -> None:
        task_status.started()
        async with received.clone() as mine:
            async for block_hash in mine:
                feed.publish(TrustedHead(block_hash))

    monkeypatch.setattr("ethsync.sync.chain.run_head_source", name_heads)
    async with AsyncExitStack() as stack:
        genesis = decode_header(demo_network().genesis_header_raw or b"")
        rng = Random(1)
        world = World(None, path, rng, heads, stack, [genesis])  # type: ignore[arg-type]
        view = world.add([some_account(rng) for _ in range(300)], genesis)
        world.server = await stack.enter_async_context(open_server(view, network=demo_network()))
        world.server.service.chain = HeaderChain(world.headers, view.header)
        await heads.send(view.header.hash)
        yield world


@dataclass(slots=True)
class Follower:
    """A sync with --follow under way."""

    held: trio.MemoryReceiveChannel[Verified]
    progress: Progress

    async def reaches(self, view: StateView) -> Verified:
        """Wait until this block's state is held."""
        with trio.fail_after(60):
            while (verified := await self.held.receive()).block_hash != f"0x{view.header.hash.hex()}":
                pass
        return verified


@asynccontextmanager
async def following(world: World, datadir: Path) -> AsyncIterator[Follower]:
    """Follow for as long as the block lasts; it ends as by Ctrl-C."""
    send, receive = trio.open_memory_channel[Verified](100)
    progress = Progress(trio.current_time())
    chain = ChainOptions(BeaconNodes(()), ALL, AT_THE_HEAD, AT_THE_HEAD)
    options = SnapOptions(
        demo_network(), [world.server.enode], chain, datadir, 0, 20.0, follow=True, holds=send.send_nowait
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_snap, options, progress))
        yield Follower(receive, progress)
        nursery.cancel_scope.cancel()


async def test_every_new_block_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        # Given a sync that has reached its end and follows,
        async with following(world, tmp_path / "d") as follower:
            await follower.reaches(world.views[world.headers[-1].hash])
            # when new blocks come one after the other,
            for number in range(2, 7):
                view = await world.build(number)
                # then each one's state is held, and what is said of it is right.
                verified = await follower.reaches(view)
                assert verified.accounts == len(world.accounts[view.header.hash])
                assert verified.slots == sum(len(each.storage) for each in world.accounts[view.header.hash])
                assert verified.contracts == sum(bool(each.storage) for each in world.accounts[view.header.hash])
            # A block that changes nothing is held too.
            view = await world.build(7, share=0.0)
            await follower.reaches(view)
            assert follower.progress.pivot_moves == 0
        # Interrupted, the directory holds exactly the last one.
        await assert_holds(tmp_path / "d", view)
        with open_datadir(tmp_path / "d") as datadir:
            assert last_step(datadir.patches) == 6
        # When it is followed again after a while, it goes on from there without anything verified anew.
        view = await world.build(8)
        async with following(world, tmp_path / "d") as follower:
            await follower.reaches(view)
            assert follower.progress.verification.started is None
        await assert_holds(tmp_path / "d", view)


async def test_a_reorganisation_is_a_step_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        async with following(world, tmp_path / "d") as follower:
            # Given a chain of four blocks that was followed,
            await follower.reaches(world.views[world.headers[-1].hash])
            for number in (2, 3, 4):
                await follower.reaches(await world.build(number))
            # when another branch grows from the second one on and becomes the longer one,
            for number in (3, 4, 5):
                view = await world.build(number)
            # then its head's state is held.
            await follower.reaches(view)
            assert follower.progress.pivot_moves == 0
        await assert_holds(tmp_path / "d", view)


async def test_a_way_too_long_for_a_step_is_healed_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given room for next to nothing in memory
    monkeypatch.setattr("ethsync.sync.step.MOST_STEP_BYTES", 2_000)
    async with open_world(tmp_path, monkeypatch) as world:
        async with following(world, tmp_path / "d") as follower:
            await follower.reaches(world.views[world.headers[-1].hash])
            # when a block changes much, then its state is healed in place and verified,
            await follower.reaches(await world.build(2, share=0.5))
            assert follower.progress.pivot_moves == 1
            # and following goes on.
            monkeypatch.setattr("ethsync.sync.step.MOST_STEP_BYTES", 1 << 20)
            view = await world.build(3)
            await follower.reaches(view)
            assert follower.progress.pivot_moves == 1
        await assert_holds(tmp_path / "d", view)
