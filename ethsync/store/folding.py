"""Folding: what following has changed is written into the pages themselves, and its patches are removed.

Safe at any moment: patches go only after the pages are on the disk, and applied to pages that have them already they
change nothing. Their removal is forced to the disk too: were older ones to come back alone, they would undo newer ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ethsync.store.datadir import LAYERS
from ethsync.store.patches import STEP, STEP_BYTES, Kind, Overlay, patched
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, STORAGE_PAGE, TOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ethsync.store.datadir import Datadir
    from ethsync.store.leveldb import Database
    from ethsync.store.patches import Patch

SWEPT = 1.5
"""Bytes of pages that are folded with each step, as a multiple of what the step wrote: pages are folded when patches
of two thirds of their size have come together, on average. In the long run a block costs 10.2 MB with 2, 7.8 with 1.5
(and a larger buffer for bundles), 7.4 with 1 (docs/benchmarks.md); the fewer are folded, the more is to be read."""

HOT_PART = 1
"""A page is folded out of turn when its patches exceed this multiple of it: some change with every block."""

FOLDED_AT_ONCE = 256
"""Keys folded in one batch: about 8 MB of pages."""

CURSOR = b"!folded"
"""With a layer: the key behind which folding goes on in it."""

FOLDED = {LAYERS["accounts"]: ACCOUNT_PAGE, LAYERS["bundles"]: BUNDLE, LAYERS["storage"]: STORAGE_PAGE}
"""Layers with changes by step, and the family of their keys."""


@dataclass(frozen=True, slots=True)
class _Ripe:
    """A key of a database whose patches are to be part of it."""

    layer: bytes
    key: bytes


def _nothing() -> None:
    """Nobody wants it to stop."""


def fold_some(datadir: Datadir, changed: Iterable[Patch], check: Callable[[], None] = _nothing) -> int:
    """Fold what is due after a step that changed this; return the bytes written.

    Folding goes through the pages in the order of their keys, round and round: written in that order they cost LevelDB
    little more than their size, in random order several times that. `check` is called every few megabytes; folding can
    be left off at any moment by raising there.
    """
    written = 0
    sizes = dict.fromkeys(FOLDED, 0)
    ripe = []
    for patch in changed:
        if patch.kind in (Kind.PAGE, Kind.BUNDLE):
            sizes[patch.layer] += len(patch.key) + len(patch.payload)
            if _is_hot(datadir, patch):
                ripe += _with_top(patch.layer, patch.key)
    for layer, size in sizes.items():
        written += _sweep(datadir, layer, int(size * SWEPT), check)
    return written + _fold(datadir, iter(ripe), check)


def _is_hot(datadir: Datadir, patch: Patch) -> bool:
    size = sum(map(len, Overlay(datadir.patches, patch.layer).records(patch.key)))
    if size <= len(patch.payload) + 1:
        return False  # the first one
    return size > HOT_PART * len(_database(datadir, patch.layer).get_stored(patch.key) or b"")


def _with_top(layer: bytes, key: bytes) -> list[_Ripe]:
    """A page or bundle; with a page its top record."""
    return [_Ripe(layer, key)] + ([_Ripe(layer, TOP + key[1:])] if key[:1] != BUNDLE else [])


def _database(datadir: Datadir, layer: bytes) -> Database:
    found: Database = getattr(datadir, next(name for name, letter in LAYERS.items() if letter == layer))
    return found


def _sweep(datadir: Datadir, layer: bytes, budget: int, check: Callable[[], None]) -> int:
    """Fold the next pages of a layer that have patches, up to so many bytes."""
    if not budget:
        return 0
    cursor = datadir.patches.get(CURSOR + layer) or b""
    ripe: list[_Ripe] = []
    for key, _ in Overlay(datadir.patches, layer).groups(FOLDED[layer], cursor):
        if budget <= 0:
            break
        cursor = key + b"\0"
        budget -= len(_database(datadir, layer).get_stored(FOLDED[layer] + key) or b"")
        ripe += _with_top(layer, FOLDED[layer] + key)
    else:
        cursor = b""
    datadir.patches.put(CURSOR + layer, cursor)
    return _fold(datadir, iter(ripe), check)


def fold_all(datadir: Datadir, check: Callable[[], None] = _nothing) -> int:
    """Fold everything, so that nothing is laid over the databases any more: before they are changed in another way.

    The step itself goes last. `check`: see `fold_some`; on mainnet there are gigabytes. Returns the bytes written.
    """
    if datadir.patches.get(STEP) is None:
        return 0
    written = _fold(datadir, (_Ripe(key[:1], key[1:-STEP_BYTES]) for key, _ in _records(datadir)), check)
    batch = datadir.patches.batch()
    batch.delete(STEP)
    for layer in FOLDED:
        batch.delete(CURSOR + layer)
    datadir.patches.commit(batch, sync=True)
    datadir.lay_over()
    return written


def _records(datadir: Datadir) -> Iterator[tuple[bytes, bytes]]:
    for layer in LAYERS.values():
        yield from ((layer + key, value) for key, value in datadir.patches.scan(layer, keys_only=True))


def _fold(datadir: Datadir, ripe: Iterator[_Ripe], check: Callable[[], None]) -> int:
    written = 0
    distinct = _distinct(ripe)
    while part := list(islice(distinct, FOLDED_AT_ONCE)):
        check()
        written += _fold_part(datadir, part)
    return written


def _distinct(ripe: Iterator[_Ripe]) -> Iterator[_Ripe]:
    last = None
    for each in ripe:
        if each != last:
            yield each
        last = each


def _fold_part(datadir: Datadir, part: list[_Ripe]) -> int:
    """Write some keys with their patches applied, force them to the disk, and remove the patches."""
    written = 0
    gone = datadir.patches.batch()
    for name, layer in LAYERS.items():
        database: Database = getattr(datadir, name)
        batch = database.batch()
        mine = [each.key for each in part if each.layer == layer]
        for key in mine:
            found = [item for item in datadir.patches.scan(layer + key) if len(item[0]) == STEP_BYTES]
            value = patched(database.get_stored(key), [record for _, record in found])
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
                written += len(key) + len(value)
            for number, _ in found:
                gone.delete(layer + key + number)
        if mine:
            database.commit(batch, sync=True)
    datadir.patches.commit(gone, sync=True)
    return written
