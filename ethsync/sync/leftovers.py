"""What is stored for accounts whose pages are not: a power cut, or a kill between two databases, can leave it.

The databases are written one after the other, and each is as new as its last log. So storage of an account may be there
while its page is lost. When the page comes again, perhaps cut at another path, nothing would ever look for it there.

Pages of a contract without its record are read by nobody, and would make the verification fail for ever. They are
removed where they are met (`ethsync.sync.resume`), and all that remain before a verification that follows a restart.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING

from ethsync.state.pages import stored_path
from ethsync.store.schema import BUNDLE, MARKER, RECORD, STORAGE_PAGE, TOP
from ethsync.store.writer import Write, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.store.datadir import Datadir

MOST_DELETES = 1024
"""Keys deleted in one batch: about 70 KB."""


async def remove_leftovers(datadir: Datadir, writer: Writer, origin: int, end: int) -> None:
    """Remove the storage of all accounts in [origin, end), before their pages are stored. Mostly there is none.

    What was removed is so on the disk, too: another power cut must not bring it back beside pages that owe no storage.
    """
    removed = False
    for database, keys in (
        (datadir.bundles, _bundles(datadir, origin, end)),
        (datadir.ledger, _records(datadir, origin, end)),
        (datadir.storage, _storage(datadir, origin, end)),
    ):
        while batch := list(islice(keys, MOST_DELETES)):
            await writer.write(Write(database, [], batch))
            removed = True
    if removed:
        await writer.settle(datadir.ledger)


def remove_unrecorded(datadir: Datadir) -> int:
    """Remove storage pages that have no record; return of how many accounts. While nobody writes. Runs in a thread.

    One seek for each contract that has pages of its own.
    """
    records = (account for account, _ in datadir.ledger.scan(RECORD, keys_only=True))
    recorded = next(records, None)
    orphans = 0
    for account in datadir.storage.neighbourhoods():
        while recorded is not None and recorded < account:
            recorded = next(records, None)
        if recorded == account:
            continue
        orphans += 1
        keys = _of_contract(datadir, account)
        while gone := list(islice(keys, MOST_DELETES)):
            batch = datadir.storage.batch()
            for key in gone:
                batch.delete(key)
            datadir.storage.commit(batch, sync=True)
    return orphans


def _of_contract(datadir: Datadir, account: bytes) -> Iterator[bytes]:
    """Keys of everything that the storage database has of an account."""
    for family in (STORAGE_PAGE, TOP, MARKER):
        for key, _ in datadir.storage.scan(family + account, keys_only=True):
            yield family + account + key


def _bundles(datadir: Datadir, origin: int, end: int) -> Iterator[bytes]:
    for stored, _ in datadir.bundles.scan(BUNDLE, start=origin.to_bytes(32, "big").rstrip(b"\0"), keys_only=True):
        first = stored_path(stored).first
        if first >= end:
            return
        if first >= origin:
            yield BUNDLE + stored


def _records(datadir: Datadir, origin: int, end: int) -> Iterator[bytes]:
    found = datadir.ledger.scan(RECORD, start=origin.to_bytes(32, "big"), keys_only=True)
    return (RECORD + account for account, _ in takewhile(lambda item: int.from_bytes(item[0], "big") < end, found))


def _storage(datadir: Datadir, origin: int, end: int) -> Iterator[bytes]:
    for account in datadir.storage.neighbourhoods(origin.to_bytes(32, "big")):
        if int.from_bytes(account, "big") >= end:
            return
        yield from _of_contract(datadir, account)
