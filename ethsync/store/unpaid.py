"""Debts that are not paid: the debt records of account pages, less those that the ledger calls paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.store.schema import DEBT, PAID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.store.datadir import Datadir


def unpaid(datadir: Datadir) -> Iterator[tuple[bytes, bytes]]:
    """Stored path and debt record of each page that still owes something, from two scans in the same order."""
    paid = (path for path, _ in datadir.ledger.scan(PAID, keys_only=True))
    last = next(paid, None)
    for path, record in datadir.accounts.scan(DEBT):
        while last is not None and last < path:
            last = next(paid, None)
        if last != path:
            yield path, record
