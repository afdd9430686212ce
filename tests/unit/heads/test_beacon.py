"""Following beacon nodes over real HTTP: heads, restarts, syncing nodes, disagreement and nonsense."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from ethsync.errors import ConfigError
from ethsync.heads import beacon
from ethsync.heads.beacon import NEAR_HEAD, SLOT_TIME, run_beacon
from ethsync.heads.head import HeadFeed, HeadPhase, TrustedHead
from tests.oracles.beacon_node import (
    BLINDED,
    CHECKPOINTS,
    NOT_FOUND,
    SYNCING,
    WHOLE,
    FakeBeaconNode,
    Reply,
    bid_block,
    blinded_block,
    block_reply,
    checkpoints,
    follows_chain,
    hex32,
    open_beacon_node,
    reply,
    syncing,
)

CHAIN = 1337


def block_hash(number: int) -> bytes:
    return bytes.fromhex(hex32(number)[2:])


def at_head(number: int) -> dict[str, Reply]:
    """Answers of a healthy node whose head is block `number` and whose finalized block is 64 before, root 0x…777."""
    finalized = {CHECKPOINTS: checkpoints(0x777), f"{BLINDED}{hex32(0x777)}": blinded_block(number - 64)}
    return {**follows_chain(CHAIN), SYNCING: syncing(), f"{BLINDED}head": blinded_block(number), **finalized}


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    # Sockets need a moment of real time, which the clock must not take for idleness.
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock


@asynccontextmanager
async def following(*nodes: FakeBeaconNode, ready: bool = True) -> AsyncIterator[HeadFeed]:
    """A feed that follows these nodes, each at its own address; after the first poll if `ready`."""
    feed = HeadFeed(trio.current_time())
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(open_beacon_node(node))
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(start_beacon, nodes, feed)
        if ready:
            await passes(SLOT_TIME / 2)
        yield feed
        nursery.cancel_scope.cancel()


async def start_beacon(
    nodes: tuple[FakeBeaconNode, ...], feed: HeadFeed, *, task_status: trio.TaskStatus[None]
) -> None:
    await run_beacon([node.url for node in nodes], feed, chain_id=CHAIN, task_status=task_status)


async def passes(seconds: float) -> None:
    await trio.sleep(seconds)


async def until(condition: Callable[[], bool], slots: int = 10) -> None:
    """Wait in steps of a slot until something is so."""
    for _ in range(slots):
        if condition():
            return
        await passes(SLOT_TIME)
    assert condition()


async def test_the_head_and_the_finalized_block_are_published(clock: MockClock) -> None:
    async with following(FakeBeaconNode(replies=at_head(100))) as feed:
        assert feed.head == TrustedHead(block_hash(100), 100, finalized=block_hash(36), slot=100)
        assert feed.state.phase is HeadPhase.FOLLOWING


async def test_every_slot_brings_the_new_head(clock: MockClock) -> None:
    node = FakeBeaconNode(replies=at_head(100))
    async with following(node) as feed:
        for number in (101, 102, 103):
            node.replies[f"{BLINDED}head"] = blinded_block(number)
            with trio.fail_after(SLOT_TIME + 1):
                head = await feed.newer_than(feed.head)
            assert head.number == number
        # And the configuration was asked for once, the finalized block as long as it is the same.
        assert node.asked.count("/eth/v1/config/deposit_contract") == 1
        assert node.asked.count(f"{BLINDED}{hex32(0x777)}") == 1
        node.replies |= {CHECKPOINTS: checkpoints(0x888), f"{BLINDED}{hex32(0x888)}": blinded_block(68)}
        assert (await feed.newer_than(feed.head)).finalized == block_hash(68)


async def test_a_reader_that_was_slow_gets_only_the_newest(clock: MockClock) -> None:
    node = FakeBeaconNode(replies=at_head(100))
    async with following(node) as feed:
        seen = feed.head
        for number in (101, 102, 103):
            node.replies[f"{BLINDED}head"] = blinded_block(number)
            await passes(SLOT_TIME)
        assert (await feed.newer_than(seen)).number == 103


async def test_a_network_with_shorter_slots_is_asked_more_often(clock: MockClock) -> None:
    node = FakeBeaconNode(replies={**at_head(100), **follows_chain(CHAIN, slot_ms=2000)})
    async with following(node):
        await passes(20)
    assert 12 <= node.asked.count(f"{BLINDED}head") <= 14


async def test_a_node_that_does_not_say_how_long_a_slot_is_is_asked_every_twelve_seconds(
    clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a node whose configuration has neither SLOT_DURATION_MS nor SECONDS_PER_SLOT
    caplog.set_level(logging.WARNING, "ethsync")
    silent = {"/eth/v1/config/spec": reply({"data": {"CONFIG_NAME": "mainnet"}})}
    node = FakeBeaconNode(replies={**at_head(100), **silent})
    async with following(node) as feed:
        # then its head counts, that is said once,
        assert feed.state.phase is HeadPhase.FOLLOWING
        assert feed.head is not None
        node.replies = {**at_head(101), **silent}
        await passes(SLOT_TIME * 5)
        # and the next head comes after a slot of the public networks.
        assert feed.head.number == 101
        assert 5 <= node.asked.count(SYNCING) <= 7
    assert [record.getMessage() for record in caplog.records if "slot" in record.getMessage()] == [
        f"{node.url} does not say how long a slot is: 12 s are taken for it"
    ]


async def test_without_the_blinded_form_the_whole_block_is_asked_for_and_the_form_remembered(clock: MockClock) -> None:
    node = FakeBeaconNode(replies=at_head(100))
    payload = {"block_hash": hex32(100), "parent_hash": hex32(99), "block_number": "100", "transactions": []}
    node.replies[f"{WHOLE}head"] = block_reply({"execution_payload": payload}, 100, "fulu")
    node.replies[f"{BLINDED}head"] = reply({}, 405)
    async with following(node) as feed:
        await passes(2 * SLOT_TIME)
        assert feed.head is not None
        assert feed.head.number == 100
    assert node.asked.count(f"{BLINDED}head") == 1
    assert node.asked.count(f"{WHOLE}head") == 3


async def test_across_the_gloas_fork(clock: MockClock) -> None:
    # Given the last block with a payload, and then blocks with bids, which only the whole form has
    node = FakeBeaconNode(replies=at_head(100))
    async with following(node) as feed:
        node.replies[f"{BLINDED}head"] = reply({}, 400)
        node.replies[f"{WHOLE}head"] = bid_block(100, promised=101)
        await passes(SLOT_TIME)
        assert feed.state.phase is HeadPhase.FOLLOWING
        # Then the first bid changes nothing: what it promises is not there yet.
        assert feed.head is not None
        assert (feed.head.block_hash, feed.head.number) == (block_hash(100), 100)
        node.replies[f"{WHOLE}head"] = bid_block(101, promised=102)
        head = await feed.newer_than(feed.head)
        assert (head.block_hash, head.number) == (block_hash(101), None)


async def test_a_node_that_is_syncing_names_no_head(clock: MockClock) -> None:
    node = FakeBeaconNode(replies={**at_head(100), SYNCING: syncing(5000, is_syncing=True)})
    async with following(node) as feed:
        assert (feed.head, feed.state.phase) == (None, HeadPhase.SYNCING)
        assert "5000 slots from its head" in feed.state.detail
        # When it is nearly there, then its head is good enough.
        node.replies[SYNCING] = syncing(NEAR_HEAD, is_syncing=True, optimistic=True)
        await until(lambda: feed.head is not None)
        assert feed.state.phase is HeadPhase.FOLLOWING


async def test_a_node_that_starts_anew_is_waited_for_and_the_last_head_stays(clock: MockClock) -> None:
    node = FakeBeaconNode(replies=at_head(100))
    feed = HeadFeed(trio.current_time())
    async with trio.open_nursery() as nursery:
        async with open_beacon_node(node):
            port = node.url.port
            await nursery.start(start_beacon, (node,), feed)
            await passes(1)
        # When the node goes down
        await until(lambda: feed.state.phase is HeadPhase.LOST)
        assert "cannot be reached" in feed.state.detail
        lost_since = feed.state.since
        await passes(3 * SLOT_TIME)
        assert (feed.state.since, feed.head and feed.head.number) == (lost_since, 100)
        # and comes back, first without answers, then behind, then at a later head
        async with open_beacon_node(node, port=port):
            node.replies = dict.fromkeys(node.replies, reply({}, 503))
            await until(lambda: "not ready" in feed.state.detail)
            node.replies = {**at_head(90), SYNCING: syncing(200, is_syncing=True)}
            await until(lambda: feed.state.phase is HeadPhase.SYNCING)
            assert feed.head is not None
            assert feed.head.number == 100
            node.replies = at_head(130)
            await until(lambda: feed.state.phase is HeadPhase.FOLLOWING)
            assert feed.head.number == 130
        nursery.cancel_scope.cancel()


async def test_nobody_there_at_first_is_waited_for(clock: MockClock) -> None:
    async with open_beacon_node() as gone:
        pass
    feed = HeadFeed(trio.current_time())
    async with trio.open_nursery() as nursery:
        await nursery.start(start_beacon, (gone,), feed)
        await passes(5 * SLOT_TIME)
        assert (feed.head, feed.state.phase, feed.state.since) == (None, HeadPhase.WAITING, 0)
        nursery.cancel_scope.cancel()


async def test_a_node_that_hangs_costs_one_slot_at_a_time(clock: MockClock) -> None:
    node = FakeBeaconNode(replies={**at_head(100), f"{BLINDED}head": Reply(b"", hang=True)})
    async with following(node, ready=False) as feed:
        await passes(11)
        assert "did not answer within 10 s" in feed.state.detail
        node.replies |= at_head(101)
        await until(lambda: feed.head is not None)


@pytest.mark.parametrize(
    "answer",
    [
        Reply(b""),
        Reply(b"{"),
        Reply(b"\xff\xfe"),
        Reply(b"[" * 50_000),
        Reply(b"NaN"),
        Reply(b'{"version": "fulu", "data": ' + b"1" * 5000 + b"}"),
        reply({"version": "fulu"}),
        reply({"version": "fulu", "data": {"message": {"slot": "1", "body": {"execution_payload_header": []}}}}),
        blinded_block(100, version="after-heze"),
        Reply(b"", raw=b"garbage\r\n\r\n"),
        reply({}, 500),
    ],
)
@pytest.mark.parametrize("path", [f"{BLINDED}head", SYNCING])
async def test_nonsense_is_shown_and_asked_for_again(clock: MockClock, path: str, answer: Reply) -> None:
    node = FakeBeaconNode(replies={**at_head(100), path: answer})
    node.replies[f"{WHOLE}head"] = answer
    async with following(node) as feed:
        # Given an answer that makes no sense, then there is no head, and people can see whose answer it was.
        assert (feed.head, feed.state.phase) == (None, HeadPhase.WAITING)
        assert str(node.url) in feed.state.detail
        node.replies |= at_head(101)
        await until(lambda: feed.head is not None)
        assert feed.state.phase is HeadPhase.FOLLOWING


async def test_an_answer_that_is_too_long_is_not_read_to_its_end(
    clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beacon, "MOST_SMALL", 1000)
    node = FakeBeaconNode(replies={**at_head(100), SYNCING: Reply(b" " * 1001)})
    async with following(node) as feed:
        assert (feed.head, feed.state.detail) == (None, f"{node.url} sent more than 1000 bytes")
        node.replies[SYNCING] = Reply(syncing().body.ljust(1000))
        await until(lambda: feed.head is not None)


async def test_a_node_that_follows_another_chain_ends_it(clock: MockClock) -> None:
    node = FakeBeaconNode(replies={**at_head(100), **follows_chain(1)})
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="chain 1 instead"), flatten_subgroups=True):
        async with following(node):
            pass


async def test_a_server_that_has_finalized_blocks_only(clock: MockClock) -> None:
    # Given a checkpoint server: it knows neither head, nor state, nor whether it is syncing
    node = FakeBeaconNode(replies={f"{BLINDED}finalized": blinded_block(36)})
    async with following(node) as feed:
        assert feed.head == TrustedHead(block_hash(36), 36, slot=36, only_finalized=True)
        assert feed.state.detail == "finalized blocks only"


async def test_a_node_that_had_heads_is_no_checkpoint_server_when_it_has_none_for_a_moment(clock: MockClock) -> None:
    node = FakeBeaconNode(replies={**at_head(100), f"{BLINDED}finalized": blinded_block(36)})
    async with following(node) as feed:
        del node.replies[f"{BLINDED}head"]
        await until(lambda: feed.state.phase is HeadPhase.LOST)
        assert feed.head is not None
        assert feed.head.number == 100


async def test_a_node_without_the_finalized_block_still_names_the_head(clock: MockClock) -> None:
    node = FakeBeaconNode(replies={**at_head(100), f"{BLINDED}{hex32(0x777)}": NOT_FOUND})
    async with following(node) as feed:
        assert feed.head == TrustedHead(block_hash(100), 100, slot=100)


async def test_of_several_nodes_all_must_name_the_head(clock: MockClock) -> None:
    one, other = FakeBeaconNode(replies=at_head(100)), FakeBeaconNode(replies=at_head(99))
    async with following(one, other) as feed:
        # Given two nodes of which one is a block ahead, then what both have is the head, and that is no disagreement.
        assert feed.head is not None
        assert (feed.head.block_hash, feed.state.phase) == (block_hash(99), HeadPhase.FOLLOWING)
        other.replies |= at_head(100)
        await passes(SLOT_TIME)
        assert feed.head.block_hash == block_hash(100)


async def test_nodes_that_differ_hold_the_head_where_they_last_agreed(
    clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = FakeBeaconNode(replies=at_head(100)), FakeBeaconNode(replies=at_head(100))
    async with following(one, other) as feed:
        for step in range(1, 5):
            one.replies[f"{BLINDED}head"] = blinded_block(100 + step)
            other.replies[f"{BLINDED}head"] = blinded_block(0xBAD00 + step, parent=0xBAD00 + step - 1)
            await passes(SLOT_TIME)
        assert feed.head is not None
        assert (feed.head.block_hash, feed.state.phase) == (block_hash(100), HeadPhase.DISAGREEING)
        for node, named in ((one, 104), (other, 0xBAD04)):
            assert f"{node.url} names {hex32(named)}" in feed.state.detail
        assert [record.levelno for record in caplog.records if "disagreeing" in record.message] == [logging.WARNING]
        # When the other one finds back, then they go on.
        other.replies[f"{BLINDED}head"] = blinded_block(104)
        await passes(SLOT_TIME)
        assert (feed.head.block_hash, feed.state.phase) == (block_hash(104), HeadPhase.FOLLOWING)


async def test_nodes_that_never_agreed_have_no_head(clock: MockClock) -> None:
    one, other = FakeBeaconNode(replies=at_head(100)), FakeBeaconNode(replies=at_head(5000))
    async with following(one, other) as feed:
        assert (feed.head, feed.state.phase) == (None, HeadPhase.DISAGREEING)


async def test_of_several_nodes_a_silent_one_holds_up_the_head(clock: MockClock) -> None:
    one, other = FakeBeaconNode(replies=at_head(100)), FakeBeaconNode(replies=at_head(100))
    async with following(one, other) as feed:
        one.replies |= at_head(101)
        other.replies = dict.fromkeys(other.replies, reply({}, 503))
        await passes(2 * SLOT_TIME)
        assert feed.head is not None
        assert (feed.head.number, feed.state.phase) == (100, HeadPhase.LOST)
        assert str(other.url) in feed.state.detail


async def test_a_finalized_block_counts_once_all_name_it(clock: MockClock) -> None:
    one, other = FakeBeaconNode(replies=at_head(100)), FakeBeaconNode(replies=at_head(100))
    async with following(one, other) as feed:
        one.replies |= {CHECKPOINTS: checkpoints(0x888), f"{BLINDED}{hex32(0x888)}": blinded_block(68)}
        await passes(SLOT_TIME)
        assert feed.head is not None
        assert feed.head.finalized == block_hash(36)
