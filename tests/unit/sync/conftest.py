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


@pytest.fixture
def datadir(tmp_path: Path) -> Iterator[Datadir]:
    with open_datadir(tmp_path / "data", Format(FORMAT_VERSION, "test", 1, "0x00")) as opened:
        yield opened


@pytest.fixture
async def writer(datadir: Datadir) -> AsyncIterator[Writer]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(run_writer, datadir, floor=0))
        nursery.cancel_scope.cancel()
