"""What an earlier run left: markers, and debts less what was stored in the meantime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ethsync.errors import DatadirDamaged
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.state.columns import leaves_of
from ethsync.state.pages import KEY_SPACE, PagePath, encode_pages, path_of
from ethsync.store.datadir import Datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    CODE,
    DEBT,
    FACT_DEPTH,
    MARKER,
    PAID,
    RECORD,
    STORAGE_PAGE,
    Debt,
    Marker,
    TrieRecord,
    account_key,
    storage_key,
)
from ethsync.sync.debts import Contract, PageDebt, Part, make_bundle
from ethsync.sync.fingerprints import Fingerprints
from ethsync.sync.resume import read_kept
from tests.oracles.accounts import Account
from tests.unit.sync.storages import storage

PATH = path_of(b"\xa0" + bytes(31), 1)
ACCOUNTS = [bytes([0xA0 + number]) * 32 for number in range(5)]
TRIES = [storage(number, 3 + number) for number in range(5)]
CODES = [bytes([number]) * 32 for number in range(1, 6)]
CONTRACTS = list(zip(ACCOUNTS, (trie.root for trie in TRIES), strict=True))


def store_page(datadir: Datadir, path: PagePath = PATH, owed: int = Debt.STORAGE | Debt.CODES) -> None:
    """A page of five contracts, each with storage and code of its own, and its debt."""
    slim = [Account(root=trie.root, code=code).slim for trie, code in zip(TRIES, CODES, strict=True)]
    (page,) = encode_pages(leaves_of(ACCOUNTS, slim, SLIM_ACCOUNT), np.array([0, 5]), path.depth)
    datadir.accounts.put(account_key(ACCOUNT_PAGE, path), page)
    datadir.accounts.put(account_key(DEBT, path), bytes([owed]))


def bundle_of(numbers: list[int]) -> bytes:
    page = PageDebt(PATH)
    pairs = [pair for number in numbers for pair in TRIES[number].pairs]
    leaves = leaves_of([key for key, _ in pairs], [value for _, value in pairs])
    starts = np.cumsum([0] + [len(TRIES[number]) for number in numbers])
    return make_bundle([Part([Contract(page, *CONTRACTS[number]) for number in numbers], starts, leaves)], PATH.depth)


def test_a_new_directory_has_nothing(datadir: Datadir) -> None:
    kept = read_kept(datadir, Fingerprints())
    assert (kept.depth, kept.markers, kept.debts) == (None, [], [])


def test_depth_and_markers_come_back(datadir: Datadir) -> None:
    markers = [Marker(0, KEY_SPACE // 16, 5, 100), Marker(KEY_SPACE // 2, KEY_SPACE, 7, 300)]
    datadir.accounts.put(FACT_DEPTH, b"\3")
    for marker in markers:
        key, value = marker.encode()
        datadir.accounts.put(MARKER + key, value)
    kept = read_kept(datadir, Fingerprints())
    assert (kept.depth, kept.markers) == (3, markers)


def test_a_page_depth_of_zero_is_a_depth(datadir: Datadir) -> None:
    datadir.accounts.put(FACT_DEPTH, b"\0")
    assert read_kept(datadir, Fingerprints()).depth == 0


def test_an_unpaid_page_owes_what_its_accounts_name(datadir: Datadir) -> None:
    store_page(datadir)
    (debt,) = read_kept(datadir, Fingerprints()).debts
    assert (debt.path, debt.contracts, debt.codes) == (PATH, CONTRACTS, CODES)


@pytest.mark.parametrize("owed", [Debt.STORAGE, Debt.CODES])
def test_a_page_owes_only_the_kind_that_is_noted(datadir: Datadir, owed: Debt) -> None:
    store_page(datadir, owed=owed)
    (debt,) = read_kept(datadir, Fingerprints()).debts
    assert debt.contracts == (CONTRACTS if owed is Debt.STORAGE else [])
    assert debt.codes == (CODES if owed is Debt.CODES else [])


def test_a_paid_page_is_not_read_again(datadir: Datadir) -> None:
    store_page(datadir)
    datadir.ledger.put(account_key(PAID, PATH), b"")
    assert read_kept(datadir, Fingerprints()).debts == []


@pytest.mark.parametrize("complete", [False, True])
def test_pages_of_an_account_whose_storage_is_again_what_its_bundle_has_are_to_be_removed(
    datadir: Datadir, complete: bool
) -> None:
    # Given a contract that outgrew the bundle of its page in one block, of which some was stored, and not in the next
    store_page(datadir)
    datadir.bundles.put(account_key(BUNDLE, PATH), bundle_of([0, 3]))
    grown = TrieRecord(storage(9, 80).root, 0, complete, 80 * complete, 0)
    datadir.ledger.put(RECORD + ACCOUNTS[3], grown.encode())
    # then it is owed no more, and its record and pages belong to nothing.
    (debt,) = read_kept(datadir, Fingerprints()).debts
    assert debt.contracts == [CONTRACTS[1], CONTRACTS[2], CONTRACTS[4]]
    assert debt.stale == frozenset()
    assert debt.dead == (ACCOUNTS[3],)


def test_what_is_stored_by_now_is_not_owed(datadir: Datadir) -> None:
    # Given a bundle with two of the tries, a complete big one, an unfinished one, one of an older root, and a code
    store_page(datadir)
    datadir.bundles.put(account_key(BUNDLE, PATH), bundle_of([0, 3]))
    records = {
        1: TrieRecord(TRIES[1].root, 0, True, 4, 100),
        2: TrieRecord(TRIES[2].root, 0, False, 0, 0),
        4: TrieRecord(TRIES[3].root, 0, True, 6, 100),
    }
    for number, record in records.items():
        datadir.ledger.put(RECORD + ACCOUNTS[number], record.encode())
    datadir.codes.put(CODE + CODES[2], b"code")
    # Then
    (debt,) = read_kept(datadir, Fingerprints()).debts
    assert debt.contracts == [CONTRACTS[2], CONTRACTS[4]]
    assert debt.codes == [*CODES[:2], *CODES[3:]]


def test_storage_pages_without_a_record_are_to_be_removed(datadir: Datadir) -> None:
    # Given a power cut that took the record of a contract and left what was stored of it, of another one nothing but
    # a marker, and a contract under a page that is not concerned
    store_page(datadir)
    path = path_of(bytes(32), 0)
    outside = b"\xb0" + bytes(31)
    for account in (ACCOUNTS[2], outside):
        datadir.storage.put(storage_key(STORAGE_PAGE, account, path), b"page")
    marked = b"\xaf" * 32
    datadir.storage.put(MARKER + marked + bytes(32), b"marker")
    datadir.storage.put(storage_key(STORAGE_PAGE, ACCOUNTS[1], path), b"page")
    datadir.ledger.put(RECORD + ACCOUNTS[1], TrieRecord(TRIES[1].root, 0, False, 0, 0).encode())
    # Then both are dead as they are; what the accounts name is owed.
    (debt,) = read_kept(datadir, Fingerprints()).debts
    assert sorted(debt.dead) == sorted([ACCOUNTS[2], marked])
    assert debt.contracts == CONTRACTS


def test_a_page_may_turn_out_to_owe_nothing(datadir: Datadir) -> None:
    # Given a kill between the last write and the note that the debt is paid
    store_page(datadir)
    datadir.bundles.put(account_key(BUNDLE, PATH), bundle_of([0, 1, 2, 3, 4]))
    for digest in CODES:
        datadir.codes.put(CODE + digest, b"code")
    (debt,) = read_kept(datadir, Fingerprints()).debts
    assert (debt.contracts, debt.codes) == ([], [])


DAMAGE: dict[str, Callable[[Datadir], None]] = {
    "depth of 65": lambda datadir: datadir.accounts.put(FACT_DEPTH, b"\x41"),
    "empty depth": lambda datadir: datadir.accounts.put(FACT_DEPTH, b""),
    "short marker": lambda datadir: datadir.accounts.put(MARKER + bytes(32), b"short"),
    "marker with a short key": lambda datadir: datadir.accounts.put(MARKER + bytes(31), bytes(48)),
    "debt with an impossible path": lambda datadir: datadir.accounts.put(DEBT + b"\x11\x22\x01", b"\1"),
    "missing page": lambda datadir: datadir.accounts.put(account_key(DEBT, path_of(bytes(32), 1)), b"\1"),
    "damaged page": lambda datadir: datadir.accounts.put(account_key(ACCOUNT_PAGE, PATH), b"\1"),
    "damaged bundle": lambda datadir: datadir.bundles.put(account_key(BUNDLE, PATH), b"\1"),
    "damaged record": lambda datadir: datadir.ledger.put(RECORD + ACCOUNTS[0], b"\1"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_reported(datadir: Datadir, damage: Callable[[Datadir], None]) -> None:
    store_page(datadir)
    damage(datadir)
    with pytest.raises(DatadirDamaged):
        read_kept(datadir, Fingerprints())


@pytest.mark.parametrize("value", [b"", b"\0", b"\x80"])
def test_a_debt_that_says_nothing_is_damage(datadir: Datadir, value: bytes) -> None:
    # Otherwise the page would be taken as paid, and its storage never fetched.
    store_page(datadir)
    datadir.accounts.put(account_key(DEBT, PATH), value)
    with pytest.raises(DatadirDamaged):
        read_kept(datadir, Fingerprints())
