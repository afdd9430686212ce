"""What an earlier run left: stored ranges, and debts that were not paid. Reads the disk; runs in a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.errors import DatadirDamaged, MalformedMessage
from ethsync.kernels.trie import SLIM_ACCOUNT
from ethsync.state.pages import PagePath, decode_bundle, decode_pages
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
from ethsync.sync.debts import needs_by_page, open_debts, read_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.store.datadir import Datadir


@dataclass(frozen=True, slots=True, eq=False)
class OpenDebt:
    """One page of an earlier run with what it still owes."""

    path: PagePath
    contracts: list[tuple[bytes, bytes]]
    codes: list[bytes]
    bundled: bool
    """Whether a bundle of it is stored."""


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
    for path, flags in open_debts(datadir):
        alive()
        debts.append(_open_debt(datadir, path, flags))
    return Kept(depth[0] if depth else None, markers, debts)


def _open_debt(datadir: Datadir, path: PagePath, flags: Debt) -> OpenDebt:
    """What is owed is what the accounts name, less what is stored by now."""
    leaves, _ = decode_pages([path], [read_page(datadir, path)], SLIM_ACCOUNT)
    try:
        needs = needs_by_page(leaves, [(path, 0, len(leaves))])
    except MalformedMessage as error:
        raise DatadirDamaged(f"the account page {path} is damaged: {error}") from error
    if not needs:
        return OpenDebt(path, [], [], False)
    contracts = needs[0].contracts if flags & Debt.STORAGE else []
    codes = needs[0].codes if flags & Debt.CODES else []
    value = datadir.bundles.get(account_key(BUNDLE, path)) if contracts else None
    bundled = set()
    if value is not None:
        bundle = decode_bundle(path, value)
        bundled = {bundle.accounts[k].tobytes() for k in range(len(bundle))}
    contracts = [
        (account, root)
        for account, root in contracts
        if account not in bundled and not _complete(datadir, account, root)
    ]
    missing = [digest for digest in codes if datadir.codes.get(CODE + digest) is None]
    return OpenDebt(path, contracts, missing, value is not None)


def _complete(datadir: Datadir, account: bytes, root: bytes) -> bool:
    value = datadir.ledger.get(RECORD + account)
    if value is None:
        return False
    record = decode_record(value)
    return record.complete and record.root == root
