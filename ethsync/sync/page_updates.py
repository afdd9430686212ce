"""From what a walk found to pages: clear, put, cut into the pages that are there. Runs in worker threads.

Pages keep their paths: a page that grows is not split, and one of which nothing is left is removed. Bundles and debts
go by the paths of account pages, so these must not change in the middle of a life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.state.columns import Ints, Leaves, join, leaves_of
from ethsync.state.pages import PagePath, Top, encode_pages, path_of, tops_of
from ethsync.state.tries import page_tops

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ethsync.sync.local_trie import LocalTrie
    from ethsync.sync.walk import Region


@dataclass(frozen=True, slots=True, eq=False)
class UpdatedPage:
    """A page as it is to be: `value` and `top` are None if nothing is left of it.

    gone, come: the leaves that were taken away or replaced, and those that were added or replace them.
    """

    path: PagePath
    value: bytes | None
    top: Top | None
    gone: Leaves
    come: Leaves


def updated_pages(local: LocalTrie, regions: Sequence[Region]) -> list[UpdatedPage]:
    """The pages of these regions that change, in key order. Raises DatadirDamaged."""
    regions = sorted(regions, key=lambda region: region.path)
    numbers = [local.under(region.path) for region in regions]
    held, starts = local.read([page for each in numbers for page in each])
    parts: list[_Part] = []
    at = 0
    for region, pages in zip(regions, numbers, strict=True):
        first, at = at, at + len(pages)
        paths = [local.path(page) for page in pages]
        parts += _changed_parts(region, paths, held[int(starts[first]) : int(starts[at])], local.kind)
    return _encoded(parts)


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


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    path: PagePath
    leaves: Leaves
    gone: Leaves
    come: Leaves


def _changed_parts(region: Region, paths: list[PagePath], held: Leaves, kind: int) -> Iterable[_Part]:
    """Apply what was found in a region to its leaves; the pages that change by it."""
    stays = np.ones(len(held), np.bool_)
    for clearing in region.clearings:
        first, last = _rows_under(held, clearing.path)
        spared, beyond = _rows_under(held, clearing.kept) if clearing.kept else (last, last)
        stays[first:spared] = False
        stays[max(beyond, first) : last] = False
    ordered = sorted(region.puts)
    puts = leaves_of([key for key, _ in ordered], [value for _, value in ordered], kind)
    fresh = np.ones(len(puts), np.bool_)
    for row in range(len(puts)):
        place = held.find(puts.key(row))
        if place < len(held) and held.key(place) == puts.key(row):
            fresh[row] = not stays[place] or held.value(place) != puts.value(row)
            stays[place] = stays[place] and not fresh[row]
    if stays.all() and not fresh.any():
        return
    new = merged(held.rows(stays), puts.rows(fresh))
    if (len(paths) == 1 and paths[0] == region.path) or not paths:
        yield _Part(region.path, new, held.rows(~stays), puts.rows(fresh))
        return
    places = _places(region.path, paths, [*map(new.key, range(len(new)))])
    for path in sorted({*paths, *places}):
        inside = slice(*_rows_under(new, path))
        gone, come = _only_under(held.rows(~stays), path), _only_under(puts.rows(fresh), path)
        if len(gone) or len(come):
            yield _Part(path, new[inside], gone, come)


def _only_under(leaves: Leaves, path: PagePath) -> Leaves:
    return leaves[slice(*_rows_under(leaves, path))]


def _rows_under(leaves: Leaves, path: PagePath) -> tuple[int, int]:
    first = leaves.find(path.prefix)
    return first, leaves.find(path.end.to_bytes(33, "big")[1:]) if path.end < 1 << 256 else len(leaves)


def merged(leaves: Leaves, more: Leaves) -> Leaves:
    """Leaves of both in key order; no key is in both."""
    both = join([leaves, more])
    words = both.keys.view(">u8")
    order = np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))
    return both.rows(order)


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


def _encoded(parts: list[_Part]) -> list[UpdatedPage]:
    """Encode pages and make their tops, all in one call where they are of one depth."""
    full = [part for part in parts if len(part.leaves)]
    encoded: dict[PagePath, tuple[bytes, Top]] = {}
    for depth in sorted({part.path.depth for part in full}):
        same = [part for part in full if part.path.depth == depth]
        leaves = join([part.leaves for part in same])
        groups: Ints = np.cumsum([0, *(len(part.leaves) for part in same)])
        values = encode_pages(leaves, groups, depth)
        tops = tops_of(page_tops(leaves, groups[:-1]), leaves)
        encoded |= {part.path: made for part, made in zip(same, zip(values, tops, strict=True), strict=True)}
    return [_updated(part, encoded.get(part.path)) for part in parts]


def _updated(part: _Part, made: tuple[bytes, Top] | None) -> UpdatedPage:
    value, top = made or (None, None)
    return UpdatedPage(part.path, value, top, part.gone, part.come)
