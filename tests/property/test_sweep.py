"""The sweep under every order of events: no key is lost, stored twice, or called stored before it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ethsync.kernels.trie import LEAF
from ethsync.state.columns import Leaves
from ethsync.state.pages import KEY_SPACE
from ethsync.sync.sweep import Gap, Sweep

DEPTHS = st.integers(0, 3)
Interval = tuple[int, int]


def page_width(depth: int) -> int:
    return KEY_SPACE >> 4 * depth


def some_leaf() -> Leaves:
    """Leaves of an unfinished page; the sweep carries them and does not look into them."""
    column = np.zeros(1, np.int64)
    return Leaves(np.zeros((1, 32), np.uint8), np.zeros(1, np.uint8), column, column + 1, LEAF)


def merged(intervals: list[Interval]) -> list[Interval]:
    """The union of intervals, as few of them as possible, ascending."""
    found: list[Interval] = []
    for origin, end in sorted(intervals):
        if found and origin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((origin, end))
    return found


@dataclass(frozen=True)
class Kept:
    """An answer on its way to the disk: [gap.origin, covered) of what is missing up to `end`."""

    gap: Gap
    covered: int
    end: int


class SweepMachine(RuleBasedStateMachine):
    """A sweep, and beside it the list of what is stored and of what was handed out."""

    def __init__(self) -> None:
        super().__init__()
        self.sweep = Sweep()
        self.stored: list[Interval] = []
        self.taken: list[Gap] = []
        self.kept: list[Kept] = []
        self.overdue: list[Gap] = []

    @initialize(depth=st.none() | DEPTHS, data=st.data())
    def begin(self, depth: int | None, data: st.DataObject) -> None:
        """A first run knows no depth. Later ones have markers: between borders of pages, in any order, overlapping.

        Where keys are crowded, pages are smaller; after a power cut such a border can be where a hole ends.
        """
        if depth is not None:
            fine = depth + data.draw(st.integers(0, 2))
            borders = st.integers(0, 16**fine)
            markers = data.draw(
                st.lists(st.tuples(borders, borders).filter(lambda ends: ends[0] < ends[1]), max_size=6)
            )
            self.stored = [(first * page_width(fine), last * page_width(fine)) for first, last in markers]
        self.sweep = Sweep(iter(self.stored), depth)

    def open_gaps(self) -> list[Gap]:
        """All open gaps in the order in which they are handed out; they are given back at once."""
        gaps = [self.sweep.take(KEY_SPACE) for _ in range(self.sweep.open_gaps)]
        for gap in gaps:
            self.sweep.give_back(gap)
        return gaps

    @precondition(lambda self: self.sweep.open_gaps > 0)
    @rule(share=st.sampled_from([0, 1, 5, 16, 100, 4096, 70_000]), more=st.integers(0, 3))
    def take(self, share: int, more: int) -> None:
        """Take any width, from nothing to more than all; what is taken is the beginning of the lowest gap."""
        lowest = self.open_gaps()[0]
        width = KEY_SPACE * share // 65_536 + more
        gap = self.sweep.take(width)
        self.taken.append(gap)
        assert (gap.origin, gap.resume, gap.carry) == (lowest.origin, lowest.resume, lowest.carry)
        assert gap.end <= lowest.end
        page = page_width(self.sweep.depth or 0)
        assert gap.end == lowest.end or width <= gap.width < width + 2 * page

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        gap = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.sweep.give_back(gap)
        self.overdue.append(gap)

    @precondition(lambda self: self.sweep.depth is None)
    @rule(depth=DEPTHS)
    def learn_the_depth(self, depth: int) -> None:
        """The first reply shows how dense the trie is."""
        self.sweep.depth = depth

    def answer(self, gap: Gap, data: st.DataObject) -> tuple[int, Gap | None]:
        """What a proven answer has: all of the gap, or some whole pages and perhaps leaves of the next one.

        A page that would be too large is cut deeper. Before the depth is known, leaves are only kept in hand.
        """
        if data.draw(st.booleans()):
            return gap.end, None
        if self.sweep.depth is None:
            return gap.origin, self.rest(gap, gap.origin, KEY_SPACE, data)
        page = page_width(self.sweep.depth + data.draw(st.integers(0, 2)))
        first, last = -(-gap.origin // page), (gap.end - 1) // page
        if first > last:
            return gap.end, None
        covered = data.draw(st.integers(first, last)) * page
        rest = Gap(covered, gap.end, covered)
        if data.draw(st.booleans()):
            rest = self.rest(gap, covered, page, data)
        return covered, rest

    def rest(self, gap: Gap, covered: int, page: int, data: st.DataObject) -> Gap:
        """What remains with leaves of an unfinished page in hand; a server sends at least one that was not known."""
        low, high = max(covered, gap.resume), min((covered // page + 1) * page, gap.end) - 1
        if low >= high:
            return Gap(covered, gap.end, covered) if covered > gap.origin else gap
        return replace(gap, origin=covered, resume=data.draw(st.integers(low + 1, high)), carry=some_leaf())

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """An answer in time is always of use."""
        gap = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        covered, rest = self.answer(gap, data)
        assert self.sweep.claim(gap, covered, rest) is gap
        self.kept.append(Kept(gap, covered, gap.end))
        self.overdue.append(gap)  # the same answer may come once more, at any time

    @precondition(lambda self: self.overdue)
    @rule(data=st.data())
    def claim_late(self, data: st.DataObject) -> None:
        """A late answer is of use if nobody has answered for these keys; then whoever else was asked for them is not.

        If it has no whole page, it must at least reach further into the first one.
        """
        gap = self.overdue[data.draw(st.integers(0, len(self.overdue) - 1))]
        covered, rest = self.answer(gap, data)
        if gap in self.taken:  # it was handed out again as it was
            self.taken.remove(gap)
            assert self.sweep.claim(gap, covered, rest) is gap
            self.kept.append(Kept(gap, covered, gap.end))
            return
        parts = [part for part in self.open_gaps() + self.taken if part.origin < gap.end and gap.origin < part.end]
        reach = covered if rest is None else rest.resume
        surpassed = [
            part for part in parts if part.origin < covered or (part.origin == covered and part.resume < reach)
        ]
        unanswered = sum(min(part.end, covered) - part.origin for part in parts if part.origin < covered)
        useful = unanswered == covered - gap.origin and bool(surpassed)
        claimed = self.sweep.claim(gap, covered, rest)
        assert (claimed is not None) == useful
        if claimed is not None:
            self.kept.append(Kept(claimed, covered, covered))
            self.overdue += [one for one in self.taken if one in surpassed]
            self.taken = [one for one in self.taken if one not in surpassed]

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        kept = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        self.sweep.settle(kept.gap)
        if kept.covered > kept.gap.origin:
            self.stored.append((kept.gap.origin, kept.covered))

    @precondition(lambda self: self.overdue)
    @rule(data=st.data())
    def what_nobody_is_asked_for_cannot_be_given_back(self, data: st.DataObject) -> None:
        gap = self.overdue[data.draw(st.integers(0, len(self.overdue) - 1))]
        if gap not in self.taken:
            self.sweep.give_back(gap)

    @precondition(lambda self: self.sweep.done)
    @rule()
    def nothing_is_left(self) -> None:
        assert merged(self.stored) == [(0, KEY_SPACE)]
        assert not self.taken
        assert not self.kept
        assert not any(map(self.sweep.wants, self.overdue))

    @invariant()
    def everything_is_stored_or_open_or_under_way(self) -> None:
        gaps = self.open_gaps()
        missing = [(gap.origin, gap.end) for gap in gaps + self.taken]
        missing += [(kept.gap.origin, kept.end) for kept in self.kept if kept.end > kept.gap.origin]
        assert sum(end - origin for origin, end in missing) + self.sweep.stored == KEY_SPACE
        assert self.sweep.stored == sum(end - origin for origin, end in merged(self.stored))
        assert merged(missing + self.stored) == [(0, KEY_SPACE)]
        assert all(origin < end for origin, end in missing)

    @invariant()
    def gaps_come_in_ascending_order(self) -> None:
        origins = [gap.origin for gap in self.open_gaps()]
        assert origins == sorted(set(origins))

    @invariant()
    def what_is_in_hand_is_of_one_page(self) -> None:
        page = page_width(self.sweep.depth or 0)
        for gap in self.open_gaps() + self.taken:
            assert gap.origin <= gap.resume < (gap.origin // page + 1) * page
            assert gap.width == gap.end - gap.resume > 0
            assert (gap.carry is None) == (gap.resume == gap.origin)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def what_is_on_the_way_to_the_disk_is_claimed_by_nobody_else(self, data: st.DataObject) -> None:
        """Neither by the same answer sent twice, nor by one to the same request that says something else."""
        kept = self.kept[data.draw(st.integers(0, len(self.kept) - 1))]
        if kept.covered > kept.gap.origin:
            assert self.sweep.claim(kept.gap, kept.covered, None) is None
            assert self.sweep.claim(kept.gap, kept.gap.end, None) is None

    @invariant()
    def it_counts_right(self) -> None:
        assert self.sweep.asked == len(self.taken)
        assert self.sweep.in_flight == len(self.taken) + len(self.kept)
        assert self.sweep.share == self.sweep.stored / KEY_SPACE
        assert self.sweep.done == (self.sweep.stored == KEY_SPACE and not self.kept)


SweepMachine.TestCase.settings = settings(derandomize=True, deadline=None, max_examples=100, stateful_step_count=40)
TestSweep = SweepMachine.TestCase


def test_a_sweep_of_stored_ranges_asks_for_nothing() -> None:
    sweep = Sweep([(KEY_SPACE // 2, KEY_SPACE), (0, KEY_SPACE // 2)], depth=1)
    assert sweep.done
    assert sweep.share == 1.0


def test_a_range_is_never_narrower_than_a_page() -> None:
    sweep = Sweep(depth=2)
    gap = sweep.take(1)
    assert (gap.origin, gap.end) == (0, page_width(2))
