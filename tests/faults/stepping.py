"""Steps of following in one process and without sockets: a step asks, a stored state answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio

from ethsync.peers.changes import Changes
from ethsync.serve.served import ServedStates
from ethsync.serve.small_state import StatedAccount
from ethsync.serve.snap import serve
from ethsync.state.view import StateView
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.folding import fold_some
from ethsync.store.patches import Patch
from ethsync.store.schema import FACT_DEPTH
from ethsync.store.writer import run_writer
from ethsync.sync.context import SyncContext
from ethsync.sync.follow import write_step
from ethsync.sync.local_trie import LocalTrie, local_accounts
from ethsync.sync.progress import Progress
from ethsync.sync.step import Step
from ethsync.sync.verifier import verify
from tests.faults.states import create_demo_state
from tests.faults.syncing import contents

BUDGET = 20_000
"""Bytes per reply: small, so that a step takes several."""

Writes = Callable[[Datadir, StateView, list[Patch], Step], None]


def write(datadir: Datadir, state: StateView, patches: list[Patch], step: Step) -> None:
    """Write a proven step, as following does."""
    write_step(datadir, state.header, patches, step.totals)
    fold_some(datadir, patches)


async def take_step(datadir: Datadir, state: StateView, writes: Writes = write) -> LocalTrie:
    """Go from what a directory holds to another state, which answers all that is asked."""
    depth = datadir.accounts.get(FACT_DEPTH)
    assert depth is not None
    states = ServedStates(state)
    async with trio.open_nursery() as nursery:
        writer = await nursery.start(partial(run_writer, datadir, floor=0))
        nobody = cast("Any", None)
        context = SyncContext(datadir, writer, nobody, Changes(), trio.CapacityLimiter(1), Progress(0.0), 1.0)
        step = Step(context, state.header, local_accounts(datadir, depth[0]))
        stages: Sequence[Any] = (step.nodes, step.codes)
        while not all(stage.done for stage in stages):
            for stage in stages:
                while stage.ready():
                    job = stage.take(BUDGET)
                    await stage.process(job, serve(states, job.make(1)).payload)
        new = step.prove()
        patches = step.patches()
        await writer.reached(datadir.codes)
        writes(datadir, state, patches, step)
        writer.close()
    return new


async def assert_holds(path: Path, state: StateView) -> None:
    """What `ethsync verify` says of a directory that is opened anew: this state, and nothing else."""
    with open_datadir(path) as datadir:
        found = await verify(datadir, state.state_root, trio.CapacityLimiter(1), lambda share: None)
        assert found.problems == [], found.problems
        view = StateView(datadir)
        assert view.header == state.header
        assert contents(view) == contents(state)


def create(path: Path, accounts: Sequence[StatedAccount], depth: int | None = None) -> None:
    """A directory that holds the whole state of these accounts."""
    create_demo_state(path, accounts, depth)
