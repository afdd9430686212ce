"""Pages and bundles with changes applied to them, as bytes. docs/format.md describes the bytes.

Changes have the form of what they change: those of a page are a page of the changed leaves, those of a bundle a bundle
of the changed tries with the changed slots. An empty value says that the leaf is gone, a root of zeros that the trie
is.
Applying the same changes twice is the same as applying them once.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import DatadirDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_PAGE = struct.Struct("<BBHII")
_BUNDLE = struct.Struct("<BBHIII")
_VERSION = 1  # of pages and bundles (docs/format.md)
_SLOT = 32  # bytes of a key

NO_ROOT = bytes(32)
"""Instead of a root: the trie is gone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Fixed-width keys in ascending order, each with a value: `ends` are places in `values`."""

    width: int
    keys: bytes
    ends: Sequence[int]
    values: bytes

    def __len__(self) -> int:
        return len(self.ends)

    def key(self, row: int) -> bytes:
        return self.keys[row * self.width : (row + 1) * self.width]

    def value(self, row: int) -> bytes:
        return self.values[self.start(row) : self.ends[row]]

    def start(self, row: int) -> int:
        return self.ends[row - 1] if row else 0

    def find(self, key: bytes) -> int:
        """The first row at or after a key."""
        return bisect_left(range(len(self)), key, key=self.key)


def _read_page(page: bytes) -> tuple[int, _Rows]:
    """Depth and rows of a page. Raises DatadirDamaged."""
    if len(page) < _PAGE.size:
        raise DatadirDamaged("a stored page is shorter than its header")
    version, depth, _, count, size = _PAGE.unpack_from(page)
    width = 32 - depth // 2
    keys = _PAGE.size + count * width
    values = keys + 4 * count
    if version != _VERSION or depth > 64 or len(page) != values + size:
        raise DatadirDamaged("a stored page is damaged")
    ends = np.frombuffer(page, "<u4", count, keys).tolist()
    if ends != sorted(ends) or (ends and ends[-1] != size):
        raise DatadirDamaged("the values of a stored page overlap")
    return depth, _Rows(width, page[_PAGE.size : keys], ends, page[values:])


def page_changes(page: bytes) -> dict[bytes, bytes]:
    """The leaves of a page, or of changes to one, by the part of the key that is stored. Raises DatadirDamaged."""
    _, rows = _read_page(page)
    return {rows.key(row): rows.value(row) for row in range(len(rows))}


def changed_page(page: bytes | None, changes: Iterable[bytes]) -> bytes | None:
    """A page, None if there is none, with changes applied in the order given; None if no leaf is left.

    Raises DatadirDamaged.
    """
    news: dict[bytes, bytes] = {}
    depth, held = (-1, None) if page is None else _read_page(page)
    for change in changes:
        at, rows = _read_page(change)
        if depth not in (-1, at):
            raise DatadirDamaged("changes are those of another page")
        depth = at
        news |= {rows.key(row): rows.value(row) for row in range(len(rows))}
    if held is None:
        held = _Rows(32 - depth // 2, b"", (), b"")
    keys, lengths, values = _merged(held, news)
    count = len(lengths)
    if not count:
        return None
    size = int(lengths.sum())
    return b"".join(
        (_PAGE.pack(_VERSION, depth, 0, count, size), keys, np.cumsum(lengths).astype("<u4").tobytes(), values)
    )


def _merged(held: _Rows, news: Mapping[bytes, bytes]) -> tuple[bytes, NDArray[np.int64], bytes]:
    """Keys, lengths of values, and values; what no change concerns is copied in as long pieces as possible."""
    keys: list[bytes] = []
    values: list[bytes] = []
    old = np.diff(np.array(held.ends, np.int64), prepend=0)
    lengths = []
    at = 0
    for key in sorted(news):
        row = held.find(key)
        keys.append(held.keys[at * held.width : row * held.width])
        values.append(held.values[held.start(at) : held.start(row)])
        lengths.append(old[at:row])
        at = row + 1 if row < len(held) and held.key(row) == key else row
        if news[key]:
            keys.append(key)
            values.append(news[key])
            lengths.append(np.array([len(news[key])], np.int64))
    keys.append(held.keys[at * held.width :])
    values.append(held.values[held.start(at) :])
    lengths.append(old[at:])
    return b"".join(keys), np.concatenate(lengths), b"".join(values)


@dataclass(frozen=True, slots=True, eq=False)
class ChangedTrie:
    """What changes in one small trie: its root then, and slots by their hashes, empty for those that are gone."""

    root: bytes
    slots: dict[bytes, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Tries:
    """A bundle, or changes to one, without copies. firsts: the first slot of each trie, then their number."""

    width: int
    accounts: bytes
    roots: bytes
    firsts: list[int]
    slots: _Rows

    def __len__(self) -> int:
        return len(self.firsts) - 1

    def account(self, trie: int) -> bytes:
        return self.accounts[trie * self.width : (trie + 1) * self.width]

    def root(self, trie: int) -> bytes:
        return self.roots[32 * trie : 32 * trie + 32]

    def slots_of(self, trie: int) -> dict[bytes, bytes]:
        return {self.slots.key(row): self.slots.value(row) for row in range(self.firsts[trie], self.firsts[trie + 1])}


def _read_bundle(bundle: bytes) -> tuple[int, _Tries]:
    """Depth and tries of a bundle. Raises DatadirDamaged."""
    damaged = DatadirDamaged("a stored bundle of small storage tries is damaged")
    if len(bundle) < _BUNDLE.size:
        raise damaged
    version, depth, _, tries, slots, size = _BUNDLE.unpack_from(bundle)
    width = 32 - depth // 2
    if version != _VERSION or depth > 64 or len(bundle) != _BUNDLE.size + tries * (width + 36) + slots * 36 + size:
        raise damaged
    roots = _BUNDLE.size + tries * width
    ends = roots + 32 * tries
    keys = ends + 4 * tries
    value_ends = keys + _SLOT * slots
    firsts = [0, *np.frombuffer(bundle, "<u4", tries, ends).tolist()]
    places = np.frombuffer(bundle, "<u4", slots, value_ends).tolist()
    if firsts != sorted(firsts) or firsts[-1] != slots or places != sorted(places) or (places and places[-1] != size):
        raise damaged
    rows = _Rows(_SLOT, bundle[keys:value_ends], places, bundle[value_ends + 4 * slots :])
    return depth, _Tries(width, bundle[_BUNDLE.size : roots], bundle[roots:ends], firsts, rows)


def encode_changed_tries(depth: int, tries: Mapping[bytes, ChangedTrie]) -> bytes:
    """Changes to a bundle, or a bundle: tries by the part of the account hash that is stored."""
    accounts = sorted(tries)
    slots = [sorted(tries[account].slots.items()) for account in accounts]
    keys = [key for each in slots for key, _ in each]
    values = [value for each in slots for _, value in each]
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    counts = np.fromiter(map(len, slots), np.int64, len(slots))
    return b"".join(
        (
            _BUNDLE.pack(_VERSION, depth, 0, len(accounts), len(keys), int(sizes.sum())),
            *accounts,
            *(tries[account].root for account in accounts),
            np.cumsum(counts).astype("<u4").tobytes(),
            *keys,
            np.cumsum(sizes).astype("<u4").tobytes(),
            *values,
        )
    )


def changed_bundle(bundle: bytes | None, changes: Iterable[bytes]) -> bytes | None:
    """A bundle, None if there is none, with changes applied in the order given; None if no trie is left.

    Raises DatadirDamaged.
    """
    depth, tries = -1, dict[bytes, ChangedTrie]()
    if bundle is not None:
        depth, held = _read_bundle(bundle)
        tries = {held.account(trie): ChangedTrie(held.root(trie), held.slots_of(trie)) for trie in range(len(held))}
    for change in changes:
        at, found = _read_bundle(change)
        if depth not in (-1, at):
            raise DatadirDamaged("changes are those of another bundle")
        depth = at
        for trie in range(len(found)):
            _change(tries, found.account(trie), ChangedTrie(found.root(trie), found.slots_of(trie)))
    return encode_changed_tries(depth, tries) if tries else None


def _change(tries: dict[bytes, ChangedTrie], account: bytes, change: ChangedTrie) -> None:
    before = tries.pop(account, None)
    if change.root != NO_ROOT:
        slots = (before.slots if before is not None else {}) | change.slots
        tries[account] = ChangedTrie(change.root, {key: value for key, value in slots.items() if value})
