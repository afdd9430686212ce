"""Peers that answer after their time: what they send is used while it is of use, and they are not blamed for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from shutil import copytree

import pytest
import trio

from ethsync.peers.rtt import CAP
from ethsync.serve import lies
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.small_state import StatedAccount
from ethsync.state.view import StateView
from ethsync.wire.snap import SnapMessage
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import Host, Synced, assert_state, open_hosts, sync, sync_from
from tests.faults.test_liars import Liar

TARDY = replace(PROFILES["slow"], name="tardy", delay=CAP + 5)
"""Later than anybody is ever waited for."""

HASTE = 5.0
"""Seconds that a peer is waited for at the most, where many answers are late."""

ACCOUNTS = frozenset({SnapMessage.ACCOUNT_RANGE})


async def test_a_peer_that_is_always_too_late_is_enough(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, (host,) = await sync(small_state, tmp_path / "d", TARDY, patience=120)
    await assert_state(synced, small_state, tmp_path / "d")
    assert synced.progress.dropped == []
    # Then every answer of every kind came late, on one connection all the while
    outcomes = synced.progress.outcomes
    for kind in ("accounts", "storage", "codes"):
        assert outcomes[f"{kind} timeout"] >= outcomes[f"{kind} served"] > 0
    assert host.watch.connections == 1


async def test_a_peer_that_is_a_little_too_late_at_first_gets_the_time_it_needs(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    synced, _ = await sync(small_state, tmp_path / "d", replace(TARDY, delay=CAP / 2 + 2), patience=120)
    await assert_state(synced, small_state, tmp_path / "d")
    outcomes = synced.progress.outcomes
    assert outcomes["accounts timeout"] == 1
    assert outcomes["accounts disconnected"] == outcomes["accounts empty"] == 0


async def test_a_late_lie_is_caught(small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock) -> None:
    # Given a peer whose first answer comes late and is a lie, and one that has something to give only then
    liar = Liar(lies.changed_value, 1)
    profile = replace(PROFILES["geth"], name="liar", kinds=ACCOUNTS, lie=liar, delay=CAP / 2 + 2)
    async with open_hosts(small_state, profile, "besu") as hosts:

        def become_honest() -> None:
            hosts[1].server.profile = PROFILES["geth"]

        liar.caught = become_honest
        synced = await sync_from(hosts, tmp_path / "d", patience=120)
    # Then
    assert synced.progress.outcomes["accounts timeout"] >= 1
    assert synced.progress.outcomes["accounts disproved"] == 1
    (reason,) = synced.progress.dropped
    assert f"127.0.0.1:{hosts[0].server.enode.tcp_port} was dropped: " in str(reason)
    await assert_state(synced, small_state, tmp_path / "d")


async def sync_with_help(hosts: Sequence[Host], path: Path, helping: Profile) -> Synced:
    """Sync from two peers; the second one serves as in `helping` from the first request to the first one on."""
    asked = hosts[0].watch.requested()

    async def help_out() -> None:
        await asked.wait()
        hosts[1].server.profile = helping

    async with trio.open_nursery() as nursery:
        nursery.start_soon(help_out)
        synced = await sync_from(hosts, path, patience=120)
    return synced


async def test_an_answer_that_comes_after_others_have_given_the_same_is_dropped(
    small_state: StateView, tmp_path: Path, quick_clock: trio.abc.Clock
) -> None:
    # Given a peer that is asked first and answers late, and one that does all the work, slowly
    piecemeal = replace(PROFILES["geth"], name="piecemeal", delay=8.0, most_bytes=4_000)
    async with open_hosts(small_state, replace(TARDY, kinds=ACCOUNTS, delay=CAP / 2 + 10), "besu") as hosts:
        synced = await sync_with_help(hosts, tmp_path / "d", piecemeal)
    # Then
    await assert_state(synced, small_state, tmp_path / "d")
    assert synced.progress.dropped == []
    assert synced.progress.outcomes["accounts duplicate"] >= 1


@dataclass(frozen=True, slots=True)
class Healing:
    """A directory that holds a state, and another one, to which it is to be healed."""

    datadir: Path
    after: StateView


@pytest.fixture
async def healing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Healing]:
    """Pages of a few leaves, of which many change, so that nodes are asked for again and again."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)
    monkeypatch.setattr("ethsync.peers.rtt.CAP", HASTE)
    rng = Random(70)
    before = [StatedAccount(rng.randbytes(32), 1) for _ in range(40)]
    create_demo_state(tmp_path / "a", before)
    create_demo_state(tmp_path / "b", [replace(each, balance=rng.randrange(2)) for each in before])
    with opened(tmp_path / "a") as old, opened(tmp_path / "b") as new:
        await sync(old, tmp_path / "d", "geth")
        yield Healing(tmp_path / "d", new)


async def test_nodes_that_are_always_too_late_are_enough(healing: Healing, quick_clock: trio.abc.Clock) -> None:
    # Given how many nodes a healing needs
    copytree(healing.datadir, healing.datadir.with_name("punctual"))
    punctual, _ = await sync(healing.after, healing.datadir.with_name("punctual"), "geth")
    # When every answer of the only peer comes after its time
    synced, (host,) = await sync(healing.after, healing.datadir, replace(TARDY, delay=HASTE + 1), patience=60)
    # Then the state is healed by late nodes, each of which is used once, on one connection all the while.
    await assert_state(synced, healing.after, healing.datadir)
    outcomes = synced.progress.outcomes
    assert outcomes["trie nodes timeout"] >= outcomes["trie nodes served"] > 1
    assert synced.progress.healing.items == punctual.progress.healing.items
    assert synced.progress.dropped == []
    assert host.watch.connections == 1


async def test_nodes_that_come_after_others_have_brought_them_are_dropped(
    healing: Healing, quick_clock: trio.abc.Clock
) -> None:
    # Given a peer that is asked first, whose answers are always too late, and one that begins to serve after that
    piecemeal = replace(PROFILES["geth"], name="piecemeal", delay=1.0, most_bytes=1_000)
    async with open_hosts(healing.after, replace(TARDY, delay=HASTE + 1), "besu") as hosts:
        synced = await sync_with_help(hosts, healing.datadir, piecemeal)
    # Then the state is healed, and late nodes that others had brought by then are nobody's fault.
    await assert_state(synced, healing.after, healing.datadir)
    assert synced.progress.outcomes["trie nodes timeout"] > 0
    assert synced.progress.outcomes["trie nodes duplicate"] > 0
    assert synced.progress.dropped == []
