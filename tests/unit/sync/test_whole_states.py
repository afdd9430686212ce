"""A state is called whole only while the pivot is the one that it belongs to."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from ethsync.peers.changes import Changes
from ethsync.serve.demo import head_header
from ethsync.store.datadir import Datadir
from ethsync.store.schema import FACT_MIXED
from ethsync.store.writer import Writer
from ethsync.sync.context import Pivot, SyncContext
from ethsync.sync.progress import Progress
from ethsync.sync.reconcile import declare_whole

OLD, NEW = head_header(b"\x01" * 32, 1), head_header(b"\x02" * 32, 2)


@pytest.fixture
def context(datadir: Datadir, writer: Writer) -> SyncContext:
    datadir.accounts.put(FACT_MIXED, b"")
    nobody = cast("Any", None)
    return SyncContext(datadir, writer, nobody, Changes(), trio.CapacityLimiter(1), Progress(0.0), 1.0)


async def test_the_state_of_the_pivot_is_whole(context: SyncContext, datadir: Datadir) -> None:
    pivot = Pivot(OLD)
    assert await declare_whole(context, pivot, OLD.state_root)
    assert pivot.is_whole
    assert datadir.accounts.get(FACT_MIXED) is None


async def test_that_of_a_former_pivot_is_not(context: SyncContext, datadir: Datadir) -> None:
    pivot = Pivot(NEW)
    assert not await declare_whole(context, pivot, OLD.state_root)
    assert not pivot.is_whole
    assert datadir.accounts.get(FACT_MIXED) == b""


async def test_a_move_that_is_under_way_comes_first(
    context: SyncContext, datadir: Datadir, autojump_clock: trio.abc.Clock
) -> None:
    pivot = Pivot(OLD)
    async with trio.open_nursery() as nursery:

        async def move(*, task_status: trio.TaskStatus[None]) -> None:
            async with pivot.lock:
                task_status.started()
                await trio.sleep(1.0)  # it is being written down
                pivot.move(NEW)

        # Given a move that is written down but not told yet
        await nursery.start(move)
        # When the old state is complete, then it is not taken for that of the new pivot.
        assert not await declare_whole(context, pivot, OLD.state_root)
    assert datadir.accounts.get(FACT_MIXED) == b""
