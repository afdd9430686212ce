"""One connected peer: Status, then requests matched by id, several at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from ethsync.errors import MalformedMessage, PeerGone, RequestTimeout
from ethsync.peers.courtesy import ANSWERS
from ethsync.peers.track import Record, RequestKind, new_record
from ethsync.wire import eth, eth7542, snap
from ethsync.wire.block_range import BlockRange, BlockRangeUpdate
from ethsync.wire.eth import EthMessage
from ethsync.wire.eth7542 import Message7542

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.rlpx.connection import Connection, Message
    from ethsync.wire.enode import Enode

MOST_OVERDUE = 16
"""Unanswered requests per peer whose answers are still of use: twice as many as can be under way (`assignment.SLOTS`).
A peer that is even further behind has the oldest ones forgotten."""

CAPABILITY = {
    RequestKind.HEADERS: eth.NAME,
    RequestKind.ACCOUNTS: snap.NAME,
    RequestKind.STORAGE: snap.NAME,
    RequestKind.CODES: snap.NAME,
    RequestKind.NODES: snap.NAME,
    RequestKind.BODIES: eth.NAME,
    RequestKind.RECEIPTS: eth.NAME,
    RequestKind.ACCESS_LISTS: eth.NAME,
}
"""Which protocol each kind of request belongs to."""

_ETH_REPLIES = frozenset(
    {EthMessage.BLOCK_HEADERS, EthMessage.BLOCK_BODIES, EthMessage.RECEIPTS, EthMessage.BLOCK_ACCESS_LISTS}
)
_IGNORED = frozenset({EthMessage.TRANSACTIONS, EthMessage.NEW_POOLED_TRANSACTION_HASHES})


class Request(Protocol):
    """Any request of `ethsync.wire`: the reply's message id is the request's plus one."""

    @property
    def message(self) -> int:
        """Message id."""
        ...

    def encode(self) -> bytes:
        """Payload."""
        ...


@dataclass(slots=True, eq=False)
class _Pending:
    kind: RequestKind
    reply: tuple[str, int]
    scope: trio.CancelScope
    turn: float
    """When the peer could begin with it: sent, and the previous reply ended."""
    late: Callable[[bytes], None] | None = None
    """Takes the payload of a reply that comes after its time."""
    payload: bytes | None = None
    failure: PeerGone | None = None


@dataclass(slots=True, eq=False)
class Peer:
    """A peer after Status. `request` may be called by many tasks at once."""

    number: int
    enode: Enode
    connection: Connection
    inbound: bool = False
    """Whether it dialled us."""
    record: Record = field(default_factory=new_record)
    block_range: BlockRange | None = None
    """The blocks whose bodies and receipts it says it holds, as of its last word; None on eth/68, which has none unless
    EIP-7542 is spoken beside it."""
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _overdue: dict[int, _Pending] = field(default_factory=dict)
    _next_id: int = 1
    _last_reply: float = 0.0
    _gone: PeerGone | None = None

    def __str__(self) -> str:
        return f"{self.client} at {self.enode.host}:{self.enode.tcp_port}"

    @property
    def client(self) -> str:
        """What the peer calls itself."""
        return self.connection.remote_hello.client_id

    @property
    def eth_version(self) -> int:
        """The version of eth that both agreed on."""
        return self.connection.capabilities[eth.NAME].version

    async def request(
        self, kind: RequestKind, make: Callable[[int], Request], late: Callable[[bytes], None] | None = None
    ) -> bytes:
        """Send the request that `make` makes with its id, and return the payload of its reply.

        The clock of a request starts when the peer's previous reply ended, because servers answer in order. Raises
        RequestTimeout (the peer stays), PeerGone. If the reply comes after the timeout, `late` is called with it.
        """
        if self._gone is not None:
            raise self._gone
        request_id = self._next_id
        self._next_id += 1
        request = make(request_id)
        now = trio.current_time()
        deadline = now + self.record.tracks[kind].round_trip.timeout()
        pending = _Pending(
            kind, (CAPABILITY[kind], request.message + 1), trio.CancelScope(deadline=deadline), now, late
        )
        self._pending[request_id] = pending
        try:
            with pending.scope:
                await self.connection.send(CAPABILITY[kind], request.message, request.encode())
                await trio.sleep_forever()
        finally:
            del self._pending[request_id]
        if pending.failure is not None:
            raise pending.failure
        if pending.payload is None:
            self._overdue[request_id] = pending
            if len(self._overdue) > MOST_OVERDUE:
                del self._overdue[next(iter(self._overdue))]
            raise RequestTimeout(f"{self} did not answer a request for {kind.value} in time")
        return pending.payload

    async def ask_block_range(self) -> None:
        """Ask for its block range over EIP-7542, where that is spoken; the answer changes `block_range`.

        Elsewhere nothing is sent: from eth/69 on peers tell their range unasked.
        """
        if eth7542.NAME in self.connection.capabilities:
            await self.connection.send(eth7542.NAME, Message7542.REQUEST_BLOCK_RANGE, eth7542.REQUEST)

    def settle(self, message: Message) -> None:
        """Hand a reply to whoever waits for it, or waited. Raises MalformedMessage for an id that was never asked.

        A late reply teaches the timeout as well: else a peer that is always a little late would never be waited for.
        """
        request_id = snap.peek_request_id(message.payload)
        pending = self._pending.get(request_id) or self._overdue.get(request_id)
        if pending is None:
            if not 0 < request_id < self._next_id:
                raise MalformedMessage(f"{self} answered request {request_id}, which was never made")
            return
        if pending.reply != (message.capability, message.code):
            raise MalformedMessage(f"{self} answered a request for {pending.kind.value} with another message")
        if pending.payload is not None:
            return
        now = trio.current_time()
        pending.payload = message.payload
        pending.turn = max(pending.turn, self._last_reply)
        self.record.tracks[pending.kind].answered(len(message.payload), now - pending.turn)
        self._last_reply = now
        for number, other in self._pending.items():
            # Only what was asked later had to wait for this; a peer cannot hold a request by answering younger ones.
            if number > request_id and other.payload is None:
                other.scope.deadline = now + self.record.tracks[other.kind].round_trip.timeout()
        if self._overdue.pop(request_id, None) is None:
            pending.scope.cancel()
        elif pending.late is not None:
            pending.late(message.payload)

    def fail(self, error: PeerGone) -> None:
        """Wake everyone who waits: the connection has ended."""
        self._gone = error
        for pending in self._pending.values():
            if pending.payload is None:
                pending.failure = error
                pending.scope.cancel()


def _is_request_reply(message: Message) -> bool:
    if message.capability == snap.NAME:
        return message.code % 2 == 1
    return message.code in _ETH_REPLIES


async def run_peer(peer: Peer) -> None:
    """Receive until the connection ends: settle replies, answer requests, check announcements, keep the block range.

    Raises PeerGone or MalformedMessage; every waiting request has been woken by then.
    """
    version = peer.eth_version
    error = PeerGone(f"we left {peer}")
    try:
        while True:
            message = await peer.connection.receive()
            answer = ANSWERS.get((message.capability, message.code))
            if answer is not None:
                code, make = answer
                await peer.connection.send(message.capability, code, make(version, message.payload))
            elif message.capability == eth7542.NAME:
                peer.block_range = eth7542.heard_range(message.code, message.payload) or peer.block_range
            elif _is_request_reply(message):
                peer.settle(message)
            elif message.capability == eth.NAME and message.code not in _IGNORED:
                packet = eth.decode(version, message.code, message.payload)
                if isinstance(packet, BlockRangeUpdate):
                    peer.block_range = packet.range
    except PeerGone as gone:
        error = gone
        raise
    finally:
        peer.fail(error)
