"""Connections over memory streams and loopback sockets: what two of ours do, and what a rude peer meets."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import coincurve
import pytest
import trio
import trio.testing

from ethsync.errors import (
    DisconnectReason,
    HandshakeFailed,
    LocalProtocolError,
    MalformedMessage,
    PeerError,
    PeerGone,
    UselessPeer,
)
from ethsync.rlpx import compression, link
from ethsync.rlpx.connection import Connection, Message, accept_connection, open_connection
from ethsync.rlpx.link import Link
from ethsync.wire import keys, p2p
from ethsync.wire.p2p import Capability, Hello

OUR_KEY, THEIR_KEY = coincurve.PrivateKey(b"\1" * 32), coincurve.PrivateKey(b"\2" * 32)
OUR_ID, THEIR_ID = keys.identity(OUR_KEY.public_key), keys.identity(THEIR_KEY.public_key)
CAPABILITIES = (Capability("eth", 68), Capability("eth", 69), Capability("snap", 1))
OUR_HELLO = Hello("ours/1", CAPABILITIES, OUR_ID)
THEIR_HELLO = Hello("theirs/1", CAPABILITIES, THEIR_ID)

Body = Callable[[Connection], Awaitable[None]]
RawBody = Callable[[Link], Awaitable[None]]


async def dial(stream: trio.abc.Stream, body: Body, hello: Hello = OUR_HELLO) -> None:
    async with open_connection(stream, key=OUR_KEY, remote_public_key=THEIR_ID, hello=hello) as connection:
        await body(connection)


async def answer(stream: trio.abc.Stream, body: Body, hello: Hello = THEIR_HELLO) -> None:
    async with accept_connection(stream, key=THEIR_KEY, hello=hello) as connection:
        await body(connection)


async def answer_raw(stream: trio.abc.Stream, body: RawBody, hello: Hello | None = THEIR_HELLO) -> None:
    """A peer that does the handshake, says Hello unless told not to, and then whatever `body` makes it do."""
    async with stream:
        secrets, _, early = await link.respond(stream, THEIR_KEY)
        raw = Link(stream, secrets, early, frame_limit=2**24 - 1)
        if hello is not None:
            await raw.send(0, p2p.encode_hello(hello), compress=False)
        await body(raw)


async def echo(connection: Connection) -> None:
    while True:
        message = await connection.receive()
        await connection.send(message.capability, message.code, message.payload)


async def until_gone(connection: Connection) -> None:
    with pytest.raises(PeerGone):
        await echo(connection)


async def run_both(ours: Body, theirs: Body) -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial, left, ours)
        nursery.start_soon(answer, right, theirs)


async def run_against(ours: Body, theirs: RawBody, hello: Hello | None = THEIR_HELLO) -> None:
    """Run `ours` on a connection to a raw peer that is cancelled when `ours` has ended."""
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs, hello)
        try:
            await dial(left, ours)
        finally:
            nursery.cancel_scope.cancel()


async def read_disconnect(raw: Link, *, compressed: bool = True) -> int | None:
    """Read frames until the other side disconnects; return the reason that it gives."""
    while True:
        frame = await raw.receive()
        if frame.message_id == p2p.P2PMessage.DISCONNECT:
            payload = bytes(frame.payload)
            return p2p.decode_disconnect(compression.inflate(payload) if compressed else payload).reason


async def nothing(_: object) -> None:
    pass


async def stay(_: object) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        left = await trio.open_tcp_stream(*listener.socket.getsockname())
        right = await listener.accept()
    async with left, right:
        yield left, right


# Two of ours


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


# The end of a connection


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


async def test_the_stream_is_closed_on_leaving() -> None:
    async def theirs(connection: Connection) -> None:
        with pytest.raises(PeerGone, match="closed the connection"):
            await connection.receive()

    await run_both(nothing, theirs)


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


# Handshake and Hello


async def refused(hello: Hello | None, body: RawBody = nothing) -> tuple[PeerError, int | None]:
    """Dial a peer with this Hello; return how we failed and what we told the peer."""
    told: list[int | None] = []

    async def theirs(raw: Link) -> None:
        await body(raw)
        told.append(await read_disconnect(raw, compressed=False))

    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs, hello)
        with pytest.raises(PeerError) as failure:
            await dial(left, nothing)
    return failure.value, told[0]


async def test_a_hello_that_names_another_node_is_refused() -> None:
    error, told = await refused(Hello("x", CAPABILITIES, OUR_ID))
    assert isinstance(error, HandshakeFailed)
    assert told == error.reason == DisconnectReason.UNEXPECTED_IDENTITY


@pytest.mark.parametrize("capabilities", [(), (Capability("eth", 72),), (Capability("snap", 1),)])
async def test_a_peer_that_shares_too_little_is_useless(capabilities: tuple[Capability, ...]) -> None:
    error, told = await refused(Hello("x", capabilities, THEIR_ID))
    assert isinstance(error, UselessPeer)
    assert told == DisconnectReason.USELESS_PEER


async def test_an_all_zero_identity_is_refused() -> None:
    error, told = await refused(Hello("x", CAPABILITIES, bytes(64)))
    assert told == error.reason == DisconnectReason.NULL_IDENTITY


@pytest.mark.parametrize("payload", [b"", b"\xc0", p2p.encode_hello(THEIR_HELLO)[:-1]])
async def test_a_broken_hello_breaks_the_protocol(payload: bytes) -> None:
    error, told = await refused(None, lambda raw: raw.send(0, payload, compress=False))
    assert isinstance(error, MalformedMessage)
    assert told == DisconnectReason.BREACH_OF_PROTOCOL


async def test_a_hello_over_2_kib_is_refused_by_its_header() -> None:
    error, _ = await refused(None, lambda raw: raw.send(0, bytes(2049), compress=False))
    assert isinstance(error, MalformedMessage)
    assert "frame of 2050 bytes, more than 2049" in str(error)


async def test_another_message_in_the_place_of_hello_is_refused() -> None:
    error, told = await refused(None, lambda raw: raw.send(2, b"\xc0", compress=False))
    assert isinstance(error, HandshakeFailed)
    assert told == DisconnectReason.BREACH_OF_PROTOCOL


async def test_a_peer_without_a_free_place_says_so_before_hello() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, lambda raw: raw.send(1, b"\xc1\x04", compress=False), None)
        with pytest.raises(PeerGone, match="too many peers") as failure:
            await dial(left, nothing)
    assert failure.value.remote_reason == DisconnectReason.TOO_MANY_PEERS


async def test_calling_ourselves_ends_on_both_sides() -> None:
    left, right = trio.testing.memory_stream_pair()
    failures: list[PeerError] = []

    async def call() -> None:
        with pytest.raises(PeerError) as failure:
            async with open_connection(left, key=OUR_KEY, remote_public_key=OUR_ID, hello=OUR_HELLO):
                pytest.fail("connected to ourselves")
        failures.append(failure.value)

    async def be_called() -> None:
        with pytest.raises(PeerError) as failure:
            async with accept_connection(right, key=OUR_KEY, hello=OUR_HELLO):
                pytest.fail("connected to ourselves")
        failures.append(failure.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        nursery.start_soon(be_called)
    assert [failure.reason for failure in failures] == [DisconnectReason.CONNECTED_TO_SELF] * 2


async def test_a_peer_with_another_key_cannot_answer() -> None:
    left, right = trio.testing.memory_stream_pair()
    wrong = keys.identity(coincurve.PrivateKey(b"\3" * 32).public_key)
    async with trio.open_nursery() as nursery:

        async def be_called() -> None:
            with pytest.raises(MalformedMessage, match="MAC"):
                await answer(right, nothing)

        nursery.start_soon(be_called)
        with pytest.raises(PeerGone, match="hung up during the encryption handshake"):
            async with open_connection(left, key=OUR_KEY, remote_public_key=wrong, hello=OUR_HELLO):
                pytest.fail("connected to a peer that has another key")


@pytest.mark.parametrize("sent", [b"", b"\x01", b"\x01\x90" + bytes(50)])
async def test_a_handshake_has_five_seconds(sent: bytes, autojump_clock: trio.testing.MockClock) -> None:
    for opener in (partial(open_connection, remote_public_key=THEIR_ID), accept_connection):
        left, right = trio.testing.memory_stream_pair()
        await right.send_all(sent)
        started = trio.current_time()
        with pytest.raises(HandshakeFailed, match="encryption handshake took longer than 5 s"):
            async with opener(left, key=OUR_KEY, hello=OUR_HELLO):
                pytest.fail("connected to a silent peer")
        assert trio.current_time() - started == pytest.approx(5)


async def test_hello_has_five_seconds_too(autojump_clock: trio.testing.MockClock) -> None:
    error, told = await refused(None)
    assert isinstance(error, HandshakeFailed)
    assert "Hello took longer than 5 s" in str(error)
    assert told == DisconnectReason.PING_TIMEOUT


@pytest.mark.parametrize("size", [b"\x00\x10", b"\xff\xff"])
async def test_a_handshake_packet_of_impossible_size_ends_the_call_at_once(size: bytes) -> None:
    left, right = trio.testing.memory_stream_pair()
    await right.send_all(size)
    with pytest.raises(MalformedMessage, match="handshake packet of"):
        await answer(left, nothing)


# A rude peer after Hello


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


class Stuck(trio.abc.HalfCloseableStream):
    """A stream whose writes can be made to hang, like a socket to a peer that does not read."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream, self.stuck = stream, False

    async def send_all(self, data: Any) -> None:
        if self.stuck:
            await self.stream.send_all(data[:5])
            await trio.sleep_forever()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> Any:
        return await self.stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


class Deaf(Stuck):
    """A stream whose other end is closed for reading once the handshake is through."""

    sent = 0

    async def send_all(self, data: Any) -> None:
        self.sent += 1
        if self.sent > 1:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError
        await self.stream.send_all(data)


async def test_a_full_peer_is_understood_even_if_our_hello_comes_too_late() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, lambda raw: raw.send(1, b"\xc1\x04", compress=False), None)
        with pytest.raises(PeerGone) as failure:
            await dial(Deaf(left), nothing)
    assert failure.value.remote_reason == DisconnectReason.TOO_MANY_PEERS


async def run_stuck(ours: Callable[[Connection, Stuck], Awaitable[None]], theirs: RawBody) -> None:
    left, right = trio.testing.memory_stream_pair()
    stuck = Stuck(left)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_raw, right, theirs)
        await dial(stuck, lambda connection: ours(connection, stuck))
        nursery.cancel_scope.cancel()


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
