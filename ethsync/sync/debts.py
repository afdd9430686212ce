"""What account pages owe: storage tries and codes that their accounts name and that are not stored yet.

The debt of a page is written in the batch that writes the page. That it is paid is noted in the ledger, only after
everything it owes is stored and synced: deleting the debt instead would make LevelDB rewrite pages that lie far behind
the sweep. A restart begins with the debts that are not paid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.kernels import rlp
from ethsync.state.columns import Bytes, Ints, Leaves, join
from ethsync.state.pages import Bundle, PagePath, decode_bundle, encode_bundle, stored_path
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, PAID, Debt, account_key
from ethsync.store.unpaid import unpaid
from ethsync.store.writer import Write, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ethsync.store.datadir import Datadir


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """Accounts with storage and codes, in key order, as columns.

    storage_rows (s,) and code_rows (c,) index the leaves; storage_roots (s, 32); code_hashes (c, 32).
    """

    storage_rows: Ints
    storage_roots: Bytes
    code_rows: Ints
    code_hashes: Bytes


def needs_of(accounts: Leaves) -> Needs:
    """What these slim accounts refer to. Raises MalformedMessage if one is not canonical."""
    n = len(accounts)
    storage_rows, code_rows, counts = np.empty(n, np.int64), np.empty(n, np.int64), np.zeros(2, np.int64)
    storage_roots, code_hashes = np.empty((n, 32), np.uint8), np.empty((n, 32), np.uint8)
    code = rlp.account_needs(
        accounts.buf, accounts.offsets, accounts.lengths, storage_rows, storage_roots, code_rows, code_hashes, counts
    )
    if code < 0:
        raise MalformedMessage("an account is not canonical")
    s, c = int(counts[0]), int(counts[1])
    return Needs(storage_rows[:s].copy(), storage_roots[:s].copy(), code_rows[:c].copy(), code_hashes[:c].copy())


@dataclass(slots=True, eq=False)
class Part:
    """Small storage tries of one account page that came together. Trie k has rows starts[k] to starts[k + 1]."""

    contracts: list[Contract]
    starts: Ints
    leaves: Leaves


@dataclass(slots=True, eq=False)
class PageDebt:
    """What one account page still owes, in memory."""

    path: PagePath
    storage: int = 0
    """Contracts whose storage is not stored."""
    unbundled: int = 0
    """Of these, the ones that may turn out to belong into the bundle."""
    codes: int = 0
    parts: list[Part] = field(default_factory=list)
    bundled: bool = False
    """An earlier run stored a bundle of this page: what comes now is added to it."""


@dataclass(slots=True, eq=False)
class Contract:
    """One account whose storage is owed."""

    page: PageDebt
    account: bytes
    root: bytes


@dataclass(frozen=True, slots=True, eq=False)
class PageNeeds:
    """An account page with what it owes: contracts (account hash, storage root) and codes (hashes, no duplicates)."""

    path: PagePath
    contracts: list[tuple[bytes, bytes]]
    codes: list[bytes]


def needs_by_page(leaves: Leaves, pages: list[tuple[PagePath, int, int]]) -> list[PageNeeds]:
    """Group what accounts need by their pages (path, first row, last row); pages that need nothing are left out."""
    needs = needs_of(leaves)
    firsts = np.fromiter((first for _, first, _ in pages), np.int64, len(pages))
    lasts = np.fromiter((last for _, _, last in pages), np.int64, len(pages))
    storage = np.searchsorted(needs.storage_rows, firsts).tolist(), np.searchsorted(needs.storage_rows, lasts).tolist()
    codes = np.searchsorted(needs.code_rows, firsts).tolist(), np.searchsorted(needs.code_rows, lasts).tolist()
    accounts, roots = leaves.keys[needs.storage_rows].tobytes(), needs.storage_roots.tobytes()
    hashes = needs.code_hashes.tobytes()
    found = []
    for k, (path, _, _) in enumerate(pages):
        s, s_end, c, c_end = storage[0][k], storage[1][k], codes[0][k], codes[1][k]
        if s == s_end and c == c_end:
            continue
        contracts = [(accounts[32 * i : 32 * i + 32], roots[32 * i : 32 * i + 32]) for i in range(s, s_end)]
        wanted = list(dict.fromkeys(hashes[32 * i : 32 * i + 32] for i in range(c, c_end)))
        found.append(PageNeeds(path, contracts, wanted))
    return found


def make_bundle(parts: list[Part], depth: int) -> bytes:
    """Encode the bundle of a page from its parts, in account order."""
    contracts = [contract for part in parts for contract in part.contracts]
    names = [contract.account for contract in contracts]
    if len(parts) == 1 and names == sorted(names):
        return encode_bundle(_bundle(contracts, parts[0].starts, parts[0].leaves), depth)
    joined = join([part.leaves for part in parts])
    firsts = np.concatenate([part.starts[:-1] + shift for part, shift in zip(parts, _shifts(parts), strict=True)])
    sizes = np.concatenate([np.diff(part.starts) for part in parts])
    order = sorted(range(len(contracts)), key=names.__getitem__)
    firsts, sizes = firsts[order], sizes[order]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.repeat(firsts - starts[:-1], sizes) + np.arange(int(starts[-1]))
    leaves = Leaves(joined.keys[rows], joined.buf, joined.offsets[rows], joined.lengths[rows], joined.kind)
    return encode_bundle(_bundle([contracts[k] for k in order], starts, leaves), depth)


def _bundle(contracts: list[Contract], starts: Ints, leaves: Leaves) -> Bundle:
    accounts = np.frombuffer(b"".join(contract.account for contract in contracts), np.uint8).reshape(-1, 32)
    roots = np.frombuffer(b"".join(contract.root for contract in contracts), np.uint8).reshape(-1, 32)
    return Bundle(accounts, roots, starts, leaves)


def _shifts(parts: list[Part]) -> list[int]:
    shifts, at = [], 0
    for part in parts:
        shifts.append(at)
        at += len(part.leaves)
    return shifts


class DebtBook:
    """All pages that owe something, and how debts are paid."""

    def __init__(self, datadir: Datadir, writer: Writer) -> None:
        self._datadir = datadir
        self._writer = writer
        self._paid: list[PagePath] = []
        self.pages = 0

    def open(self, path: PagePath, contracts: int, codes: int, *, bundled: bool = False) -> PageDebt:
        """Begin to keep the debt of a page. Its record is in the account batch already, or on disk from before."""
        self.pages += 1
        page = PageDebt(path, contracts, contracts, codes, bundled=bundled)
        self._look_at(page)
        return page

    def code_stored(self, page: PageDebt) -> None:
        """One more code of a page is with the writer. Followed by `settle`, sooner or later."""
        page.codes -= 1
        self._look_at(page)

    def storage_stored(self, page: PageDebt, contracts: int) -> None:
        """The storage of so many contracts of a page is with the writer. Followed by `settle`, sooner or later."""
        page.storage -= contracts
        self._look_at(page)

    def _look_at(self, page: PageDebt) -> None:
        if not page.storage and not page.codes:
            self.pages -= 1
            self._paid.append(page.path)

    async def settle(self) -> None:
        """Note the debts that are paid; only after what pays them has been forced to the disk."""
        if not self._paid:
            return
        puts = [(account_key(PAID, path), b"") for path in self._paid]
        self._paid = []
        await self._writer.write(Write(self._datadir.ledger, puts, after_sync=True))

    def stored_bundle(self, page: PageDebt) -> Part:
        """What the bundle of a page holds already. Raises DatadirDamaged."""
        value = self._datadir.bundles.get(account_key(BUNDLE, page.path))
        bundle = decode_bundle(page.path, value or b"")
        contracts = [
            Contract(page, bundle.accounts[k].tobytes(), bundle.roots[k].tobytes()) for k in range(len(bundle))
        ]
        return Part(contracts, bundle.starts, bundle.leaves)

    async def write_bundles(self, bundles: Iterable[tuple[PageDebt, bytes]]) -> None:
        """Store the bundles of some pages."""
        puts = [(account_key(BUNDLE, page.path), value) for page, value in bundles]
        await self._writer.write(Write(self._datadir.bundles, puts))


def open_debts(datadir: Datadir) -> Iterator[tuple[PagePath, Debt]]:
    """Pages whose debt is not paid, with what they owed when they were stored. Raises DatadirDamaged."""
    for key, value in unpaid(datadir):
        if len(value) != 1 or not 0 < value[0] <= Debt.STORAGE | Debt.CODES:
            raise DatadirDamaged(f"the debt of account page {stored_path(key)} is damaged")
        yield stored_path(key), Debt(value[0])


def read_page(datadir: Datadir, path: PagePath) -> bytes:
    """Return an account page. Raises DatadirDamaged if it is not there, although its debt is."""
    value = datadir.accounts.get(account_key(ACCOUNT_PAGE, path))
    if value is None:
        raise DatadirDamaged(f"the account page {path} is missing", hint="run `ethsync verify` for the whole picture")
    return value
