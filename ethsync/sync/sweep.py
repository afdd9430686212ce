"""Which parts of a trie's key space are stored, under way, or still to ask for. Pure bookkeeping over integers.

Ranges are handed out in ascending order, so that writes arrive nearly sorted. Their borders are page borders. A range
that was answered only in part comes back as a gap with the leaves of its last, unfinished page in hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
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
        self.in_flight = 0
        self._gaps: list[tuple[int, int, Gap]] = []
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
        heappush(self._gaps, (gap.origin, self._count, gap))

    @property
    def open_gaps(self) -> int:
        """Gaps that nobody is asked for."""
        return len(self._gaps)

    @property
    def done(self) -> bool:
        """Whether every key is stored."""
        return not self._gaps and not self.in_flight

    @property
    def share(self) -> float:
        """Share of the key space that is stored, 0 to 1."""
        return self.stored / KEY_SPACE

    def take(self, width: int) -> Gap:
        """Take the lowest gap, or about `width` keys of its beginning: at least one page, up to a page border."""
        gap = heappop(self._gaps)[2]
        self.in_flight += 1
        page = 1 << (256 - 4 * (self.depth or 0))
        end = -(-max(gap.resume + width, gap.origin + page) // page) * page
        if end >= gap.end:
            return gap
        self._push(Gap(end, gap.end, end))
        return Gap(gap.origin, end, gap.resume, gap.carry)

    def give_back(self, gap: Gap) -> None:
        """Nothing came of it."""
        self.in_flight -= 1
        self._push(gap)

    def settle(self, gap: Gap, covered: int, rest: Gap | None) -> None:
        """[gap.origin, covered) is stored now; `rest` is what remains of the gap."""
        self.in_flight -= 1
        self.stored += covered - gap.origin
        if rest is not None:
            self._push(rest)
