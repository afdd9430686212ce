"""snap/1 in one place: ids and limits, requests, replies, and the peek at a reply's request id.

Bulk replies are proven by `ethsync.kernels`, which read the payload as it came; the decoders here are for servers,
tests and people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.snap_protocol import (
    LENGTH,
    MAX_CODE_LOOKUPS,
    MAX_MESSAGE_SIZE,
    MAX_PROOF_NODES,
    MAX_TRIE_NODE_LOOKUPS,
    NAME,
    REQUEST_ID_SIZE,
    SOFT_RESPONSE_LIMIT,
    VERSION,
    SnapMessage,
)
from ethsync.wire.snap_replies import (
    REPLY_DECODERS,
    AccountRange,
    ByteCodes,
    SnapReply,
    StorageRanges,
    TrieNodes,
    decode_account_range,
    decode_byte_codes,
    decode_storage_ranges,
    decode_trie_nodes,
    encode_account_range,
    encode_byte_codes,
    encode_storage_ranges,
    encode_trie_nodes,
)
from ethsync.wire.snap_requests import (
    REQUEST_DECODERS,
    GetAccountRange,
    GetByteCodes,
    GetStorageRanges,
    GetTrieNodes,
    SnapRequest,
    decode_get_account_range,
    decode_get_byte_codes,
    decode_get_storage_ranges,
    decode_get_trie_nodes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "DECODERS",
    "LENGTH",
    "MAX_CODE_LOOKUPS",
    "MAX_MESSAGE_SIZE",
    "MAX_PROOF_NODES",
    "MAX_TRIE_NODE_LOOKUPS",
    "NAME",
    "REPLY_DECODERS",
    "REQUEST_DECODERS",
    "REQUEST_ID_SIZE",
    "SOFT_RESPONSE_LIMIT",
    "VERSION",
    "AccountRange",
    "ByteCodes",
    "GetAccountRange",
    "GetByteCodes",
    "GetStorageRanges",
    "GetTrieNodes",
    "SnapMessage",
    "SnapReply",
    "SnapRequest",
    "StorageRanges",
    "TrieNodes",
    "decode",
    "decode_account_range",
    "decode_byte_codes",
    "decode_get_account_range",
    "decode_get_byte_codes",
    "decode_get_storage_ranges",
    "decode_get_trie_nodes",
    "decode_storage_ranges",
    "decode_trie_nodes",
    "encode_account_range",
    "encode_byte_codes",
    "encode_storage_ranges",
    "encode_trie_nodes",
    "peek_request_id",
]

DECODERS: Mapping[SnapMessage, Callable[[bytes], SnapRequest | SnapReply]] = {**REQUEST_DECODERS, **REPLY_DECODERS}
"""Decoders of all eight messages."""


def decode(code: int, payload: bytes) -> SnapRequest | SnapReply:
    """Decode the message with id `code` (relative to the snap offset). Raises `MalformedMessage`, also on the id."""
    if code >= LENGTH:
        raise MalformedMessage(f"message 0x{code:02x} does not exist in snap/1")
    return DECODERS[SnapMessage(code)](payload)


def peek_request_id(payload: bytes) -> int:
    """Return the request id of any snap message without reading further than that. Raises `MalformedMessage`.

    The outer list must span the payload exactly; what follows the id is left to whoever decodes the rest.
    """
    is_list, start, end = rlp.item_bounds(payload, 0, len(payload))
    if not is_list or end != len(payload):
        raise MalformedMessage("snap message is not one RLP list")
    is_list, start, end = rlp.item_bounds(payload, start, end)
    if is_list:
        raise MalformedMessage("snap request id is a list")
    return rlp.to_int(payload[start:end], REQUEST_ID_SIZE)
