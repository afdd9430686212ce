"""Any state becomes any other in one step; whenever it is stopped, what is left is one of the two, never a mixture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from ethsync.serve.small_state import StatedAccount
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.folding import fold_all
from tests.faults.changing_states import changed, some_account
from tests.faults.states import opened
from tests.faults.stepping import assert_holds, create, take_step
from tests.oracles.memory_disk import MemoryDisk, Write

STEPS = 5
CUTS = 2
"""Moments of each step at which the process is killed, and as many at which the power fails."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that some accounts have many of them; bundles and pages fold early and late."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


@pytest.fixture
def disk() -> Iterator[MemoryDisk]:
    """Databases in memory, for all directories."""
    found = MemoryDisk()
    with mock.patch("ethsync.store.datadir.Database", found.database):
        yield found


@dataclass(slots=True)
class Chain:
    """States of blocks, each built from nothing in a directory of its own."""

    path: Path
    rng: Random
    accounts: list[StatedAccount] = field(default_factory=list)
    blocks: int = 0

    def build(self, accounts: Sequence[StatedAccount]) -> Path:
        self.accounts = list(accounts)
        self.blocks += 1
        path = self.path / f"block {self.blocks}"
        create(path, self.accounts)
        return path

    def next(self) -> Path:
        share = self.rng.choice((0.05, 0.2, 0.6))
        return self.build(changed(self.rng, self.accounts, share) or [some_account(self.rng)])


async def assert_left(left: MemoryDisk, datadir: Path, before: StateView, after: StateView) -> None:
    """What a stop has left is one of two states as a whole; and a restart leads to the second one."""
    with mock.patch("ethsync.store.datadir.Database", left.database):
        with open_datadir(datadir) as opened_again:
            held = StateView(opened_again).header
        await assert_holds(datadir, before if held == before.header else after)
        with open_datadir(datadir) as opened_again:
            await take_step(opened_again, after)
        await assert_holds(datadir, after)


async def follow(rng: Random, path: Path, disk: MemoryDisk) -> None:
    """Follow a few blocks of a random chain, with a look at each and at what stops would have left."""
    chain = Chain(path, rng)
    first = chain.build([some_account(rng) for _ in range(rng.choice((1, 3, 10, 25)))])
    datadir = path / "d"
    create(datadir, chain.accounts)
    with opened(first) as before:
        held = before
        for _ in range(STEPS):
            with opened(chain.next()) as after:
                whole = disk.copy()
                disk.journal.clear()
                with open_datadir(datadir) as it:
                    await take_step(it, after)
                    if rng.random() < 0.2:
                        fold_all(it)
                await assert_holds(datadir, after)
                writes = [write for write in disk.journal if datadir in write.path.parents]
                for left in stops(rng, whole, writes):
                    await assert_left(left, datadir, held, after)
                held = after


def stops(rng: Random, whole: MemoryDisk, writes: list[Write]) -> Iterator[MemoryDisk]:
    """The disk after kills and power cuts at random moments of these writes."""
    for _ in range(CUTS):
        yield whole.after(writes[: rng.randint(0, len(writes))])
        yield whole.after_power_cut(writes[: rng.randint(0, len(writes))], rng)


@pytest.mark.parametrize("seed", range(10))
async def test_steps_lead_from_block_to_block_whenever_they_are_stopped(
    seed: int, tmp_path: Path, disk: MemoryDisk
) -> None:
    await follow(Random(seed), tmp_path, disk)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
async def test_many_steps_lead_from_block_to_block(seed: int, tmp_path: Path, disk: MemoryDisk) -> None:
    await follow(Random(seed), tmp_path, disk)
