"""From a proven range to what is stored: whole pages, their tops, and the leaves of a page that is not finished.

Runs in worker threads; pure functions over columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ethsync.state.columns import Ints, Leaves, join
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
from ethsync.state.tries import Tops, page_tops
from ethsync.sync.sweep import Gap

if TYPE_CHECKING:
    from ethsync.state.proofs import Proven


ENOUGH_LEAVES = 32
"""Leaves from which the distance between the first and the last says something about the density of all."""


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


def estimated_leaves(gap: Gap, leaves: Leaves, more: bool) -> float:
    """Leaves of the whole trie, from how densely they lie in the beginning of a gap."""
    if not more or not len(leaves):
        return float(len(leaves))
    first, last = int.from_bytes(leaves.key(0), "big"), int.from_bytes(leaves.key(-1), "big")
    estimate = len(leaves) * (KEY_SPACE / (last + 1 - gap.resume))
    if len(leaves) >= ENOUGH_LEAVES:
        # Keys can be mined to lie in one corner: what counts is how densely they lie where they are.
        estimate = max(estimate, len(leaves) * (KEY_SPACE / (last + 1 - first)))
    return estimate


def estimated_depth(gap: Gap, leaves: Leaves, more: bool) -> int:
    """Page depth for a trie of which the beginning of a gap is known."""
    return depth_for(estimated_leaves(gap, leaves, more))


def assemble(gap: Gap, proven: Proven, depth: int) -> Assembled:
    """Cut a proven range into pages of `depth` nibbles.

    The range was proven from gap.resume with this page depth. Leaves from gap.end on (servers send one key past the
    limit) have done their part in the proof and are left out.
    """
    leaves, groups, tops = proven.leaves, proven.groups, proven.tops
    inside = len(leaves)
    if gap.end < KEY_SPACE:
        inside = leaves.find(gap.end.to_bytes(32, "big"))
    closed = inside < len(leaves) or not proven.more
    if inside < len(leaves):
        kept = int(np.searchsorted(groups, inside))
        groups, leaves = groups[: kept + 1], leaves[:inside]
        tops = Tops(tops.firsts[: kept + 1], tops.depths[:kept], tops.references[:kept], tops.sizes[:kept])
    leaves, groups, tops = _with_carry(gap, leaves, groups, tops, depth)
    covered, unfinished = gap.end, 0
    if not closed:
        covered = path_of(leaves.key(-1), depth).end
        if proven.open_right:
            covered, unfinished = covered - (1 << (256 - 4 * depth)), 1
        closed = covered >= gap.end
    whole = len(groups) - 1 - unfinished
    pages = _pages(leaves, groups[: whole + 1], tops, depth) if whole > 0 else []
    rest = None
    if unfinished:
        carry = leaves[int(groups[whole]) :].compact()
        rest = Gap(covered, gap.end, int.from_bytes(carry.key(-1), "big") + 1, carry)
    elif not closed:
        rest = Gap(covered, gap.end, covered)
    return Assembled(leaves[: int(groups[whole])] if whole >= 0 else leaves[:0], pages, covered, rest)


def _with_carry(gap: Gap, leaves: Leaves, groups: Ints, tops: Tops, depth: int) -> tuple[Leaves, Ints, Tops]:
    """Put the carried leaves in front; the page they belong to gets a new top."""
    carry = gap.carry
    if carry is None or not len(carry):
        return leaves, groups, tops
    shared = len(leaves) > 0 and path_of(leaves.key(0), depth) == path_of(carry.key(0), depth)
    joined = join([carry, leaves])
    moved = groups + len(carry)
    moved = np.concatenate([[0], moved[1:] if shared else moved])
    first = page_tops(joined[: int(moved[1])], np.zeros(1, np.int64))
    cut = 1 if shared else 0
    return (
        joined,
        moved,
        Tops(
            moved,
            np.concatenate([first.depths, tops.depths[cut:]]),
            np.concatenate([first.references, tops.references[cut:]]),
            np.concatenate([first.sizes, tops.sizes[cut:]]),
        ),
    )


def _pages(leaves: Leaves, groups: Ints, tops: Tops, depth: int) -> list[Page]:
    """Encode whole pages; a page that is too large is split by a nibble, again if need be."""
    count = len(groups) - 1
    cut = Tops(groups, tops.depths[:count], tops.references[:count], tops.sizes[:count])
    rows = groups.tolist()
    if depth < 64 and int(np.diff(groups).max()) > MOST_LEAVES:
        pages: list[Page] = []
        for first, last in pairwise(rows):
            pages.extend(_split(leaves, first, last, depth))
        return pages
    values = encode_pages(leaves, groups, depth)
    records = tops_of(cut, leaves)
    firsts = leaves.keys[groups[:-1]]
    return [
        Page(path_of(firsts[k].tobytes(), depth), values[k], records[k], rows[k], rows[k + 1]) for k in range(count)
    ]


def _split(leaves: Leaves, first: int, last: int, depth: int) -> list[Page]:
    if last - first > MOST_LEAVES:
        depth += 1
    part = leaves[first:last]
    groups = _groups(part, depth)
    pages = _pages(part, groups, page_tops(part, groups[:-1]), depth)
    return [Page(page.path, page.value, page.top, page.first + first, page.last + first) for page in pages]


def _groups(leaves: Leaves, depth: int) -> Ints:
    """Rows at which the first `depth` nibbles of the keys change, with 0 and the number of leaves."""
    prefixes = leaves.keys[:, : (depth + 1) // 2].copy()
    if depth & 1:
        prefixes[:, -1] &= 0xF0
    cuts = np.flatnonzero((prefixes[1:] != prefixes[:-1]).any(axis=1)) + 1
    return np.concatenate([[0], cuts, [len(leaves)]]).astype(np.int64)


def assemble_whole(leaves: Leaves) -> Assembled:
    """Pages of a whole trie that came in one reply."""
    depth = depth_for(len(leaves))
    groups = _groups(leaves, depth)
    pages = _pages(leaves, groups, page_tops(leaves, groups[:-1]), depth)
    return Assembled(leaves, pages, KEY_SPACE, None)
