"""eth/68 to eth/71 from the side of a node that holds headers and state, and perhaps bodies and receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ethsync.serve.blocks import (
    BlockData,
    HeaderChain,
    select_access_lists,
    select_bodies,
    select_partial_receipts,
    select_receipts,
)
from ethsync.wire.block_range import BlockRangeUpdate
from ethsync.wire.eth import (
    BlockAccessLists,
    BlockBodies,
    BlockHeaders,
    GetBlockAccessLists,
    GetBlockBodies,
    GetBlockHeaders,
    GetPartialReceipts,
    GetPooledTransactions,
    GetReceipts,
    PartialReceipts,
    PooledTransactions,
    Receipts,
)
from ethsync.wire.status import Status, check_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ethsync.networks import Network
    from ethsync.wire.eth import EthPacket, EthReply


RANGE_STEP = 32
"""Blocks by which the range has grown when peers are told (geth eth/handler.go, blockRangeState.shouldSend)."""


def is_due(told: BlockRangeUpdate, held: BlockRangeUpdate) -> bool:
    """Whether a peer that was told one range should hear of another: it ends much later, or sooner (the same place)."""
    return held.latest < told.latest or held.latest - told.latest >= RANGE_STEP


class EthService:
    """What an eth connection says and answers. What is not held is answered with an empty list."""

    def __init__(self, network: Network, chain: HeaderChain, blocks: BlockData | None = None) -> None:
        self.network = network
        self._chain = chain
        self.changed = trio.Event()
        """Set, and replaced, when there is another chain."""
        self.blocks = blocks or BlockData()
        self._answers: Mapping[type, Callable[[int, Any], EthReply]] = {
            GetBlockHeaders: self._headers,
            GetBlockBodies: self._bodies,
            GetReceipts: self._receipts,
            GetPartialReceipts: self._partial_receipts,
            GetPooledTransactions: lambda version, packet: PooledTransactions(packet.request_id),
            GetBlockAccessLists: self._access_lists,
        }

    @property
    def chain(self) -> HeaderChain:
        """The headers that are held."""
        return self._chain

    @chain.setter
    def chain(self, chain: HeaderChain) -> None:
        self._chain = chain
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    @property
    def block_range(self) -> BlockRangeUpdate:
        """The blocks that are held, as Status says too: without bodies the head alone."""
        head = self.chain.head
        earliest = head.number if self.blocks.earliest is None else self.blocks.earliest
        return BlockRangeUpdate(earliest, head.number, head.hash)

    def _headers(self, version: int, packet: GetBlockHeaders) -> BlockHeaders:
        return BlockHeaders(packet.request_id, tuple(self.chain.select(packet)))

    def _bodies(self, version: int, packet: GetBlockBodies) -> BlockBodies:
        return BlockBodies(packet.request_id, select_bodies(self.blocks.bodies, packet.hashes))

    def _receipts(self, version: int, packet: GetReceipts) -> Receipts:
        return Receipts(packet.request_id, select_receipts(self.blocks.receipts, version, packet.hashes))

    def _partial_receipts(self, version: int, packet: GetPartialReceipts) -> PartialReceipts:
        held = self.blocks.receipts
        lists, incomplete = select_partial_receipts(held, version, packet.hashes, packet.first_index)
        return PartialReceipts(packet.request_id, lists, incomplete)

    def _access_lists(self, version: int, packet: GetBlockAccessLists) -> BlockAccessLists:
        return BlockAccessLists(packet.request_id, select_access_lists(self.blocks.access_lists, packet.hashes))

    def status(self, version: int) -> Status:
        """Our Status."""
        head, held = self.chain.head, self.block_range
        return Status(
            version=version,
            network_id=self.network.network_id,
            genesis_hash=self.network.genesis_hash,
            fork_id=self.network.forks.fork_id(head.number, head.timestamp),
            head_hash=head.hash,
            total_difficulty=0,
            earliest=held.earliest,
            latest=held.latest,
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

    def answer(self, version: int, packet: EthPacket | None) -> EthReply | None:
        """The answer to a message; None if none is due (announcements, block ranges, replies nobody asked for)."""
        answer = self._answers.get(type(packet))
        return answer(version, packet) if answer else None
