"""eth/68 to eth/71 in one place: versions, ids and limits, Status, requests, replies (devp2p caps/eth.md).

What differs between versions is data: `VERSIONS` in `eth_protocol`, `LAYOUTS` in `status`, `RECEIPT_REQUESTS` in
`eth_requests`, `RECEIPT_ENCODINGS` in `receipts`, and the decoders here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire.block_range import BlockRange, BlockRangeUpdate, check_block_range, decode_block_range_update
from ethsync.wire.eth_protocol import (
    LENGTHS,
    MAX_MESSAGE_SIZE,
    MAX_SERVED,
    NAME,
    SOFT_RESPONSE_LIMIT,
    VERSIONS,
    EthMessage,
    EthVersion,
)
from ethsync.wire.eth_replies import (
    RECEIPT_REPLIES,
    UNAVAILABLE,
    BlockAccessLists,
    BlockBodies,
    BlockHeaders,
    EthReply,
    PartialReceipts,
    PooledTransactions,
    Receipts,
    decode_block_access_lists,
    decode_block_bodies,
    decode_block_headers,
    decode_partial_receipts,
    decode_pooled_transactions,
    decode_receipts,
)
from ethsync.wire.eth_requests import (
    RECEIPT_REQUESTS,
    EthRequest,
    GetBlockAccessLists,
    GetBlockBodies,
    GetBlockHeaders,
    GetPartialReceipts,
    GetPooledTransactions,
    GetReceipts,
    decode_get_block_access_lists,
    decode_get_block_bodies,
    decode_get_block_headers,
    decode_get_partial_receipts,
    decode_get_pooled_transactions,
    decode_get_receipts,
)
from ethsync.wire.status import Status, check_status, decode_status, encode_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "LENGTHS",
    "MAX_MESSAGE_SIZE",
    "MAX_SERVED",
    "NAME",
    "RECEIPT_REPLIES",
    "RECEIPT_REQUESTS",
    "SOFT_RESPONSE_LIMIT",
    "UNAVAILABLE",
    "VERSIONS",
    "BlockAccessLists",
    "BlockBodies",
    "BlockHeaders",
    "BlockRange",
    "BlockRangeUpdate",
    "EthMessage",
    "EthPacket",
    "EthReply",
    "EthRequest",
    "EthVersion",
    "GetBlockAccessLists",
    "GetBlockBodies",
    "GetBlockHeaders",
    "GetPartialReceipts",
    "GetPooledTransactions",
    "GetReceipts",
    "PartialReceipts",
    "PooledTransactions",
    "Receipts",
    "Status",
    "check_block_range",
    "check_status",
    "decode",
    "decode_block_access_lists",
    "decode_block_bodies",
    "decode_block_headers",
    "decode_block_range_update",
    "decode_get_block_access_lists",
    "decode_get_block_bodies",
    "decode_get_block_headers",
    "decode_get_partial_receipts",
    "decode_get_pooled_transactions",
    "decode_get_receipts",
    "decode_partial_receipts",
    "decode_pooled_transactions",
    "decode_receipts",
    "decode_status",
    "encode_status",
]

EthPacket: TypeAlias = "Status | EthRequest | EthReply | BlockRangeUpdate"

_DECODERS: Mapping[EthMessage, Callable[[bytes], EthPacket]] = {
    EthMessage.GET_BLOCK_HEADERS: decode_get_block_headers,
    EthMessage.BLOCK_HEADERS: decode_block_headers,
    EthMessage.GET_BLOCK_BODIES: decode_get_block_bodies,
    EthMessage.BLOCK_BODIES: decode_block_bodies,
    EthMessage.GET_RECEIPTS: decode_get_receipts,
    EthMessage.RECEIPTS: decode_receipts,
    EthMessage.GET_POOLED_TRANSACTIONS: decode_get_pooled_transactions,
    EthMessage.POOLED_TRANSACTIONS: decode_pooled_transactions,
    EthMessage.BLOCK_RANGE_UPDATE: decode_block_range_update,
    EthMessage.GET_BLOCK_ACCESS_LISTS: decode_get_block_access_lists,
    EthMessage.BLOCK_ACCESS_LISTS: decode_block_access_lists,
}

_PARTIAL_RECEIPTS: Mapping[EthMessage, Callable[[bytes], EthPacket]] = {
    **_DECODERS,
    EthMessage.GET_RECEIPTS: decode_get_partial_receipts,
    EthMessage.RECEIPTS: decode_partial_receipts,
}

DECODERS: Mapping[int, Mapping[EthMessage, Callable[[bytes], EthPacket]]] = {
    68: _DECODERS,
    69: _DECODERS,
    70: _PARTIAL_RECEIPTS,
    71: _PARTIAL_RECEIPTS,
}
"""Decoders of all messages but Status and announcements, by version; `VERSIONS` says which of them exist there."""


def decode(version: int, code: int, payload: bytes) -> EthPacket | None:
    """Decode the message with id `code` (relative to the eth offset) of the negotiated `version`.

    Returns None for announcements that a state client has no use for (transactions, new blocks); their content is
    not looked at. Raises `MalformedMessage`, also for an id that the version does not have (as geth does).
    """
    if version not in VERSIONS:
        raise LocalProtocolError(f"eth/{version} is not spoken here")
    if code not in VERSIONS[version].messages:
        raise MalformedMessage(f"message 0x{code:02x} does not exist in eth/{version}")
    if code == EthMessage.STATUS:
        return decode_status(version, payload)
    decoder = DECODERS[version].get(EthMessage(code))
    return decoder(payload) if decoder else None
