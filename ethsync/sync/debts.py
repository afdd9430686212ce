"""What account pages owe: storage tries and codes that their accounts name and that are not stored yet.

The debt of a page is written in the batch that writes the page. That it is paid is noted in the ledger, only after
everything it owes is stored and synced: deleting the debt instead would make LevelDB rewrite pages that lie far behind
the sweep. A restart begins with the debts that are not paid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.kernels import rlp
from ethsync.state.columns import Leaves, only_tries, row_bytes, side_by_side
from ethsync.state.pages import Bundle, PagePath, decode_bundle, encode_bundles, stored_path
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, CODE, PAID, DebtRecord, account_key, encode_step
from ethsync.store.unpaid import unpaid
from ethsync.store.writer import Write, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ethsync.arrays import Bytes, Ints
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
    stale: frozenset[bytes] = frozenset()
    """Accounts whose storage in that bundle is not what they name any more."""
    step: int = 0
    """Which of the page's debts this is."""


@dataclass(slots=True, eq=False)
class Contract:
    """One account whose storage is owed."""

    page: PageDebt
    account: bytes
    root: bytes
    state_root: bytes = b""
    """State root under which the account was proven to have this storage; empty if that is not known any more."""
    empty_answers: int = 0
    """How often nothing came for it under another state root."""


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
    contracts = list(zip(row_bytes(leaves.keys[needs.storage_rows]), row_bytes(needs.storage_roots), strict=True))
    hashes = row_bytes(needs.code_hashes)
    found = []
    for k, (path, _, _) in enumerate(pages):
        s, s_end, c, c_end = storage[0][k], storage[1][k], codes[0][k], codes[1][k]
        if s == s_end and c == c_end:
            continue
        found.append(PageNeeds(path, contracts[s:s_end], list(dict.fromkeys(hashes[c:c_end]))))
    return found


def make_bundle(parts: list[Part], depth: int) -> bytes:
    """Encode the bundle of a page from its parts, in account order."""
    return make_bundles([(parts, depth)])[0]


def make_bundles(pages: Sequence[tuple[list[Part], int]]) -> list[bytes]:
    """Encode the bundles of several pages (parts, depth of the page), each in account order."""
    parts = [part for of_page, _ in pages for part in of_page]
    contracts = [contract for part in parts for contract in part.contracts]
    leaves = side_by_side([part.leaves for part in parts])
    ends = np.cumsum([len(part.leaves) for part in parts])
    shifts = zip(parts, [0, *ends.tolist()], strict=False)
    starts = np.concatenate([*(part.starts[:-1] + shift for part, shift in shifts), ends[-1:]])
    firsts = np.cumsum([0, *(sum(len(part.contracts) for part in of_page) for of_page, _ in pages)])
    order = _account_order([contract.account for contract in contracts], firsts.tolist())
    if order is not None:
        contracts = [contracts[k] for k in order]
        leaves, starts = _reordered(leaves, starts, order)
    accounts = np.frombuffer(b"".join(contract.account for contract in contracts), np.uint8).reshape(-1, 32)
    roots = np.frombuffer(b"".join(contract.root for contract in contracts), np.uint8).reshape(-1, 32)
    return encode_bundles(Bundle(accounts, roots, starts, leaves), firsts, [depth for _, depth in pages])


def _account_order(names: list[bytes], firsts: list[int]) -> list[int] | None:
    """Rows that put the accounts of each page, names[firsts[k] : firsts[k + 1]], in order; None if they are."""
    order: list[int] = []
    for first, last in pairwise(firsts):
        order += sorted(range(first, last), key=names.__getitem__)
    return None if order == list(range(len(names))) else order


def _reordered(leaves: Leaves, starts: Ints, order: list[int]) -> tuple[Leaves, Ints]:
    """Tries in another order. Values stay where they are."""
    firsts, sizes = starts[:-1][order], np.diff(starts)[order]
    begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.repeat(firsts - begins[:-1], sizes) + np.arange(int(begins[-1]))
    return leaves.rows(rows), begins


class DebtBook:
    """All pages that owe something, and how debts are paid."""

    def __init__(self, datadir: Datadir, writer: Writer) -> None:
        self._datadir = datadir
        self._writer = writer
        self._paid: list[PageDebt] = []
        self.pages = 0

    def open(self, path: PagePath, contracts: int, codes: int) -> PageDebt:
        """Begin to keep the debt of a page. Its record is in the account batch already."""
        return self.reopen(PageDebt(path, contracts, contracts, codes))

    def reopen(self, page: PageDebt) -> PageDebt:
        """Begin to keep a debt that is on disk from before."""
        self.pages += 1
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
            self._paid.append(page)

    async def settle(self) -> None:
        """Note the debts that are paid; only after what pays them has been forced to the disk."""
        if not self._paid:
            return
        paid, self._paid = self._paid, []
        await self._trim([page for page in paid if page.stale])
        puts = [(account_key(PAID, page.path), encode_step(page.step)) for page in paid]
        await self._writer.write(Write(self._datadir.ledger, puts, after_sync=True))

    def stored_bundle(self, page: PageDebt) -> Part:
        """What the bundle of a page holds already, less what is stale. Raises DatadirDamaged."""
        value = self._datadir.bundles.get(account_key(BUNDLE, page.path))
        bundle = decode_bundle(page.path, value or b"")
        contracts = [
            Contract(page, bundle.accounts[k].tobytes(), bundle.roots[k].tobytes()) for k in range(len(bundle))
        ]
        fresh = np.array([contract.account not in page.stale for contract in contracts], np.bool_)
        if fresh.all():
            return Part(contracts, bundle.starts, bundle.leaves)
        kept = [contract for contract, stays in zip(contracts, fresh.tolist(), strict=True) if stays]
        leaves, starts = only_tries(bundle.leaves, bundle.starts, fresh)
        return Part(kept, starts, leaves)

    async def write_bundles(self, bundles: Iterable[tuple[PageDebt, bytes]]) -> None:
        """Store the bundles of some pages."""
        puts = []
        for page, value in bundles:
            puts.append((account_key(BUNDLE, page.path), value))
            page.stale = frozenset()
        await self._writer.write(Write(self._datadir.bundles, puts))

    async def _trim(self, pages: list[PageDebt]) -> None:
        """Take what is stale out of bundles to which nothing was added."""
        for page in pages:
            key, part = account_key(BUNDLE, page.path), self.stored_bundle(page)
            puts = [(key, make_bundle([part], page.path.depth))] if part.contracts else []
            await self._writer.write(Write(self._datadir.bundles, puts, [] if puts else [key]))


def open_debts(datadir: Datadir, after: bytes = b"") -> Iterator[tuple[PagePath, DebtRecord]]:
    """Pages behind a stored path whose debt is not paid, and what they owed when they were stored.

    Raises DatadirDamaged.
    """
    for key, record in unpaid(datadir, after):
        yield stored_path(key), record


def stored_codes_of(datadir: Datadir, digests: Iterable[bytes]) -> list[bytes]:
    """Those of these codes that are stored. Reads the disk."""
    return [digest for digest in digests if datadir.codes.get(CODE + digest) is not None]


def read_page(datadir: Datadir, path: PagePath) -> bytes:
    """Return an account page. Raises DatadirDamaged if it is not there, although its debt is."""
    value = datadir.accounts.get(account_key(ACCOUNT_PAGE, path))
    if value is None:
        raise DatadirDamaged(f"the account page {path} is missing", hint="run `ethsync verify` for the whole picture")
    return value
