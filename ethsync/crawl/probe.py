"""One look at one node: Hello, Status, its head, and whether it really serves snap for that head.

Status is answered with a copy of the node's own, so that it does not matter which chain it is on. What it claims is
checked where that is possible: the header by the hash of its Status, the accounts by the state root of that header.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import trio

from ethsync.errors import Disproved, MalformedMessage, PeerError, PeerGone, RequestTimeout
from ethsync.peers.courtesy import ANSWERS
from ethsync.peers.greeting import STATUS_TIMEOUT, cause, our_hello, our_status
from ethsync.rlpx.connection import open_connection
from ethsync.state.columns import MAX_KEY
from ethsync.state.proofs import verify_range
from ethsync.state.replies import scan_account_range
from ethsync.wire import eth, snap
from ethsync.wire.eth import EthMessage, GetBlockHeaders, decode_block_headers
from ethsync.wire.headers import Header, decode_header
from ethsync.wire.snap import GetAccountRange, SnapMessage
from ethsync.wire.status import Status, decode_status, encode_status

if TYPE_CHECKING:
    import coincurve

    from ethsync.peers.greeting import ChainView
    from ethsync.rlpx.connection import Connection
    from ethsync.wire.enode import Enode

CONNECT_TIMEOUT = 8.0
"""Seconds for TCP: geth waits 15 (p2p/dial.go), but a node that takes more than three tries of SYN (1 + 2 + 4 s) is of
no use to measure or to sync from."""

ANSWER_TIMEOUT = 10.0
"""Seconds for one answer: a healthy server needs less than one."""

SAMPLE_BYTES = 8 << 10
"""What is asked of the account range: some 80 accounts, enough to see that the state is there."""


class Snap(Enum):
    """What became of the one real snap request."""

    NOT_OFFERED = "not offered"
    NOT_ASKED = "not asked"
    SERVES = "serves"
    EMPTY = "empty"
    SILENT = "silent"
    MALFORMED = "malformed"
    DISPROVED = "disproved"


@dataclass(slots=True)
class Probe:
    """What was found out. What stays None was not reached. Times are in seconds, hashes 32 bytes."""

    enode: Enode
    connect: float | None = None
    """From the first SYN to the connection: about one round trip."""
    client: str | None = None
    capabilities: tuple[str, ...] = ()
    status: Status | None = None
    head: Header | None = None
    """The header whose hash is the one of its Status."""
    latency: float | None = None
    """From the request for that header to its reply."""
    snap: Snap = Snap.NOT_OFFERED
    accounts: int = 0
    """Accounts in its answer to the snap request, proven."""
    error: str | None = None
    """Why the look ended early; None if everything was asked."""
    disconnect_reason: int | None = None
    """What the node gave as its reason, if it hung up."""

    @property
    def reached(self) -> bool:
        """Whether TCP got through."""
        return self.connect is not None


@dataclass(slots=True)
class _Conversation:
    connection: Connection
    rng: random.Random
    next_id: int = field(init=False)

    def __post_init__(self) -> None:
        self.next_id = self.rng.randrange(1, 1 << 32)

    async def ask(self, capability: str, code: int, payload: bytes, request_id: int) -> bytes:
        """Send a request; return the payload of its answer. Requests of the node are answered meanwhile."""
        await self.connection.send(capability, code, payload)
        with trio.move_on_after(ANSWER_TIMEOUT):
            while True:
                message = await self.connection.receive()
                if (message.capability, message.code) == (capability, code + 1):
                    if snap.peek_request_id(message.payload) == request_id:
                        return message.payload
                    continue
                answer = ANSWERS.get((message.capability, message.code))
                if answer is not None:
                    reply, make = answer
                    version = self.connection.capabilities[eth.NAME].version
                    await self.connection.send(message.capability, reply, make(version, message.payload))
        raise RequestTimeout(f"no answer within {ANSWER_TIMEOUT:.0f} s")

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id


async def probe_node(
    enode: Enode, key: coincurve.PrivateKey, fallback: ChainView | None = None, rng: random.Random | None = None
) -> Probe:
    """Look at one node. Never raises because of what the node does: see `Probe.error`.

    `fallback` is what our Status says to a node that waits for it before it sends its own; `rng` chooses what is asked.
    """
    found = Probe(enode)
    try:
        began = trio.current_time()
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                stream = await trio.open_tcp_stream(enode.host, enode.tcp_port)
        except (OSError, trio.TooSlowError) as error:
            raise PeerGone(f"no TCP connection: {cause(error)}") from error
        found.connect = trio.current_time() - began
        async with open_connection(
            stream, key=key, remote_public_key=enode.public_key, hello=our_hello(key)
        ) as connection:
            await _look(_Conversation(connection, rng or random.Random()), found, fallback)
    except PeerError as error:
        found.error = str(error)
        if isinstance(error, PeerGone):
            found.disconnect_reason = error.remote_reason
    return found


async def _look(conversation: _Conversation, found: Probe, fallback: ChainView | None) -> None:
    connection = conversation.connection
    found.client = connection.remote_hello.client_id
    found.capabilities = tuple(str(capability) for capability in connection.remote_hello.capabilities)
    if snap.NAME in connection.capabilities:
        found.snap = Snap.NOT_ASKED
    if eth.NAME not in connection.capabilities:
        found.error = "no eth version in common"
        return
    found.status = await _exchange_status(connection, fallback)
    found.head = await _head(conversation, found)
    if found.head is not None and found.snap is Snap.NOT_ASKED:
        found.snap, found.accounts = await _try_snap(conversation, found.head.state_root)


async def _exchange_status(connection: Connection, fallback: ChainView | None) -> Status:
    """Read the node's Status and send it back. One that waits for ours gets the fallback after half the time."""
    version = connection.capabilities[eth.NAME].version
    spoken = False
    for patience in (STATUS_TIMEOUT / 2, STATUS_TIMEOUT / 2):
        with trio.move_on_after(patience):
            message = await connection.receive()
            if (message.capability, message.code) != (eth.NAME, EthMessage.STATUS):
                raise MalformedMessage(f"{message.capability} 0x{message.code:02x} came where Status was due")
            status = decode_status(version, message.payload)
            if not spoken:
                await connection.send(eth.NAME, EthMessage.STATUS, encode_status(status))
            return status
        if fallback is not None and not spoken:
            await connection.send(eth.NAME, EthMessage.STATUS, encode_status(our_status(version, fallback)))
            spoken = True
    raise RequestTimeout(f"no Status within {STATUS_TIMEOUT:.0f} s")


async def _head(conversation: _Conversation, found: Probe) -> Header | None:
    if found.status is None:
        return None
    request_id, wanted = conversation.new_id(), found.status.head_hash
    request = GetBlockHeaders(request_id, wanted, 1)
    began = trio.current_time()
    payload = await conversation.ask(eth.NAME, request.message, request.encode(), request_id)
    found.latency = trio.current_time() - began
    headers = decode_block_headers(payload).headers
    if not headers:
        return None
    header = decode_header(headers[0])
    if header.hash != wanted:
        raise Disproved("another header came than that of the head in its Status")
    return header


async def _try_snap(conversation: _Conversation, root: bytes) -> tuple[Snap, int]:
    """Ask for a few accounts from a random place on, and prove them."""
    origin, request_id = conversation.rng.randbytes(32), conversation.new_id()
    request = GetAccountRange(request_id, root, origin, MAX_KEY, SAMPLE_BYTES)
    try:
        payload = await conversation.ask(snap.NAME, SnapMessage.GET_ACCOUNT_RANGE, request.encode(), request_id)
        reply = scan_account_range(payload)
        if not len(reply.leaves) and not len(reply.proof):
            return Snap.EMPTY, 0
        proven = await trio.to_thread.run_sync(verify_range, root, origin, reply.leaves, reply.proof)
    except RequestTimeout:
        return Snap.SILENT, 0
    except Disproved:
        return Snap.DISPROVED, 0
    except MalformedMessage:
        return Snap.MALFORMED, 0
    return Snap.SERVES, len(proven.leaves)
