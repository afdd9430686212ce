"""An HTTP/1.1 server over trio and h11 that takes POST from callers who are authorized, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import trio

from ethsync.errors import PeerError
from ethsync.heads.jwt import NotAuthorized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

MOST_CONNECTIONS = 32
"""Connections at once. A consensus client keeps two or three; a few clients may share us, and tools look in."""

MOST_BODY = 64 << 20
"""Bytes of a request: a payload has at most 10 MiB of RLP (EIP-7934), doubled by hexadecimal digits, with a block
access list and blobs' hashes beside it. Only authorized callers get so far. geth takes 128 MiB (node/defaults.go)."""

IDLE_TIMEOUT = 120.0
"""Seconds that a connection may be silent between requests (go-ethereum, rpc/http.go, DefaultHTTPTimeouts)."""

BODY_TIMEOUT = 30.0
"""Seconds for a request's body, and as many for the answer (the same place)."""

LINGER = 2.0
MOST_UNREAD = 1 << 20
"""Seconds and bytes for which a refused caller is listened to, so that it can read why (RFC 9112, section 9.6)."""

_CHUNK = 1 << 16  # bytes asked from a connection at once

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
}


@dataclass(frozen=True, slots=True)
class Service:
    """What the server is for. `authorize` takes the Authorization header and raises NotAuthorized."""

    authorize: Callable[[str | None], None]
    answer: Callable[[bytes], Awaitable[bytes]]


class _Refused(PeerError):
    """Ends a request with this status; what is left of its body is not read, so the connection ends too."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def run_http_server(
    service: Service,
    listeners: Sequence[trio.SocketListener],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Whatever a caller does ends its own connection at most."""
    connections = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal connections
        if connections >= MOST_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        connections += 1
        try:
            await _serve(stream, service)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the caller went away
        finally:
            connections -= 1
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, listeners)
        task_status.started()


async def _serve(stream: trio.SocketStream, service: Service) -> None:
    """Requests of one connection, one after another."""
    state = h11.Connection(h11.SERVER)
    while True:
        try:
            request = await _next_request(stream, state)
            if request is None:
                return
            status, content = 200, await service.answer(await _body(stream, state, request, service))
        except h11.RemoteProtocolError as error:
            status, content = error.error_status_hint, str(error).encode()
        except _Refused as refused:
            status, content = refused.status, str(refused).encode()
        if state.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        with trio.move_on_after(BODY_TIMEOUT) as scope:
            await stream.send_all(_response(state, status, content))
        if scope.cancelled_caught:
            return
        if state.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            await _linger(stream)
            return
        state.start_next_cycle()


async def _linger(stream: trio.SocketStream) -> None:
    """Read what the caller still sends, within bounds: closing at once would reset the connection, answer and all."""
    await stream.send_eof()
    left = MOST_UNREAD
    with trio.move_on_after(LINGER):
        while left > 0 and (received := await stream.receive_some(_CHUNK)):
            left -= len(received)


async def _next_request(stream: trio.SocketStream, state: h11.Connection) -> h11.Request | None:
    """The next request's head; None if the caller has no more or lets us wait."""
    with trio.move_on_after(IDLE_TIMEOUT):
        while True:
            event = state.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            state.receive_data(bytes(await stream.receive_some(_CHUNK)))
    return None


async def _body(stream: trio.SocketStream, state: h11.Connection, request: h11.Request, service: Service) -> bytes:
    """The request's body, read only if the caller is authorized and the request is one that we take."""
    headers = {name: value.decode("latin-1") for name, value in request.headers}
    try:
        service.authorize(headers.get(b"authorization"))
    except NotAuthorized as error:
        raise _Refused(401, str(error)) from None
    if request.method != b"POST":
        raise _Refused(405, "only POST is served here")
    parts: list[bytes] = []
    size = 0
    if state.they_are_waiting_for_100_continue:
        await stream.send_all(state.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
    with trio.move_on_after(BODY_TIMEOUT):
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                state.receive_data(bytes(await stream.receive_some(_CHUNK)))
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > MOST_BODY:
                    raise _Refused(413, f"a request has at most {MOST_BODY} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return b"".join(parts)
    raise _Refused(408, f"the request did not arrive within {BODY_TIMEOUT:.0f} s")


def _response(state: h11.Connection, status: int, content: bytes) -> bytes:
    kind = "application/json" if status == 200 else "text/plain; charset=utf-8"
    headers = [("Content-Type", kind), ("Content-Length", str(len(content)))]
    if status != 200:
        headers.append(("Connection", "close"))
    if status == 405:
        headers.append(("Allow", "POST"))
    if status == 401:
        headers.append(("WWW-Authenticate", "Bearer"))
    head = h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, b"Error"))
    pieces = (state.send(head), state.send(h11.Data(data=content)), state.send(h11.EndOfMessage()))
    return b"".join(piece or b"" for piece in pieces)
