"""What account pages owe: found in the accounts, bundled in account order, and noted as paid when it is safe."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Leaves, leaves_of
from ethsync.state.pages import decode_bundle, path_of
from ethsync.state.tries import roots
from ethsync.store.datadir import Datadir
from ethsync.store.schema import BUNDLE, DEBT, PAID, Debt, DebtRecord, account_key
from ethsync.store.writer import Writer
from ethsync.sync.debts import (
    Contract,
    DebtBook,
    PageDebt,
    Part,
    make_bundle,
    make_bundles,
    needs_by_page,
    needs_of,
    open_debts,
    read_page,
)
from tests.oracles.accounts import NOT_SLIM_ACCOUNTS, Account, random_account
from tests.unit.sync.storages import Storage, storage, written

PATH = path_of(b"\xa0" + bytes(31), 1)


def accounts_of(*accounts: Account, first: int = 0x10) -> Leaves:
    keys = [bytes([first + number]) * 32 for number in range(len(accounts))]
    return leaves_of(keys, [account.slim for account in accounts], SLIM_ACCOUNT)


def digest(number: int) -> bytes:
    return bytes([number]) * 32


# What accounts need


def test_accounts_without_storage_and_code_need_nothing() -> None:
    needs = needs_of(accounts_of(Account(1, 2), Account()))
    assert (len(needs.storage_rows), len(needs.code_rows)) == (0, 0)
    assert (needs.storage_roots.shape, needs.code_hashes.shape) == ((0, 32), (0, 32))


def test_needs_name_their_rows() -> None:
    needs = needs_of(
        accounts_of(
            Account(root=digest(1)), Account(), Account(code=digest(2)), Account(root=digest(3), code=digest(4))
        )
    )
    assert needs.storage_rows.tolist() == [0, 3]
    assert [row.tobytes() for row in needs.storage_roots] == [digest(1), digest(3)]
    assert needs.code_rows.tolist() == [2, 3]
    assert [row.tobytes() for row in needs.code_hashes] == [digest(2), digest(4)]


def test_needs_of_many_random_accounts() -> None:
    rng = Random(1)
    accounts = [random_account(rng) for _ in range(200)]
    leaves = leaves_of(sorted(rng.randbytes(32) for _ in accounts), [each.slim for each in accounts], SLIM_ACCOUNT)
    needs = needs_of(leaves)
    # The empty trie and the empty code may be written out in full; nothing is owed for them.
    expected = [
        (row, each.root)
        for row, each in enumerate(accounts)
        if each.full != Account(each.nonce, each.balance, code=each.code).full
    ]
    assert (
        list(zip(needs.storage_rows.tolist(), (root.tobytes() for root in needs.storage_roots), strict=True))
        == expected
    )


@pytest.mark.parametrize("slim", NOT_SLIM_ACCOUNTS.values(), ids=NOT_SLIM_ACCOUNTS)
def test_an_account_that_is_not_canonical_is_malformed(slim: bytes) -> None:
    with pytest.raises(MalformedMessage):
        needs_of(leaves_of([digest(1)], [slim], SLIM_ACCOUNT))


def test_needs_are_grouped_by_page_without_duplicate_codes() -> None:
    # Given three pages, of which the second needs nothing
    code = Account(code=digest(9))
    leaves = accounts_of(code, code, Account(root=digest(1)), Account(), Account(root=digest(1), code=digest(9)))
    paths = [path_of(digest(number), 2) for number in (1, 2, 3)]
    # When
    found = needs_by_page(leaves, [(paths[0], 0, 3), (paths[1], 3, 4), (paths[2], 4, 5)])
    # Then each page has its own, and a code that two pages need stands in both.
    assert [(need.path, need.contracts, need.codes) for need in found] == [
        (paths[0], [(leaves.key(2), digest(1))], [digest(9)]),
        (paths[2], [(leaves.key(4), digest(1))], [digest(9)]),
    ]


def test_no_pages_need_nothing() -> None:
    assert needs_by_page(accounts_of(), []) == []


# Bundles


def part(page: PageDebt, storages: Sequence[tuple[bytes, Storage]], before: int = 0) -> Part:
    """A part as it is cut out of a reply in which `before` other slots come first."""
    pairs = [(digest(255), b"\1")] * before + [pair for _, each in storages for pair in each.pairs]
    leaves = leaves_of([key for key, _ in pairs], [value for _, value in pairs])
    starts = np.cumsum([0] + [len(each) for _, each in storages])
    return Part([Contract(page, account, each.root) for account, each in storages], starts, leaves[before:])


def check_bundle(value: bytes, expected: list[tuple[bytes, Storage]]) -> None:
    bundle = decode_bundle(PATH, value)
    assert [row.tobytes() for row in bundle.accounts] == [account for account, _ in expected]
    assert [row.tobytes() for row in bundle.roots] == [each.root for _, each in expected]
    starts = bundle.starts.tolist()
    for (_, each), first, last in zip(expected, starts, starts[1:], strict=False):
        assert [(bundle.leaves.key(row), bundle.leaves.value(row)) for row in range(first, last)] == each.pairs
    # Each trie really has the root that stands beside it.
    assert roots(bundle.leaves, bundle.starts[:-1]).tobytes() == bundle.roots.tobytes()
    assert bundle.leaves.kind == LEAF


@pytest.mark.parametrize("seed", range(8))
def test_a_bundle_is_in_account_order_however_its_parts_came(seed: int) -> None:
    # Given small tries of one page, two accounts with the same one, in parts of any size and order
    rng = Random(seed)
    page = PageDebt(PATH)
    tries = [storage(number, rng.randint(1, 9)) for number in range(6)]
    contracts = [(b"\xa0" + rng.randbytes(31), rng.choice(tries)) for _ in range(rng.randint(1, 12))]
    shuffled = rng.sample(contracts, len(contracts))
    parts = []
    while shuffled:
        count = rng.randint(1, len(shuffled))
        parts.append(part(page, shuffled[:count], before=rng.randrange(3)))
        shuffled = shuffled[count:]
    # When
    value = make_bundle(parts, PATH.depth)
    # Then
    check_bundle(value, sorted(contracts, key=lambda contract: contract[0]))


@pytest.mark.parametrize("seed", range(4))
def test_bundles_made_together_are_those_made_one_by_one(seed: int) -> None:
    # Given pages at different depths with tries out of one reply and out of others, in any order
    rng = Random(seed)
    pages: list[tuple[list[Part], int]] = []
    whole = part(PageDebt(PATH), [(rng.randbytes(32), storage(number, 3)) for number in range(8)], before=2)
    for first, last in ((0, 3), (3, 5), (5, 8)):
        rows = slice(int(whole.starts[first]), int(whole.starts[last]))
        cut = Part(whole.contracts[first:last], whole.starts[first : last + 1] - rows.start, whole.leaves[rows])
        other = part(PageDebt(PATH), [(rng.randbytes(32), storage(9, rng.randint(1, 40)))])
        pages.append(([cut, other] if rng.random() < 0.5 else [cut], rng.randint(0, 5)))
    # Then
    assert make_bundles(pages) == [make_bundle(parts, depth) for parts, depth in pages]


# Paying


async def test_a_debt_is_paid_when_storage_and_codes_are_stored(datadir: Datadir, writer: Writer) -> None:
    book = DebtBook(datadir, writer)
    page = book.open(PATH, contracts=3, codes=2)
    assert (page.storage, page.codes, page.unbundled, book.pages) == (3, 2, 3, 1)
    book.code_stored(page)
    book.storage_stored(page, 2)
    book.storage_stored(page, 1)
    assert (page.storage, page.codes > 0, book.pages) == (0, True, 1)
    await book.settle()
    assert writer.waiting == 0
    book.code_stored(page)
    assert (page.storage, page.codes, book.pages) == (0, 0, 0)
    await book.settle()
    # It is noted, but not before what pays it has been forced to the disk.
    await written(writer, datadir)
    assert datadir.ledger.get(account_key(PAID, PATH)) is None
    writer.close()
    await writer.finished.wait()
    assert datadir.ledger.get(account_key(PAID, PATH)) == b""


async def test_a_page_that_turns_out_to_owe_nothing_is_paid_at_once(datadir: Datadir, writer: Writer) -> None:
    book = DebtBook(datadir, writer)
    book.open(PATH, contracts=0, codes=0)
    book.open(path_of(digest(1), 1), contracts=0, codes=1)
    assert book.pages == 1
    await book.settle()
    writer.close()
    await writer.finished.wait()
    assert [key for key, _ in datadir.ledger.scan(PAID)] == [PATH.stored]


async def test_paid_debts_are_noted_together_and_once(datadir: Datadir, writer: Writer) -> None:
    book = DebtBook(datadir, writer)
    paths = [path_of(digest(number), 2) for number in range(5)]
    for path in paths:
        book.open(path, contracts=0, codes=0)
    await book.settle()
    await book.settle()
    writer.close()
    await writer.finished.wait()
    assert [key for key, _ in datadir.ledger.scan(PAID)] == [path.stored for path in paths]
    assert writer.statistics.batches == 1


async def test_bundles_are_stored_under_their_pages(datadir: Datadir, writer: Writer) -> None:
    book = DebtBook(datadir, writer)
    pages = [book.open(path_of(digest(number), 1), 1, 0) for number in (0x10, 0x20)]
    await book.write_bundles([(pages[0], b"first"), (pages[1], b"second")])
    await written(writer, datadir)
    assert [value for _, value in datadir.bundles.scan(BUNDLE)] == [b"first", b"second"]
    assert datadir.bundles.get(account_key(BUNDLE, pages[1].path)) == b"second"


@pytest.mark.parametrize("seed", range(5))
def test_open_debts_are_those_that_were_not_paid(datadir: Datadir, seed: int) -> None:
    # Given debts of pages all over the key space, of which some are paid; depths differ where pages were split
    rng = Random(seed)
    paths = {path_of(rng.randbytes(32), rng.choice((1, 2, 3))) for _ in range(60)}
    paid = {path for path in paths if rng.random() < 0.5}
    for path in paths:
        datadir.accounts.put(account_key(DEBT, path), bytes([Debt.STORAGE]))
    for path in paid | {path_of(rng.randbytes(32), 4)}:
        datadir.ledger.put(account_key(PAID, path), b"")
    # Then
    assert list(open_debts(datadir)) == [
        (path, DebtRecord(Debt.STORAGE)) for path in sorted(paths - paid, key=lambda path: path.stored)
    ]


def test_a_debt_without_its_page_is_damage(datadir: Datadir) -> None:
    with pytest.raises(DatadirDamaged, match=r"page a is missing.*ethsync verify"):
        read_page(datadir, PATH)
