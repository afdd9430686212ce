"""Handshake and Hello: whom we refuse and what we tell them."""

from __future__ import annotations

from functools import partial
from typing import Any

import coincurve
import pytest
import trio
import trio.testing

from ethsync.errors import (
    DisconnectReason,
    HandshakeFailed,
    MalformedMessage,
    PeerError,
    PeerGone,
    UselessPeer,
)
from ethsync.rlpx.connection import accept_connection, open_connection
from ethsync.rlpx.link import Link
from ethsync.wire import keys, p2p
from ethsync.wire.p2p import Capability, Hello
from tests.unit.rlpx.connecting import (
    CAPABILITIES,
    OUR_HELLO,
    OUR_ID,
    OUR_KEY,
    THEIR_HELLO,
    THEIR_ID,
    RawBody,
    Stuck,
    answer,
    answer_raw,
    dial,
    nothing,
    read_disconnect,
)


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
