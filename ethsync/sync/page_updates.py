"""From what a walk found to pages: clear, put, cut into the pages that are there. Runs in worker threads.

Pages keep their paths: a page that grows is not split, and one of which nothing is left is removed. Bundles and debts
go by the paths of account pages, so these must not change in the middle of a life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ethsync.errors import LocalProtocolError
from ethsync.kernels import difference as kernel
from ethsync.state.columns import KEY_BYTES, Leaves, in_order, join, no_leaves
from ethsync.state.pages import PagePath, Top, encode_pages, path_of, tops_of
from ethsync.state.tries import page_tops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.arrays import Ints
    from ethsync.sync.local_trie import LocalTrie
    from ethsync.sync.walk import Clearing, Region

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class UpdatedPage:
    """A page as it is to be: `value` and `top` are None if nothing is left of it.

    gone, come: the leaves that were taken away or replaced, and those that were added or replace them. is_new: there
    was no page under this path.
    """

    path: PagePath
    value: bytes | None
    top: Top | None
    gone: Leaves
    come: Leaves
    is_new: bool


def updated_pages(local: LocalTrie, regions: Sequence[Region]) -> list[UpdatedPage]:
    """The pages of these regions that change, in key order. Raises DatadirDamaged."""
    regions = sorted(regions, key=lambda region: region.path)
    numbers = [local.under(region.path) for region in regions]
    held, _ = local.read([page for each in numbers for page in each])
    puts = _sorted(join([no_leaves(local.kind), *(part for region in regions for part in region.puts)]))
    stays = _untouched(held, [clearing for region in regions for clearing in region.clearings])
    new, fresh = merged(held, stays, puts)
    paths: list[PagePath] = []
    known: set[PagePath] = set()
    for region, pages in zip(regions, numbers, strict=True):
        there = [local.path(page) for page in pages]
        paths += _paths_in(region.path, there, new)
        known.update(there)
    return _encoded(paths, known, new, held.rows(~stays), puts.rows(fresh))


def page_writes(
    pages: Sequence[UpdatedPage], family: bytes, tops: bytes
) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """Puts and deletes of a trie with these key prefixes: a page and its top record always go together."""
    puts: list[tuple[bytes, bytes]] = []
    deletes: list[bytes] = []
    for page in pages:
        if page.value is None or page.top is None:
            deletes += (family + page.path.stored, tops + page.path.stored)
        else:
            puts += ((family + page.path.stored, page.value), (tops + page.path.stored, page.top.encode()))
    return puts, deletes


def _sorted(leaves: Leaves) -> Leaves:
    return leaves.rows(np.argsort(in_order(leaves.keys), kind="stable"))


def _untouched(held: Leaves, clearings: Sequence[Clearing]) -> Mask:
    """Which leaves no clearing takes away: (n,)."""
    paths = [clearing.path for clearing in clearings]
    first, last = _rows_under(held, paths)
    spared, beyond = _rows_under(held, [clearing.kept or clearing.path for clearing in clearings])
    whole = np.array([clearing.kept is None for clearing in clearings], np.bool_)
    spared[whole] = beyond[whole] = last[whole]
    changes = np.zeros(len(held) + 1, np.int64)
    for rows, step in ((first, 1), (spared, -1), (beyond, 1), (last, -1)):
        np.add.at(changes, rows, step)
    untouched: Mask = np.cumsum(changes[:-1]) == 0
    return untouched


def _rows_under(leaves: Leaves, paths: Sequence[PagePath]) -> tuple[Ints, Ints]:
    """For each path the rows [first, last) of the leaves under it."""
    keys = in_order(leaves.keys)
    ends = [(path.end - 1).to_bytes(KEY_BYTES, "big") for path in paths]
    first = np.searchsorted(keys, np.array([path.prefix for path in paths], f"S{KEY_BYTES}"))
    return first, np.searchsorted(keys, np.array(ends, f"S{KEY_BYTES}"), "right")


def merged(held: Leaves, stays: Mask, puts: Leaves) -> tuple[Leaves, Mask]:
    """Those of the leaves that stay, and others, which take their places where keys are equal; all in key order.

    stays: cleared for leaves that are replaced. Returns also which of the others are not there already.
    """
    n = len(held)
    fresh, source = np.empty(len(puts), np.bool_), np.empty(n + len(puts), np.int64)
    count = kernel.merge_leaves(
        held.keys, held.buf, held.offsets, held.lengths, stays.view(np.uint8),
        puts.keys, puts.buf, puts.offsets, puts.lengths, fresh.view(np.uint8), source,
    )  # fmt: skip
    if count < 0:
        raise LocalProtocolError("leaves point outside their buffer")
    rows = source[:count]
    return Leaves(
        np.concatenate([held.keys, puts.keys])[rows],
        np.concatenate([held.buf, puts.buf]),
        np.concatenate([held.offsets, puts.offsets + len(held.buf)])[rows],
        np.concatenate([held.lengths, puts.lengths])[rows],
        held.kind,
    ), fresh


def _paths_in(region: PagePath, paths: list[PagePath], leaves: Leaves) -> list[PagePath]:
    """Paths of the pages of a region as they will be: those that are there, and more where leaves have none."""
    if not paths or paths == [region]:
        return [region]
    (first,), (last,) = _rows_under(leaves, [region])
    inside = leaves[int(first) : int(last)]
    return sorted({*paths, *_places(region, paths, [*map(inside.key, range(len(inside)))])})


def _places(region: PagePath, paths: list[PagePath], keys: list[bytes]) -> set[PagePath]:
    """Paths of the pages to which keys belong that no page covers: as short as the others allow."""
    found: set[PagePath] = set()
    for key in keys:
        at = int.from_bytes(key, "big")
        if any(path.first <= at < path.end for path in (*paths, *found)):
            continue
        depth = region.depth
        while any(_overlap(path_of(key, depth), path) for path in paths):
            depth += 1
        found.add(path_of(key, depth))
    return found


def _overlap(one: PagePath, other: PagePath) -> bool:
    return one.first < other.end and other.first < one.end


def _encoded(paths: list[PagePath], known: set[PagePath], new: Leaves, gone: Leaves, come: Leaves) -> list[UpdatedPage]:
    """Encode the pages that change and make their tops, all in one call where they are of one depth."""
    rows, gone_rows, come_rows = (_bounds(paths, leaves) for leaves in (new, gone, come))
    counts = np.diff(rows)
    changed = (np.diff(gone_rows) > 0) | (np.diff(come_rows) > 0)
    depths = np.fromiter((path.depth for path in paths), np.int64, len(paths))
    encoded: dict[int, tuple[bytes, Top]] = {}
    for depth in np.unique(depths[changed & (counts > 0)]).tolist():
        same = changed & (counts > 0) & (depths == depth)
        leaves = new.rows(np.repeat(same, counts))
        groups: Ints = np.cumsum([0, *counts[same]])
        values = encode_pages(leaves, groups, depth)
        tops = tops_of(page_tops(leaves, groups[:-1]), leaves)
        encoded.update(zip(np.flatnonzero(same).tolist(), zip(values, tops, strict=True), strict=True))
    pages = []
    for number in np.flatnonzero(changed).tolist():
        value, top = encoded.get(number, (None, None))
        left, right = (
            leaves[int(bounds[number]) : int(bounds[number + 1])]
            for leaves, bounds in ((gone, gone_rows), (come, come_rows))
        )
        path = paths[number]
        pages.append(UpdatedPage(path, value, top, left, right, path not in known))
    return pages


def _bounds(paths: list[PagePath], leaves: Leaves) -> Ints:
    """First row of each page, then the number of leaves; all of them are in these pages."""
    starts = np.array([path.prefix for path in paths], f"S{KEY_BYTES}")
    return np.append(np.searchsorted(in_order(leaves.keys), starts), len(leaves))
