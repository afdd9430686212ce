"""One walk through a remote trie, from its root down to what differs from ours. Pure bookkeeping: no I/O, no clock.

Nodes are asked for in the order of their paths, and those of pages that were begun before those of others, so that the
walk goes deep before it goes wide. What is found is kept by *region*, the key space of one page: a region is finished
when no node of it is missing any more, and its page is then written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ethsync.state.difference import Difference, Wanted, join_wanted, root_wanted
from ethsync.state.pages import PagePath, path_of
from ethsync.state.tries import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from ethsync.arrays import Bytes, Ints
    from ethsync.state.columns import Leaves

    Places = np.ndarray[tuple[int], np.dtype[np.bytes_]]
    Mask = NDArray[np.bool_]

MOST_OPEN = 2048
"""Regions under way at a time: what was found in them is in memory, and their pages stay in the caches of both sides.
With 100 ms to an answer and four levels in a page these are good for 20,000 nodes per second."""

FIRST_OPEN = 256
"""The same until it is known how large pages are: a quarter of the nodes that one request may ask for."""


class Openings:
    """How many regions are under way in all walks that keep their pages in the same memory, and how many may be."""

    def __init__(self) -> None:
        self.open = 0
        self._most = min(FIRST_OPEN, MOST_OPEN)

    @property
    def room(self) -> int:
        """How many more may be begun."""
        return max(0, self._most - self.open)

    def limit(self, pages: int | None) -> None:
        """So many pages stay in memory: more regions at a time would have them read and hashed again for each level."""
        if pages is not None:
            self._most = max(1, min(pages, MOST_OPEN))


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
    begun: bool = False
    """Whether a node of it was asked for."""
    puts: list[Leaves] = field(default_factory=list)
    """Leaves of the remote trie, as they are stored; in no order."""
    clearings: list[Clearing] = field(default_factory=list)


class _Waiting:
    """Nodes that nobody is asked for, as runs in the order of their paths; they hardly ever overlap."""

    def __init__(self) -> None:
        self._runs: list[tuple[bytes, Wanted]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> bytes | None:
        """The lowest path."""
        return self._runs[-1][0][:32] if self._runs else None

    @property
    def share(self) -> float:
        """Share of the key space under these nodes."""
        return float(sum((16.0**-run.depths).sum() for _, run in self._runs))

    def add(self, wanted: Wanted) -> None:
        """Put nodes back or in."""
        if not len(wanted):
            return
        order = _places(wanted)
        if (order[1:] < order[:-1]).any():
            wanted = wanted.rows(np.argsort(order, kind="stable"))
        self._size += len(wanted)
        self._insert(wanted)

    def _insert(self, run: Wanted) -> None:
        # Behind all that begin earlier; the list is short, a few runs per request in flight, and its end comes first.
        head = _place(run, 0)
        at = len(self._runs)
        while at and self._runs[at - 1][0] < head:
            at -= 1
        self._runs.insert(at, (head, run))

    def remove(self, places: Places) -> Places:
        """Take the nodes out that stand at these places; return those that were there."""
        found = [np.empty(0, places.dtype)]
        runs = []
        for head, run in self._runs:
            mine = _places(run)
            leaving = np.isin(mine, places)
            if not leaving.any():
                runs.append((head, run))
                continue
            found.append(mine[leaving])
            if not leaving.all():
                left = run.rows(np.flatnonzero(~leaving))
                runs.append((_place(left, 0), left))
        self._runs = sorted(runs, key=lambda item: item[0], reverse=True)
        removed = np.concatenate(found)
        self._size -= len(removed)
        return removed

    def take(self, most: int) -> list[Wanted]:
        """Up to so many nodes, those with the lowest paths."""
        taken: list[Wanted] = []
        while most > 0 and self._runs:
            _, run = self._runs.pop()
            count = min(most, len(run))
            if self._runs:
                ahead = np.searchsorted(_places(run), np.array(self._runs[-1][0], "S33"))
                count = min(count, max(1, int(ahead)))
            taken.append(run.part(0, count))
            if count < len(run):
                self._insert(run.part(count, len(run)))
            most -= count
            self._size -= count
        return taken


def _places(wanted: Wanted) -> Places:
    """Where nodes stand in the order of paths: a path before all that begin with it."""
    both = np.empty((len(wanted), 33), np.uint8)
    both[:, :32], both[:, 32] = wanted.paths, wanted.depths
    places: Places = both.view("S33").reshape(-1)
    return places


def _place(wanted: Wanted, row: int) -> bytes:
    path: bytes = wanted.paths[row].tobytes()
    return path + bytes([int(wanted.depths[row])])


class Walk:
    """What is known of the difference between a remote trie and ours."""

    def __init__(
        self, root: bytes, depth: int, pages_under: Callable[[PagePath], Iterable[PagePath]], openings: Openings
    ) -> None:
        """`depth`: of our pages; `pages_under`: those that are stored under a path; `openings`: shared with others."""
        self.root = root
        self.equal = 0.0
        """Share of the key space that is known to be right, or will be once the finished regions are written."""
        self.nodes = 0
        """Nodes that came."""
        self._depth = depth
        self._pages_under = pages_under
        self._inside = _Waiting()
        """Nodes of regions that were begun, and those above all regions."""
        self._next = _Waiting()
        """The first nodes of others."""
        self._openings = openings
        self._asked = 0
        self._regions: dict[bytes, Region] = {}
        self._finished: list[Region] = []
        self._want(root_wanted(root))

    @property
    def waiting(self) -> int:
        """Nodes that may be asked for now."""
        return len(self._inside) + min(len(self._next), self._room())

    @property
    def first_waiting(self) -> bytes | None:
        """The lowest path of a node that nobody is asked for, padded with zeros; None if there is no such node."""
        return min((path for path in (self._inside.first, self._next.first) if path is not None), default=None)

    @property
    def share_waiting(self) -> float:
        """Share of the key space under nodes that nobody is asked for, 0 to 1."""
        return self._inside.share + self._next.share

    @property
    def done(self) -> bool:
        """Whether the whole trie is accounted for, and what was found has been taken."""
        return not len(self._inside) and not len(self._next) and not self._asked and not self._finished

    def take(self, most: int) -> Wanted:
        """Up to so many nodes to ask for."""
        room = self._room()
        taken = self._inside.take(most)
        first = self._next.take(min(most - sum(map(len, taken)), room))
        for run in first:
            self._begin(run)
        found = join_wanted([*taken, *first])
        self._asked += len(found)
        return found

    def _room(self) -> int:
        """How many first nodes may be asked for. Some at least if nothing else is under way: then they must be."""
        return max(self._openings.room, 0 if self._asked or len(self._inside) else 1)

    def _begin(self, first: Wanted) -> None:
        for prefix in _names(self._prefixes(first.paths[first.depths >= self._depth])):
            region = self._regions[prefix]
            self._openings.open += not region.begun
            region.begun = True

    def give_back(self, wanted: Wanted) -> None:
        """These did not come and must be asked for again."""
        self._asked -= len(wanted)
        self._inside.add(wanted)

    def claim(self, late: Wanted, others: Iterable[tuple[Wanted, Mask]]) -> Mask:
        """Nodes came after they were given back: which of them are still to come? These are then to be supplied.

        others: nodes that somebody else is asked for by now, and which of these are still to come; what is claimed is
        taken off there. Returns (n,).
        """
        places = _places(late)
        waited = self._inside.remove(places)
        self._asked += len(waited)
        claimed: Mask = np.isin(places, waited)
        for wanted, still in others:
            theirs = _places(wanted)
            claimed |= np.isin(places, theirs[still])
            still &= ~np.isin(theirs, places)
        return claimed

    def supply(self, came: Wanted, found: Difference) -> None:
        """These nodes came, and say this."""
        self._asked -= len(came)
        self.nodes += len(came)
        self.equal += found.equal
        touched: dict[Region, None] = {}
        self._want(found.wanted)
        self._note_leaves(found.leaves, touched)
        self._note_clearings(found, touched)
        for region, first, last in self._by_region(came.paths[came.depths >= self._depth]):
            region.missing -= last - first
            touched[region] = None
        for region in touched:
            if not region.missing:
                del self._regions[region.path.prefix]
                self._openings.open -= region.begun
                if region.puts or region.clearings:
                    self._finished.append(region)

    def take_finished(self) -> list[Region]:
        """Regions to be written now."""
        finished, self._finished = self._finished, []
        return finished

    def abandon(self) -> list[Region]:
        """End the walk; what was found in regions that are not finished is right all the same."""
        found = [region for region in self._regions.values() if region.puts or region.clearings]
        self._openings.open -= sum(region.begun for region in self._regions.values())
        self._regions, self._inside, self._next = {}, _Waiting(), _Waiting()
        return self.take_finished() + found

    def _want(self, wanted: Wanted) -> None:
        below = wanted.depths >= self._depth
        begun = ~below
        rows = np.flatnonzero(below)
        for region, first, last in self._by_region(wanted.paths[rows]):
            region.missing += last - first
            begun[rows[first:last]] = region.begun
        self._inside.add(wanted.rows(np.flatnonzero(begun)))
        self._next.add(wanted.rows(np.flatnonzero(~begun)))

    def _note_leaves(self, leaves: Leaves, touched: dict[Region, None]) -> None:
        for region, first, last in self._by_region(leaves.keys):
            region.puts.append(leaves[first:last])
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

    def _prefixes(self, paths: Bytes) -> Bytes:
        return masked(paths, np.full(len(paths), self._depth, np.uint8))

    def _by_region(self, paths: Bytes) -> Iterable[tuple[Region, int, int]]:
        """Runs [first, last) of neighbours in the same region, for paths of at least the page depth."""
        if not len(paths):
            return
        prefixes = self._prefixes(paths)
        firsts: Ints = np.flatnonzero((prefixes[1:] != prefixes[:-1]).any(axis=1)) + 1
        cuts = [0, *firsts.tolist(), len(paths)]
        names = _names(prefixes[cuts[:-1]])
        for prefix, first, last in zip(names, cuts, cuts[1:], strict=False):
            yield self._region(prefix), first, last

    def _region(self, prefix: bytes) -> Region:
        region = self._regions.get(prefix)
        if region is None:
            region = self._regions[prefix] = Region(PagePath(prefix, self._depth))
        return region


def _names(paths: Bytes) -> list[bytes]:
    data = paths.tobytes()
    return [data[at : at + 32] for at in range(0, len(data), 32)]
