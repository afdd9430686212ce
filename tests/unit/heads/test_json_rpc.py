"""JSON-RPC 2.0: calls, batches, notifications and errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ethsync.errors import MalformedMessage
from ethsync.heads.json_fields import JsonValue
from ethsync.heads.json_rpc import MOST_BATCH, RpcCode, RpcError, answer


async def echo(parameters: Sequence[JsonValue]) -> JsonValue:
    return list(parameters)


async def fail(parameters: Sequence[JsonValue]) -> JsonValue:
    raise RpcError(RpcCode.SERVER_ERROR, "the disk burns")


async def choke(parameters: Sequence[JsonValue]) -> JsonValue:
    raise MalformedMessage("that is no hash")


METHODS = {"echo": echo, "fail": fail, "choke": choke}


async def ask(request: Any) -> Any:
    body = await answer(request if isinstance(request, bytes) else json.dumps(request).encode(), METHODS)
    return json.loads(body) if body else None


def call(method: str, *parameters: Any, call_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": list(parameters)}


@pytest.mark.parametrize("call_id", [1, "abc", None, 0, 2**60, 1.5])
async def test_a_call_is_answered_under_its_id(call_id: Any) -> None:
    assert await ask(call("echo", "a", 2, call_id=call_id)) == {"jsonrpc": "2.0", "id": call_id, "result": ["a", 2]}


async def test_parameters_may_be_left_out() -> None:
    assert (await ask({"jsonrpc": "2.0", "id": 1, "method": "echo"}))["result"] == []


async def test_a_notification_is_not_answered() -> None:
    for method in ("echo", "fail", "nothing"):
        assert await ask({"jsonrpc": "2.0", "method": method}) is None
    assert await ask([{"jsonrpc": "2.0", "method": "echo"}] * 2) is None


async def test_a_batch_is_answered_in_order() -> None:
    batch = [call("echo", 1), {"jsonrpc": "2.0", "method": "echo"}, call("nothing", call_id=2), 7]
    replies = await ask(batch)
    assert [(reply["id"], reply.get("error", {}).get("code")) for reply in replies] == [
        *((1, None), (2, -32601), (None, -32600)),
    ]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xff", -32700),
        (b"[" * 100_000, -32700),
        ([], -32600),
        ([1] * (MOST_BATCH + 1), -32600),
        (7, -32600),
        (None, -32600),
        ({"id": 1}, -32600),
        ({"id": 1, "method": 7}, -32600),
        ({"id": {}, "method": "echo"}, -32600),
        ({"id": True, "method": "echo"}, -32600),
        (call("nothing"), -32601),
        (call("choke"), -32602),
        ({"id": 1, "method": "echo", "params": {"a": 1}}, -32602),
        ({"id": 1, "method": "echo", "params": [1] * 17}, -32602),
    ],
)
async def test_what_is_wrong_has_a_code(request_: Any, code: int) -> None:
    reply = await ask(request_)
    assert reply["error"]["code"] == code
    assert "result" not in reply


async def test_a_server_error_explains_itself_in_its_data() -> None:
    # execution-apis, src/engine/common.md, "Errors"
    error = (await ask(call("fail")))["error"]
    assert error == {"code": -32000, "message": "Server error", "data": {"err": "the disk burns"}}


async def test_a_large_call_is_parsed_too() -> None:
    assert (await ask(call("echo", "x" * 200_000)))["result"] == ["x" * 200_000]
