"""What following has changed since pages were written: a database of its own, laid over the others when they are read.

Each step, the way from the state of one block to that of another, is one batch of this database, forced to the disk:
it is there as a whole or not at all, whatever the moment at which the process dies or the power fails. A record says
what becomes of one key of another database. Readers ask these for values and get them with all changes applied.

In between pages are folded (`ethsync.store.folding`): written anew where they are, and then their changes are removed.
Changes that are applied to a page that has them already change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from heapq import merge
from itertools import groupby
from typing import TYPE_CHECKING

from ethsync.errors import DatadirDamaged
from ethsync.store.merging import changed_bundle, changed_page
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, MARKER, STORAGE_PAGE, TOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ethsync.store.leveldb import Batch, Database

STEP = b"!step"
"""The last step, u32, big-endian."""

STEP_BYTES = 4
"""A step is a block or more: enough for 1,600 years of 12-second blocks."""

BY_STEP = (ACCOUNT_PAGE, BUNDLE, STORAGE_PAGE)
"""Families whose records are kept by their steps; of all others only the newest record is."""


_STORAGE = (STORAGE_PAGE, TOP, MARKER)


class Kind(IntEnum):
    """What a record says of its key."""

    GONE = 0
    """It is not there any more."""
    VALUE = 1
    """This is its value."""
    PAGE = 2
    """These leaves of the page change."""
    BUNDLE = 3
    """These tries of the bundle change."""


_APPLY: dict[Kind, Callable[[bytes | None, list[bytes]], bytes | None]] = {
    Kind.GONE: lambda value, payloads: None,
    Kind.VALUE: lambda value, payloads: payloads[-1],
    Kind.PAGE: changed_page,
    Kind.BUNDLE: changed_bundle,
}


@dataclass(frozen=True, slots=True)
class Patch:
    """One record: `layer` says of which database `key` is."""

    layer: bytes
    key: bytes
    kind: Kind
    payload: bytes = b""

    def encode(self, step: int) -> tuple[bytes, bytes]:
        """Key and value."""
        return patched_key(self.layer, self.key, step), bytes([self.kind]) + self.payload


def patched_key(layer: bytes, key: bytes, step: int = 0) -> bytes:
    """The key of the record that a step makes of a key of another database."""
    return layer + key + (step if key[:1] in BY_STEP else 0).to_bytes(STEP_BYTES, "big")


def patched(value: bytes | None, records: Iterable[bytes]) -> bytes | None:
    """A value, None if there is none, with the records of its key applied in order. Raises DatadirDamaged."""
    for kind, part in groupby(records, key=_kind):
        payloads = [record[1:] for record in part]
        value = _APPLY[kind](value, payloads)
    return value


def _kind(record: bytes) -> Kind:
    try:
        return Kind(record[0])
    except (ValueError, IndexError):
        raise DatadirDamaged("a record of what was changed by following is damaged") from None


class Overlay:
    """The patches of one database. Used from worker threads, any number at once."""

    def __init__(self, patches: Database, layer: bytes) -> None:
        self._patches = patches
        self._layer = layer

    def records(self, key: bytes) -> list[bytes]:
        """All records of a key, in the order of their steps."""
        found = self._patches.scan(self._layer + key)
        return [value for rest, value in found if len(rest) == STEP_BYTES]

    def groups(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
        """Keys without the prefix, from `start` on, each with its records."""
        found = self._patches.scan(self._layer + prefix, start=start)
        for key, part in groupby(found, key=lambda item: item[0][:-STEP_BYTES]):
            if key >= start:
                yield key, [value for _, value in part]

    def get(self, database: Database, key: bytes) -> bytes | None:
        """The value of a key as the last step left it. Records first: what is folded in between is applied twice."""
        records = self.records(key)
        return patched(database.get_stored(key), records) if records else database.get_stored(key)

    def scan(self, database: Database, prefix: bytes, start: bytes, keys_only: bool) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over (key without the prefix, value) as the last step left them, in key order."""
        groups = self.groups(prefix, start)
        key, records = next(groups, (None, []))
        for stored, value in database.scan_stored(prefix, start=start, keys_only=keys_only):
            while key is not None and key < stored:
                yield from _shown(key, None, records, keys_only)
                key, records = next(groups, (None, []))
            if key == stored:
                yield from _shown(stored, value, records, keys_only)
                key, records = next(groups, (None, []))
            else:
                yield stored, value
        while key is not None:
            yield from _shown(key, None, records, keys_only)
            key, records = next(groups, (None, []))

    def neighbourhoods(self, database: Database, first: bytes) -> Iterator[bytes]:
        """As Database.neighbourhoods, without those that the last steps have emptied."""
        near = database.neighbourhood
        groups = merge(*((key[:near] for key, _ in self.groups(family, first)) for family in _STORAGE))
        changed = (key for key, _ in groupby(groups))
        ahead = next(changed, None)
        for stored in database.stored_neighbourhoods(first):
            while ahead is not None and ahead < stored:
                if self._holds(database, ahead):
                    yield ahead
                ahead = next(changed, None)
            if ahead != stored or self._holds(database, stored):
                yield stored
            if ahead == stored:
                ahead = next(changed, None)
        while ahead is not None:
            if self._holds(database, ahead):
                yield ahead
            ahead = next(changed, None)

    def _holds(self, database: Database, near: bytes) -> bool:
        return any(True for family in _STORAGE for _ in self.scan(database, family + near, b"", keys_only=True))


def _shown(key: bytes, value: bytes | None, records: list[bytes], keys_only: bool) -> Iterator[tuple[bytes, bytes]]:
    """The key as it is now, if it is there. What loses its last leaf is recorded as gone."""
    if keys_only:
        if _kind(records[-1]) is not Kind.GONE:
            yield key, b""
        return
    new = patched(value, records)
    if new is not None:
        yield key, new


def last_step(patches: Database) -> int:
    """The number of the last step; 0 before the first, and after all of them have been folded."""
    value = patches.get(STEP)
    return int.from_bytes(value, "big") if value is not None else 0


def fill(batch: Batch, step: int, changes: Iterable[Patch]) -> int:
    """Put a step and what it changes into a batch of the database of patches. Returns its bytes."""
    size = 0
    for change in changes:
        key, value = change.encode(step)
        batch.put(key, value)
        size += len(key) + len(value)
    batch.put(STEP, step.to_bytes(STEP_BYTES, "big"))
    return size
