"""`ethsync snap --follow` against a peer whose head moves, over real sockets: every block, and nothing between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import coincurve
import pytest
import trio
import trio.testing

from ethsync.api import open_state_now
from ethsync.commands import get, status, verify
from ethsync.errors import DatadirBusy
from ethsync.heads.head import HeadFeed, TrustedHead
from ethsync.heads.source import BeaconNodes
from ethsync.networks import Network
from ethsync.serve.blocks import HeaderChain
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.served import ServedStates
from ethsync.serve.server import Server, ServerOptions, open_server, run_server
from ethsync.serve.small_state import StatedAccount, create_state
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.patches import last_step
from ethsync.sync.chain import ALL, ChainOptions
from ethsync.sync.pivots import PivotRules
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from ethsync.sync.summary import read_summary
from ethsync.wire.headers import Header, decode_header
from tests.faults.changing_states import changed, some_account
from tests.faults.states import opened
from tests.faults.stepping import assert_holds

AT_THE_HEAD = PivotRules(0, 0)
"""The head's state is served as soon as the head is named."""


async def until(is_so: Callable[[], bool]) -> None:
    """Look until something is so: what other tasks find out over real sockets, or have written."""
    with trio.fail_after(60):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(0.02)


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

    async def says(self, text: str) -> None:
        """Wait until it says what is wrong."""
        await until(lambda: text in self.progress.unserved)


@asynccontextmanager
async def following(world: World, datadir: Path, patience: float = 20.0) -> AsyncIterator[Follower]:
    """Follow for as long as the block lasts; it ends as by Ctrl-C."""
    send, receive = trio.open_memory_channel[Verified](100)
    progress = Progress(trio.current_time())
    chain = ChainOptions(BeaconNodes(()), ALL, AT_THE_HEAD, AT_THE_HEAD)
    options = SnapOptions(
        demo_network(), [world.server.enode], chain, datadir, 0, patience, follow=True, holds=send.send_nowait
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


async def test_a_block_that_nobody_serves_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        first = world.views[world.headers[-1].hash]
        async with following(world, tmp_path / "d", patience=0.5) as follower:
            await follower.reaches(first)
            # Given a chain that stands still at a block whose state nobody serves,
            monkeypatch.setattr(world.server.states, "add", lambda view: None)
            missing = await world.build(2)
            # then it is said which root is missing, and what is held stays,
            await follower.says(f"no peer serves state root 0x{missing.state_root.hex()}")
            assert f"block {first.header.number} stays held" in caplog.text
            assert follower.progress.held_number == first.header.number
            # until somebody serves it after all.
            world.server.states = ServedStates(first, missing)
            await follower.reaches(missing)
            assert follower.progress.unserved == ""
        await assert_holds(tmp_path / "d", missing)


async def test_a_block_whose_state_is_gone_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        first = world.views[world.headers[-1].hash]
        async with following(world, tmp_path / "d", patience=0.5) as follower:
            await follower.reaches(first)
            # Given a step to a block whose state nobody serves
            with monkeypatch.context() as patched:
                patched.setattr(world.server.states, "add", lambda view: None)
                missing = await world.build(2)
                await follower.says(missing.state_root.hex())
            # when the chain goes on, then to the next block.
            view = await world.build(3)
            verified = await follower.reaches(view)
            assert verified.block_number == 3
        await assert_holds(tmp_path / "d", view)


async def test_peers_that_are_lost_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = coincurve.PrivateKey()

    async def serve(view: StateView, port: int, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                world.server = await nursery.start(
                    partial(run_server, view, network=demo_network(), options=ServerOptions(port=port, key=key))
                )
                world.server.service.chain = HeaderChain(world.headers, view.header)
                task_status.started(scope)
                await trio.sleep_forever()

    async with open_world(tmp_path, monkeypatch) as world, trio.open_nursery() as nursery:
        first = world.views[world.headers[-1].hash]
        there = await nursery.start(serve, first, 0)
        async with following(world, tmp_path / "d", patience=0.5) as follower:
            await follower.reaches(first)
            # Given a follower whose only peer goes away, while the chain goes on,
            there.cancel()
            view = await world.build(2)
            await until(lambda: not follower.progress.peers)
            # when it is there again, then it is followed again.
            await nursery.start(serve, view, world.server.enode.tcp_port)
            await follower.reaches(view)
        nursery.cancel_scope.cancel()
        await assert_holds(tmp_path / "d", view)


async def test_a_head_that_goes_back_and_sideways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        async with following(world, tmp_path / "d") as follower:
            # Given peers that have the newest state only, and a chain of six blocks that was followed,
            await follower.reaches(world.views[world.headers[-1].hash])
            for number in range(2, 7):
                await follower.reaches(await world.build(number))
            # when the source names an older block of it, nothing is undone;
            await world.heads.send(world.headers[3].hash)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert follower.progress.held_number == 6
            # when the head is a lower block on another branch, then its state is held, and so on up.
            for number in (3, 4, 9):
                while len(world.headers) < number:
                    world.server.states = ServedStates(await world.build(len(world.headers)))
                view = await world.build(number)
                world.server.states = ServedStates(view)
                verified = await follower.reaches(view)
                assert verified.block_number == number
            assert follower.progress.pivot_moves == 0
        await assert_holds(tmp_path / "d", view)


@pytest.mark.parametrize("fits", [True, False], ids=["in memory", "in place"])
async def test_a_restart_after_days(fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        async with following(world, tmp_path / "d") as follower:
            for number in (2, 3):
                view = await world.build(number)
            await follower.reaches(view)
        # Given a follower that was away until the state that it holds is served by nobody,
        for number in range(4, 12):
            view = await world.build(number, share=0.3)
        world.server.states = ServedStates(view)
        if not fits:
            monkeypatch.setattr("ethsync.sync.step.MOST_STEP_BYTES", 2_000)
        # when it goes on, then with the newest block, which is verified as a whole if the way was too long for a step.
        async with following(world, tmp_path / "d") as follower:
            await follower.reaches(view)
            assert (follower.progress.verification.started is None) == fits
            assert follower.progress.pivot_moves == (not fits)
        await assert_holds(tmp_path / "d", view)


async def test_what_others_find_in_a_directory_that_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_world(tmp_path, monkeypatch) as world:
        async with following(world, tmp_path / "d") as follower:
            for number in (2, 3):
                view = await world.build(number)
                await follower.reaches(view)
            # While somebody follows, a directory is his alone; `status` has what he says of it.
            with pytest.raises(DatadirBusy, match="in use by process"), open_state_now(tmp_path / "d"):
                pass
            await until(lambda: (read_summary(tmp_path / "d") or {})["held"] == 3)
            assert status.run(tmp_path / "d", as_json=False) == 0
            assert "held       the whole state of block 3, 0 blocks behind the head\n" in capsys.readouterr().out
        # Afterwards all say the same block.
        key, slim = next((block.key(0), block.value(0)) for block in view.account_blocks())
        assert slim
        assert get.run(f"0x{key.hex()}", (), False, tmp_path / "d", as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["block"]["hash"] == f"0x{view.header.hash.hex()}"
        assert status.run(tmp_path / "d", as_json=True) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["block"]["hash"] == told["verified"]["block_hash"] == f"0x{view.header.hash.hex()}"
        assert told["verified"]["accounts"] == told["accounts"]["stored"] == len(world.accounts[view.header.hash])
        verdict = await trio.to_thread.run_sync(partial(verify.run, tmp_path / "d", None, as_json=True))
        assert verdict == 0
        assert json.loads(capsys.readouterr().out)["state_root"] == f"0x{view.state_root.hex()}"
        # And a sync that does not follow is at its end at once, with nothing laid over the pages any more.
        chain = ChainOptions(BeaconNodes(()), ALL, AT_THE_HEAD)
        options = SnapOptions(demo_network(), [world.server.enode], chain, tmp_path / "d", 0, 20.0)
        await world.heads.send(view.header.hash)
        with trio.fail_after(60):
            verified = await run_snap(options, Progress(trio.current_time()))
        assert verified.block_hash == f"0x{view.header.hash.hex()}"
        with open_datadir(tmp_path / "d") as datadir:
            assert last_step(datadir.patches) == 0
