"""Which parts of a trie's key space are stored, under way, or still to ask for. Pure bookkeeping over integers.

Ranges are handed out in ascending order, so that writes arrive nearly sorted. Their borders are page borders. A range
that was answered only in part comes back as a gap with the leaves of its last, unfinished page in hand.

A range may be asked for more than once: an answer can come after its time, when its range has been given back and
handed out anew. The first answer that is proven is kept; whoever was asked for the same keys has nothing to add then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from ethsync.state.pages import KEY_SPACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.state.columns import Leaves


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """Keys [origin, end) that are not stored. `carry` holds the proven leaves of [origin, resume), all of one page."""

    origin: int
    end: int
    resume: int
    carry: Leaves | None = None
    state_root: bytes = b""
    """Of accounts: under which those in `carry` were proven; empty if under more than one."""

    @property
    def width(self) -> int:
        """Number of keys still to ask for."""
        return self.end - self.resume


class Sweep:
    """The state of one trie's download."""

    def __init__(self, stored: Iterable[tuple[int, int]] = (), depth: int | None = None) -> None:
        """Begin from the stored intervals [origin, end) of an earlier run, in any order."""
        self.depth = depth
        self.stored = 0
        self._open: list[tuple[int, int, Gap]] = []
        self._asked: set[Gap] = set()
        self._kept: dict[Gap, tuple[int, Gap | None]] = {}
        self._count = 0
        at = 0
        for origin, end in sorted(stored):
            if origin > at:
                self._push(Gap(at, origin, at))
            self.stored += max(0, end - max(origin, at))
            at = max(at, end)
        if at < KEY_SPACE:
            self._push(Gap(at, KEY_SPACE, at))

    def _push(self, gap: Gap) -> None:
        self._count += 1
        heappush(self._open, (gap.origin, self._count, gap))

    @property
    def open_gaps(self) -> int:
        """Gaps that nobody is asked for."""
        return len(self._open)

    @property
    def first_open(self) -> int | None:
        """The lowest key that nobody is asked for; None if there is none."""
        return self._open[0][0] if self._open else None

    @property
    def asked(self) -> int:
        """Gaps that somebody is asked for, and that nobody has answered yet."""
        return len(self._asked)

    @property
    def in_flight(self) -> int:
        """Gaps that are asked for, or answered and on the way to the disk."""
        return len(self._asked) + len(self._kept)

    @property
    def done(self) -> bool:
        """Whether every key is stored."""
        return not self._open and not self.in_flight

    @property
    def share(self) -> float:
        """Share of the key space that is stored, 0 to 1."""
        return self.stored / KEY_SPACE

    def take(self, width: int) -> Gap:
        """Take the lowest gap, or about `width` keys of its beginning: at least one page, up to a page border."""
        gap = heappop(self._open)[2]
        page = 1 << (256 - 4 * (self.depth or 0))
        end = -(-max(gap.resume + width, gap.origin + page) // page) * page
        if end < gap.end:
            self._push(Gap(end, gap.end, end))
            gap = replace(gap, end=end)
        self._asked.add(gap)
        return gap

    def give_back(self, gap: Gap) -> None:
        """Nothing came of it. If another answer was kept instead, nothing is left to be given back."""
        if gap in self._asked:
            self._asked.remove(gap)
            self._push(gap)

    def wants(self, gap: Gap) -> bool:
        """Whether an answer for a gap that was given back could still add anything."""
        return any(part.origin < gap.end and gap.origin < part.end for part in self._unanswered())

    def claim(self, gap: Gap, covered: int, rest: Gap | None) -> Gap | None:
        """A proven answer for a gap has all of [gap.origin, covered), and `rest` is what remains of it.

        Returns what to settle once that is stored. None if some of it is stored already, or is about to be, or if it
        adds nothing: then the answer must be dropped.
        """
        if gap in self._asked:
            self._asked.remove(gap)
            self._kept[gap] = covered, rest
            return gap
        if not self._take_over(gap, covered, rest):
            return None
        part = replace(gap, end=covered)
        self._kept[part] = covered, None
        return part

    def settle(self, claimed: Gap) -> None:
        """What was claimed is stored now; the rest is to be asked for."""
        covered, rest = self._kept.pop(claimed)
        self.stored += covered - claimed.origin
        if rest is not None:
            self._push(rest)

    def _unanswered(self) -> list[Gap]:
        return [gap for _, _, gap in self._open] + list(self._asked)

    def _take_over(self, gap: Gap, covered: int, rest: Gap | None) -> bool:
        """Take [gap.origin, covered) away from those that were given parts of the gap since it was given back.

        They can only be parts of it, for gaps are split and never joined. What they were asked for beyond `covered`
        is open again, and continues behind the leaves in hand if these reach further.
        """
        parts = [part for part in self._unanswered() if part.origin < gap.end and gap.origin < part.end]
        taken = [part for part in parts if part.origin < covered]
        if sum(min(part.end, covered) - part.origin for part in taken) < covered - gap.origin:
            return False
        after = next((part for part in parts if part.origin <= covered < part.end), None)
        if after is not None:
            left = Gap(covered, after.end, covered) if after.origin < covered else after
            if rest is not None and left.resume < rest.resume < left.end:
                left = replace(rest, origin=covered, end=after.end)
            if left is not after:
                self._remove({*taken, after})
                self._push(left)
                return True
        self._remove(set(taken))
        return bool(taken)

    def _remove(self, gaps: set[Gap]) -> None:
        self._asked -= gaps
        self._open = [entry for entry in self._open if entry[2] not in gaps]
        heapify(self._open)
