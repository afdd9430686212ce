"""The end of a connection: what the peer is told, in how long, and what we understand of its goodbye."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ethsync.errors import (
    DisconnectReason,
    PeerError,
    PeerGone,
)
from ethsync.rlpx import compression
from ethsync.rlpx.connection import Connection
from ethsync.rlpx.link import Link
from tests.unit.rlpx.connecting import (
    Stuck,
    answer,
    answer_raw,
    dial,
    echo,
    nothing,
    read_disconnect,
    run_against,
    run_both,
    run_stuck,
    stay,
    until_gone,
)


@pytest.mark.parametrize("reason", DisconnectReason)
async def test_the_peer_learns_why_we_leave(reason: DisconnectReason) -> None:
    async def ours(connection: Connection) -> None:
        await connection.disconnect(reason)
        with pytest.raises(PeerGone, match="we hung up"):
            await connection.send("snap", 1, b"\xc0")
        with pytest.raises(PeerGone, match="we hung up"):
            await connection.receive()

    async def theirs(connection: Connection) -> None:
        with pytest.raises(PeerGone) as failure:
            await connection.receive()
        assert failure.value.remote_reason == reason

    await run_both(ours, theirs)


class Lie(PeerError):
    reason = DisconnectReason.SUBPROTOCOL


async def test_an_error_of_the_body_is_told_to_the_peer_and_passes_through_unchanged() -> None:
    reasons: list[int | None] = []

    async def ours(connection: Connection) -> None:
        raise Lie("a proof did not hold")

    async def theirs(raw: Link) -> None:
        reasons.append(await read_disconnect(raw))

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        with pytest.raises(Lie, match="a proof did not hold"):
            await dial(left, ours)
    assert reasons == [DisconnectReason.SUBPROTOCOL]


async def test_the_reason_is_found_inside_a_group_too() -> None:
    reasons: list[int | None] = []

    async def fail(connection: Connection) -> None:
        raise Lie("a proof did not hold")

    async def ours(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, connection)

    async def theirs(raw: Link) -> None:
        reasons.append(await read_disconnect(raw))

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        with pytest.raises(ExceptionGroup) as failure:
            await dial(left, ours)
    assert failure.value.split(Lie)[1] is None
    assert reasons == [DisconnectReason.SUBPROTOCOL]


async def test_who_just_leaves_says_that_it_quits_and_closes_the_stream() -> None:
    async def theirs(connection: Connection) -> None:
        with pytest.raises(PeerGone, match="client quitting") as failure:
            await connection.receive()
        assert failure.value.remote_reason == DisconnectReason.CLIENT_QUITTING

    await run_both(nothing, theirs)


async def test_a_body_that_is_cancelled_says_that_it_quits(autojump_clock: trio.testing.MockClock) -> None:
    """Ctrl-C and the end of a sync cancel their peers."""
    farewells: list[int | None] = []

    async def theirs(connection: Connection) -> None:
        with pytest.raises(PeerGone) as failure:
            await connection.receive()
        farewells.append(failure.value.remote_reason)

    async def sync(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, connection)
            nursery.start_soon(stay, connection)

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, right, theirs)
        with trio.move_on_after(1):
            await dial(left, sync)
    assert farewells == [DisconnectReason.CLIENT_QUITTING]


async def test_quitting_does_not_wait_for_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    async def ours(connection: Connection, stream: Stuck) -> None:
        stream.stuck = True

    started = trio.current_time()
    await run_stuck(ours, stay)
    assert trio.current_time() - started == pytest.approx(0.5)


async def test_only_the_first_reason_is_told() -> None:
    """Given a farewell in the body, then the end of the body adds none."""
    reasons: list[int | None] = []

    async def ours(connection: Connection) -> None:
        await connection.disconnect(DisconnectReason.USELESS_PEER)

    async def theirs(raw: Link) -> None:
        reasons.append(await read_disconnect(raw))
        with pytest.raises(PeerGone):
            await raw.receive()

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        await dial(left, ours)
    assert reasons == [DisconnectReason.USELESS_PEER]


@pytest.mark.parametrize("failing", ["send", "receive"])
async def test_a_broken_stream_is_a_peer_that_is_gone(failing: str) -> None:
    left, right = trio.testing.memory_stream_pair()

    async def ours(connection: Connection) -> None:
        await trio.aclose_forcefully(left)
        with pytest.raises(PeerGone, match="broke"):
            await (connection.send("snap", 1, b"\xc0") if failing == "send" else connection.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial, left, ours)
        nursery.start_soon(answer, right, until_gone)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (compression.deflate(b"\xc1\x04"), 4),
        (b"\xc1\x04", 4),  # uncompressed
        (b"\x04", 4),  # uncompressed and bare: EthereumJS
        (b"\x10", 0x10),
        (b"\x00", 0),  # also a valid, empty Snappy block
        (compression.deflate(b"\x04"), 4),
        (b"", None),
        (b"\xc0", None),
        (b"\xff" * 3000, None),
    ],
)
async def test_disconnects_of_all_kinds_are_understood(payload: bytes, reason: int | None) -> None:
    async def ours(connection: Connection) -> None:
        with pytest.raises(PeerGone) as failure:
            await connection.receive()
        assert failure.value.remote_reason == reason

    async def theirs(raw: Link) -> None:
        await raw.send(1, payload, compress=False)
        await trio.sleep_forever()

    await run_against(ours, theirs)


async def test_a_farewell_takes_a_second_at_most(autojump_clock: trio.testing.MockClock) -> None:
    async def ours(connection: Connection, stream: Stuck) -> None:
        stream.stuck = True
        started = trio.current_time()
        await connection.disconnect(DisconnectReason.CLIENT_QUITTING)
        assert trio.current_time() - started == pytest.approx(1)

    await run_stuck(ours, stay)


async def test_a_farewell_is_said_even_while_we_are_being_cancelled() -> None:
    reasons: list[int | None] = []

    async def ours(connection: Connection) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.disconnect(DisconnectReason.CLIENT_QUITTING)

    async def theirs(raw: Link) -> None:
        reasons.append(await read_disconnect(raw))

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        await dial(left, ours)
    assert reasons == [DisconnectReason.CLIENT_QUITTING]


async def test_cancelling_from_outside_ends_the_connection_quietly(autojump_clock: trio.testing.MockClock) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, right, until_gone)
        with trio.move_on_after(100) as scope:
            await dial(left, stay)
        assert scope.cancelled_caught
