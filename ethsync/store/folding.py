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
from ethsync.store.schema import ACCOUNT_PAGE, STORAGE_PAGE, TOP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ethsync.store.datadir import Datadir
    from ethsync.store.leveldb import Database
    from ethsync.store.patches import Patch

FOLD_PART = 4
"""A page is folded when its patches exceed one in so many of its bytes: at most a quarter more is read than without
them, and a byte of patches is written four times more in folding (design, section 3)."""

FOLDED_AT_ONCE = 256
"""Keys folded in one batch: about 8 MB of pages."""

PAGED = (ACCOUNT_PAGE, STORAGE_PAGE)


@dataclass(frozen=True, slots=True)
class _Ripe:
    """A key of a database whose patches are to be part of it."""

    layer: bytes
    key: bytes


def fold_changed(datadir: Datadir, changed: Iterable[Patch]) -> int:
    """Fold those of the pages and bundles that a step changed whose patches have become too large. Returns bytes."""
    databases = {layer: getattr(datadir, name) for name, layer in LAYERS.items()}
    ripe = []
    for patch in changed:
        if patch.kind not in (Kind.PAGE, Kind.BUNDLE):
            continue
        overlay = Overlay(datadir.patches, patch.layer)
        size = sum(map(len, overlay.records(patch.key)))
        value = databases[patch.layer].get_stored(patch.key)
        if size * FOLD_PART > len(value or b""):
            ripe.append(_Ripe(patch.layer, patch.key))
            if patch.key[:1] in PAGED:
                ripe.append(_Ripe(patch.layer, TOP + patch.key[1:]))
    return _fold(datadir, iter(ripe))


def fold_all(datadir: Datadir) -> int:
    """Fold everything, so that nothing is laid over the databases any more: before they are changed in another way.

    The step itself goes last. Returns the bytes written.
    """
    if datadir.patches.get(STEP) is None:
        return 0
    written = _fold(datadir, (_Ripe(key[:1], key[1:-STEP_BYTES]) for key, _ in _records(datadir)))
    batch = datadir.patches.batch()
    batch.delete(STEP)
    datadir.patches.commit(batch, sync=True)
    datadir.lay_over()
    return written


def _records(datadir: Datadir) -> Iterator[tuple[bytes, bytes]]:
    for layer in LAYERS.values():
        yield from ((layer + key, value) for key, value in datadir.patches.scan(layer, keys_only=True))


def _fold(datadir: Datadir, ripe: Iterator[_Ripe]) -> int:
    written = 0
    distinct = _distinct(ripe)
    while part := list(islice(distinct, FOLDED_AT_ONCE)):
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
