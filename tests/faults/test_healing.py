"""A datadir that holds one state is brought to another: only what differs is fetched, and the result is that state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from ethsync.serve.small_state import StatedAccount
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import assert_state, open_hosts, sync, sync_from
from tests.faults.test_resume import LITTLE, stopped_after


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that some hundred accounts have many of them."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


def some_storage(rng: Random, most: int) -> dict[bytes, int]:
    return {
        rng.randbytes(32): rng.choice((1, 0x7F, 0x80, rng.getrandbits(256) | 1)) for _ in range(rng.randint(1, most))
    }


def some_account(rng: Random) -> StatedAccount:
    kind = rng.randrange(10)
    storage = some_storage(rng, 200 if kind == 0 else 12) if kind < 4 else {}
    code = rng.randbytes(rng.randint(1, 50)) if kind < 5 else b""
    return StatedAccount(rng.randbytes(32), rng.randrange(1000), rng.getrandbits(80), storage, code)


def changed_storage(rng: Random, storage: dict[bytes, int]) -> dict[bytes, int]:
    new = {key: value for key, value in storage.items() if rng.random() > 0.1}
    for key in list(new):
        if rng.random() < 0.1:
            new[key] = rng.getrandbits(256) | 1
    return new | (some_storage(rng, 5) if rng.random() < 0.5 else {})


def changed_account(rng: Random, account: StatedAccount) -> StatedAccount:
    what = rng.randrange(6)
    if what == 0:
        return replace(account, storage={})
    if what == 1:
        return replace(account, storage=some_storage(rng, 150), code=rng.randbytes(20))
    if what <= 3:
        return replace(account, storage=changed_storage(rng, dict(account.storage)))
    if what == 4:
        return replace(account, code=rng.randbytes(30))
    return replace(account, balance=account.balance + 1, nonce=account.nonce + 1)


def changed(rng: Random, accounts: list[StatedAccount], share: float) -> list[StatedAccount]:
    """Some accounts go, some change, some are added."""
    new = [changed_account(rng, each) if rng.random() < share else each for each in accounts]
    new = [each for each in new if rng.random() > share / 5]
    return new + [some_account(rng) for _ in range(int(len(accounts) * share / 3))]


@pytest.mark.parametrize("seed", range(20))
async def test_a_finished_state_becomes_another(seed: int, tmp_path: Path) -> None:
    # Given a datadir with state A,
    rng = Random(seed)
    before = [some_account(rng) for _ in range(rng.choice((1, 3, 40, 300)))]
    create_demo_state(tmp_path / "a", before)
    with opened(tmp_path / "a") as state:
        await sync(state, tmp_path / "d", "geth")
    # and a peer that serves state B only
    after = changed(rng, before, rng.choice((0.02, 0.3, 1.0))) or before
    create_demo_state(tmp_path / "b", after)
    with opened(tmp_path / "b") as state:
        # when it is synced with B's block as the head, then it holds exactly B.
        synced, _ = await sync(state, tmp_path / "d", "geth")
        await assert_state(synced, state, tmp_path / "d")
        if after != before:
            assert synced.progress.healing.items > 0


@pytest.mark.parametrize("seed", range(20, 32))
async def test_an_unfinished_sync_goes_on_with_another_block(seed: int, tmp_path: Path) -> None:
    # Given a sync of state A that was stopped somewhere
    rng = Random(seed)
    before = [some_account(rng) for _ in range(300)]
    create_demo_state(tmp_path / "a", before)
    with opened(tmp_path / "a") as state:
        async with open_hosts(state, LITTLE) as (host,):
            await stopped_after(host, rng.randrange(5_000, 60_000), tmp_path / "d")
    # When it goes on from a peer that serves state B only, then it ends with exactly B.
    create_demo_state(tmp_path / "b", changed(rng, before, rng.choice((0.02, 0.3, 1.0))))
    with opened(tmp_path / "b") as state:
        synced, _ = await sync(state, tmp_path / "d", "geth")
        await assert_state(synced, state, tmp_path / "d")


async def test_a_head_that_nobody_knows_changes_nothing(tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    rng = Random(40)
    create_demo_state(tmp_path / "a", [some_account(rng) for _ in range(40)])
    create_demo_state(tmp_path / "b", [some_account(rng) for _ in range(40)])
    with opened(tmp_path / "a") as state, opened(tmp_path / "b") as other:
        await sync(state, tmp_path / "d", "geth")
        async with open_hosts(state, "geth") as hosts:
            hosts[0].server.head = other.header
            synced = await sync_from(hosts, tmp_path / "d")
        assert "sent the header of block" in str(synced.error)
        again, _ = await sync(state, tmp_path / "d", "geth")
        await assert_state(again, state, tmp_path / "d")
