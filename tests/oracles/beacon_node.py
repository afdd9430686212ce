"""A beacon node on loopback: answers from a table of paths, over real sockets, and misbehaves where it is told to."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import trio

from ethsync.heads.http_url import HttpUrl

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer to one path."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False
    """Never answer."""
    raw: bytes | None = None
    """Send these bytes instead of an HTTP answer, and close."""


def reply(document: Any, status: int = 200) -> Reply:
    """An answer in JSON."""
    return Reply(json.dumps(document).encode(), status)


NOT_FOUND = reply({"code": 404, "message": "not found"}, 404)


@dataclass(slots=True)
class FakeBeaconNode:
    """`replies` by path; other paths are not found. `asked` has the paths that were asked for, in order."""

    url: HttpUrl = field(default_factory=lambda: HttpUrl("http", LOOPBACK, 1))
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    requests: list[h11.Request] = field(default_factory=list)
    connections: int = 0
    close_after_answer: bool = False

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection."""
        self.connections += 1
        state = h11.Connection(h11.SERVER)
        try:
            while True:
                event = state.next_event()
                if event is h11.NEED_DATA:
                    state.receive_data(bytes(await stream.receive_some(65536)))
                elif isinstance(event, h11.Request):
                    self.requests.append(event)
                elif isinstance(event, h11.EndOfMessage):
                    await self._answer(stream, state)
                    if self.close_after_answer or state.our_state is not h11.DONE:
                        return
                    state.start_next_cycle()
                else:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # the client hung up
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.abc.Stream, state: h11.Connection) -> None:
        path = self.requests[-1].target.decode()
        self.asked.append(path)
        answer = self.replies.get(path, NOT_FOUND)
        if answer.hang:
            await trio.sleep_forever()
        if answer.raw is not None:
            await stream.send_all(answer.raw)
            state.send_failed()
            return
        headers = [("Content-Length", str(len(answer.body))), *answer.headers]
        if any(name == "Transfer-Encoding" for name, _ in answer.headers):
            headers = [*answer.headers]
        await stream.send_all(state.send(h11.Response(status_code=answer.status, headers=headers)) or b"")
        await stream.send_all(state.send(h11.Data(data=answer.body)) or b"")
        await stream.send_all(state.send(h11.EndOfMessage()) or b"")


@asynccontextmanager
async def open_beacon_node(
    node: FakeBeaconNode | None = None, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeBeaconNode]:
    """A node that listens as long as the block runs."""
    node = node or FakeBeaconNode()
    listeners: list[Any] = list(await trio.open_tcp_listeners(port, host=LOOPBACK))
    node.url = HttpUrl("http" if tls is None else "https", LOOPBACK, listeners[0].socket.getsockname()[1])
    if tls is not None:
        listeners = [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, node.serve, listeners)
        yield node
        nursery.cancel_scope.cancel()


def hex32(number: int) -> str:
    """A hash for tests: the number in 32 bytes."""
    return f"0x{number:064x}"


def blinded_block(number: int, *, slot: int | None = None, parent: int | None = None, version: str = "fulu") -> Reply:
    """The blinded beacon block whose payload is block `number`, with hash 0x…number and the parent before it."""
    header = {
        "block_hash": hex32(number),
        "parent_hash": hex32(number - 1 if parent is None else parent),
        "block_number": str(number),
    }
    return block_reply({"execution_payload_header": header}, number if slot is None else slot, version)


def bid_block(number: int, promised: int, version: str = "gloas") -> Reply:
    """The beacon block with a bid for payload `promised`, built on payload `number`."""
    bid = {"message": {"parent_block_hash": hex32(number), "block_hash": hex32(promised)}, "signature": "0x"}
    return block_reply({"signed_execution_payload_bid": bid}, number + 1, version)


def block_reply(body: dict[str, Any], slot: int, version: str) -> Reply:
    """A beacon block in the envelope of the Beacon API."""
    message = {"slot": str(slot), "body": body}
    return reply(
        {
            "version": version,
            "execution_optimistic": False,
            "finalized": False,
            "data": {"message": message, "signature": "0x"},
        }
    )


def syncing(distance: int = 0, *, is_syncing: bool = False, optimistic: bool = False) -> Reply:
    """What a node says about itself."""
    fields = {"head_slot": "100", "sync_distance": str(distance), "is_syncing": is_syncing}
    return reply({"data": {**fields, "is_optimistic": optimistic, "el_offline": False}})


def checkpoints(root: int) -> Reply:
    """Finality checkpoints; root 0 for none."""
    points = {name: {"epoch": "3", "root": hex32(root)} for name in ("previous_justified", "current_justified")}
    return reply({"data": {**points, "finalized": {"epoch": "3", "root": hex32(root)}}})


def follows_chain(chain_id: int, slot_ms: int | None = None) -> dict[str, Reply]:
    """Answers about the chain that a node follows."""
    found = {"/eth/v1/config/deposit_contract": reply({"data": {"chain_id": str(chain_id), "address": "0x00"}})}
    if slot_ms is not None:
        found["/eth/v1/config/spec"] = reply({"data": {"SLOT_DURATION_MS": str(slot_ms)}})
    return found


def beacon_head(block_hash: bytes, number: int, parent_hash: bytes = bytes(32), chain_id: int = 0) -> dict[str, Reply]:
    """What a node answers whose head's execution block is this one, and which has no finalized block."""
    fields = {
        "block_hash": f"0x{block_hash.hex()}",
        "parent_hash": f"0x{parent_hash.hex()}",
        "block_number": str(number),
    }
    return {
        **(follows_chain(chain_id, 1_000) if chain_id else {}),
        SYNCING: syncing(),
        CHECKPOINTS: checkpoints(0),
        BLINDED + "head": block_reply({"execution_payload_header": fields}, number, "fulu"),
    }


BLINDED = "/eth/v1/beacon/blinded_blocks/"
WHOLE = "/eth/v2/beacon/blocks/"
SYNCING = "/eth/v1/node/syncing"
CHECKPOINTS = "/eth/v1/beacon/states/head/finality_checkpoints"
