"""A process that follows is killed at random moments: what it leaves is one block's state, the old or the new.

The states of four blocks take turns, so that the chain can be as long as a test wants.
"""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.commands.status import collect
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.store.datadir import open_datadir
from ethsync.sync.pivots import DISTANCE, FOLLOWING
from tests.faults.live_chain import Chain, LiveChain, make_chain, open_live_chain
from tests.faults.processes import TIME_LIMIT, Running, open_process, snap_command
from tests.faults.states import opened
from tests.faults.syncing import findings
from tests.oracles.beacon_node import follows_chain, open_beacon_node

SPEC = SyntheticSpec(accounts=6_000, contracts=600, slots=9_000, codes=100, seed=13, code_bytes=200)
CHANGED = (0, 60, 400, 150)
"""Accounts in which the states that take turns differ from the first one."""

FIRST = 8
NEXT = FIRST + DISTANCE - FOLLOWING.distance
"""The first block that is followed: of the head that the sync began with."""

SLOT_MS = 1_000
"""The shortest that a beacon node may say: it is asked once in each slot."""

FAREWELL_SECONDS = 2.0

STEP_SECONDS = 0.25
"""From the first request of a step until it is written and some pages are folded, with room for a busy machine."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    path = tmp_path_factory.mktemp("chain")
    with ExitStack() as stack:
        views = []
        for place, changed in enumerate(CHANGED):
            create_synthetic(replace(SPEC, changed=changed), path / str(place))
            views.append(stack.enter_context(opened(path / str(place))))
        numbers = (FIRST, *range(NEXT, NEXT + 80))
        yield make_chain({number: views[number % len(views)] for number in numbers}, max(numbers) + 3)


@dataclass(slots=True, eq=False)
class Followed:
    """A chain whose head moves, and the command that follows it."""

    live: LiveChain
    command: list[str]
    datadir: Path

    @property
    def wanted(self) -> int:
        """The block that a follower is to hold."""
        return self.live.head.number - FOLLOWING.distance

    def grow(self) -> None:
        """One block more."""
        self.live.grow(self.live.head.number + 1)
        assert self.live.beacon is not None
        self.live.beacon.replies |= follows_chain(self.live.hosts[0].server.network.chain_id, SLOT_MS)

    async def assert_whole(self, *numbers: int) -> int:
        """The directory holds exactly the state of one of these blocks, and says which. Returns its number."""
        with open_datadir(self.datadir) as datadir:
            told = collect(datadir, time.time())
        number = told["block"]["number"]
        assert number in numbers
        assert told["verified"]["block_hash"] == told["block"]["hash"]
        assert told["block"]["hash"] == f"0x{self.live.chain.headers[number].hash.hex()}"
        assert told["healing"] is None
        found = await findings(self.datadir)
        assert found.problems == []
        assert (found.accounts, found.slots) == (told["verified"]["accounts"], told["verified"]["slots"])
        return int(number)


@asynccontextmanager
async def followed(chain: Chain, datadir: Path) -> AsyncIterator[Followed]:
    """A server and a beacon node."""
    async with (
        open_live_chain(chain, NEXT + FOLLOWING.distance - 1, "geth", window=3) as live,
        open_beacon_node() as live.beacon,
    ):
        head = f"beacon:{live.beacon.url}"
        command = snap_command(chain.states[FIRST], live.hosts, datadir, "--follow", head=head)
        it = Followed(live, command, datadir)
        it.grow()
        live.serve_states(FIRST, NEXT)
        yield it


async def says(running: Running, text: str) -> None:
    """Wait until a process has said this on stderr."""
    said = b""
    assert running.process.stderr is not None
    with trio.fail_after(TIME_LIMIT):
        while text.encode() not in said:
            chunk = await running.process.stderr.receive_some()
            assert chunk, said.decode()
            said += chunk


async def kill_again_and_again(chain: Chain, datadir: Path, kills: int) -> None:
    rng = Random(kills)
    left = [0, 0]
    async with followed(chain, datadir) as it:
        held = FIRST
        for _ in range(kills):
            # Given a follower that holds the state of the newest block that it can
            async with open_process(it.command) as running:
                await says(running, f"block {it.wanted} held")
                # when it is killed at some moment of the step to the next one,
                held = it.wanted
                asked = it.live.watch.requested()
                it.grow()
                with trio.fail_after(TIME_LIMIT):
                    await asked.wait()
                await trio.sleep(rng.uniform(0, STEP_SECONDS))  # real time: it is another process that goes on
                await running.stop(signal.SIGKILL)
            # then that block's state is left, or the one before.
            left[await it.assert_whole(held, held + 1) - held] += 1
        # And the same command goes on from there, with nothing verified anew.
        async with open_process(it.command) as running:
            await says(running, f"block {it.wanted} held")
            with trio.fail_after(FAREWELL_SECONDS):
                ended = await running.stop(signal.SIGINT)
        assert ended.code == 0, ended.errors
        root = it.live.chain.states[it.wanted].state_root
        assert f"block {it.wanted} verified: state root 0x{root.hex()}" in ended.output
        await it.assert_whole(it.wanted)
    print(f"{left[0]} kills have left the old block, {left[1]} the new one")


async def test_killed_while_following(chain: Chain, tmp_path: Path) -> None:
    await kill_again_and_again(chain, tmp_path / "d", 3)


@pytest.mark.slow
async def test_killed_at_25_random_moments_of_following(chain: Chain, tmp_path: Path) -> None:
    await kill_again_and_again(chain, tmp_path / "d", 25)
