"""Connections between two of ours: who the other is, what is shared, messages of all sizes, many senders."""

from __future__ import annotations

import random
import socket

import pytest
import trio
import trio.testing

from ethsync.errors import (
    LocalProtocolError,
)
from ethsync.rlpx.connection import Connection, Message
from tests.unit.rlpx.connecting import (
    OUR_HELLO,
    OUR_ID,
    THEIR_HELLO,
    THEIR_ID,
    answer,
    dial,
    nothing,
    run_both,
    sockets,
    until_gone,
)


async def test_both_sides_learn_who_the_other_is_and_what_is_shared() -> None:
    async def ours(connection: Connection) -> None:
        assert connection.remote_public_key == THEIR_ID
        assert connection.remote_hello == THEIR_HELLO
        assert {name: each.offset for name, each in connection.capabilities.items()} == {"eth": 0x10, "snap": 0x22}
        assert connection.capabilities["eth"].version == 69

    async def theirs(connection: Connection) -> None:
        assert connection.remote_public_key == OUR_ID
        assert connection.remote_hello == OUR_HELLO

    await run_both(ours, theirs)


SIZES = (0, 1, 100, 65_535, 65_537, 1_000_000, 10 * 2**20)


async def exchange(connection: Connection) -> None:
    generator = random.Random(1)
    for size in SIZES:
        payload = generator.randbytes(size)
        await connection.send("snap", 7, payload)
        assert await connection.receive() == Message("snap", 7, payload)
    assert connection.bytes_received > sum(SIZES) < connection.bytes_sent


async def test_messages_from_nothing_to_10_mib_over_memory_streams() -> None:
    await run_both(exchange, until_gone)


async def test_messages_from_nothing_to_10_mib_over_sockets() -> None:
    async with sockets() as (left, right), trio.open_nursery() as nursery:
        nursery.start_soon(dial, left, exchange)
        nursery.start_soon(answer, right, until_gone)


async def test_small_messages_are_not_held_back_by_the_kernel() -> None:
    async with sockets() as streams, trio.open_nursery() as nursery:
        # Given sockets that collect what is small (Nagle)
        for stream in streams:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, False)

        async def assert_told_not_to(connection: Connection) -> None:
            for stream in streams:
                assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

        # When one is used by whoever dials and the other by whoever answers, then both do so no more.
        nursery.start_soon(dial, streams[0], assert_told_not_to)
        nursery.start_soon(answer, streams[1], until_gone)


async def test_zeros_shrink_on_the_wire() -> None:
    async def ours(connection: Connection) -> None:
        await connection.send("eth", 5, bytes(10 * 2**20))
        assert connection.bytes_sent < 2**20

    async def theirs(connection: Connection) -> None:
        assert (await connection.receive()).payload == bytes(10 * 2**20)

    await run_both(ours, theirs)


async def test_many_tasks_send_at_once_and_no_frame_is_torn() -> None:
    async def ours(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            for size in range(0, 200_000, 10_000):
                nursery.start_soon(connection.send, "snap", 1, bytes([size % 251]) * size)

    async def theirs(connection: Connection) -> None:
        sizes = set()
        for _ in range(20):
            payload = (await connection.receive()).payload
            assert payload == bytes([len(payload) % 251]) * len(payload)
            sizes.add(len(payload))
        assert sizes == set(range(0, 200_000, 10_000))

    await run_both(ours, theirs)


@pytest.mark.parametrize(("capability", "code"), [("les", 0), ("snap", 8), ("eth", 18), ("eth", -1)])
async def test_a_message_that_is_not_shared_cannot_be_sent(capability: str, code: int) -> None:
    async def ours(connection: Connection) -> None:
        with pytest.raises(LocalProtocolError, match="have no message"):
            await connection.send(capability, code, b"\xc0")

    await run_both(ours, nothing)


async def test_a_message_over_10_mib_cannot_be_sent() -> None:
    async def ours(connection: Connection) -> None:
        with pytest.raises(LocalProtocolError, match="more than 10485760"):
            await connection.send("snap", 1, bytes(10 * 2**20 + 1))

    await run_both(ours, nothing)


async def test_a_hello_with_another_key_than_ours_is_our_own_mistake() -> None:
    left, _ = trio.testing.memory_stream_pair()
    with pytest.raises(LocalProtocolError, match="another key"):
        await dial(left, nothing, THEIR_HELLO)
    with pytest.raises(trio.ClosedResourceError):
        await left.send_all(b"closed all the same")
