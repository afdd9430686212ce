"""A consensus client for tests: the standard library's HTTP client in a thread, its own tokens, and the public schemas.

Every answer is compared with the schema that execution-apis publishes for its method.
"""

from __future__ import annotations

import http.client
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import digest
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import jsonschema
import trio

from ethsync.discovery.node import Endpoint
from ethsync.heads.engine import run_engine
from ethsync.heads.head import HeadFeed
from ethsync.networks import Network

NOW = 1_800_000_000
SECRET = bytes(range(32))
SCHEMAS = json.loads((Path(__file__).parent.parent / "vectors" / "execution-apis" / "schemas.json").read_text())
COMMON_ERRORS = {-32700, -32600, -32601, -32602, -32000, -38004}
"""Codes that any method may answer with (src/engine/common.md, "Errors"; -38004 in the text of its methods)."""


def token(secret: bytes = SECRET, issued: float = NOW) -> str:
    """A token as RFC 7519 describes it, made independently of what is tested."""
    parts = [json.dumps(each).encode() for each in ({"alg": "HS256", "typ": "JWT"}, {"iat": issued})]
    signed = ".".join(_base64(part) for part in parts)
    return f"{signed}.{_base64(digest(secret, signed.encode(), sha256))}"


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


class CallFailed(Exception):
    """The answer was an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.error = error


@dataclass(slots=True)
class EngineClient:
    """Calls of one consensus client over one connection that is kept."""

    endpoint: Endpoint
    feed: HeadFeed
    statuses: list[str] = field(default_factory=list)
    """Every payload status that was ever answered."""
    _connection: http.client.HTTPConnection | None = None

    async def call(self, method: str, *parameters: Any) -> Any:
        """The result. Raises CallFailed."""
        request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}
        status, body = await self.post(json.dumps(request).encode())
        assert status == 200
        reply = json.loads(body)
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", 7)
        if "error" in reply:
            assert reply["error"]["code"] in COMMON_ERRORS | set(SCHEMAS["errors"].get(method, [-38001]))
            raise CallFailed(reply["error"])
        self._check(method, reply["result"])
        return reply["result"]

    def _check(self, method: str, result: Any) -> None:
        if method in SCHEMAS["results"] and result is not None:
            schema = {**SCHEMAS["results"][method], "components": SCHEMAS["components"]}
            jsonschema.validate(without_null(result), schema, jsonschema.Draft202012Validator)
        if isinstance(result, dict):
            status = result.get("payloadStatus", result)
            self.statuses += [status["status"]] if "status" in status else []

    async def post(
        self, body: bytes, authorization: str | None = f"Bearer {token()}", **headers: str
    ) -> tuple[int, bytes]:
        """One request as it is: status and body of the answer."""
        return await trio.to_thread.run_sync(self._post, body, authorization, headers)

    def _post(self, body: bytes, authorization: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(str(self.endpoint.ip), self.endpoint.port, timeout=30)
        all_headers = {"Content-Type": "application/json", **headers}
        if authorization is not None:
            all_headers["Authorization"] = authorization
        self._connection.request("POST", "/", body, all_headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    async def post_here(self, method: str, *parameters: Any) -> bytes:
        """One call without a thread, for tests whose clock must not run ahead of one; the whole answer as it came."""
        body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}).encode()
        head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token()}\r\n"
        async with await trio.open_tcp_stream(str(self.endpoint.ip), self.endpoint.port) as stream:
            await stream.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return b"".join([chunk async for chunk in stream])

    def close(self) -> None:
        """Close the connection; another request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def without_null(value: Any) -> Any:
    """What is null is left out: the schemas do not know null where the specification's text allows it."""
    if isinstance(value, dict):
        return {name: without_null(each) for name, each in value.items() if each is not None}
    return [without_null(each) for each in value if each is not None] if isinstance(value, list) else value


@asynccontextmanager
async def open_engine(network: Network, now: float = NOW) -> AsyncIterator[EngineClient]:
    """The Engine API on loopback and a client for it."""
    feed = HeadFeed(trio.current_time())
    async with trio.open_nursery() as nursery:
        endpoint = await nursery.start(_serve, network, feed, Endpoint(IPv4Address("127.0.0.1"), 0), now)
        client = EngineClient(endpoint, feed)
        try:
            yield client
        finally:
            client.close()
            nursery.cancel_scope.cancel()


async def _serve(
    network: Network, feed: HeadFeed, address: Endpoint, now: float, *, task_status: trio.TaskStatus[Endpoint]
) -> None:
    await run_engine(network, feed, address, SECRET, wall_clock=lambda: now, task_status=task_status)
