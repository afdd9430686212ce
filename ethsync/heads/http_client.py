"""HTTP/1.1 requests over trio and h11: bounded in time and size, and every failure in our error tree."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import trio

from ethsync.errors import MalformedMessage, PeerError, PeerGone, RequestTimeout, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ethsync.heads.http_url import HttpUrl

REQUEST_TIMEOUT = 10.0
"""Seconds for one request with everything in it, the connection too: less than a slot of 12 s, so that a service that
hangs costs one slot. Consensus clients answer in milliseconds, a block of some MB in under a second."""

_CHUNK = 1 << 16  # bytes asked from a connection at once


class HttpRefused(PeerError):
    """An HTTP service answered with something else than success. `status` is its code (RFC 9110, section 15)."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpClient:
    """One service; the connection is opened when it is needed and kept as long as the service keeps it."""

    def __init__(self, url: HttpUrl, tls: ssl.SSLContext | None = None, timeout: float = REQUEST_TIMEOUT) -> None:
        self.url = url
        self._tls = tls
        self._timeout = timeout
        self._stream: trio.abc.Stream | None = None
        self._state = h11.Connection(h11.CLIENT)

    async def get(self, path: str, most: int) -> bytes:
        """GET `path` under the service's own path; return the body, of at most `most` bytes.

        Raises HttpRefused, RequestTimeout, Unreachable, PeerGone and MalformedMessage.
        """
        return (await self.get_response(path, most)).body

    async def get_response(self, path: str, most: int) -> Response:
        """The same, with headers."""
        with trio.move_on_after(self._timeout):
            kept = self._stream is not None
            try:
                response = await self._exchange(path, most)
            except PeerGone:
                if not kept:
                    raise
                response = await self._exchange(path, most)  # it had closed the connection that we kept
            if response.status != 200:
                raise HttpRefused(f"{self.url} answered {path} with {_status_text(response)}", status=response.status)
            return response
        await self.aclose()
        raise RequestTimeout(f"{self.url} did not answer within {self._timeout:g} s")

    async def _exchange(self, path: str, most: int) -> Response:
        keep = False
        try:
            stream = await self._connected()
            request = h11.Request(method="GET", target=self.url.path + path, headers=self._headers())
            await stream.send_all((self._state.send(request) or b"") + (self._state.send(h11.EndOfMessage()) or b""))
            response = await self._read(stream, most)
            keep = self._state.our_state is h11.DONE and self._state.their_state is h11.DONE
        except h11.RemoteProtocolError as error:
            raise MalformedMessage(f"{self.url} broke HTTP's rules: {error}") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise PeerGone(f"{self.url} broke the connection off{_tls_reason(error)}") from error
        finally:
            if keep:
                self._state.start_next_cycle()
            else:
                await self.aclose()
        return response

    def _headers(self) -> list[tuple[str, str]]:
        headers = [("Host", self.url.authority), ("Accept", "application/json"), ("User-Agent", "ethsync")]
        headers.append(("Accept-Encoding", "identity"))  # without it, servers may compress (RFC 9110, section 12.5.3)
        if self.url.authorization is not None:
            headers.append(("Authorization", self.url.authorization))
        return headers

    async def _connected(self) -> trio.abc.Stream:
        if self._stream is not None:
            return self._stream
        url = self.url
        try:
            stream: trio.abc.Stream = await trio.open_tcp_stream(url.host, url.port)
        except OSError as error:
            raise Unreachable(f"{url} cannot be reached: {error.strerror or error}") from error
        if url.scheme == "https":
            context = self._tls or ssl.create_default_context()
            stream = trio.SSLStream(stream, context, server_hostname=url.host, https_compatible=True)
        self._stream, self._state = stream, h11.Connection(h11.CLIENT)
        return stream

    async def _read(self, stream: trio.abc.Stream, most: int) -> Response:
        head: h11.Response | None = None
        parts: list[bytes] = []
        size = 0
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                received = bytes(await stream.receive_some(_CHUNK))
                if not received and head is None:
                    raise PeerGone(f"{self.url} closed the connection instead of answering")
                self._state.receive_data(received)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > most:
                    raise MalformedMessage(f"{self.url} sent more than {most} bytes")
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode("ascii").lower(): value.decode("latin-1") for name, value in head.headers}
                return Response(head.status_code, headers, b"".join(parts))

    async def aclose(self) -> None:
        """Close the connection, at once; the next request opens another."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def open_http(
    url: HttpUrl, tls: ssl.SSLContext | None = None, timeout: float = REQUEST_TIMEOUT
) -> AsyncIterator[HttpClient]:
    """A client for a few requests in a row. `tls` replaces the certificates that the system trusts."""
    client = HttpClient(url, tls, timeout)
    try:
        yield client
    finally:
        await client.aclose()


_REASONS = {
    401: "it wants other credentials",
    403: "it does not let us",
    404: "it does not have that",
    429: "it was asked too often",
    503: "it is not ready",
}


def _status_text(response: Response) -> str:
    if 300 <= response.status < 400:
        return f"a redirection ({response.status}); give the URL that it leads to"
    reason = _REASONS.get(response.status)
    return f"{response.status} ({reason})" if reason else str(response.status)


def _tls_reason(error: BaseException) -> str:
    cause = error.__cause__
    return f": {getattr(cause, 'verify_message', None) or cause.reason}" if isinstance(cause, ssl.SSLError) else ""
