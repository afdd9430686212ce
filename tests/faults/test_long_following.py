"""Following for 2,000 blocks: neither memory nor disk grow with the number of steps."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import trio

from ethsync.heads.source import BeaconNodes
from ethsync.serve.demo import demo_network
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.store import datadir as store
from ethsync.sync import chain as chain_of_sync
from ethsync.sync.chain import ALL, ChainOptions
from ethsync.sync.pivots import DISTANCE, FOLLOWING
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from tests.faults.live_chain import Chain, LiveChain, make_chain, open_live_chain
from tests.faults.states import opened
from tests.faults.syncing import PATIENCE, findings

SPEC = SyntheticSpec(accounts=1_500, contracts=150, slots=3_000, codes=40, seed=17, code_bytes=100)
CHANGED = (0, 20, 50, 35)
"""Accounts in which the states that take turns differ from the first one."""

STEPS = 2_000
WARM = 500
"""Steps after which all caches are as full as they get."""

FIRST = 8
NEXT = FIRST + DISTANCE - FOLLOWING.distance

BUFFER = 256 << 10
"""Bytes that a database collects in memory: 2,000 small steps are many flushes and merges then."""

MORE_MEMORY = 24 << 20
MORE_DISK = 4 << 20
"""What there may be more after 2,000 steps than after 500: headers, and some of LevelDB's tables. A
state that was kept for each step would be 600 MB."""


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def stored_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def tight() -> dict[str, store.Shape]:
    """Databases with small buffers."""
    return {name: replace(shape, write_buffer=BUFFER) for name, shape in store.DATABASES.items()}


async def grow(live: LiveChain, held: trio.MemoryReceiveChannel[Verified], datadir: Path) -> list[tuple[int, int]]:
    """One block more whenever the last one is held; memory and disk on the way."""
    measured = []
    for step in range(STEPS):
        with trio.fail_after(60):
            while (await held.receive()).block_number != live.head.number - FOLLOWING.distance:
                pass
        if step in (WARM, STEPS - 1):
            measured.append((anonymous_bytes(), stored_bytes(datadir)))
        live.grow(live.head.number + 1)
    return measured


@pytest.mark.slow
async def test_2000_steps_take_no_more_memory_and_disk_than_500(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DATABASES", tight())
    monkeypatch.setattr(store, "FOLLOWED_BUFFERS", {})
    datadir = tmp_path / "d"
    with ExitStack() as stack:
        views = []
        for place, changed in enumerate(CHANGED):
            create_synthetic(replace(SPEC, changed=changed), tmp_path / str(place))
            views.append(stack.enter_context(opened(tmp_path / str(place))))
        numbers = (FIRST, *range(NEXT, NEXT + STEPS + 1))
        chain: Chain = make_chain({number: views[number % len(views)] for number in numbers}, max(numbers) + 3)
        send, held = trio.open_memory_channel[Verified](10)
        async with open_live_chain(chain, NEXT + FOLLOWING.distance, "geth", window=4) as live:
            stack.enter_context(mock.patch.object(chain_of_sync, "run_head_source", live.run_source))
            live.serve_states(FIRST, NEXT)
            options = SnapOptions(
                demo_network(), [live.hosts[0].server.enode], ChainOptions(BeaconNodes(()), ALL), datadir, 0, PATIENCE,
                follow=True, holds=send.send_nowait,
            )  # fmt: skip
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run_snap, options, Progress(trio.current_time())))
                early, late = await grow(live, held, datadir)
                nursery.cancel_scope.cancel()
    print(
        f"after {WARM} and {STEPS} steps: memory {early[0]:,} and {late[0]:,}, disk {early[1]:,} and {late[1]:,} bytes"
    )
    assert late[0] - early[0] < MORE_MEMORY
    assert late[1] - early[1] < MORE_DISK
    assert (await findings(datadir)).problems == []
