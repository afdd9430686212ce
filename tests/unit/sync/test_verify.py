"""Verification: nothing may be missing from a stored state, and nothing may be there that it does not name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import trio

from ethsync.errors import DatadirDamaged
from ethsync.hashing import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, keccak256
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.small_state import StatedAccount, create_state
from ethsync.state.account import Account
from ethsync.state.columns import leaves_of
from ethsync.state.pages import Top, decode_bundle, encode_bundle, encode_pages, path_of, tops_of
from ethsync.state.tries import page_tops
from ethsync.state.view import StateView
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Marker,
    TrieRecord,
    account_key,
    storage_key,
)
from ethsync.sync.verifier import verify

DEPTH = 1


def key(byte: int) -> bytes:
    return bytes([byte]) * 32


def slots(count: int) -> dict[bytes, int]:
    rng = Random(count)
    return {rng.randbytes(32): rng.randrange(1, 1 << 60) for _ in range(count)}


PLAIN, ABSENT = key(0x11), key(0x12)
"""An account without storage, and none."""

SMALL, TWIN = key(0x13), key(0x21)
BIG, OTHER = key(0x14), key(0xE3)
ACCOUNTS = [
    StatedAccount(PLAIN, 1, 5),
    StatedAccount(SMALL, 1, 5, slots(7)),
    StatedAccount(TWIN, 2, 5, slots(7)),
    StatedAccount(BIG, 1, 5, slots(2_000)),
    StatedAccount(OTHER, 1, 5, slots(70)),
]


@pytest.fixture
def datadir(tmp_path: Path) -> Iterator[Datadir]:
    """A finished state with pages of one nibble: two bundles, a contract of 16 pages, and one of a single page."""
    create_state(ACCOUNTS, tmp_path / "d", demo_network(), lambda root: head_header(root, 1), depth=DEPTH)
    with open_datadir(tmp_path / "d") as opened:
        yield opened


async def problems(datadir: Datadir) -> list[str]:
    found = await verify(datadir, StateView(datadir).state_root, trio.CapacityLimiter(2), lambda share: None)
    return found.problems


def put_storage_page(datadir: Datadir, account: bytes, slot: bytes, depth: int) -> None:
    """A well-formed page of one slot with its top record, as an interrupted run could have left it."""
    leaves = leaves_of([slot], [b"\x07"])
    path = path_of(slot, depth)
    (page,) = encode_pages(leaves, np.array([0, 1]), depth)
    datadir.storage.put(storage_key(STORAGE_PAGE, account, path), page)
    datadir.storage.put(storage_key(TOP, account, path), Top(slot, 64, b"\x07").encode())


def move_bundle(datadir: Datadir, account: bytes, depth: int) -> None:
    """Store the bundle of an account's page under a path of another length."""
    path = path_of(account, DEPTH)
    value = datadir.bundles.get(account_key(BUNDLE, path))
    assert value is not None
    batch = datadir.bundles.batch()
    batch.delete(account_key(BUNDLE, path))
    batch.put(account_key(BUNDLE, path_of(account, depth)), encode_bundle(decode_bundle(path, value), depth))
    datadir.bundles.commit(batch)


def copy_bundle(datadir: Datadir, source: bytes, target: bytes) -> None:
    """Store a bundle a second time, for the page of another account."""
    value = datadir.bundles.get(account_key(BUNDLE, path_of(source, DEPTH)))
    assert value is not None
    datadir.bundles.put(account_key(BUNDLE, path_of(target, DEPTH)), value)


def put_account_page(datadir: Datadir, account: bytes, depth: int) -> None:
    leaves = leaves_of([account], [Account(1, 1, EMPTY_TRIE_ROOT, EMPTY_CODE_HASH).slim()], SLIM_ACCOUNT)
    path = path_of(account, depth)
    (page,) = encode_pages(leaves, np.array([0, 1]), depth)
    (top,) = tops_of(page_tops(leaves, np.array([0])), leaves)
    datadir.accounts.put(account_key(ACCOUNT_PAGE, path), page)
    datadir.accounts.put(account_key(TOP, path), top.encode())


def put_record(datadir: Datadir, account: bytes, like: bytes) -> None:
    value = datadir.ledger.get(RECORD + like)
    assert value is not None
    datadir.ledger.put(RECORD + account, value)


def put_marker(datadir: Datadir, account: bytes) -> None:
    first, value = Marker(0, 1 << 255, 9, 500).encode()
    datadir.storage.put(MARKER + account + first, value)


def delete_record(datadir: Datadir, account: bytes) -> None:
    batch = datadir.ledger.batch()
    batch.delete(RECORD + account)
    datadir.ledger.commit(batch)


async def test_a_finished_state_holds(datadir: Datadir) -> None:
    assert await problems(datadir) == []
    assert len(list(datadir.storage.scan(STORAGE_PAGE + BIG))) == 16
    assert len(list(datadir.storage.scan(STORAGE_PAGE + OTHER))) == 1


HEX = {account: account.hex() for account in (PLAIN, ABSENT, SMALL, TWIN, BIG, OTHER)}

WRONG: dict[str, tuple[Callable[[Datadir], None], str]] = {
    "storage pages of an account that does not exist": (
        lambda datadir: put_storage_page(datadir, ABSENT, key(5), 0),
        f"account {HEX[ABSENT]} has storage pages but no record of them",
    ),
    "storage pages behind the last account": (
        lambda datadir: put_storage_page(datadir, key(0xFF), key(5), 0),
        f"account {key(0xFF).hex()} has storage pages but no record of them",
    ),
    "storage pages of an account without storage": (
        lambda datadir: put_storage_page(datadir, PLAIN, key(5), 2),
        f"account {HEX[PLAIN]} has storage pages but no record of them",
    ),
    "storage pages of an account whose storage is in a bundle": (
        lambda datadir: put_storage_page(datadir, SMALL, key(5), 0),
        f"account {HEX[SMALL]} has storage pages but no record of them",
    ),
    "only a marker of such pages": (
        lambda datadir: put_marker(datadir, SMALL),
        f"account {HEX[SMALL]} has storage pages but no record of them",
    ),
    "a record for an account that does not exist": (
        lambda datadir: put_record(datadir, ABSENT, BIG),
        f"account {HEX[ABSENT]} has storage pages of its own but names no such storage",
    ),
    "a record for an account without storage": (
        lambda datadir: put_record(datadir, PLAIN, BIG),
        f"account {HEX[PLAIN]} has storage pages of its own but names no such storage",
    ),
    "a record for an account whose storage is in a bundle": (
        lambda datadir: put_record(datadir, SMALL, OTHER),
        f"account {HEX[SMALL]} has storage pages of its own but names no such storage",
    ),
    "a record of another storage root": (
        lambda datadir: put_record(datadir, OTHER, BIG),
        f"the storage of account {HEX[OTHER]} is not complete or not that which it names",
    ),
    "a record that says that it is not complete": (
        lambda datadir: datadir.ledger.put(RECORD + OTHER, TrieRecord(bytes(32), 0, False, 0, 0).encode()),
        f"the storage of account {HEX[OTHER]} is not complete or not that which it names",
    ),
    "no record": (
        lambda datadir: delete_record(datadir, BIG),
        f"account {HEX[BIG]} has storage pages but no record of them",
    ),
    "a storage page over others": (
        lambda datadir: put_storage_page(datadir, BIG, key(0x50), 0),
        f"storage page of {HEX[BIG]} 0 overlaps the page before it",
    ),
    "a storage page under another": (
        lambda datadir: put_storage_page(datadir, BIG, key(0x77), 3),
        f"storage page of {HEX[BIG]} 777 overlaps the page before it",
    ),
    "a top record of a storage page that is not there": (
        lambda datadir: datadir.storage.put(
            storage_key(TOP, OTHER, path_of(key(0xF0), 1)), Top(key(0xF0), 64, b"\x07").encode()
        ),
        f"the top record f of account {HEX[OTHER]} has no page",
    ),
    "an account page under another": (
        lambda datadir: put_account_page(datadir, key(0x15), 2),
        "account page 15 overlaps the page before it",
    ),
    "a bundle under a path that is no page's but longer": (
        lambda datadir: move_bundle(datadir, SMALL, 2),
        "the bundle 13 has no account page",
    ),
    "a bundle under a path that is no page's but shorter": (
        lambda datadir: move_bundle(datadir, TWIN, 0),
        "the bundle (root) has no account page",
    ),
    "a bundle where no account is": (
        lambda datadir: copy_bundle(datadir, SMALL, key(0x55)),
        "the bundle 5 has no account page",
    ),
    "a bundle behind the last account": (
        lambda datadir: copy_bundle(datadir, SMALL, key(0xFF)),
        "the bundle f has no account page",
    ),
    "a bundle of accounts of another page": (
        lambda datadir: copy_bundle(datadir, TWIN, key(0x11)),
        "the bundle 1 has accounts of other pages",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), WRONG.values(), ids=WRONG)
async def test_what_does_not_belong_there_is_named(
    datadir: Datadir, spoil: Callable[[Datadir], None], said: str
) -> None:
    spoil(datadir)
    assert said in await problems(datadir)


async def test_a_bundle_that_names_an_account_twice_over_is_named(datadir: Datadir) -> None:
    # Given a trie in a bundle for an account that has none, in the right page
    path = path_of(SMALL, DEPTH)
    value = datadir.bundles.get(account_key(BUNDLE, path))
    assert value is not None
    renamed = bytearray(encode_bundle(decode_bundle(path, value), DEPTH))
    at = renamed.index(SMALL)
    renamed[at : at + 32] = PLAIN
    datadir.bundles.put(account_key(BUNDLE, path), bytes(renamed))
    # Then both the one that has too much and the one that has too little are named.
    found = await problems(datadir)
    assert f"the bundle has a trie for account {HEX[PLAIN]} that this account does not name" in found
    assert f"the storage of account {HEX[SMALL]} is missing" in found


# Codes

CODED = [StatedAccount(key(n), 1, 5, {}, bytes([n % 0x60]) * 7) for n in (0x15, 0x75, 0xE5)]
CODE_HASHES = [keccak256(account.code) for account in CODED]


@pytest.fixture
def coded(tmp_path: Path) -> Iterator[Datadir]:
    """A finished state whose accounts have codes."""
    create_state([*ACCOUNTS, *CODED], tmp_path / "d", demo_network(), lambda root: head_header(root, 1), depth=DEPTH)
    with open_datadir(tmp_path / "d") as opened:
        yield opened


async def test_codes_that_nobody_names_do_no_harm(coded: Datadir) -> None:
    other = b"\x5b nobody names this"
    coded.codes.put(CODE + keccak256(other), other)
    assert await problems(coded) == []


@pytest.mark.parametrize("digest", CODE_HASHES)
async def test_every_code_that_is_missing_is_named(digest: bytes, coded: Datadir) -> None:
    batch = coded.codes.batch()
    batch.delete(CODE + digest)
    coded.codes.commit(batch, sync=True)
    assert await problems(coded) == [f"the code with hash {digest.hex()} is missing"]


async def test_a_code_that_differs_in_one_byte_is_found(coded: Datadir) -> None:
    coded.codes.put(CODE + CODE_HASHES[0], CODED[0].code[:-1] + b"\xff")
    assert await problems(coded) == [f"the code with hash {CODE_HASHES[0].hex()} has another hash"]


async def test_a_key_of_a_code_that_is_no_hash_is_damage(coded: Datadir) -> None:
    coded.codes.put(CODE + CODE_HASHES[0] + b"\0", CODED[0].code)
    with pytest.RaisesGroup(DatadirDamaged, flatten_subgroups=True):
        await problems(coded)
