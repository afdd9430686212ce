"""A data directory with its writing task, for stages and what they keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.schema import FORMAT_VERSION, Format
from ethsync.store.writer import Writer, run_writer
from ethsync.sync.accounts import AccountStage
from ethsync.sync.debts import PageNeeds
from ethsync.sync.progress import Progress
from ethsync.sync.sweep import Sweep
from tests.unit.sync.account_ranges import ACCOUNTS


@pytest.fixture
def datadir(tmp_path: Path) -> Iterator[Datadir]:
    with open_datadir(tmp_path / "data", Format(FORMAT_VERSION, "test", 1, "0x00")) as opened:
        yield opened


@pytest.fixture
async def writer(datadir: Datadir) -> AsyncIterator[Writer]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(run_writer, datadir, floor=0))
        nursery.cancel_scope.cancel()


@pytest.fixture
def progress() -> Progress:
    return Progress(0.0)


@pytest.fixture
def account_stage(datadir: Datadir, writer: Writer, progress: Progress) -> AccountStage:
    async def owed(needs: list[PageNeeds], state_root: bytes) -> None:
        assert not needs

    return AccountStage(
        ACCOUNTS.root, Sweep(), datadir, writer, trio.CapacityLimiter(2), progress, owed, may_go_on=lambda: True
    )
