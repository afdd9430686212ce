"""What is stored for accounts whose pages are not: a power cut, or a kill between two databases, can leave it.

The databases are written one after the other, and each is as new as its last log. So storage of an account may be there
while its page is lost. When the page comes again, perhaps cut at another path, nothing would ever look for it there.
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
    """Remove the storage of all accounts in [origin, end), before their pages are stored. Mostly there is none."""
    for database, keys in (
        (datadir.bundles, _bundles(datadir, origin, end)),
        (datadir.ledger, _records(datadir, origin, end)),
        (datadir.storage, _storage(datadir, origin, end)),
    ):
        while batch := list(islice(keys, MOST_DELETES)):
            await writer.write(Write(database, [], batch))


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
        for family in (STORAGE_PAGE, TOP, MARKER):
            for key, _ in datadir.storage.scan(family + account, keys_only=True):
                yield family + account + key
