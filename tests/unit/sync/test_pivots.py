"""Which block's state is wanted while the head moves, stalls, goes back, or jumps to another branch."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.headers.service import HeaderDownload
from ethsync.heads.head import HeadFeed, TrustedHead
from ethsync.peers.changes import Changes
from ethsync.sync.pivots import BEHIND, PivotChooser, next_pivot, run_pivot
from ethsync.wire.headers import Header, decode_header
from tests.oracles.header_world import Server, World
from tests.oracles.headers import demo_chain, relinked

LENGTH = 700
RAWS = demo_chain(LENGTH)
FORK = 300
BRANCH = relinked(RAWS, FORK, extra_data=b"branch")
"""The same chain below block 300, and other blocks from it on."""


class Scene:
    """A chain of headers and whoever chooses a pivot in it."""

    def __init__(self, raws: list[bytes]) -> None:
        self.world = World({0: Server(raws)})
        headers = cast("HeaderDownload", SimpleNamespace(chain=self.world.chain))
        self.chooser = PivotChooser(HeadFeed(0.0), headers, BEHIND, None, self.moved)

    async def moved(self, header: Header) -> None:
        raise AssertionError("nobody runs the chooser here")

    def trust(self, raw: bytes, *, prove: bool = True) -> None:
        """A head is named; `prove`: and all headers to it come in."""
        self.chooser.head = decode_header(raw)
        self.world.follow(raw)
        if prove:
            self.world.finish(Random(1))

    def choose(self) -> int | None:
        """What the pivot moves to: its number."""
        found = next_pivot(self.chooser)
        if found is not None:
            self.chooser.pivot, self.chooser.is_stale = found, False
        return found.number if found else None

    def switch(self, raws: list[bytes]) -> None:
        """Peers follow another chain from now on."""
        self.world.servers[0] = Server(raws)


def test_the_pivot_is_64_behind_the_head_and_stays_until_that_is_121_before_it() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[200])
    assert scene.choose() == 136
    for number in (201, 230, 256):
        scene.trust(RAWS[number])
        assert scene.choose() is None
    scene.trust(RAWS[257])
    assert scene.choose() == 193


def test_a_short_chain_has_its_pivot_at_the_genesis() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[40])
    assert scene.choose() == 0


def test_a_stale_pivot_moves_as_soon_as_there_is_a_newer_one() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[200])
    scene.choose()
    # Given a chain that stalls, then nothing is better;
    scene.chooser.is_stale = True
    assert scene.choose() is None
    # when it goes on by a block, so does the pivot.
    scene.trust(RAWS[201])
    assert scene.choose() == 137
    assert scene.choose() is None


def test_a_reorganisation_above_the_pivot_does_not_move_it() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[FORK + 20])
    assert scene.choose() == FORK - 44
    scene.switch(BRANCH)
    scene.trust(BRANCH[FORK + 21], prove=False)
    assert scene.choose() is None
    scene.world.finish(Random(1))
    assert scene.choose() is None


def test_a_pivot_on_a_branch_that_was_left_moves_to_the_other_one() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[FORK + 100])
    assert scene.choose() == FORK + 36
    scene.switch(BRANCH)
    scene.trust(BRANCH[FORK + 102])
    assert scene.choose() == FORK + 38
    assert scene.chooser.pivot == decode_header(BRANCH[FORK + 38])


def test_a_branch_that_ends_before_the_pivot_takes_it_back() -> None:
    # Given a pivot of which the newest head is no descendant, because it is older
    scene = Scene(RAWS)
    scene.trust(RAWS[FORK + 100])
    assert scene.choose() == FORK + 36
    scene.switch(BRANCH)
    # When it is not yet known where the branches part, then nothing moves;
    scene.trust(BRANCH[FORK + 30], prove=False)
    assert scene.choose() is None
    # as soon as it is, the pivot is an ancestor of that head.
    scene.world.finish(Random(1))
    assert scene.choose() == FORK - 34
    assert scene.choose() is None


def test_a_source_that_goes_back_on_the_same_chain_moves_nothing() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[300])
    assert scene.choose() == 236
    for number in (299, 250, 230, 100):
        scene.trust(RAWS[number])
        scene.chooser.is_stale = True
        assert scene.choose() is None


def test_a_stale_pivot_does_not_go_back_while_another_branch_comes_in() -> None:
    scene = Scene(RAWS)
    scene.trust(RAWS[FORK + 20])
    assert scene.choose() == FORK - 44
    # Given headers that are given up to make room for those of another branch
    scene.switch(BRANCH)
    scene.trust(BRANCH[FORK - 10 + 5], prove=False)
    scene.trust(BRANCH[FORK + 15], prove=False)
    scene.chooser.is_stale = True
    assert scene.choose() is None
    scene.world.finish(Random(1))
    # Then the best pivot of the new branch is older than the one there is, which is its ancestor too.
    assert scene.choose() is None


async def test_the_pivot_of_an_earlier_run_is_not_taken_up_before_it_is_seen_in_the_light_of_the_head(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    # Given a pivot of long ago, and no headers on the disk
    scene = Scene(RAWS)
    chooser = scene.chooser
    chooser.pivot = decode_header(RAWS[100])
    moved: list[int] = []
    chosen: list[int] = []

    async def note(header: Header) -> None:
        moved.append(header.number)

    async def fetch(pool: object, changes: object, block_hash: bytes, patience: float) -> Header:
        return decode_header(RAWS[335])

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        async with trio.open_nursery() as running:
            chosen.append((await running.start(run_pivot, chooser)).number)

    chooser.moved = note
    changes = Changes()
    pool = SimpleNamespace(set_head=lambda number, timestamp: None)
    chooser.headers = cast("HeaderDownload", SimpleNamespace(chain=scene.world.chain, changes=changes, pool=pool))
    monkeypatch.setattr("ethsync.sync.pivots.fetch_header", fetch)
    chooser.feed.publish(TrustedHead(decode_header(RAWS[335]).hash))
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        await wait_all_tasks_blocked()
        # When only the header of the head is known, then nothing is reported;
        assert chooser.head == decode_header(RAWS[335])
        assert (moved, chosen) == ([], [])
        # when those below it are, then it is the pivot of this head.
        scene.world.finish(Random(1))
        changes.ring()
        await wait_all_tasks_blocked()
        assert (moved, chosen) == ([271], [271])
        nursery.cancel_scope.cancel()
