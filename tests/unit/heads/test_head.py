"""The feed of trusted heads, and the blocks that are known with them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ethsync.heads.head import HeadFeed, HeadPhase, TrustedHead
from ethsync.heads.known_blocks import MOST_INVALID, KnownBlock, KnownBlocks
from ethsync.wire.headers import Header, build_header

A, B, C = (TrustedHead(bytes((number,)) * 32, number) for number in (1, 2, 3))


def chain(length: int, *, parent: Header | None = None, extra: bytes = b"") -> list[Header]:
    """Headers linked by parent hash; `extra` makes another branch of the same numbers."""
    headers: list[Header] = []
    for _ in range(length):
        number = parent.number + 1 if parent else 0
        parent = build_header(parent_hash=parent.hash if parent else bytes(32), number=number, extra_data=extra)
        headers.append(parent)
    return headers


def known(*headers: Header, most: int = 100) -> KnownBlocks:
    blocks = KnownBlocks(most)
    for header in headers:
        blocks.add(KnownBlock(header))
    return blocks


async def test_the_first_head_wakes_who_waits() -> None:
    feed, got = HeadFeed(0), list[TrustedHead]()

    async def wait() -> None:
        got.append(await feed.newer_than(None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert got == []
        feed.publish(A)
    assert got == [A, A]


async def test_heads_are_not_queued_the_newest_wins() -> None:
    feed = HeadFeed(0)
    for head in (A, B, C):
        feed.publish(head)
    assert await feed.newer_than(A) == C
    # And the one that is known already is not new.
    with trio.move_on_after(0) as scope:
        await feed.newer_than(C)
    assert scope.cancelled_caught


async def test_the_same_head_again_wakes_nobody() -> None:
    feed = HeadFeed(0)
    feed.publish(A)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.newer_than, A)
        await wait_all_tasks_blocked()
        feed.publish(TrustedHead(A.block_hash, A.number))
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        feed.publish(B)


def test_a_number_that_was_known_is_not_forgotten() -> None:
    feed = HeadFeed(0)
    feed.publish(A)
    feed.publish(TrustedHead(A.block_hash, None, slot=9))
    assert feed.head == TrustedHead(A.block_hash, 1, slot=9)
    feed.publish(TrustedHead(B.block_hash, None))
    assert feed.head == TrustedHead(B.block_hash)


def test_a_state_knows_since_when_it_is_so() -> None:
    feed = HeadFeed(5)
    assert (feed.state.phase, feed.state.since) == (HeadPhase.WAITING, 5)
    feed.report(HeadPhase.LOST, 7, "why")
    feed.report(HeadPhase.LOST, 9, "another reason")
    assert (feed.state.since, feed.state.detail) == (7, "another reason")
    feed.report(HeadPhase.FOLLOWING, 11)
    assert (feed.state.since, feed.state.detail) == (11, "")


def test_known_headers_are_found_by_hash_and_the_oldest_go_first() -> None:
    headers = chain(5)
    blocks = known(*headers[:3], most=3)
    assert blocks.get(headers[0].hash) is not None  # used just now, so it stays
    blocks.add(KnownBlock(headers[3]))
    assert [blocks.get(header.hash) is not None for header in headers] == [True, False, True, True, False]
    assert len(blocks) == 3


def test_the_chain_back_from_a_block_ends_at_the_first_gap() -> None:
    headers = chain(6)
    blocks = known(headers[0], *headers[2:])
    assert list(blocks.back_from(headers[5].hash)) == headers[:1:-1]
    assert blocks.links(headers[5].hash, headers[2].hash)
    assert blocks.links(headers[5].hash, headers[1].hash)  # by the parent hash in the last one that is known
    assert not blocks.links(headers[5].hash, headers[0].hash)
    assert blocks.links(bytes(32), bytes(32))


def test_a_block_on_another_branch_is_proven_no_ancestor_and_an_unknown_one_is_not() -> None:
    trunk = chain(4)
    left, right = chain(3, parent=trunk[-1], extra=b"left"), chain(3, parent=trunk[-1], extra=b"right")
    blocks = known(*trunk, *left, *right)
    assert blocks.contradicts(left[2].hash, right[0].hash)
    assert blocks.contradicts(left[1].hash, left[2].hash)  # the other way round
    for ancestor in (left[2].hash, left[0].hash, trunk[0].hash, bytes(32)):
        assert not blocks.contradicts(left[2].hash, ancestor)
    # Given a gap between, then nothing is proven.
    assert not known(*left, right[0]).contradicts(left[2].hash, bytes(32))
    assert not known(left[2], right[0]).contradicts(left[2].hash, right[0].hash)


def test_invalid_blocks_are_remembered_and_not_handed_out() -> None:
    (header,) = chain(1)
    blocks = known(header)
    blocks.mark_invalid(header.hash)
    assert blocks.is_invalid(header.hash)
    assert blocks.get(header.hash) is None
    for number in range(MOST_INVALID):
        blocks.mark_invalid(number.to_bytes(32, "big"))
    assert not blocks.is_invalid(header.hash)


@pytest.mark.parametrize("held", [True, False])
def test_a_feed_gives_headers_that_came_with_payloads(held: bool) -> None:
    feed, (header,) = HeadFeed(0), chain(1)
    if held:
        feed.blocks.add(KnownBlock(header))
    assert feed.known_header(header.hash) == (header if held else None)
