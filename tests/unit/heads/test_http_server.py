"""The engine's HTTP server: who gets in, and what callers can do to it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from ethsync.heads import http_server
from ethsync.heads.http_server import BODY_TIMEOUT, IDLE_TIMEOUT, MOST_CONNECTIONS
from ethsync.heads.jwt import LEEWAY
from ethsync.networks import load_network
from tests.oracles.engine_client import NOW, EngineClient, open_engine, token

CALL = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}).encode()
AUTHORIZED = f"Authorization: Bearer {token()}\r\n".encode()


@pytest.fixture
async def client() -> AsyncIterator[EngineClient]:
    async with open_engine(load_network("hoodi")) as client:
        yield client


async def talk(client: EngineClient, *pieces: bytes, then_close: bool = False) -> bytes:
    """Send these bytes over a new connection and read until the server closes it."""
    stream = await connect(client)
    async with stream:
        for piece in pieces:
            await stream.send_all(piece)
        if then_close:
            await stream.send_eof()
        return b"".join([chunk async for chunk in stream])


async def connect(client: EngineClient) -> trio.SocketStream:
    return await trio.open_tcp_stream(str(client.endpoint.ip), client.endpoint.port)


def request(body: bytes = CALL, *headers: bytes, method: bytes = b"POST") -> bytes:
    lines = (b"Host: x", b"Content-Length: %d" % len(body), *headers)
    return method + b" / HTTP/1.1\r\n" + AUTHORIZED + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


async def test_who_has_the_secret_is_answered(client: EngineClient) -> None:
    status, body = await client.post(CALL)
    assert (status, json.loads(body)["result"]) == (200, hex(560048))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Basic x",
        "Bearer x",
        f"Bearer {token(bytes(32))}",
        f"Bearer {token(issued=NOW - LEEWAY - 1)}",
        f"Bearer {token(issued=NOW + LEEWAY + 1)}",
    ],
)
async def test_nobody_else_is(client: EngineClient, authorization: str | None) -> None:
    status, body = await client.post(CALL, authorization)
    assert status == 401
    assert b"0x" not in body
    # And whoever comes next is not hurt.
    client.close()
    assert (await client.post(CALL))[0] == 200


async def test_the_body_of_a_stranger_is_not_read(client: EngineClient) -> None:
    # Given a stranger who announces a terabyte, then the answer comes without waiting for it, and is readable.
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"
    answer = await talk(client, head, b"x" * 200_000, then_close=True)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Bearer" in answer


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"OPTIONS", b"CONNECT"])
async def test_only_post_is_served(client: EngineClient, method: bytes) -> None:
    answer = await talk(client, request(b"", method=method), then_close=True)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: POST" in answer


async def test_a_body_that_is_too_long_is_refused(client: EngineClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_BODY", 1000)
    assert (await client.post(CALL.ljust(1000)))[0] == 200
    assert (await client.post(CALL.ljust(1001)))[0] == 413


async def test_a_large_body_arrives_whole(client: EngineClient) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "engine_getBlobsV1", "params": [["0x" + "00" * 31] * 50_000]}
    _, body = await client.post(json.dumps(call).encode())
    assert json.loads(body)["error"]["code"] == -38004


async def test_requests_in_a_row_and_at_once_share_a_connection(client: EngineClient) -> None:
    # Given two requests sent before the first was answered
    answer = await talk(client, request() + request(), then_close=True)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(hex(560048).encode()) == 2


async def test_a_request_in_small_pieces_is_put_together(client: EngineClient) -> None:
    whole = request()
    answer = await talk(client, *(whole[place : place + 7] for place in range(0, len(whole), 7)), then_close=True)
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_caller_that_waits_for_leave_to_send_gets_it(client: EngineClient) -> None:
    head = request(CALL, b"Expect: 100-continue")[: -len(CALL)]
    async with await connect(client) as stream:
        await stream.send_all(head)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(CALL)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / SPDY/3\r\n\r\n", b"A" * 200_000, b"\0" * 100]
)
async def test_what_is_not_http_is_refused(client: EngineClient, raw: bytes) -> None:
    answer = await talk(client, raw, then_close=True)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert (await client.post(CALL))[0] == 200


async def test_a_caller_that_hangs_up_in_the_middle_costs_nothing(client: EngineClient) -> None:
    for length in (1, 40, len(request()) - 1):
        async with await connect(client) as stream:
            await stream.send_all(request()[:length])
    # Also one that resets the connection while it is answered.
    stream = await connect(client)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await stream.send_all(request() * 20)
    await trio.aclose_forcefully(stream)
    assert (await client.post(CALL))[0] == 200


async def test_connections_are_bounded(client: EngineClient) -> None:
    streams = [await connect(client) for _ in range(MOST_CONNECTIONS)]
    for stream in streams:
        await stream.send_all(request())
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    # Given as many as there may be, then one more is closed, and another gets in when one has left.
    async with await connect(client) as stream:
        assert await stream.receive_some() == b""
    for stream in streams:
        await stream.aclose()
    for _ in range(100):
        try:
            status, _ = await client.post(CALL)
        except OSError:  # the server has not noticed yet
            client.close()
            await trio.sleep(0.01)
        else:
            break
    assert status == 200


async def test_a_caller_that_lets_us_wait_is_given_up(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.03
    async with open_engine(load_network("hoodi")) as client:
        began = trio.current_time()
        # Given one that sends nothing, and one that stops in the middle of a body
        assert await talk(client) == b""
        assert trio.current_time() - began == pytest.approx(IDLE_TIMEOUT, abs=1)
        began = trio.current_time()
        answer = await talk(client, request()[:-1])
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert BODY_TIMEOUT <= trio.current_time() - began < BODY_TIMEOUT + 5


async def test_many_at_once_are_all_answered(client: EngineClient) -> None:
    answers: list[bytes] = []

    async def one() -> None:
        answers.append(await talk(client, request(CALL, b"Connection: close")))

    async with trio.open_nursery() as nursery:
        for _ in range(MOST_CONNECTIONS):
            nursery.start_soon(partial(one))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert len(answers) == MOST_CONNECTIONS
