"""One connected peer: Status, then requests matched by id, several at a time."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from ethsync import __version__
from ethsync.errors import HandshakeFailed, MalformedMessage, PeerGone, RequestTimeout, UselessPeer
from ethsync.peers.courtesy import ANSWERS
from ethsync.peers.track import Record, RequestKind, new_record
from ethsync.rlpx.connection import Connection, Message, open_connection
from ethsync.wire import eth, keys, p2p, snap
from ethsync.wire.eth import EthMessage
from ethsync.wire.status import Status, check_status, decode_status, encode_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import coincurve

    from ethsync.networks import Network
    from ethsync.wire.enode import Enode

DIAL_TIMEOUT = 15.0  # seconds (geth p2p/dial.go, defaultDialTimeout)
STATUS_TIMEOUT = 5.0  # seconds (geth eth/protocols/eth/handshake.go, handshakeTimeout)

CLIENT_NAME = f"ethsync/v{__version__}"

CAPABILITY = {
    RequestKind.HEADERS: "eth",
    RequestKind.ACCOUNTS: snap.NAME,
    RequestKind.STORAGE: snap.NAME,
    RequestKind.CODES: snap.NAME,
}


class Request(Protocol):
    """Any request of `ethsync.wire`: the reply's message id is the request's plus one."""

    @property
    def message(self) -> int:
        """Message id."""
        ...

    def encode(self) -> bytes:
        """Payload."""
        ...


@dataclass(frozen=True, slots=True)
class ChainView:
    """What we tell peers about ourselves: the network, and the head that fork ids are computed at."""

    network: Network
    head_number: int
    head_time: int


@dataclass(slots=True, eq=False)
class _Pending:
    kind: RequestKind
    reply: tuple[str, int]
    scope: trio.CancelScope
    turn: float
    """When the peer could begin with it: sent, and the previous reply ended."""
    payload: bytes | None = None
    failure: PeerGone | None = None


@dataclass(slots=True, eq=False)
class Peer:
    """A peer after Status. `request` may be called by many tasks at once."""

    number: int
    enode: Enode
    connection: Connection
    record: Record = field(default_factory=new_record)
    late: int = 0
    """Replies that came after their time was up."""
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _next_id: int = 1
    _last_reply: float = 0.0
    _gone: PeerGone | None = None

    def __str__(self) -> str:
        return f"{self.client} at {self.enode.host}:{self.enode.tcp_port}"

    @property
    def client(self) -> str:
        """What the peer calls itself."""
        return self.connection.remote_hello.client_id

    async def request(self, kind: RequestKind, make: Callable[[int], Request]) -> bytes:
        """Send a request and return the payload of its reply.

        The clock of a request starts when the peer's previous reply ended, because servers answer in order. Raises
        RequestTimeout (the peer stays), PeerGone.
        """
        if self._gone is not None:
            raise self._gone
        request_id = self._next_id
        self._next_id += 1
        request = make(request_id)
        track = self.record.tracks[kind]
        now = trio.current_time()
        pending = _Pending(
            kind,
            (CAPABILITY[kind], request.message + 1),
            trio.CancelScope(deadline=now + track.round_trip.timeout()),
            now,
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
            raise RequestTimeout(f"{self} did not answer a request for {kind.value} in time")
        return pending.payload

    def settle(self, message: Message) -> None:
        """Hand a reply to whoever waits for it. Raises MalformedMessage for an id that was never asked."""
        request_id = snap.peek_request_id(message.payload)
        pending = self._pending.get(request_id)
        if pending is None:
            if not 0 < request_id < self._next_id:
                raise MalformedMessage(f"{self} answered request {request_id}, which was never made")
            self.late += 1
            return
        if pending.reply != (message.capability, message.code):
            raise MalformedMessage(f"{self} answered a request for {pending.kind.value} with another message")
        now = trio.current_time()
        pending.payload = message.payload
        pending.turn = max(pending.turn, self._last_reply)
        self.record.tracks[pending.kind].answered(len(message.payload), now - pending.turn)
        self._last_reply = now
        pending.scope.cancel()
        for number, other in self._pending.items():
            # Only what was asked later had to wait for this; a peer cannot hold a request by answering younger ones.
            if number > request_id and other.payload is None:
                other.scope.deadline = now + self.record.tracks[other.kind].round_trip.timeout()

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
    return message.code == EthMessage.BLOCK_HEADERS


async def run_peer(peer: Peer) -> None:
    """Receive until the connection ends: settle replies, answer requests, check announcements.

    Raises PeerGone or MalformedMessage; every waiting request has been woken by then.
    """
    ignored = {EthMessage.TRANSACTIONS, EthMessage.NEW_POOLED_TRANSACTION_HASHES}
    version = peer.connection.capabilities["eth"].version
    error = PeerGone(f"we left {peer}")
    try:
        while True:
            message = await peer.connection.receive()
            answer = ANSWERS.get((message.capability, message.code))
            if answer is not None:
                code, make = answer
                await peer.connection.send(message.capability, code, make(message.payload))
            elif _is_request_reply(message):
                peer.settle(message)
            elif message.capability == "eth" and message.code not in ignored:
                eth.decode(version, message.code, message.payload)
    except PeerGone as gone:
        error = gone
        raise
    finally:
        peer.fail(error)


@asynccontextmanager
async def open_peer(number: int, enode: Enode, key: coincurve.PrivateKey, view: ChainView) -> AsyncIterator[Peer]:
    """Dial a node, shake hands, exchange Hello and Status; a peer that can be asked for snap data inside the block.

    Raises PeerGone (cannot be reached, hung up), HandshakeFailed, UselessPeer (other chain, no snap), MalformedMessage.
    """
    hello = p2p.Hello(
        CLIENT_NAME,
        (p2p.Capability("eth", 68), p2p.Capability("eth", 69), p2p.Capability(snap.NAME, snap.VERSION)),
        keys.identity(key.public_key),
    )
    try:
        with trio.fail_after(DIAL_TIMEOUT):
            stream = await trio.open_tcp_stream(enode.host, enode.tcp_port)
    except (OSError, trio.TooSlowError) as error:
        raise PeerGone(f"cannot reach {enode.host}:{enode.tcp_port}: {_cause(error)}") from error
    async with open_connection(stream, key=key, remote_public_key=enode.public_key, hello=hello) as connection:
        if "eth" not in connection.capabilities or snap.NAME not in connection.capabilities:
            raise UselessPeer(
                f"{connection.remote_hello.client_id} does not offer eth/68 or eth/69 together with snap/1"
            )
        await _exchange_status(connection, view)
        yield Peer(number, enode, connection)


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return _cause(error.exceptions[0])
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return "no answer" if isinstance(error, trio.TooSlowError) else str(error)


async def _exchange_status(connection: Connection, view: ChainView) -> None:
    """Send our Status, read and check theirs (wire.md: it is the first message, due within 5 s)."""
    version = connection.capabilities["eth"].version
    network = view.network
    fresh = Status(
        version,
        network.network_id,
        network.genesis_hash,
        network.forks.fork_id(view.head_number, view.head_time),
        network.genesis_hash,
        total_difficulty=0,
        earliest=0,
        latest=0,
    )
    try:
        with trio.fail_after(STATUS_TIMEOUT):
            await connection.send("eth", EthMessage.STATUS, encode_status(fresh))
            message = await connection.receive()
    except trio.TooSlowError as error:
        raise HandshakeFailed("no Status within 5 seconds") from error
    if (message.capability, message.code) != ("eth", EthMessage.STATUS):
        raise HandshakeFailed(f"message {message.capability} 0x{message.code:02x} came where Status was due")
    remote = decode_status(version, message.payload)
    check_status(
        remote,
        version=version,
        network_id=network.network_id,
        schedule=network.forks,
        head_number=view.head_number,
        head_time=view.head_time,
    )
