"""eth/68 and eth/69 from the side of a node that holds headers and state, but no bodies and receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ethsync.wire import eth
from ethsync.wire.eth import (
    BlockBodies,
    BlockHeaders,
    GetBlockBodies,
    GetBlockHeaders,
    GetPooledTransactions,
    GetReceipts,
    PooledTransactions,
    Receipts,
)
from ethsync.wire.status import Status, check_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ethsync.networks import Network
    from ethsync.wire.eth import EthPacket
    from ethsync.wire.headers import Header

SOFT_RESPONSE_LIMIT = 2 * 1024 * 1024
"""Bytes after which a reply ends (geth eth/protocols/eth/handler.go, softResponseLimit)."""


EthReply: TypeAlias = "BlockHeaders | BlockBodies | Receipts | PooledTransactions"


class HeaderChain:
    """The headers held, of which there may be few: found by number and by hash."""

    def __init__(self, headers: Iterable[Header], head: Header) -> None:
        self.head = head
        self._by_number = {header.number: header for header in headers}
        self._by_number[head.number] = head
        self._by_hash = {header.hash: header for header in self._by_number.values()}

    def select(self, request: GetBlockHeaders) -> list[bytes]:
        """Headers as asked for, up to the first that is not held; all are those of one chain."""
        origin = request.origin
        header = self._by_hash.get(origin) if isinstance(origin, bytes) else self._by_number.get(origin)
        step = (request.skip + 1) * (-1 if request.reverse else 1)
        found: list[bytes] = []
        size = 0
        while header is not None and len(found) < min(request.limit, eth.MAX_SERVED) and size < SOFT_RESPONSE_LIMIT:
            found.append(header.raw)
            size += len(header.raw)
            header = self._by_number.get(header.number + step)
        return found


class EthService:
    """What an eth connection says and answers."""

    def __init__(self, network: Network, chain: HeaderChain) -> None:
        self.network = network
        self.chain = chain
        self._answers: Mapping[type, Callable[[Any], EthReply]] = {
            GetBlockHeaders: lambda packet: BlockHeaders(packet.request_id, tuple(chain.select(packet))),
            GetBlockBodies: lambda packet: BlockBodies(packet.request_id),
            GetReceipts: lambda packet: Receipts(packet.request_id),
            GetPooledTransactions: lambda packet: PooledTransactions(packet.request_id),
        }

    def status(self, version: int) -> Status:
        """Our Status. The range of blocks is the head alone: bodies and receipts are not held."""
        head = self.chain.head
        return Status(
            version=version,
            network_id=self.network.network_id,
            genesis_hash=self.network.genesis_hash,
            fork_id=self.network.forks.fork_id(head.number, head.timestamp),
            head_hash=head.hash,
            total_difficulty=0,
            earliest=head.number,
            latest=head.number,
        )

    def check(self, remote: Status, version: int) -> None:
        """Raises UselessPeer, HandshakeFailed or MalformedMessage unless the peer is on our chain."""
        check_status(
            remote,
            version=version,
            network_id=self.network.network_id,
            schedule=self.network.forks,
            head_number=self.chain.head.number,
            head_time=self.chain.head.timestamp,
        )

    def answer(self, packet: EthPacket | None) -> EthReply | None:
        """The answer to a message; None if none is due (announcements, block ranges, replies nobody asked for)."""
        answer = self._answers.get(type(packet))
        return answer(packet) if answer else None
