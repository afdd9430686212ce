"""States of every awkward shape, each synced from mixes of servers that cut their replies at different places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ethsync.hashing import keccak256
from ethsync.serve.profiles import PROFILES
from ethsync.serve.small_state import StatedAccount
from ethsync.state.pages import KEY_SPACE, SMALL_TRIE
from ethsync.wire import rlp
from ethsync.wire.snap import SnapMessage
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import Host, Synced, assert_state, open_hosts, sync_from
from tests.oracles.accounts import Account
from tests.oracles.tries import root_of

GETH = PROFILES["geth"]
FULL_SETS = PROFILES["proof-of-full-set"]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def random_accounts(seed: int, count: int) -> list[StatedAccount]:
    rng = Random(seed)
    return [StatedAccount(rng.randbytes(32), rng.randrange(9), rng.randrange(1 << 70)) for _ in range(count)]


def slots(seed: int, count: int, most: int = 32) -> dict[bytes, int]:
    """Random slots with values of 1 to `most` bytes."""
    rng = Random(seed)
    return {rng.randbytes(32): 1 + rng.randrange(1 << 8 * rng.randint(1, most)) for _ in range(count)}


def oracle_root(accounts: list[StatedAccount]) -> bytes:
    """The state root by the `trie` package."""
    ordered = sorted(accounts, key=lambda account: account.key)
    roots: dict[int, bytes] = {}
    full = []
    for account in ordered:
        if id(account.storage) not in roots:  # twins have the same object
            pairs = sorted(account.storage.items())
            roots[id(account.storage)] = root_of(
                [slot for slot, _ in pairs], [rlp.encode_int(value) for _, value in pairs]
            )
        storage = roots[id(account.storage)]
        full.append(Account(account.nonce, account.balance, storage, keccak256(account.code)).full)
    return root_of([account.key for account in ordered], full)


async def synced_from_a_mix(
    tmp_path: Path, accounts: list[StatedAccount], *, most_bytes: int = 1 << 20, depth: int | None = None
) -> tuple[Synced, list[Host]]:
    """Write a state, check its root by other means, and sync it from four different servers."""
    header = create_demo_state(tmp_path / "served", accounts, depth)
    assert header.state_root == oracle_root(accounts)
    mix = [
        replace(profile, most_bytes=most_bytes)
        for profile in (GETH, FULL_SETS, PROFILES["nethermind"], PROFILES["besu"])
    ]
    with opened(tmp_path / "served") as state:
        async with open_hosts(state, *mix) as hosts:
            synced = await sync_from(hosts, tmp_path / "d")
        await assert_state(synced, state, tmp_path / "d")
    return synced, hosts


async def test_one_account(tmp_path: Path) -> None:
    await synced_from_a_mix(tmp_path, random_accounts(1, 1))


async def test_one_account_with_one_slot_and_a_code(tmp_path: Path) -> None:
    only = StatedAccount(b"\xab" * 32, 1, 1, {bytes(32): 1}, b"\x60\x00")
    await synced_from_a_mix(tmp_path, [only])


@pytest.mark.parametrize("count", [2, 15, 17])
async def test_a_few_accounts(count: int, tmp_path: Path) -> None:
    await synced_from_a_mix(tmp_path, random_accounts(2, count), most_bytes=100)


async def test_accounts_at_the_ends_of_the_key_space(tmp_path: Path) -> None:
    ends = [StatedAccount(key(0), 1), StatedAccount(key(KEY_SPACE - 1), 2)]
    await synced_from_a_mix(tmp_path, [*ends, *random_accounts(3, 400)], most_bytes=3_000)


@pytest.mark.parametrize("most_bytes", [200, 3_000, 1 << 20])
async def test_accounts_exactly_on_the_borders_of_pages_and_ranges(most_bytes: int, tmp_path: Path) -> None:
    """Every first and last key of the 256 parts in which a state of this size could be kept, whatever its depth."""
    step = KEY_SPACE // 256
    borders = [StatedAccount(key(k * step), 1, k) for k in range(256)]
    borders += [StatedAccount(key((k + 1) * step - 1), 2, k) for k in range(256)]
    await synced_from_a_mix(tmp_path, borders, most_bytes=most_bytes)


@pytest.mark.parametrize("most_bytes", [700, 9_000])
async def test_slots_exactly_on_the_borders_of_pages_and_ranges(most_bytes: int, tmp_path: Path) -> None:
    step = KEY_SPACE // 256
    borders = [place for k in range(256) for place in (k * step, (k + 1) * step - 1)]
    storage = {key(place): place % 251 + 1 for place in borders}
    await synced_from_a_mix(tmp_path, [StatedAccount(b"\x77" * 32, 1, 1, storage)], most_bytes=most_bytes)


@pytest.mark.parametrize("most_bytes", [500, 1 << 20])
async def test_nodes_embedded_in_their_parents(most_bytes: int, tmp_path: Path) -> None:
    """Short values under keys with long common prefixes: the tries end in nodes of less than 32 bytes."""
    rng = Random(4)
    stems = [rng.randbytes(31) for _ in range(60)]
    deep = {stem + bytes([last]): 1 + last % 127 for stem in stems for last in range(0, 48, 3)}
    few = {stems[0] + bytes([last]): 7 for last in range(2)}
    accounts = [
        StatedAccount(b"\x10" * 32, 1, 0, deep),
        StatedAccount(b"\x11" * 32, 1, 0, few),
        *random_accounts(4, 20),
    ]
    await synced_from_a_mix(tmp_path, accounts, most_bytes=most_bytes)


async def test_storage_that_leaves_most_of_its_key_space_empty(tmp_path: Path) -> None:
    """3,000 slots in a hundredth of the key space, one at each end: most ranges of it are empty."""
    rng = Random(5)
    crowd = {b"\x80\x01" + rng.randbytes(30): 5 for _ in range(3_000)}
    uneven = {**crowd, key(0): 1, key(KEY_SPACE - 1): 2}
    await synced_from_a_mix(tmp_path, [StatedAccount(b"\x33" * 32, 1, 0, uneven)], most_bytes=20_000)


async def test_one_contract_with_thousands_of_slots(tmp_path: Path) -> None:
    accounts = [StatedAccount(b"\x44" * 32, 1, 0, slots(6, 8_000)), *random_accounts(6, 50)]
    synced, _ = await synced_from_a_mix(tmp_path, accounts, most_bytes=30_000)
    assert synced.verified is not None
    assert (synced.verified.slots, synced.verified.contracts) == (8_000, 1)


@pytest.mark.parametrize("size", [1, SMALL_TRIE, SMALL_TRIE + 1, 2_000])
@pytest.mark.parametrize("most_bytes", [1_500, 1 << 20])
async def test_shared_storage_is_fetched_once(size: int, most_bytes: int, tmp_path: Path) -> None:
    # Given twelve accounts all over the key space with the same storage
    storage = slots(size, size)
    twins = [StatedAccount(bytes([20 * k + 1]) * 32, k, 5, storage) for k in range(12)]
    synced, hosts = await synced_from_a_mix(tmp_path, [*twins, *random_accounts(7, 300)], most_bytes=most_bytes)
    # Then its slots were served once, give or take what servers send beyond the end of a range
    served = sum(host.watch.items[SnapMessage.STORAGE_RANGES] for host in hosts)
    replies = sum(host.watch.replies[SnapMessage.STORAGE_RANGES] for host in hosts)
    assert size <= served <= size + replies
    assert synced.verified is not None
    assert (synced.verified.slots, synced.verified.contracts) == (12 * size, 12)


async def test_shared_codes_are_fetched_once(tmp_path: Path) -> None:
    # Given 200 accounts with three codes among them
    rng = Random(8)
    codes = [b"\x60" + rng.randbytes(5_000 * k) for k in range(3)]
    owners = [StatedAccount(rng.randbytes(32), 1, 0, {}, codes[k % 3]) for k in range(200)]
    synced, hosts = await synced_from_a_mix(tmp_path, owners, most_bytes=2_000)
    assert sum(host.watch.items[SnapMessage.BYTE_CODES] for host in hosts) == 3
    assert synced.verified is not None
    assert synced.verified.codes == 3


async def test_a_page_that_is_too_large_for_its_depth(tmp_path: Path) -> None:
    """4,500 accounts whose hashes begin alike: whoever can mine prefixes must not be able to break a page."""
    rng = Random(9)
    crowd = [StatedAccount(b"\x99\x99" + rng.randbytes(30), 1, k) for k in range(4_500)]
    spread = [StatedAccount(rng.randbytes(32), 1, k) for k in range(1_500)]
    await synced_from_a_mix(tmp_path, [*crowd, *spread], depth=5)
