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
from ethsync.sync.debts import DebtBook, PageNeeds
from ethsync.sync.progress import Progress
from ethsync.sync.storage import StorageStage
from ethsync.sync.sweep import Sweep
from tests.unit.sync.account_ranges import ACCOUNTS
from tests.unit.sync.storages import STATE_ROOT, NewStage


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
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that 200 slots are a trie of depth 2, which any first reply shows."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 1)
    monkeypatch.setattr("ethsync.sync.assemble.ENOUGH_LEAVES", 1)


@pytest.fixture
def new_stage(datadir: Datadir, writer: Writer) -> NewStage:
    """A stage as a new process has it."""
    return lambda: StorageStage(
        STATE_ROOT, datadir, writer, trio.CapacityLimiter(2), Progress(0.0), DebtBook(datadir, writer)
    )


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
