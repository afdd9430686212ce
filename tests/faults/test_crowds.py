"""Keys that crowd under one prefix, as whoever can afford to mine hashes makes them: pages and memory stay bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ethsync.serve.profiles import PROFILES
from ethsync.serve.small_state import StatedAccount
from ethsync.state.pages import MOST_LEAVES, PagePath, stored_path
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, STORAGE_PAGE
from ethsync.sync.sweep import Gap, Sweep
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import assert_state, open_hosts, sync_from
from tests.faults.test_resume import stopped_after

PREFIX = bytes.fromhex("77a5c3")
"""What all keys of a crowd begin with: six nibbles, 24 bits of mining."""

CROWD_DEPTH = 8
"""Page depth of the states served here: 256 pages for a crowd."""

CONTRACT = b"\x20" * 32


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Leaves in hand of every gap that any sweep puts back."""
    seen: list[int] = []
    push = Sweep._push

    def watched(sweep: Sweep, gap: Gap) -> None:
        seen.append(len(gap.carry) if gap.carry is not None else 0)
        push(sweep, gap)

    monkeypatch.setattr(Sweep, "_push", watched)
    return seen


@pytest.fixture(autouse=True)
def _deep_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the storage that is served."""
    monkeypatch.setattr("ethsync.serve.small_state.depth_for", lambda leaves: CROWD_DEPTH)


def crowded(rng: Random, crowd: int, spread: int) -> list[bytes]:
    return [PREFIX + rng.randbytes(29) for _ in range(crowd)] + [rng.randbytes(32) for _ in range(spread)]


def accounts(seed: int, crowd: int, spread: int) -> list[StatedAccount]:
    """A crowd of accounts and others, some of which have small storage."""
    rng = Random(seed)
    found = [StatedAccount(key, 1, rng.randrange(1 << 70)) for key in crowded(rng, crowd, spread)]
    return [
        replace(account, storage={rng.randbytes(32): 7 for _ in range(3)}) if rng.random() < 0.05 else account
        for account in found
    ]


@contextmanager
def served(path: Path, state: list[StatedAccount]) -> Iterator[StateView]:
    create_demo_state(path, state, CROWD_DEPTH)
    with opened(path) as view:
        yield view


def page_sizes(path: Path) -> tuple[dict[PagePath, int], dict[PagePath, int], set[PagePath]]:
    """Leaves of each account page and of each page of the contract, and paths of bundles."""
    with open_datadir(path) as datadir:
        pages = {stored_path(key): value for key, value in datadir.accounts.scan(ACCOUNT_PAGE)}
        slots = {stored_path(key): value for key, value in datadir.storage.scan(STORAGE_PAGE + CONTRACT)}
        bundles = {stored_path(key) for key, _ in datadir.bundles.scan(BUNDLE, keys_only=True)}
    count = [{path: int.from_bytes(page[4:8], "little") for path, page in found.items()} for found in (pages, slots)]
    return count[0], count[1], bundles


def assert_reads_alike(state: StateView, path: Path, keys: list[bytes]) -> None:
    """Single accounts, small storage and proofs, present and absent, from pages of every depth."""
    with opened(path) as synced:
        for key in keys:
            assert synced.account(key) == state.account(key)
            assert synced.proof(key).nodes == state.proof(key).nodes
            small, expected = synced.small_storage(key), state.small_storage(key)
            assert (small is None) == (expected is None)
            if small is not None and expected is not None:
                assert small.keys.tobytes() == expected.keys.tobytes()


async def test_a_crowd_is_synced_in_bounded_memory(tmp_path: Path, carried: list[int]) -> None:
    # Given 9,000 accounts and 9,000 slots of one contract that begin alike, and 1,200 others of each
    rng = Random(1)
    state = accounts(2, 9_000, 1_200)
    state.append(StatedAccount(CONTRACT, 1, 1, dict.fromkeys(crowded(rng, 9000, 1200), 5)))
    geth = replace(PROFILES["geth"], most_bytes=60_000)
    with served(tmp_path / "served", state) as view:
        # When they are synced from a peer whose replies are smaller than what a page of the usual depth would hold
        async with open_hosts(view, geth, geth) as hosts:
            synced = await sync_from(hosts, tmp_path / "d")
        await assert_state(synced, view, tmp_path / "d")
        # Then no more than a page's leaves were ever in hand,
        assert 0 < max(carried) <= MOST_LEAVES
        # pages are of several depths and none is too large,
        pages, slots, bundles = page_sizes(tmp_path / "d")
        for sizes in (pages, slots):
            assert min(path.depth for path in sizes) <= 2
            assert max(path.depth for path in sizes) > len(PREFIX.hex())
            assert max(sizes.values()) <= MOST_LEAVES
            # and they are not many more than needed: the crowd's share of the usual pages, and the seams around it.
            assert len(sizes) < 120
        assert bundles <= set(pages)
        # and everything is found in them.
        rng = Random(3)
        some = rng.sample([account.key for account in state], 40)
        absent = [PREFIX + rng.randbytes(29) for _ in range(10)] + [rng.randbytes(32) for _ in range(10)]
        assert_reads_alike(view, tmp_path / "d", [*some, *absent, bytes(32), b"\xff" * 32])


@pytest.mark.parametrize("most", [8, 40])
async def test_a_crowd_from_peers_that_send_500_bytes_with_stops(
    most: int, tmp_path: Path, carried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given pages of at most a few leaves, in place of a crowd of hundreds of thousands
    monkeypatch.setattr("ethsync.sync.assemble.MOST_LEAVES", most)
    monkeypatch.setattr("ethsync.sync.assemble.MOST_CARRIED", most)
    rng = Random(4)
    state = accounts(5, 300, 60)
    state.append(StatedAccount(CONTRACT, 1, 1, dict.fromkeys(crowded(rng, 300, 60), 5)))
    # And a peer of whose replies the first says nothing about the size of the trie
    with served(tmp_path / "served", state) as view:
        async with open_hosts(view, "capped") as (host,):
            # When the sync is stopped again and again
            stops = 0
            while (synced := await stopped_after(host, rng.randrange(5_000, 9_000), tmp_path / "d")) is None:
                stops += 1
        # Then it gets there, and what was in hand was bounded.
        assert stops > 2
        await assert_state(synced, view, tmp_path / "d")
        pages, slots, bundles = page_sizes(tmp_path / "d")
        assert max(*pages.values(), *slots.values()) <= most
        assert bundles <= set(pages)
        assert max(carried) <= max(most, 32)
        assert_reads_alike(view, tmp_path / "d", [account.key for account in state])


async def test_the_page_depth_waits_for_enough_leaves(tmp_path: Path, carried: list[int]) -> None:
    # Given a peer that sends ten accounts at a time, and 2,000 of them
    with served(tmp_path / "served", accounts(6, 0, 2_000)) as view:
        async with open_hosts(view, "capped") as (host,):
            # When a sync is stopped after some replies
            await stopped_after(host, 60_000, tmp_path / "d")
    # Then pages are as large as those of a trie of this size, though no reply alone could tell,
    pages, _, _ = page_sizes(tmp_path / "d")
    assert {path.depth for path in pages} == {1}
    assert 80 < min(pages.values()) <= max(pages.values()) < 180
    # and until there were enough leaves, one request was made after the other, and all that came was kept in hand.
    assert carried[0] == 0 < carried[1] < carried[2] < 32


async def test_a_contract_of_few_slots_from_small_replies_is_small_after_all(tmp_path: Path) -> None:
    # Given a contract of 40 slots, half of them crowded at its beginning, from a peer that sends a few at a time
    rng = Random(7)
    slots = {bytes(4) + rng.randbytes(28): 5 for _ in range(20)} | {rng.randbytes(32): 6 for _ in range(20)}
    state = [*accounts(8, 0, 20), StatedAccount(CONTRACT, 1, 1, slots)]
    with served(tmp_path / "served", state) as view:
        async with open_hosts(view, "capped") as hosts:
            synced = await sync_from(hosts, tmp_path / "d")
        await assert_state(synced, view, tmp_path / "d")
    # Then it has no pages.
    _, pages, bundles = page_sizes(tmp_path / "d")
    assert (pages, len(bundles)) == ({}, 1)
