"""One walk through a remote trie, from its root down to what differs from ours. Pure bookkeeping: no I/O, no clock.

Nodes are asked for in the order of their paths, so that the walk goes deep before it goes wide and few are waiting.
What is found is kept by *region*, the key space of one page: a region is finished when no node of it is missing
any more, and its page is then written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from ethsync.state.difference import Difference, Wanted, root_wanted
from ethsync.state.pages import PagePath, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True)
class Clearing:
    """Under `path` only what lies under `kept` stays; nothing if that is None."""

    path: PagePath
    kept: PagePath | None


@dataclass(slots=True, eq=False)
class Region:
    """What was found under one path of the page depth. `missing` nodes of it have not come yet."""

    path: PagePath
    missing: int = 0
    puts: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Leaves of the remote trie: key and value as it is stored."""
    clearings: list[Clearing] = field(default_factory=list)


class Walk:
    """What is known of the difference between a remote trie and ours."""

    def __init__(self, root: bytes, depth: int, pages_under: Callable[[PagePath], Iterable[PagePath]]) -> None:
        """`depth`: of our pages; `pages_under`: those that are stored under a path."""
        self.root = root
        self.equal = 0.0
        """Share of the key space that is known to be right, or will be once the finished regions are written."""
        self.nodes = 0
        """Nodes that came."""
        self._depth = depth
        self._pages_under = pages_under
        self._waiting: list[tuple[bytes, int, bytes]] = []
        self._asked = 0
        self._regions: dict[PagePath, Region] = {}
        self._finished: list[Region] = []
        self._want(root_wanted(root))

    @property
    def waiting(self) -> int:
        """Nodes that nobody is asked for."""
        return len(self._waiting)

    @property
    def done(self) -> bool:
        """Whether the whole trie is accounted for, and what was found has been taken."""
        return not self._waiting and not self._asked and not self._finished

    def take(self, most: int) -> Wanted:
        """Up to so many nodes to ask for, in the order of their paths."""
        taken = [heappop(self._waiting) for _ in range(min(most, len(self._waiting)))]
        self._asked += len(taken)
        return Wanted(
            np.frombuffer(b"".join(path for path, _, _ in taken), np.uint8).reshape(-1, 32),
            np.array([depth for _, depth, _ in taken], np.int64),
            np.frombuffer(b"".join(digest for _, _, digest in taken), np.uint8).reshape(-1, 32),
        )

    def give_back(self, wanted: Wanted) -> None:
        """These did not come and must be asked for again."""
        self._asked -= len(wanted)
        for node in _rows(wanted):
            heappush(self._waiting, node)

    def supply(self, came: Wanted, found: Difference) -> None:
        """These nodes came, and say this."""
        self._asked -= len(came)
        self.nodes += len(came)
        self.equal += found.equal
        touched: dict[Region, None] = {}
        self._want(found.wanted)
        self._note_leaves(found, touched)
        self._note_clearings(found, touched)
        for path, depth, _ in _rows(came):
            if depth >= self._depth:
                region = self._region(path)
                region.missing -= 1
                touched[region] = None
        for region in touched:
            if not region.missing:
                del self._regions[region.path]
                if region.puts or region.clearings:
                    self._finished.append(region)

    def take_finished(self) -> list[Region]:
        """Regions to be written now."""
        finished, self._finished = self._finished, []
        return finished

    def abandon(self) -> list[Region]:
        """End the walk; what was found in regions that are not finished is right all the same."""
        found = [region for region in self._regions.values() if region.puts or region.clearings]
        self._regions, self._waiting = {}, []
        return self.take_finished() + found

    def _want(self, wanted: Wanted) -> None:
        for node in _rows(wanted):
            heappush(self._waiting, node)
            if node[1] >= self._depth:
                self._region(node[0]).missing += 1

    def _note_leaves(self, found: Difference, touched: dict[Region, None]) -> None:
        leaves = found.leaves
        for row in range(len(leaves)):
            key = leaves.key(row)
            region = self._region(key)
            region.puts.append((key, leaves.value(row)))
            touched[region] = None

    def _note_clearings(self, found: Difference, touched: dict[Region, None]) -> None:
        for row, (depth, kept) in zip(found.cleared, found.cleared_depths.tolist(), strict=True):
            path = path_of(row.tobytes(), depth)
            clearing = Clearing(path, path_of(row.tobytes(), kept) if kept else None)
            regions = {path_of(path.prefix, self._depth)} if depth >= self._depth else self._regions_under(path)
            for place in regions:
                region = self._region(place.prefix)
                region.clearings.append(clearing)
                touched[region] = None

    def _regions_under(self, path: PagePath) -> set[PagePath]:
        return {path_of(page.prefix, self._depth) for page in self._pages_under(path)}

    def _region(self, key: bytes) -> Region:
        path = path_of(key, self._depth)
        region = self._regions.get(path)
        if region is None:
            region = self._regions[path] = Region(path)
        return region


def _rows(wanted: Wanted) -> Iterable[tuple[bytes, int, bytes]]:
    """Path, depth and hash of each node."""
    paths, hashes = wanted.paths.tobytes(), wanted.hashes.tobytes()
    return (
        (paths[32 * k : 32 * k + 32], depth, hashes[32 * k : 32 * k + 32])
        for k, depth in enumerate(wanted.depths.tolist())
    )
