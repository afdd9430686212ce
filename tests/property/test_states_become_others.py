"""Any state becomes any other: sync A, heal to B, and what is stored is what B is when it is built from nothing.

Also when the process is killed, or the power fails, at any write of either sync, and another one goes on from there;
and when the pivot moves from state to state while a sync is under way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from trio.testing import MockClock

from ethsync.hashing import keccak256
from ethsync.serve.small_state import StatedAccount
from ethsync.state.view import StateView
from ethsync.store.schema import FACT_MIXED, FACT_VERIFIED
from ethsync.sync.debts import open_debts
from tests.faults.at_once import all_is_small, bring_along, bring_to, built, lying_on, nothing_waits, told, whole
from tests.faults.changing_states import changed, some_account
from tests.oracles.memory_disk import MemoryDisk, Write

FEW = (1, 2, 3, 4, 6, 9, 14, 24)
MANY = (30, 100, 300)
"""Accounts of a state."""

OTHERS, STOPS = 3, 2
"""Of each state: others that it becomes, and stops on the way to one of them. With 400 seeds that makes 2,000 cases."""

AT_ONCE = 20
"""Seeds that one test goes through."""


def beside(rng: Random, key: bytes) -> bytes:
    """A key that begins as another one does, a little or nearly to the end."""
    shared = rng.choice((0, 1, 2, 5, 16, 31))
    return key[:shared] + rng.randbytes(32 - shared)


def crowded(rng: Random, account: StatedAccount) -> StatedAccount:
    """An account beside another one, with slots beside its slots: its tries get extensions, or lose them."""
    storage = {beside(rng, slot): rng.getrandbits(64) + 1 for slot in account.storage}
    return replace(account, key=beside(rng, account.key), storage=storage | dict(list(account.storage.items())[:2]))


def other(rng: Random, before: list[StatedAccount]) -> list[StatedAccount]:
    """What blocks make of a state: a little of it, a part, or all is another."""
    after = changed(rng, before, rng.choice((0.02, 0.1, 0.3, 1.0)))
    after += [crowded(rng, rng.choice(before)) for _ in range(rng.choice((0, 0, 1, 3)))]
    return list({each.key: each for each in after}.values()) or [some_account(rng)]


def some_bytes(rng: Random) -> int:
    """What the peer sends at a time."""
    return rng.choice((1_000, 4_000, 1 << 20))


@dataclass(frozen=True, slots=True)
class Built:
    """A state built from nothing, and the accounts of which it was built."""

    accounts: list[StatedAccount]
    view: StateView


def of(accounts: list[StatedAccount]) -> Built:
    return Built(accounts, built(accounts))


def as_leaf(value: int) -> bytes:
    """The RLP of a slot's value."""
    raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return raw if value < 0x80 else bytes([0x80 + len(raw)]) + raw


def assert_is(disk: MemoryDisk, path: Path, state: Built) -> None:
    """What is stored is what was built from nothing: leaves of whatever page or bundle, and all codes of it."""
    held = whole(lying_on(disk, path))
    slots = {each.key: {slot: as_leaf(value) for slot, value in each.storage.items()} for each in state.accounts}
    assert held.accounts == whole(state.view.datadir).accounts
    assert held.accounts.keys() == slots.keys()
    assert held.storage == {account: found for account, found in slots.items() if found}
    assert held.codes >= {keccak256(each.code) for each in state.accounts if each.code}
    # It was found to be so, and says that it is of one state, with nothing owed.
    datadir = lying_on(disk, path)
    assert StateView(datadir).header == state.view.header
    assert datadir.accounts.get(FACT_VERIFIED) is not None
    assert datadir.accounts.get(FACT_MIXED) is None
    assert next(open_debts(datadir), None) is None


def left(rng: Random, before: MemoryDisk, writes: list[Write]) -> MemoryDisk:
    """What is there after a stop at a random one of these writes."""
    made = writes[: rng.randint(1, len(writes))] if writes else []
    stops = before.after, partial(before.after_power_cut, rng=rng), partial(before.after_lost_log, rng=rng)
    return rng.choice(stops)(made)


async def become(rng: Random, sizes: tuple[int, ...], path: Path) -> None:
    # Given state A, synced into an empty directory,
    accounts = [some_account(rng) for _ in range(rng.choice(sizes))]
    first = MemoryDisk()
    await bring_to(built(accounts), lying_on(first, path), some_bytes(rng))
    journals, states = [], []
    for _ in range(OTHERS):
        # when a peer has state B only, then what is stored becomes B.
        states.append(of(other(rng, accounts)))
        disk = first.copy()
        await bring_to(states[-1].view, lying_on(disk, path), some_bytes(rng))
        assert_is(disk, path, states[-1])
        journals.append(disk.journal)
    before, writes = MemoryDisk(), first.journal + rng.choice(journals)
    for _ in range(STOPS):
        # When it is stopped at any write on the way from nothing by A to B, and a peer has B, or C instead,
        stopped = left(rng, before, writes)
        before, goal = stopped.copy(), rng.choice(states)
        await bring_to(goal.view, lying_on(stopped, path), some_bytes(rng))
        # then it goes on to that; also if it is stopped once more.
        assert_is(stopped, path, goal)
        writes = stopped.journal


async def follow(rng: Random, sizes: tuple[int, ...], path: Path) -> None:
    # Given a chain of states,
    states = [of([some_account(rng) for _ in range(rng.choice(sizes))])]
    while len(states) < 4:
        states.append(of(other(rng, states[-1].accounts)))
    # when the pivot moves along it while a sync is under way, between any two answers, then it ends with the last;
    disk = MemoryDisk()
    await assert_leads(rng, disk, path, states)
    # when it is stopped at any write, and other pivots come then, older ones too, then it ends with the last of these.
    before = MemoryDisk()
    for _ in range(STOPS):
        disk = left(rng, before, disk.journal)
        before = disk.copy()
        await assert_leads(rng, disk, path, rng.choices(states, k=rng.choice((1, 2, 3))))


async def assert_leads(rng: Random, disk: MemoryDisk, path: Path, states: list[Built]) -> None:
    """What is on the disk becomes the last of these states that the pivot reaches before all of one is there."""
    moves = [(rng.choice((0, 1, 2, 4, 8, 16)), state.view) for state in states]
    _, reached = await bring_along(moves, lying_on(disk, path), some_bytes(rng))
    assert_is(disk, path, next(state for state in states if state.view is reached))


Case = Callable[[Random, tuple[int, ...], Path], Awaitable[None]]


async def goes_through(case: Case, first: int, sizes: tuple[int, ...], path: Path) -> None:
    for seed in range(first, first + AT_ONCE):
        with told(seed), nothing_waits(seed), all_is_small():
            await case(Random(seed), sizes, path)


@pytest.mark.parametrize("first", range(0, 400, AT_ONCE))
async def test_a_state_becomes_any_other_wherever_it_is_stopped(
    first: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    await goes_through(become, first, FEW, tmp_path)


@pytest.mark.parametrize("first", range(5000, 5060, AT_ONCE))
async def test_a_pivot_may_move_at_any_moment(first: int, tmp_path: Path, autojump_clock: MockClock) -> None:
    await goes_through(follow, first, FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)  # some 10 s where nobody else works
@pytest.mark.parametrize("first", range(1000, 1400, AT_ONCE))
async def test_many_larger_states_become_others(first: int, tmp_path: Path, autojump_clock: MockClock) -> None:
    await goes_through(become, first, MANY, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(6000, 6400, AT_ONCE))
async def test_larger_states_whose_pivot_moves(first: int, tmp_path: Path, autojump_clock: MockClock) -> None:
    await goes_through(follow, first, MANY, tmp_path)
