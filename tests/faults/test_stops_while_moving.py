"""Kills and power cuts at any write of a sync whose pivot moves: it goes on from whatever is left of its writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from unittest import mock

import pytest
import trio

from ethsync.serve.profiles import PROFILES
from ethsync.serve.small_state import StatedAccount
from ethsync.store.schema import ACCOUNT_PAGE, DEBT, FACT_DEPTH, FACT_MIXED, Debt, decode_debt
from ethsync.wire.snap import SnapMessage
from tests.faults.changing_states import changed, some_account, some_storage
from tests.faults.live_chain import Chain, LiveChain, follow, make_chain, open_live_chain, open_states
from tests.faults.syncing import assert_state
from tests.oracles.memory_disk import MemoryDisk, Write

LITTLE = replace(PROFILES["geth"], most_bytes=1_500)
DISTANCE, STEP, FIRST = 64, 57, 10
BOTH = Debt.STORAGE | Debt.CODES


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


async def journal_of_a_sync(rng: Random, chain: Chain, datadir: Path) -> list[Write]:
    """All writes of a sync during which the pivot moves to the last state but one of a chain."""
    disk = MemoryDisk()
    async with open_live_chain(chain, FIRST + DISTANCE, LITTLE) as live, trio.open_nursery() as nursery:

        async def move() -> None:
            for _ in range(len(chain.states) - 2):
                await live.served(rng.randrange(1_000, 10_000))
                live.grow(live.head.number + STEP)

        nursery.start_soon(move)
        with mock.patch("ethsync.store.datadir.Database", disk.database):
            synced = await follow(live, datadir)
            assert synced.error is None
        nursery.cancel_scope.cancel()
    return disk.journal


async def assert_goes_on(left: MemoryDisk, live: LiveChain, datadir: Path, *, counted: bool = True) -> None:
    """From what is left a sync comes to its end, with exactly the state of the pivot."""
    with mock.patch("ethsync.store.datadir.Database", left.database):
        synced = await follow(live, datadir)
        await assert_state(synced, live.chain.states[live.head.number - DISTANCE], datadir, counted=counted)


def heads(rng: Random, chain: Chain) -> int:
    """The head when a sync goes on: as when it was stopped, or with one more move."""
    return max(chain.states) + DISTANCE - rng.choice((0, STEP))


async def stop_and_go_on(seed: int, path: Path, stops: int) -> None:
    """Stop one sync at random moments, in three ways, and let each go on."""
    rng = Random(seed)
    states = [[some_account(rng) for _ in range(rng.choice((20, 100)))]]
    while len(states) < 4:
        states.append(changed(rng, states[-1], rng.choice((0.05, 0.3))) or states[-1])
    async with open_states(path, {FIRST + STEP * k: state for k, state in enumerate(states)}) as views:
        chain = make_chain(views, max(views) + DISTANCE + 1)
        journal = await journal_of_a_sync(rng, chain, path / "d")
        for _ in range(stops):
            writes = journal[: rng.randint(1, len(journal))]
            disk = MemoryDisk()
            killed = disk.after(writes)
            for left in (killed, disk.after_power_cut(writes, rng), disk.after_lost_log(writes, rng)):
                async with open_live_chain(chain, heads(rng, chain), LITTLE) as live:
                    await assert_goes_on(left, live, path / "d", counted=left is killed)


@pytest.mark.parametrize("seed", range(2))
async def test_it_goes_on_after_kills_and_power_cuts(seed: int, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    await stop_and_go_on(seed, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
async def test_it_goes_on_after_many_kills_and_power_cuts(
    seed: int, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    await stop_and_go_on(seed, tmp_path, 6)


async def test_a_directory_says_what_it_holds_only_once_that_is_safe(
    tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    rng = Random(51)
    before = [some_account(rng) for _ in range(100)]
    states = {FIRST: before, FIRST + STEP: changed(rng, before, 0.3), FIRST + 2 * STEP: before}
    async with open_states(tmp_path, states) as views:
        chain = make_chain(views, max(views) + DISTANCE + 1)
        journal = await journal_of_a_sync(rng, chain, tmp_path / "d")
    accounts = [write for write in journal if write.path.name == "accounts"]
    pages = [number for number, write in enumerate(accounts) if pages_in(write)]
    # The depth of pages is on the disk before the first of them.
    depth = next(number for number, write in enumerate(accounts) if FACT_DEPTH in dict(write.changes))
    assert accounts[depth].sync
    assert depth < pages[0]
    # That they are of one state is said when all of them have been forced to the disk, and no log can be lost any more.
    mixed = max(number for number, write in enumerate(accounts) if (FACT_MIXED, None) in write.changes)
    assert sum(write.sync for write in accounts[pages[-1] + 1 : mixed]) >= 2


async def test_an_account_that_healing_writes_owes_its_storage_and_code_from_that_moment_on(
    tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    # Given a whole state in which every account gets other storage and other code in the next block
    rng = Random(50)
    accounts = [
        StatedAccount(rng.randbytes(32), storage=some_storage(rng, most), code=rng.randbytes(9))
        for most in 6 * [100, 9, 9, 9, 9, 9, 9, 9]
    ]
    after = [replace(each, storage=some_storage(rng, 90), code=rng.randbytes(9)) for each in accounts]
    async with open_states(tmp_path, {FIRST: accounts, FIRST + STEP: after}) as views:
        chain = make_chain(views, FIRST + STEP + DISTANCE + 1)
        disk = MemoryDisk()
        async with open_live_chain(chain, FIRST + DISTANCE, LITTLE) as live:
            with mock.patch("ethsync.store.datadir.Database", disk.database):
                assert (await follow(live, tmp_path / "d")).error is None
                whole = disk.copy()
                disk.journal.clear()
                live.grow(FIRST + STEP + DISTANCE)
                synced = await follow(live, tmp_path / "d")
                await assert_state(synced, views[FIRST + STEP], tmp_path / "d")
            # When healing writes pages of accounts, then each batch says what all of its pages owe;
            healed = [number for number, write in enumerate(disk.journal) if pages_in(write)]
            assert len(healed) > 3
            for number in healed:
                write = disk.journal[number]
                assert pages_in(write) == {key[1:] for key, flags in debts_in(write).items() if flags == BOTH}
            # and whoever is killed right behind it, pays that and nothing else when he goes on.
            for number in rng.sample(healed, 3):
                before = live.watch.items[SnapMessage.ACCOUNT_RANGE]
                await assert_goes_on(whole.after(disk.journal[: number + 1]), live, tmp_path / "d")
                assert live.watch.items[SnapMessage.ACCOUNT_RANGE] == before


def pages_in(write: Write) -> set[bytes]:
    """Paths of the account pages that a batch writes."""
    return {key[1:] for key, value in write.changes if key[:1] == ACCOUNT_PAGE and write.path.name == "accounts"}


def debts_in(write: Write) -> dict[bytes, Debt]:
    """Debts that a batch writes."""
    return {key: decode_debt(value).flags for key, value in write.changes if key[:1] == DEBT and value is not None}
