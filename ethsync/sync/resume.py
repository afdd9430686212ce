"""What an earlier run left: stored ranges, and debts that were not paid. Reads the disk; runs in a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.state.columns import row_bytes
from ethsync.state.paged import PagedTrie
from ethsync.state.pages import KEY_SPACE, decode_bundle, decode_pages
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    FACT_DEPTH,
    MARKER,
    RECORD,
    TOP,
    Debt,
    Marker,
    account_key,
    decode_marker,
    decode_record,
)
from ethsync.sync.debts import PageDebt, needs_by_page, needs_of, open_debts, read_page, stored_codes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ethsync.state.pages import PagePath
    from ethsync.store.datadir import Datadir
    from ethsync.store.schema import DebtRecord, TrieRecord
    from ethsync.sync.debts import PageNeeds
    from ethsync.sync.fingerprints import Fingerprints


@dataclass(frozen=True, slots=True, eq=False)
class OpenDebt:
    """One account page with what it still owes."""

    path: PagePath
    step: int = 0
    """Which of the page's debts this is."""
    contracts: list[tuple[bytes, bytes]] = field(default_factory=list)
    codes: list[bytes] = field(default_factory=list)
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


def read_kept(datadir: Datadir, stored_codes: Fingerprints, alive: Callable[[], None] = lambda: None) -> Kept:
    """Read markers and debts; what is read of codes is added to those that are known to be stored.

    `alive` is called for every debt, and raises to end it early. Raises DatadirDamaged.
    """
    depth = datadir.accounts.get(FACT_DEPTH)
    if depth is not None and (len(depth) != 1 or depth[0] > 64):
        raise DatadirDamaged(f"{datadir.path} has an impossible page depth")
    markers = [decode_marker(key, value) for key, value in datadir.accounts.scan(MARKER)]
    return Kept(depth[0] if depth else None, markers, read_debts(datadir, open_debts(datadir), stored_codes, alive))


def read_debts(
    datadir: Datadir,
    owing: Iterable[tuple[PagePath, DebtRecord]],
    stored_codes: Fingerprints,
    alive: Callable[[], None] = lambda: None,
) -> list[OpenDebt]:
    """What each of these pages owes; the rest as for `read_kept`."""
    debts = []
    for path, record in owing:
        alive()
        debts.append(_read_debt(datadir, path, record, stored_codes))
    return debts


def _read_debt(datadir: Datadir, path: PagePath, record: DebtRecord, stored_codes: Fingerprints) -> OpenDebt:
    """What is owed is what the accounts name, less what is stored by now. Raises DatadirDamaged."""
    gone = Debt.GONE in record.flags
    needs = None if gone else _needs(datadir, path)
    named = dict(needs.contracts) if needs is not None else {}
    codes = _missing(datadir, needs.codes, stored_codes) if needs is not None and Debt.CODES in record.flags else []
    if not record.flags & (Debt.STORAGE | Debt.GONE):
        return OpenDebt(path, record.step, [], codes)
    value = datadir.bundles.get(account_key(BUNDLE, path))
    bundled = _bundled(path, value) if value is not None else {}
    stale = frozenset(account for account, root in bundled.items() if named.get(account) != root)
    elsewhere = _named_elsewhere(datadir, path) if gone else frozenset()
    unrecorded = dict.fromkeys(account for account in _paged(datadir, path) if account not in elsewhere)
    dead = []
    for account, big in _records(datadir, path):
        unrecorded.pop(account, None)
        if account in elsewhere:
            continue
        if account not in named or bundled.get(account) == named[account]:
            dead.append(account)  # in the second case its storage grew, and shrank again before that was stored
        elif big.complete and big.root == named[account]:
            del named[account]
    contracts = [(account, root) for account, root in named.items() if account not in bundled or account in stale]
    return OpenDebt(path, record.step, contracts, codes, value is not None, stale, (*dead, *unrecorded))


def _missing(datadir: Datadir, digests: Iterable[bytes], stored_codes: Fingerprints) -> list[bytes]:
    """Codes that are not stored. Many pages name the same ones: the database is asked about each of those once."""
    unknown = [digest for digest in digests if digest not in stored_codes]
    held = set(stored_codes_of(datadir, unknown))
    stored_codes.update(held)
    return [digest for digest in unknown if digest not in held]


def _needs(datadir: Datadir, path: PagePath) -> PageNeeds | None:
    """What the accounts of a page refer to, None if that is nothing. Raises DatadirDamaged."""
    leaves, _ = decode_pages([path], [read_page(datadir, path)], SLIM_ACCOUNT)
    try:
        return next(iter(needs_by_page(leaves, [(path, 0, len(leaves))])), None)
    except MalformedMessage as error:
        raise DatadirDamaged(f"the account page {path} is damaged: {error}") from error


def _named_elsewhere(datadir: Datadir, path: PagePath) -> frozenset[bytes]:
    """Accounts with storage under a path whose page is gone: they have come back in pages that are cut otherwise.

    What they have of storage is theirs, and what they owe is owed by their new page.
    """
    pages = PagedTrie(datadir.accounts, ACCOUNT_PAGE, TOP, 0, SLIM_ACCOUNT)  # of whatever depth
    end = path.end.to_bytes(32, "big") if path.end < KEY_SPACE else None
    found: set[bytes] = set()
    for leaves in pages.blocks(path.prefix, end):
        try:
            found.update(row_bytes(leaves.keys[needs_of(leaves).storage_rows]))
        except MalformedMessage as error:
            raise DatadirDamaged(f"an account page around {path} is damaged: {error}") from error
    return frozenset(found)


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
