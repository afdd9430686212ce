"""From a proven range to what is stored: whole pages, their tops, and the leaves of a page that is not finished.

The pages of a range are the largest subtries from the trie's page depth on that lie in it and have few enough leaves.
So any division of the key space gives pages that do not overlap, wherever its borders are. Runs in worker threads;
pure functions over columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from ethsync.state.columns import Leaves, join, row_bytes
from ethsync.state.pages import (
    KEY_SPACE,
    MOST_LEAVES,
    PagePath,
    Top,
    depth_for,
    encode_pages,
    path_of,
    tops_of,
)
from ethsync.state.tries import Tops, masked, page_tops
from ethsync.sync.sweep import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.arrays import Ints
    from ethsync.state.proofs import Proven


ENOUGH_LEAVES = 32
"""Leaves whose distance from where they begin says something about the density of all: it is then right within a third,
and pages may be wrong by a factor of four. Fewer (a peer may send five at a time) are kept in hand until there are as
many."""

MOST_CARRIED = MOST_LEAVES
"""Leaves of an unfinished page in hand, some 600 KB of accounts. If there are more, the page is going to be too large:
it is cut deeper, and the parts that are finished are written. So a range under way holds no more than these."""


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A whole page, ready to store: rows [first, last) of the assembled leaves."""

    path: PagePath
    value: bytes
    top: Top
    first: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class Assembled:
    """What a reply adds. [gap.origin, covered) is complete; `rest` is what remains of the gap."""

    leaves: Leaves
    pages: list[Page]
    covered: int
    rest: Gap | None


@dataclass(frozen=True, slots=True)
class _Cut:
    """A page to be: rows [first, last) under a path of `depth` nibbles."""

    first: int
    last: int
    depth: int


def estimated_leaves(gap: Gap, leaves: Leaves, more: bool) -> float:
    """Leaves of the whole trie, from how densely they lie in the beginning of a gap."""
    if not more or not len(leaves):
        return float(len(leaves))
    last = int.from_bytes(leaves.key(-1), "big")
    return len(leaves) * (KEY_SPACE / (last + 1 - gap.resume))


def first_depth(gap: Gap, proven: Proven) -> int | None:
    """Page depth for a trie of which the beginning of a gap is known, in hand or just proven; None if that is too
    little to say."""
    known = proven.leaves if gap.carry is None else join([gap.carry, proven.leaves])
    if proven.more and len(known) < ENOUGH_LEAVES:
        return None
    return depth_for(estimated_leaves(Gap(gap.origin, gap.end, gap.origin), known, proven.more))


def in_hand(gap: Gap, leaves: Leaves) -> Assembled:
    """Keep the leaves of a trie whose page depth is not known yet, and of which there are more."""
    carry = join([leaves] if gap.carry is None else [gap.carry, leaves])
    resume = int.from_bytes(carry.key(-1), "big") + 1
    return Assembled(carry[:0], [], gap.origin, Gap(gap.origin, gap.end, resume, carry))


def assemble(gap: Gap, proven: Proven, depth: int) -> Assembled:
    """Cut a proven range into pages of `depth` nibbles, and deeper ones where these would be too large.

    The range was proven from gap.resume with this page depth. Leaves from gap.end on (servers send one key past the
    limit) have done their part in the proof and are left out.
    """
    inside = len(proven.leaves)
    if gap.end < KEY_SPACE:
        inside = proven.leaves.find(gap.end.to_bytes(32, "big"))
    leaves = proven.leaves[:inside]
    if gap.carry is not None:
        leaves = join([gap.carry, leaves])
    rest, whole = None, len(leaves)
    if inside == len(proven.leaves) and proven.more:
        unfinished = path_of(leaves.key(-1), depth)
        if proven.open_right:
            rest, whole = _open_page(gap, leaves, unfinished)
        elif unfinished.end < gap.end:
            rest = Gap(unfinished.end, gap.end, unfinished.end)
    covered = gap.end if rest is None else rest.origin
    done = Gap(gap.origin, covered, gap.resume, gap.carry)
    return Assembled(leaves[:whole], _whole_pages(done, proven, leaves[:whole], depth), covered, rest)


def _open_page(gap: Gap, leaves: Leaves, path: PagePath) -> tuple[Gap, int]:
    """The rest of a gap whose last leaves are under a path that is not finished, and the rows before it.

    If there are too many, then it is the longer path under which the last of them are.
    """
    first = leaves.find(path.prefix)
    while len(leaves) - first > MOST_CARRIED:
        path = path_of(leaves.key(-1), path.depth + 1)
        first = leaves.find(path.prefix)
    resume = int.from_bytes(leaves.key(-1), "big") + 1
    return Gap(max(gap.origin, path.first), gap.end, resume, leaves[first:].compact()), first


def _whole_pages(gap: Gap, proven: Proven, leaves: Leaves, depth: int) -> list[Page]:
    """Pages of all leaves in a gap. Where a page of the proof is one of ours, so is its top."""
    first, last = _proven_groups(gap, proven, len(leaves), depth)
    carried = 0 if gap.carry is None else len(gap.carry)
    groups = proven.groups[first : last + 1] + carried
    if last <= first or int(np.diff(groups).max()) > MOST_LEAVES:
        return _cut_pages(leaves, 0, len(leaves), depth, gap)
    tops = proven.tops
    known = Tops(groups, tops.depths[first:last], tops.references[first:last], tops.sizes[first:last])
    begin, end = int(groups[0]), int(groups[-1])
    return [
        *_cut_pages(leaves, 0, begin, depth, gap),
        *_encoded(leaves, groups, known, depth),
        *_cut_pages(leaves, end, len(leaves), depth, gap),
    ]


def _proven_groups(gap: Gap, proven: Proven, rows: int, depth: int) -> tuple[int, int]:
    """The groups [first, last) of a proof that are whole pages of the gap; `rows`: leaves that are complete."""
    carried = 0 if gap.carry is None else len(gap.carry)
    last = int(np.searchsorted(proven.groups, rows - carried, side="right")) - 1
    # Under another state root than that of the leaves in hand, none of these need be left of their page.
    first = 1 if proven.open_left or _is_in_hand(gap, proven, depth) else 0
    if first < last and path_of(proven.leaves.key(int(proven.groups[first])), depth).first < gap.origin:
        first += 1
    if first < last and path_of(proven.leaves.key(int(proven.groups[last - 1])), depth).end > gap.end:
        last -= 1
    return first, last


def _is_in_hand(gap: Gap, proven: Proven, depth: int) -> bool:
    """Whether leaves in hand are under the path of the first that are proven."""
    if gap.carry is None or not len(gap.carry) or not len(proven.leaves):
        return False
    return path_of(gap.carry.key(-1), depth) == path_of(proven.leaves.key(0), depth)


def _cut_pages(leaves: Leaves, first: int, last: int, depth: int, gap: Gap) -> list[Page]:
    """Pages of the rows [first, last), whose tops are not known."""
    cuts = list(_cuts(leaves, first, last, depth, gap)) if first < last else []
    pages: list[Page] = []
    for level, part in groupby(cuts, key=lambda cut: cut.depth):
        rows = [(cut.first, cut.last) for cut in part]
        groups = np.array([*(begin for begin, _ in rows), rows[-1][1]], np.int64)
        tops = page_tops(leaves[int(groups[0]) : int(groups[-1])], groups[:-1] - groups[0])
        pages += _encoded(leaves, groups, Tops(groups, tops.depths, tops.references, tops.sizes), level)
    return pages


def _cuts(leaves: Leaves, first: int, last: int, depth: int, gap: Gap) -> Iterator[_Cut]:
    """The largest subtries from `depth` nibbles on that lie in the gap and are not too large for a page."""
    for begin, end in pairwise((_groups(leaves[first:last], depth) + first).tolist()):
        path = path_of(leaves.key(begin), depth)
        if end - begin > MOST_LEAVES or path.first < gap.origin or path.end > gap.end:
            yield from _cuts(leaves, begin, end, depth + 1, gap)
        else:
            yield _Cut(begin, end, depth)


def _encoded(leaves: Leaves, groups: Ints, tops: Tops, depth: int) -> list[Page]:
    values = encode_pages(leaves, groups, depth)
    records = tops_of(tops, leaves)
    firsts = leaves.keys[groups[:-1]]
    paths = [PagePath(prefix, depth) for prefix in row_bytes(masked(firsts, np.full(len(firsts), depth, np.uint8)))]
    return [
        Page(path, value, record, first, last)
        for path, value, record, (first, last) in zip(paths, values, records, pairwise(groups.tolist()), strict=True)
    ]


def _groups(leaves: Leaves, depth: int) -> Ints:
    """Rows at which the first `depth` nibbles of the keys change, with 0 and the number of leaves."""
    prefixes = leaves.keys[:, : (depth + 1) // 2].copy()
    if depth & 1:
        prefixes[:, -1] &= 0xF0
    cuts = np.flatnonzero((prefixes[1:] != prefixes[:-1]).any(axis=1)) + 1
    return np.concatenate([[0], cuts, [len(leaves)]]).astype(np.int64)


def assemble_whole(leaves: Leaves) -> Assembled:
    """Pages of a whole trie that came in one reply, of the depth that fits their number."""
    whole = Gap(0, KEY_SPACE, 0)
    return Assembled(leaves, _cut_pages(leaves, 0, len(leaves), depth_for(len(leaves)), whole), KEY_SPACE, None)
