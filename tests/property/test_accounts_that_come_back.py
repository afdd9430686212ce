"""Accounts that go and come back while the pivot moves, in pages cut otherwise: nothing that lives is ever removed.

Page paths are long where keys are crowded, and short again once the crowd has gone: so what is owed under a path that
is no page's any more meets accounts that live under another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from unittest import mock

import pytest
from trio.testing import MockClock

from ethsync.serve.demo import head_header
from ethsync.serve.small_state import StatedAccount, fill
from ethsync.state.pages import PagePath, stored_path
from ethsync.state.view import StateView
from ethsync.store.datadir import Datadir
from ethsync.store.schema import ACCOUNT_PAGE, STORAGE_PAGE, TOP
from tests.faults.at_once import (
    NETWORK,
    all_is_small,
    bring_along,
    bring_to,
    built,
    lying_on,
    nothing_waits,
    told,
    whole,
)
from tests.faults.changing_states import changed_storage, some_storage
from tests.oracles.memory_disk import MemoryDisk, Write

STATES = 4

D = Path()
"""Where the databases seem to be: some directory, for its free space is looked at."""

Storages = tuple[dict[bytes, int], dict[bytes, int]]


@pytest.fixture(autouse=True)
def _short_waits(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages of a few leaves, cut deeper where there are more; nothing waits."""
    monkeypatch.setattr("ethsync.sync.assemble.MOST_LEAVES", 3)
    monkeypatch.setattr("ethsync.sync.assemble.MOST_CARRIED", 3)
    with nothing_waits(0), all_is_small():
        yield


def slots(rng: Random, count: int) -> dict[bytes, int]:
    return {rng.randbytes(32): 7 for _ in range(count)}


def crowd_of_ten(rng: Random, storage: dict[bytes, int]) -> list[StatedAccount]:
    """Ten accounts that share two nibbles, the fourth with this storage."""
    keys = [b"\xab" + bytes([number << 4]) + rng.randbytes(30) for number in range(10)]
    return [StatedAccount(key, 1, storage=storage if number == 3 else {}) for number, key in enumerate(keys)]


def assert_holds(datadir: Datadir, state: StateView) -> None:
    """Exactly this state is stored; the sync has verified it."""
    held, wanted = whole(datadir), whole(state.datadir)
    assert (held.accounts, held.storage) == (wanted.accounts, wanted.storage)
    assert held.codes >= wanted.codes


def page_of(datadir: Datadir, account: bytes) -> PagePath:
    """Path of the page that an account is in."""
    at = int.from_bytes(account, "big")
    paths = [stored_path(key) for key, _ in datadir.accounts.scan(ACCOUNT_PAGE, keys_only=True)]
    (found,) = (path for path in paths if path.first <= at < path.end)
    return found


@dataclass(frozen=True, slots=True)
class Crowd:
    """States in which a crowd is there, is gone, and in which the contract alone is there again, as it was.

    In the second one all others have changed too, so that healing to it takes several answers.
    """

    contract: bytes
    there: StateView
    gone: StateView
    back: StateView


@pytest.fixture
def crowd() -> Crowd:
    rng = Random(1)
    accounts = crowd_of_ten(rng, slots(rng, 100))
    others = [StatedAccount(bytes([number << 4]) + rng.randbytes(31), 1) for number in range(10)]
    changed = [replace(each, balance=1) for each in others]
    views = (built(state) for state in ([*accounts, *others], changed, [accounts[3], *others]))
    return Crowd(accounts[3].key, *views)


def page_writes(disk: MemoryDisk) -> list[int]:
    """Where account pages are written, among all writes."""
    return [
        number
        for number, write in enumerate(disk.journal)
        if write.path.name == "accounts" and any(key[:1] == ACCOUNT_PAGE for key, _ in write.changes)
    ]


@pytest.mark.parametrize("at_once", [1, 1024])
async def test_a_contract_that_comes_back_in_a_larger_page_keeps_its_storage(crowd: Crowd, at_once: int) -> None:
    # Given a crowd in pages with long paths, one of them a contract with pages of storage
    datadir = lying_on(MemoryDisk(), D)
    await bring_to(crowd.there, datadir)
    long = page_of(datadir, crowd.contract)
    # When all of it goes, and before anything is paid the contract comes back alone, as it was
    with mock.patch("ethsync.sync.reconcile.DEBTS_AT_ONCE", at_once):
        _, reached = await bring_along([(0, crowd.gone), (2, crowd.back)], datadir)
    # Then its page is a larger one, and its storage is there.
    assert reached is crowd.back
    assert page_of(datadir, crowd.contract).depth < long.depth
    assert_holds(datadir, crowd.back)


@pytest.mark.parametrize("size", range(200, 700, 100))
async def test_accounts_in_hand_that_are_gone_in_the_next_state_leave_nothing(size: int) -> None:
    # Given contracts in a page that the first answer, of this size, may end in
    rng = Random(4)
    contracts = [StatedAccount(bytes([k]) + rng.randbytes(31), 1, storage=slots(rng, 20)) for k in range(0x70, 0x76)]
    others = [StatedAccount(bytes([k]) + rng.randbytes(31), 1) for k in (0x10, 0x20, 0x7A, 0x7B, 0x80, 0x90)]
    before, after = built([*contracts, *others]), built(others)
    datadir = lying_on(MemoryDisk(), D)
    # When they are gone in the state in which the page is finished, then nothing is left of them.
    _, reached = await bring_along([(0, before), (1, after)], datadir, size)
    assert reached is after
    assert_holds(datadir, after)


async def test_a_larger_page_does_without_the_note_that_those_in_its_place_are_gone(crowd: Crowd) -> None:
    # Given a contract that comes back in a larger page, and a power cut that takes the removal of the small ones
    disk = MemoryDisk()
    await bring_to(crowd.there, lying_on(disk, D))
    before = disk.copy()
    disk.journal.clear()
    await bring_along([(0, crowd.gone), (2, crowd.back)], lying_on(disk, D))
    removal, *_, last = page_writes(disk)
    left = before.after([*disk.journal[:removal], *disk.journal[removal + 1 : last + 1]])
    # When it goes on, then all is there, and nothing else.
    await bring_to(crowd.back, lying_on(left, D))
    assert_holds(lying_on(left, D), crowd.back)


async def test_a_page_that_comes_back_without_contracts_leaves_no_storage_of_those_it_had() -> None:
    # Given a followed state, in which no page has ever owed anything, with a contract alone in its page
    rng = Random(3)
    others = [StatedAccount(bytes([number << 4]) + rng.randbytes(31), 1) for number in range(1, 16)]
    contract = StatedAccount(rng.randbytes(32), 1, storage=slots(rng, 100))
    contract = replace(contract, key=b"\x05" + contract.key[1:])
    datadir = lying_on(MemoryDisk(), D)
    fill(datadir, [contract, *others], NETWORK, lambda root: head_header(root, 1))
    # When it goes, and before anything is paid its page comes back with an account that has code
    successor = StatedAccount(b"\x06" + rng.randbytes(31), 1, code=b"code")
    gone, back = built([replace(each, balance=1) for each in others]), built([successor, *others])
    _, reached = await bring_along([(0, gone), (2, back)], datadir)
    assert reached is back
    # Then nothing is left of it.
    assert_holds(datadir, back)


def lost(rng: Random) -> Storages:
    return slots(rng, 100), {}


def slots_changed(rng: Random) -> Storages:
    before = slots(rng, 100)
    return before, changed_storage(rng, before)


def grown(rng: Random) -> Storages:
    return slots(rng, 5), slots(rng, 200)


@pytest.mark.parametrize("change", [lost, slots_changed, grown])
async def test_storage_that_becomes_what_it_was_is_whole(change: Callable[[Random], Storages]) -> None:
    # Given a contract whose storage becomes another one, beside one with a few slots
    rng = Random(2)
    contract, small = StatedAccount(rng.randbytes(32), 1), StatedAccount(rng.randbytes(32), 1)
    first, second = (
        built([replace(contract, storage=storage), replace(small, storage=slots(rng, 3))]) for storage in change(rng)
    )
    disk = MemoryDisk()
    await bring_to(first, lying_on(disk, D))
    before = disk.copy()
    disk.journal.clear()
    # When that is stopped at any write, and notes of it are lost, and the next pivot has the storage from before
    await bring_to(second, lying_on(disk, D))
    assert_holds(lying_on(disk, D), second)
    for count in [number for number, write in enumerate(disk.journal, 1) if write.changes]:
        writes = disk.journal[:count]
        for left in (before.after(writes), before.after_loss(writes, "ledger")):
            # then it is whole.
            await bring_to(first, lying_on(left, D))
            assert_holds(lying_on(left, D), first)


async def test_pages_of_storage_come_and_go_with_their_tops() -> None:
    # Given crowds of contracts that come, share storage, change and go
    for seed in range(20):
        rng = Random(seed)
        accounts = some_crowd(rng)
        views = [built(state) for state in (accounts, *(some_of(rng, accounts) for _ in range(STATES - 1)))]
        disk = MemoryDisk()
        with told(seed), nothing_waits(seed), all_is_small():
            await assert_leads(rng, disk, views)
            # Then no write has the one without the other: whichever a power cut takes, no top stands for a lost page.
            for write in disk.journal:
                if write.path.name == "storage":
                    assert _changed(write, STORAGE_PAGE) == _changed(write, TOP)


def _changed(write: Write, family: bytes) -> set[tuple[bytes, bool]]:
    """Account and path of what is changed in a family, and whether it is there then."""
    return {(key[1:], value is not None) for key, value in write.changes if key[:1] == family}


def some_crowd(rng: Random) -> list[StatedAccount]:
    """Accounts that ever exist, with the storage that they have at first: many share their first nibbles."""
    starts = [rng.randbytes(2) for _ in range(3)]
    shared = [some_storage(rng, 20) for _ in range(2)]
    found = []
    for _ in range(rng.choice((8, 30))):
        start = rng.choice(starts)[: rng.choice((0, 1, 2, 2, 2))]
        storage = rng.choice(({}, some_storage(rng, 5), some_storage(rng, 24), rng.choice(shared)))
        code = rng.randbytes(5) if rng.random() < 0.2 else b""
        found.append(StatedAccount(start + rng.randbytes(32 - len(start)), 1, storage=storage, code=code))
    return found


def some_of(rng: Random, accounts: Sequence[StatedAccount]) -> list[StatedAccount]:
    """A state: whole crowds are missing, and single accounts; some have other storage than at first, or none."""
    depth = rng.choice((0, 1, 1, 2, 2, 3))
    there = {account.key.hex()[:depth]: rng.random() < 0.5 for account in accounts}
    found = []
    for account in accounts:
        if not there[account.key.hex()[:depth]] or rng.random() < 0.1:
            continue
        if rng.random() < 0.2:
            storage = rng.choice(({}, changed_storage(rng, dict(account.storage)), some_storage(rng, 20)))
            account = replace(account, storage=storage)
        found.append(account)
    return found or [accounts[0]]


async def assert_leads(rng: Random, disk: MemoryDisk, views: Sequence[StateView]) -> None:
    """What is on a disk becomes the last of these states that the pivot reaches before all of one is there."""
    moves = [(rng.choice((0, 1, 1, 2, 4)), view) for view in views]
    _, reached = await bring_along(moves, lying_on(disk, D), rng.choice((500, 1_500, 1 << 20)))
    assert_holds(lying_on(disk, D), reached)


async def come_and_go(seed: int, stops: int) -> None:
    """Move the pivot through states of a crowd; then stop that at random writes, in three ways, and let each go on."""
    rng = Random(seed)
    accounts = some_crowd(rng)
    views = [built(state) for state in (accounts, *(some_of(rng, accounts) for _ in range(STATES - 1)))]
    disk = MemoryDisk()
    begin = rng.randrange(3)
    if begin == 0:  # as following leaves it: what the pages hold was never owed
        fill(lying_on(disk, D), accounts, NETWORK, lambda root: head_header(root, 1))
    before = disk.copy()
    disk.journal.clear()
    if begin == 1:
        await bring_to(views[0], lying_on(disk, D))
    await assert_leads(rng, disk, views)
    for _ in range(stops):
        writes = disk.journal[: rng.randint(1, len(disk.journal))]
        for left in (before.after(writes), before.after_power_cut(writes, rng), before.after_lost_log(writes, rng)):
            await assert_leads(rng, left, rng.choices(views, k=rng.choice((1, 2, 3))))


async def many_come_and_go(seeds: Sequence[int], stops: int) -> None:
    for seed in seeds:
        few = mock.patch("ethsync.sync.reconcile.DEBTS_AT_ONCE", Random(seed).choice((1, 2, 99)))
        with told(seed), nothing_waits(seed), all_is_small(), few:
            await come_and_go(seed, stops)


@pytest.mark.parametrize("first", range(0, 20, 10))
async def test_accounts_come_and_go(first: int) -> None:
    await many_come_and_go(range(first, first + 10), 1)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 25))
async def test_a_thousand_crowds_come_and_go(first: int) -> None:
    await many_come_and_go(range(first, first + 25), 4)
