"""Answers to what peers ask us while we sync: always one, always honest, always empty.

Peers drop a node that does not answer (devp2p caps/eth.md); an empty list says that we do not have it (yet).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.wire import rlp, snap
from ethsync.wire.eth import EthMessage
from ethsync.wire.snap import SnapMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EMPTY_LIST = b"\xc0"


def _list(payload: bytes) -> bytes:
    return rlp.encode_list((rlp.encode_int(snap.peek_request_id(payload)), EMPTY_LIST))


def _range(payload: bytes) -> bytes:
    return rlp.encode_list((rlp.encode_int(snap.peek_request_id(payload)), EMPTY_LIST, EMPTY_LIST))


ANSWERS: Mapping[tuple[str, int], tuple[int, Callable[[bytes], bytes]]] = {
    ("eth", EthMessage.GET_BLOCK_HEADERS): (EthMessage.BLOCK_HEADERS, _list),
    ("eth", EthMessage.GET_BLOCK_BODIES): (EthMessage.BLOCK_BODIES, _list),
    ("eth", EthMessage.GET_RECEIPTS): (EthMessage.RECEIPTS, _list),
    ("eth", EthMessage.GET_POOLED_TRANSACTIONS): (EthMessage.POOLED_TRANSACTIONS, _list),
    (snap.NAME, SnapMessage.GET_ACCOUNT_RANGE): (SnapMessage.ACCOUNT_RANGE, _range),
    (snap.NAME, SnapMessage.GET_STORAGE_RANGES): (SnapMessage.STORAGE_RANGES, _range),
    (snap.NAME, SnapMessage.GET_BYTE_CODES): (SnapMessage.BYTE_CODES, _list),
    (snap.NAME, SnapMessage.GET_TRIE_NODES): (SnapMessage.TRIE_NODES, _list),
}
"""(capability, request) → (reply, function that makes its payload)."""
