"""Writes that hang: a peer that does not read, sends cancelled half way or in the queue."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ethsync.errors import (
    PeerGone,
)
from ethsync.rlpx.connection import Connection
from ethsync.rlpx.link import Link
from tests.unit.rlpx.connecting import Stuck, run_both, run_stuck, stay


async def test_a_peer_that_does_not_read_is_given_up_after_20_s(autojump_clock: trio.testing.MockClock) -> None:
    async def ours(connection: Connection, stream: Stuck) -> None:
        stream.stuck = True
        started = trio.current_time()
        with pytest.raises(PeerGone, match="did not read for 20 s"):
            await connection.send("snap", 1, b"\xc0")
        assert trio.current_time() - started == pytest.approx(20)
        with pytest.raises(PeerGone, match="did not read for 20 s"):
            await connection.receive()

    await run_stuck(ours, stay)


async def test_reading_goes_on_while_a_write_hangs(autojump_clock: trio.testing.MockClock) -> None:
    """Otherwise two nodes that both have much to say would wait for each other."""

    async def ours(connection: Connection, stream: Stuck) -> None:
        stream.stuck = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, "snap", 1, b"\xc0")
            with trio.fail_after(5):
                assert (await connection.receive()).payload == b"a message after a ping"
            nursery.cancel_scope.cancel()

    async def theirs(raw: Link) -> None:
        await trio.sleep(1)
        await raw.send(2, b"\xc0", compress=True)
        await raw.send(0x10, b"a message after a ping", compress=True)
        await trio.sleep_forever()

    await run_stuck(ours, theirs)


async def test_a_send_cancelled_half_way_ends_the_connection_with_the_next_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def ours(connection: Connection, stream: Stuck) -> None:
        stream.stuck = True
        with trio.move_on_after(1):
            await connection.send("snap", 1, b"\xc0")
        stream.stuck = False
        # What is on its way is still read,
        assert (await connection.receive()).payload == b"still here"
        # but once something is to be sent there is nothing left to do: nobody may go on waiting for answers.
        with pytest.raises(PeerGone, match="cut off"):
            await connection.send("snap", 1, b"\xc0")
        with pytest.raises(PeerGone, match="cut off"):
            await connection.receive()

    async def theirs(raw: Link) -> None:
        await trio.sleep(3)
        await raw.send(0x10, b"still here", compress=True)
        await trio.sleep_forever()

    await run_stuck(ours, theirs)


async def test_a_send_cancelled_in_the_queue_does_no_harm(autojump_clock: trio.testing.MockClock) -> None:
    async def ours(connection: Connection) -> None:
        with trio.move_on_after(0):
            await connection.send("snap", 1, b"never sent")
        await connection.send("snap", 1, b"sent")

    async def theirs(connection: Connection) -> None:
        assert (await connection.receive()).payload == b"sent"

    await run_both(ours, theirs)
