"""Accounts that wait in hand for the rest of their page, while the state root moves."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ethsync.serve.served import ServedStates
from ethsync.serve.small_state import StatedAccount
from ethsync.serve.snap import serve
from ethsync.state.pages import KEY_SPACE
from ethsync.sync.accounts import AccountJob, prove_accounts
from ethsync.sync.sweep import Gap
from tests.faults.states import create_demo_state, opened

ACCOUNTS = 400
LITTLE, PLENTY = 6_000, 1 << 20


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 4)


def contracts(seed: int) -> list[StatedAccount]:
    rng = Random(1)
    keys = [rng.randbytes(32) for _ in range(ACCOUNTS)]
    return [StatedAccount(key, storage={keys[0]: seed}) for key in keys]


def test_storage_roots_in_hand_are_not_taken_for_those_of_a_new_state(tmp_path: Path) -> None:
    with ExitStack() as stack:
        create_demo_state(tmp_path / "a", contracts(1))
        create_demo_state(tmp_path / "b", contracts(2))
        before, after = (stack.enter_context(opened(tmp_path / name)) for name in "ab")
        states = ServedStates(before, after)
        # Given the beginning of state A, with the accounts of an unfinished page in hand,
        job = AccountJob(Gap(0, KEY_SPACE, 0), before.state_root, LITTLE)
        first, depth = prove_accounts(job, serve(states, job.make(1)).payload, None)
        rest = first.assembled.rest
        assert rest is not None
        assert rest.carry is not None
        assert not first.doubtful
        # when the range goes on in state B, whose contracts all have other storage,
        job = AccountJob(rest, after.state_root, PLENTY)
        found, _ = prove_accounts(job, serve(states, job.make(2)).payload, depth)
    # then what is known of the accounts in hand is in doubt, and only that.
    in_hand = {rest.carry.key(row) for row in range(len(rest.carry))}
    doubtful = {account for need in found.needs if need.path in found.doubtful for account, _ in need.contracts}
    certain = {account for need in found.needs if need.path not in found.doubtful for account, _ in need.contracts}
    assert in_hand <= doubtful
    assert len(doubtful) <= 4 * len(in_hand) + 16
    assert len(certain) > ACCOUNTS / 2
    old = {root for need in first.needs for _, root in need.contracts}
    new = {root for need in found.needs if need.path not in found.doubtful for _, root in need.contracts}
    assert old.isdisjoint(new)


def test_storage_roots_in_hand_are_certain_while_the_state_stays(tmp_path: Path) -> None:
    create_demo_state(tmp_path / "a", contracts(1))
    with opened(tmp_path / "a") as state:
        states = ServedStates(state)
        job = AccountJob(Gap(0, KEY_SPACE, 0), state.state_root, LITTLE)
        first, depth = prove_accounts(job, serve(states, job.make(1)).payload, None)
        assert first.assembled.rest is not None
        job = replace(job, gap=first.assembled.rest)
        found, _ = prove_accounts(job, serve(states, job.make(2)).payload, depth)
    assert found.needs
    assert not found.doubtful
