"""One connection of the server: Status, then requests answered in the order in which they came, as geth does."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import trio

from ethsync.errors import DisconnectReason, HandshakeFailed, NotHeld, PeerGone
from ethsync.rlpx.connection import Message
from ethsync.serve.eth import is_due
from ethsync.serve.snap import empty_reply
from ethsync.wire import eth, eth7542, snap
from ethsync.wire.block_range import BlockRange
from ethsync.wire.eth import BlockHeaders, EthMessage, GetBlockHeaders
from ethsync.wire.eth7542 import Message7542
from ethsync.wire.snap import REQUEST_DECODERS, SnapMessage
from ethsync.wire.status import Status, encode_status

if TYPE_CHECKING:
    from ethsync.rlpx.connection import Connection
    from ethsync.serve.server import Server
    from ethsync.serve.snap import Reply
    from ethsync.wire.snap import SnapRequest

T = TypeVar("T")

STATUS_TIMEOUT = 5.0
"""Seconds for the peer's Status (geth eth/protocols/eth/handshake.go, handshakeTimeout)."""

REQUESTS_WAITING = 16
"""Requests read ahead of the one that is answered, up to 10 MiB each but in practice a few kB: a peer may have some in
flight, and one that asks faster than it reads has to wait."""

REPLIES_WAITING = 1
"""Replies ready to be sent while the next is made: at most 2 MiB, which keeps the link busy."""


class Session:
    """Answers one peer."""

    def __init__(self, connection: Connection, server: Server, limiter: trio.CapacityLimiter) -> None:
        self._connection = connection
        self._service = server.service
        self._server = server
        self._limiter = limiter
        self._numbers: Counter[SnapMessage] = Counter()
        self._answered = 0
        self._previous: Reply | None = None

    async def run(self) -> None:
        """Serve until the peer leaves. Raises PeerError, StoreError; errors may come in groups."""
        version = self._connection.capabilities[eth.NAME].version
        self._told = self._service.block_range
        await self._exchange_status(version)
        send_request, receive_request = trio.open_memory_channel[Message](REQUESTS_WAITING)
        send_reply, receive_reply = trio.open_memory_channel[tuple[str, int, bytes]](REPLIES_WAITING)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, send_request)
            nursery.start_soon(self._answer_all, version, receive_request, send_reply)
            nursery.start_soon(self._send_all, receive_reply)
            if EthMessage.BLOCK_RANGE_UPDATE in eth.VERSIONS[version].messages:
                nursery.start_soon(self._tell_range)

    async def _exchange_status(self, version: int) -> None:
        await self._connection.send(eth.NAME, EthMessage.STATUS, encode_status(self._service.status(version)))
        with trio.move_on_after(STATUS_TIMEOUT):
            message = await self._connection.receive()
            if message.capability != eth.NAME:
                raise HandshakeFailed("the peer's first message is not its Status")
            status = eth.decode(version, message.code, message.payload)
            if not isinstance(status, Status):
                raise HandshakeFailed("the peer's first eth message is not its Status")
            self._service.check(status, version)
            if eth7542.NAME in self._connection.capabilities:
                ours = eth7542.encode_status(self._service.status(eth7542.VERSION))
                await self._connection.send(eth7542.NAME, Message7542.STATUS, ours)
            return
        raise HandshakeFailed("no Status came in time", reason=DisconnectReason.PING_TIMEOUT)

    async def _tell_range(self) -> None:
        """Tell the peer of blocks that are held now (EIP-7642), at geth's pace."""
        while True:
            changed, held = self._service.changed, self._service.block_range
            if is_due(self._told, held):
                self._told = held
                await self._connection.send(eth.NAME, held.message, held.encode())
            await changed.wait()

    async def _read(self, requests: trio.MemorySendChannel[Message]) -> None:
        async with requests:
            while True:
                await _hand_on(requests, await self._connection.receive())

    async def _answer_all(
        self,
        version: int,
        requests: trio.MemoryReceiveChannel[Message],
        replies: trio.MemorySendChannel[tuple[str, int, bytes]],
    ) -> None:
        async with requests, replies:
            async for message in requests:
                if message.capability == snap.NAME:
                    for reply in await self._answer_snap(message):
                        self._server.counters.count(reply)
                        await _hand_on(replies, (snap.NAME, reply.message, reply.payload))
                    continue
                if message.capability == eth7542.NAME:
                    await self._answer_7542(message, replies)
                    continue
                request = eth.decode(version, message.code, message.payload)
                answer = self._service.answer(version, request)
                if isinstance(request, GetBlockHeaders) and isinstance(answer, BlockHeaders):
                    answer = self._headers(request, answer)
                if answer is not None:
                    await _hand_on(replies, (eth.NAME, answer.message, answer.encode()))

    async def _answer_7542(self, message: Message, replies: trio.MemorySendChannel[tuple[str, int, bytes]]) -> None:
        if eth7542.heard_range(message.code, message.payload) is None:
            held = self._service.block_range
            payload = eth7542.encode_block_range(BlockRange(held.earliest, held.latest))
            await _hand_on(replies, (eth7542.NAME, Message7542.SEND_BLOCK_RANGE, payload))

    def _headers(self, request: GetBlockHeaders, honest: BlockHeaders) -> BlockHeaders | None:
        """What the profile makes of a reply; None for no reply at all."""
        lie = self._server.profile.header_lie
        raws = lie(request, honest.headers) if lie is not None and request.limit > 1 else honest.headers
        if raws is None:
            return None
        self._server.counters.count_headers(len(raws))
        return BlockHeaders(request.request_id, raws)

    async def _send_all(self, replies: trio.MemoryReceiveChannel[tuple[str, int, bytes]]) -> None:
        async with replies:
            async for capability, code, payload in replies:
                await self._connection.send(capability, code, payload)

    async def _answer_snap(self, message: Message) -> list[Reply]:
        """Replies to send for a snap message: one as a rule; replies that nobody asked for are ignored."""
        decoder = REQUEST_DECODERS.get(SnapMessage(message.code))
        if decoder is None:
            return []
        request = decoder(message.payload)
        kind = empty_reply(request).message
        self._server.counters.requests[kind] += 1
        profile = self._server.profile
        if profile.disconnect_after is not None and self._answered >= profile.disconnect_after:
            raise PeerGone("this server's profile hangs up now")
        if profile.delay:
            await trio.sleep(profile.delay)
        number = self._numbers[kind]
        self._numbers[kind] += 1
        reply = await trio.to_thread.run_sync(self._answer, request, number, limiter=self._limiter)
        if reply is None:
            return []
        self._answered += 1
        late, self._previous = self._previous, reply
        return [reply, late] if profile.repeats and late is not None else [reply]

    def _answer(self, request: SnapRequest, number: int) -> Reply | None:
        """In a worker thread. What a state lacks is answered like a state that is not known."""
        try:
            return self._server.profile.answer(self._server.states, request, number)
        except NotHeld:
            return empty_reply(request)


async def _hand_on(channel: trio.MemorySendChannel[T], value: T) -> None:
    """Send to another task of the session. One that fails closes its end a moment before its error cancels us."""
    try:
        await channel.send(value)
    except trio.BrokenResourceError:
        await trio.sleep_forever()
