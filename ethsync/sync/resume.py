"""What an earlier run left: stored ranges, and debts that were not paid. Reads the disk; runs in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.state.pages import decode_bundle, decode_pages
from ethsync.store.schema import (
    BUNDLE,
    CODE,
    FACT_DEPTH,
    MARKER,
    RECORD,
    Debt,
    Marker,
    account_key,
    decode_marker,
    decode_record,
)
from ethsync.sync.debts import PageDebt, needs_by_page, open_debts, read_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ethsync.state.pages import PagePath
    from ethsync.store.datadir import Datadir
    from ethsync.store.schema import DebtRecord, TrieRecord


@dataclass(frozen=True, slots=True, eq=False)
class OpenDebt:
    """One account page with what it still owes."""

    path: PagePath
    step: int = 0
    """Which of the page's debts this is."""
    contracts: list[tuple[bytes, bytes]] = field(default_factory=list)
    codes: list[bytes] = field(default_factory=list)
    """All that its accounts name, if any is owed: many are stored, and many pages name the same ones."""
    bundled: bool = False
    """Whether a bundle of it is stored."""
    stale: frozenset[bytes] = frozenset()
    """Accounts whose storage in that bundle is not what they name any more."""
    dead: tuple[bytes, ...] = ()
    """Accounts with pages of storage that belong to nothing: they have no storage any more, or what the bundle has of
    them, or a power cut has taken their record."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """All that an earlier run left."""

    depth: int | None
    markers: list[Marker]
    debts: list[OpenDebt]


def read_kept(datadir: Datadir, alive: Callable[[], None] = lambda: None) -> Kept:
    """Read markers and debts. `alive` is called for every debt, and raises to end it early. Raises DatadirDamaged."""
    depth = datadir.accounts.get(FACT_DEPTH)
    if depth is not None and (len(depth) != 1 or depth[0] > 64):
        raise DatadirDamaged(f"{datadir.path} has an impossible page depth")
    markers = [decode_marker(key, value) for key, value in datadir.accounts.scan(MARKER)]
    debts = []
    for path, record in open_debts(datadir):
        alive()
        debts.append(read_debt(datadir, path, record))
    return Kept(depth[0] if depth else None, markers, debts)


def missing_codes(datadir: Datadir, debts: Iterable[OpenDebt]) -> set[bytes]:
    """Codes that are owed and not stored."""
    named = {digest for debt in debts for digest in debt.codes}
    return {digest for digest in named if datadir.codes.get(CODE + digest) is None}


def read_debt(datadir: Datadir, path: PagePath, record: DebtRecord) -> OpenDebt:
    """What is owed is what the accounts name, less the storage that is stored by now. Raises DatadirDamaged."""
    named: dict[bytes, bytes] = {}
    codes: list[bytes] = []
    if Debt.GONE not in record.flags:
        leaves, _ = decode_pages([path], [read_page(datadir, path)], SLIM_ACCOUNT)
        try:
            needs = needs_by_page(leaves, [(path, 0, len(leaves))])
        except MalformedMessage as error:
            raise DatadirDamaged(f"the account page {path} is damaged: {error}") from error
        if needs and Debt.CODES in record.flags:
            codes = needs[0].codes
        named = dict(needs[0].contracts) if needs else {}
    if not record.flags & (Debt.STORAGE | Debt.GONE):
        return OpenDebt(path, record.step, [], codes)
    value = datadir.bundles.get(account_key(BUNDLE, path))
    bundled = _bundled(path, value) if value is not None else {}
    stale = frozenset(account for account, root in bundled.items() if named.get(account) != root)
    unrecorded = dict.fromkeys(_paged(datadir, path))
    dead = []
    for account, big in _records(datadir, path):
        unrecorded.pop(account, None)
        if account not in named or bundled.get(account) == named[account]:
            dead.append(account)  # in the second case its storage grew, and shrank again before that was stored
        elif big.complete and big.root == named[account]:
            del named[account]
    contracts = [(account, root) for account, root in named.items() if account not in bundled or account in stale]
    return OpenDebt(path, record.step, contracts, codes, value is not None, stale, (*dead, *unrecorded))


def _bundled(path: PagePath, value: bytes) -> dict[bytes, bytes]:
    """Accounts and storage roots in a bundle."""
    bundle = decode_bundle(path, value)
    return {bundle.accounts[k].tobytes(): bundle.roots[k].tobytes() for k in range(len(bundle))}


def _records(datadir: Datadir, path: PagePath) -> Iterator[tuple[bytes, TrieRecord]]:
    """Contracts under a path that have pages of their own."""
    for account, value in datadir.ledger.scan(RECORD, start=path.prefix):
        if int.from_bytes(account, "big") >= path.end:
            return
        yield account, decode_record(value)


def _paged(datadir: Datadir, path: PagePath) -> Iterator[bytes]:
    """Contracts under a path that have anything among the pages of big ones."""
    found = datadir.storage.neighbourhoods(path.prefix)
    return takewhile(lambda account: int.from_bytes(account, "big") < path.end, found)


def reopened(debt: OpenDebt) -> PageDebt:
    """The same as the debt book keeps it."""
    contracts, codes = len(debt.contracts), len(debt.codes)
    return PageDebt(debt.path, contracts, contracts, codes, bundled=debt.bundled, stale=debt.stale, step=debt.step)
