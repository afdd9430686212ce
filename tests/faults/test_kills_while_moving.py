"""A sync in a process of its own is killed at 25 random moments, while its pivot moves and while it heals."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.serve.profiles import PROFILES
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.wire.snap import SnapMessage
from tests.faults.live_chain import Chain, LiveChain, make_chain, open_live_chain
from tests.faults.processes import TIME_LIMIT, open_process, run, run_ethsync, snap_command
from tests.faults.states import opened
from tests.oracles.beacon_node import open_beacon_node

SPEC = SyntheticSpec(accounts=40_000, contracts=2_000, slots=55_000, codes=700, seed=11, code_bytes=600)
"""Some 7.5 MB of leaves."""

CHANGED = (0, 200, 400, 600)
"""Accounts in which the states of the pivots differ from the first one."""

DISTANCE, STEP, FIRST = 64, 57, 10

REPLY = 12_000
SLOW = replace(PROFILES["geth"], most_bytes=REPLY, delay=0.008)
"""geth with small replies, some hundreds for a whole state, over some seconds: a beacon node is asked every second."""

MOVES = (600_000, 2_000_000, 3_500_000)
"""Bytes served when the next block becomes the pivot."""

KILLS = 25
LATE_KILLS = 8
"""So many of them in the last sixth: in what healing takes."""

IN_FLIGHT = 7 * REPLY
"""Bytes under way at one peer at the most: requests as of `ethsync.peers.assignment.SLOTS`, without headers."""

UNWRITTEN = 96_000
"""Bytes proven but not yet written: as in `test_kills`; while healing, nodes of pages that are not finished."""

UPPER = 20_000
"""Bytes of the trie nodes above the pages and down to what still differs: they lead whoever goes on with healing there,
and stand nowhere on the disk."""

WINDOW = IN_FLIGHT + UNWRITTEN + UPPER


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    path = tmp_path_factory.mktemp("chain")
    with ExitStack() as stack:
        views = {}
        for place, changed in enumerate(CHANGED):
            create_synthetic(replace(SPEC, changed=changed), path / str(place))
            views[FIRST + STEP * place] = stack.enter_context(opened(path / str(place)))
        yield make_chain(views, max(views) + DISTANCE + 1)


@asynccontextmanager
async def moving(chain: Chain) -> AsyncIterator[tuple[LiveChain, str]]:
    """A server and a beacon node whose chain goes on as more and more is served; the beacon node's URL."""
    async with (
        open_live_chain(chain, FIRST + DISTANCE, SLOW, window=3) as live,
        open_beacon_node() as live.beacon,
        trio.open_nursery() as nursery,
    ):

        async def move() -> None:
            for moment in MOVES:
                await live.watch.served(moment).wait()
                live.grow(live.head.number + STEP)

        live.trust(FIRST + DISTANCE)
        nursery.start_soon(move)
        yield live, f"beacon:{live.beacon.url}"
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_killed_at_25_random_moments_of_download_moves_and_healing(chain: Chain, tmp_path: Path) -> None:
    first, last = chain.states[FIRST], chain.states[max(chain.states)]
    # Given what a sync costs that nothing disturbs
    async with moving(chain) as (live, head):
        ended = await run(snap_command(first, live.hosts, tmp_path / "undisturbed", head=head))
        assert ended.code == 0, ended.errors
        assert f"state root 0x{last.state_root.hex()}" in ended.output
        whole = live.watch.total_leaf_bytes
        assert live.watch.items[SnapMessage.TRIE_NODES] > max(CHANGED)
    rng = Random(25)
    moments = [rng.randrange(whole) for _ in range(KILLS - LATE_KILLS)]
    moments += [rng.randrange(whole * 5 // 6, whole) for _ in range(LATE_KILLS)]
    # When a sync is killed each time that so many bytes were served in all
    async with moving(chain) as (live, head):
        command = snap_command(first, live.hosts, tmp_path / "d", head=head)
        for moment in sorted(moments):
            async with open_process(command) as running:
                with trio.fail_after(TIME_LIMIT):
                    await live.watch.served(moment).wait()
                ended = await running.stop(signal.SIGKILL)
                assert ended.code == -signal.SIGKILL
        # Then the same command finishes it,
        ended = await run(command)
    assert ended.code == 0, ended.errors
    assert f"state root 0x{last.state_root.hex()}" in ended.output
    # at a price that is bounded,
    twice = live.watch.total_leaf_bytes - whole
    print(f"{whole:,} bytes, and {twice // KILLS:,} of {WINDOW:,} twice for each kill; {live.watch.items}")
    assert twice <= 0.02 * whole + KILLS * WINDOW
    # and all of it holds.
    verdict = await run_ethsync("verify", "--datadir", str(tmp_path / "d"), "--json")
    assert verdict.code == 0
    assert json.loads(verdict.output)["holds"]
