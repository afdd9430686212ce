"""Answers to what peers ask us while we sync: always one, always honest, always empty.

Peers drop a node that does not answer (devp2p caps/eth.md); an empty list says that we do not have it (yet).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.wire import eth, eth7542, rlp, snap
from ethsync.wire.block_range import BlockRange
from ethsync.wire.eth import EthMessage
from ethsync.wire.eth7542 import Message7542
from ethsync.wire.snap import SnapMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EMPTY_LIST = b"\xc0"

NOTHING_BUT_GENESIS = BlockRange(0, 0)
"""What we hold of blocks while we sync, as our Status says too."""


def _list(version: int, payload: bytes) -> bytes:
    return rlp.encode_list((rlp.encode_int(snap.peek_request_id(payload)), EMPTY_LIST))


def _range(version: int, payload: bytes) -> bytes:
    return rlp.encode_list((rlp.encode_int(snap.peek_request_id(payload)), EMPTY_LIST, EMPTY_LIST))


def _receipts(version: int, payload: bytes) -> bytes:
    return eth.RECEIPT_REPLIES[version](snap.peek_request_id(payload), ()).encode()


def _access_lists(version: int, payload: bytes) -> bytes:
    """Unlike other lists this one has an item for each block: the mark that it is not held (EIP-8159)."""
    request_id, hashes = rlp.split_fields(payload, 2, "GetBlockAccessLists")
    count = min(len(rlp.split_list(hashes)), eth.MAX_SERVED)
    return eth.BlockAccessLists(rlp.integer(request_id), count * (eth.UNAVAILABLE,)).encode()


def _block_range(version: int, payload: bytes) -> bytes:
    return eth7542.encode_block_range(NOTHING_BUT_GENESIS)


ANSWERS: Mapping[tuple[str, int], tuple[int, Callable[[int, bytes], bytes]]] = {
    (eth.NAME, EthMessage.GET_BLOCK_HEADERS): (EthMessage.BLOCK_HEADERS, _list),
    (eth.NAME, EthMessage.GET_BLOCK_BODIES): (EthMessage.BLOCK_BODIES, _list),
    (eth.NAME, EthMessage.GET_RECEIPTS): (EthMessage.RECEIPTS, _receipts),
    (eth.NAME, EthMessage.GET_POOLED_TRANSACTIONS): (EthMessage.POOLED_TRANSACTIONS, _list),
    (eth.NAME, EthMessage.GET_BLOCK_ACCESS_LISTS): (EthMessage.BLOCK_ACCESS_LISTS, _access_lists),
    (eth7542.NAME, Message7542.REQUEST_BLOCK_RANGE): (Message7542.SEND_BLOCK_RANGE, _block_range),
    (snap.NAME, SnapMessage.GET_ACCOUNT_RANGE): (SnapMessage.ACCOUNT_RANGE, _range),
    (snap.NAME, SnapMessage.GET_STORAGE_RANGES): (SnapMessage.STORAGE_RANGES, _range),
    (snap.NAME, SnapMessage.GET_BYTE_CODES): (SnapMessage.BYTE_CODES, _list),
    (snap.NAME, SnapMessage.GET_TRIE_NODES): (SnapMessage.TRIE_NODES, _list),
}
"""(capability, request) → (reply, function that makes its payload from the eth version and that of the request)."""
