"""Debts that are not paid: the debt records of account pages, less those that the ledger calls paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.store.schema import DEBT, PAID, DebtRecord, decode_debt, decode_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.store.datadir import Datadir


def unpaid(datadir: Datadir, after: bytes = b"") -> Iterator[tuple[bytes, DebtRecord]]:
    """Stored path and debt of each page behind `after` that still owes something, from two scans in the same order.

    A page that healing wrote anew may owe again: what was paid is compared by its step. Raises DatadirDamaged.
    """
    paid = datadir.ledger.scan(PAID, start=after)
    last = next(paid, None)
    for path, value in datadir.accounts.scan(DEBT, start=after):
        if path == after:
            continue
        while last is not None and last[0] < path:
            last = next(paid, None)
        record = decode_debt(value)
        if last is None or last[0] != path or decode_step(last[1]) < record.step:
            yield path, record
