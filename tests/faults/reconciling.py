"""A sync whose pivot moves between any two answers: stages ask, stored states answer, and nothing else happens.

Inside `at_once.nothing_waits`, so that a run depends on its seed alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from unittest import mock

import trio

from ethsync.peers.changes import Changes
from ethsync.serve.served import ServedStates
from ethsync.serve.snap import serve
from ethsync.state.view import StateView
from ethsync.store.datadir import Datadir
from ethsync.store.schema import FACT_RUNS
from ethsync.store.writer import run_writer
from ethsync.sync.chain import move_pivot, stored_pivot
from ethsync.sync.context import Pivot, SyncContext
from ethsync.sync.leftovers import remove_unrecorded
from ethsync.sync.pipeline import download_state
from ethsync.sync.progress import Progress
from ethsync.sync.resume import read_kept
from ethsync.sync.verifier import verify
from tests.faults.at_once import whole

BUDGET = 1_500
"""Bytes per reply: small, so that there are many moments between two of them."""


@dataclass(slots=True, eq=False)
class _Moves:
    """The states that become the pivot one after another, the next one whenever it is time after an answer."""

    datadir: Datadir
    pivots: Sequence[StateView]
    is_time: Callable[[], bool]
    at: int = 0

    def look(self, pivot: Pivot) -> None:
        if self.at + 1 < len(self.pivots) and not pivot.is_whole and self.is_time():
            self.at += 1
            move_pivot(self.datadir, self.pivots[self.at].header)
            pivot.move(self.pivots[self.at].header)

    async def run(
        self,
        context: SyncContext,
        pivot: Pivot,
        root: bytes,
        stages: Sequence[Any],
        move: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """In place of `run_until_moved`."""
        states = ServedStates(*self.pivots)
        known = root
        while True:
            if pivot.root != known:
                known = pivot.root
                await move(known)
            if all(stage.done for stage in stages):
                return
            for stage in stages:
                if pivot.root == known and stage.ready():
                    job = stage.take(BUDGET)
                    await stage.process(job, serve(states, job.make(1)).payload)
                    self.look(pivot)


async def sync_moving(
    datadir: Datadir, pivots: Sequence[StateView], is_time: Callable[[], bool] = lambda: False
) -> StateView:
    """Bring the state of the first pivot into databases, whatever they hold, or of the one that the pivot has moved to.

    Returns that.
    """
    before = stored_pivot(datadir)
    if before is None or before.hash != pivots[0].header.hash:
        move_pivot(datadir, pivots[0].header)
    pivot = Pivot(pivots[0].header)
    moves = _Moves(datadir, pivots, is_time)
    runs = int(datadir.accounts.get(FACT_RUNS) or b"0") + 1
    datadir.accounts.put(FACT_RUNS, b"%d" % runs, sync=True)
    kept = read_kept(datadir)
    async with trio.open_nursery() as nursery:
        writer = await nursery.start(partial(run_writer, datadir, floor=0))
        nobody = cast("Any", None)
        context = SyncContext(datadir, writer, nobody, Changes(), trio.CapacityLimiter(1), Progress(0.0), 1.0)
        with (
            mock.patch("ethsync.sync.pipeline.run_until_moved", moves.run),
            mock.patch("ethsync.sync.reconcile.run_until_moved", moves.run),
        ):
            await download_state(context, pivot, kept, runs)
        writer.close()
    remove_unrecorded(datadir)
    return pivots[moves.at]


async def assert_holds(datadir: Datadir, state: StateView) -> None:
    """What `ethsync verify` says of a directory: this state, and nothing else."""
    found = await verify(datadir, state.state_root, trio.CapacityLimiter(1), lambda share: None)
    assert found.problems == [], found.problems
    held, wanted = whole(datadir), whole(state.datadir)
    assert (held.accounts, held.storage) == (wanted.accounts, wanted.storage)
    assert held.codes >= wanted.codes
