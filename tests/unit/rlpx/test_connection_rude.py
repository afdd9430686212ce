"""What a rude peer meets after Hello: wrong messages, old versions, silence."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ethsync.errors import (
    DisconnectReason,
    MalformedMessage,
    PeerGone,
)
from ethsync.rlpx import compression
from ethsync.rlpx.connection import Connection, Message
from ethsync.rlpx.link import Link
from ethsync.wire import p2p
from ethsync.wire.p2p import Hello
from tests.unit.rlpx.connecting import (
    CAPABILITIES,
    THEIR_ID,
    answer_raw,
    dial,
    read_disconnect,
    run_against,
    run_both,
    stay,
    until_gone,
)


async def test_pings_are_answered_and_other_base_messages_ignored() -> None:
    async def ours(connection: Connection) -> None:
        assert (await connection.receive()).payload == b"done"

    async def theirs(raw: Link) -> None:
        assert (await raw.receive()).message_id == 0
        await raw.send(3, b"\xc0", compress=True)  # a Pong that nobody asked for
        await raw.send(0x0E, b"what is this", compress=False)
        await raw.send(2, b"\xc0", compress=True)
        pong = await raw.receive()
        assert (pong.message_id, compression.inflate(pong.payload)) == (3, b"\xc0")
        await raw.send(0x10, b"done", compress=True)
        await trio.sleep_forever()

    await run_against(ours, theirs)


@pytest.mark.parametrize(
    ("message_id", "payload", "complaint"),
    [
        (0x2A, compression.deflate(b"\xc0"), "no shared protocol"),
        (0x22, b"\xc0", "Snappy"),
        (0x22, b"\xff\xff\xff\xff\x0f" + bytes(100), "claims 4294967295"),
        (0x22, compression.deflate(bytes(10 * 2**20 + 1)), "claims 10485761"),
        (0x22, bytes(12_233_450), "frame of 12233451 bytes"),
    ],
)
async def test_a_message_that_is_none_breaks_the_protocol(message_id: int, payload: bytes, complaint: str) -> None:
    told: list[int | None] = []

    async def theirs(raw: Link) -> None:
        await raw.send(message_id, payload, compress=False)
        told.append(await read_disconnect(raw))

    async def ours(connection: Connection) -> None:
        await connection.receive()

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        with pytest.raises(MalformedMessage, match=complaint):
            await dial(left, ours)
    assert told == [DisconnectReason.BREACH_OF_PROTOCOL]


async def test_a_peer_of_before_snappy_is_spoken_to_without_compression() -> None:
    async def ours(connection: Connection) -> None:
        await connection.send("snap", 0, b"\xc1\x05")
        assert await connection.receive() == Message("snap", 1, b"\xc1\x06")
        with pytest.raises(MalformedMessage, match="more than 10485760"):
            await connection.receive()

    async def theirs(raw: Link) -> None:
        assert (await raw.receive()).message_id == 0
        frame = await raw.receive()
        assert (frame.message_id, bytes(frame.payload)) == (0x22, b"\xc1\x05")
        await raw.send(0x23, b"\xc1\x06", compress=False)
        await raw.send(0x23, bytes(10 * 2**20 + 1), compress=False)
        await trio.sleep_forever()

    await run_against(ours, theirs, Hello("old", CAPABILITIES, THEIR_ID, protocol_version=4))


# Time


async def test_a_silent_peer_is_pinged_after_15_s_and_dropped_after_30(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[tuple[int, float]] = []

    async def read_on(raw: Link) -> None:
        while True:
            frame = await raw.receive()
            seen.append((frame.message_id, round(trio.current_time() - started)))

    async def theirs(raw: Link) -> None:
        with pytest.raises(PeerGone):
            await read_on(raw)

    async def ours(connection: Connection) -> None:
        await connection.receive()

    started = trio.current_time()
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        with pytest.raises(PeerGone, match="nothing came from the peer for 30 s") as failure:
            await dial(left, ours)
    assert failure.value.reason == DisconnectReason.PING_TIMEOUT
    assert (p2p.P2PMessage.PING, 15) in seen
    assert (p2p.P2PMessage.DISCONNECT, 30) in seen


async def test_two_idle_nodes_keep_each_other_for_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    async def ours(connection: Connection) -> None:
        with trio.move_on_after(3600) as scope:
            await connection.receive()
        assert scope.cancelled_caught
        assert trio.current_time() - connection.last_received < 30

    await run_both(ours, until_gone)


async def test_a_busy_consumer_does_not_cost_an_honest_peer_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def ours(connection: Connection) -> None:
        await trio.sleep(600)  # back-pressure: nobody receives
        assert (await connection.receive()).payload == b"sent ten minutes ago"

    async def theirs(raw: Link) -> None:
        await raw.send(0x10, b"sent ten minutes ago", compress=True)
        await trio.sleep_forever()

    await run_against(ours, theirs)


async def test_silence_adds_up_over_cancelled_receives(autojump_clock: trio.testing.MockClock) -> None:
    async def ours(connection: Connection) -> None:
        for _ in range(5):
            with trio.move_on_after(5.5):
                await connection.receive()
        with trio.fail_after(5.5):
            await connection.receive()

    with pytest.raises(ExceptionGroup) as failure:
        await run_against(ours, stay)
    assert failure.group_contains(PeerGone, match="nothing came")


async def test_a_cancelled_receive_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    messages = [b"x" * size for size in (1, 2000, 30_000)]

    async def ours(connection: Connection) -> None:
        received: list[bytes] = []
        while len(received) < len(messages):
            with trio.move_on_after(0.4):
                received.append((await connection.receive()).payload)
        assert received == messages

    async def theirs(raw: Link) -> None:
        for message in messages:
            await trio.sleep(1)
            await raw.send(0x10, message, compress=False)
        await trio.sleep_forever()

    hello = Hello("old", CAPABILITIES, THEIR_ID, protocol_version=4)
    await run_against(ours, theirs, hello)
