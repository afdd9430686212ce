"""JSON-RPC 2.0 over any carrier: the bytes of a request or a batch in, the bytes of the answer out.

Error codes: the JSON-RPC specification, section 5.1, and execution-apis, src/engine/common.md, "Errors".
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import IntEnum
from typing import TypeAlias

import trio

from ethsync.errors import MalformedMessage, PeerError
from ethsync.heads.json_fields import JsonValue, parse_json

Method: TypeAlias = Callable[[Sequence[JsonValue]], Awaitable[JsonValue]]
"""What answers calls: takes the parameters by position and gives the result, or raises RpcError or MalformedMessage."""

MOST_BATCH = 1000
"""Calls in one batch: as many headers as Prysm and Lodestar ask for (beacon-chain/execution/log_processing.go,
defaultEth1HeaderReqLimit; eth1/eth1DepositDataTracker.ts, MAX_BLOCKS_PER_BLOCK_QUERY). geth takes 2,000."""

MOST_PARAMETERS = 16
"""Parameters of one call: three times as many as any method has."""

_LARGE = 1 << 16  # bytes of JSON that take about a millisecond to parse: then in a thread


class RpcCode(IntEnum):
    """Codes of errors."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    SERVER_ERROR = -32000
    UNKNOWN_PAYLOAD = -38001
    INVALID_FORKCHOICE_STATE = -38002
    INVALID_PAYLOAD_ATTRIBUTES = -38003
    TOO_LARGE_REQUEST = -38004
    UNSUPPORTED_FORK = -38005


class RpcError(PeerError):
    """A call that is answered with an error. `detail` says more where the code alone does not."""

    def __init__(self, code: RpcCode, detail: str = "") -> None:
        message = _MESSAGES[code]
        super().__init__(f"{message}: {detail}" if detail else message)
        self.code = code
        self.detail = detail


_MESSAGES: Mapping[RpcCode, str] = {
    RpcCode.PARSE_ERROR: "Parse error",
    RpcCode.INVALID_REQUEST: "Invalid Request",
    RpcCode.METHOD_NOT_FOUND: "Method not found",
    RpcCode.INVALID_PARAMS: "Invalid params",
    RpcCode.SERVER_ERROR: "Server error",
    RpcCode.UNKNOWN_PAYLOAD: "Unknown payload",
    RpcCode.INVALID_FORKCHOICE_STATE: "Invalid forkchoice state",
    RpcCode.INVALID_PAYLOAD_ATTRIBUTES: "Invalid payload attributes",
    RpcCode.TOO_LARGE_REQUEST: "Too large request",
    RpcCode.UNSUPPORTED_FORK: "Unsupported fork",
}


async def answer(body: bytes, methods: Mapping[str, Method]) -> bytes:
    """Answer a request or a batch; the answer is empty if it consists of notifications."""
    try:
        document = await trio.to_thread.run_sync(parse_json, body) if len(body) > _LARGE else parse_json(body)
    except MalformedMessage as error:
        return _encode(_error(None, RpcError(RpcCode.PARSE_ERROR, str(error))))
    if not isinstance(document, list):
        reply = await _answer_one(document, methods)
        return _encode(reply) if reply is not None else b""
    if not 0 < len(document) <= MOST_BATCH:
        return _encode(_error(None, RpcError(RpcCode.INVALID_REQUEST, f"a batch has 1 to {MOST_BATCH} calls")))
    replies = []
    for call in document:
        await trio.lowlevel.checkpoint()  # a thousand look-ups in a row would hold up everything else
        if (reply := await _answer_one(call, methods)) is not None:
            replies.append(reply)
    return _encode(replies) if replies else b""


async def _answer_one(call: JsonValue, methods: Mapping[str, Method]) -> dict[str, JsonValue] | None:
    """The reply to one call; None to a notification, which is a call without id."""
    if not isinstance(call, dict) or not isinstance(call.get("method"), str) or not _is_id(call.get("id")):
        return _error(None, RpcError(RpcCode.INVALID_REQUEST))
    call_id = call.get("id")
    try:
        result = await _run(call, methods)
    except RpcError as error:
        reply = _error(call_id, error)
    except MalformedMessage as error:
        reply = _error(call_id, RpcError(RpcCode.INVALID_PARAMS, str(error)))
    else:
        reply = {"jsonrpc": "2.0", "id": call_id, "result": result}
    return reply if "id" in call else None


async def _run(call: Mapping[str, JsonValue], methods: Mapping[str, Method]) -> JsonValue:
    name, parameters = str(call["method"]), call.get("params") or []
    method = methods.get(name)
    if method is None:
        raise RpcError(RpcCode.METHOD_NOT_FOUND, f"there is no method {name[:60]!r}")
    if not isinstance(parameters, list) or len(parameters) > MOST_PARAMETERS:
        raise RpcError(RpcCode.INVALID_PARAMS, "parameters are an array of a few")
    return await method(parameters)


def _is_id(value: JsonValue) -> bool:
    """Section 4: a string, a number or null."""
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _error(call_id: JsonValue, error: RpcError) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = {"code": int(error.code), "message": str(error)}
    if error.code is RpcCode.SERVER_ERROR:
        fields |= {"message": _MESSAGES[error.code], "data": {"err": error.detail}}
    return {"jsonrpc": "2.0", "id": call_id, "error": fields}


def _encode(reply: dict[str, JsonValue] | list[dict[str, JsonValue]]) -> bytes:
    return json.dumps(reply, separators=(",", ":")).encode("ascii")
