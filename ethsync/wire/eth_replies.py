"""Replies of eth/68 to eth/71: their frame, with headers, bodies, receipts and access lists as raw RLP items.

The items are decoded by `ethsync.wire.headers`, `bodies`, `receipts` and `access_lists`, when they are wanted. A
decoder here keeps one copy of what came and at most 100 bytes for each of at most 65,536 items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.eth_protocol import EthMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNAVAILABLE = b"\x80"
"""What stands in BlockAccessLists for a list that the peer does not hold: an empty list would be one (EIP-8159)."""


def _encode_reply(request_id: int, items: tuple[bytes, ...]) -> bytes:
    return rlp.encode_list((rlp.encode_int(request_id), rlp.encode_list(items)))


@dataclass(frozen=True, slots=True)
class BlockHeaders:
    """Headers in the order asked for, each as its own raw RLP list."""

    message: ClassVar[EthMessage] = EthMessage.BLOCK_HEADERS
    request_id: int
    headers: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the payload `[id, [header, ...]]`."""
        return _encode_reply(self.request_id, self.headers)


@dataclass(frozen=True, slots=True)
class BlockBodies:
    """Bodies as raw RLP lists; the reply ends at the first block that the peer does not hold."""

    message: ClassVar[EthMessage] = EthMessage.BLOCK_BODIES
    request_id: int
    bodies: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the payload `[id, [body, ...]]`."""
        return _encode_reply(self.request_id, self.bodies)


@dataclass(frozen=True, slots=True)
class Receipts:
    """Raw RLP lists of receipts, one per block; eth/68 and eth/69 encode the receipts inside differently."""

    message: ClassVar[EthMessage] = EthMessage.RECEIPTS
    request_id: int
    receipts: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the payload `[id, [[receipt, ...], ...]]`."""
        return _encode_reply(self.request_id, self.receipts)


@dataclass(frozen=True, slots=True)
class PartialReceipts:
    """The same from eth/70 on (EIP-7975): with `incomplete`, the last list lacks its end."""

    message: ClassVar[EthMessage] = EthMessage.RECEIPTS
    request_id: int
    receipts: tuple[bytes, ...] = ()
    incomplete: bool = False

    def encode(self) -> bytes:
        """Return the payload `[id, lastBlockIncomplete, [[receipt, ...], ...]]`."""
        flag = rlp.encode_int(int(self.incomplete))
        return rlp.encode_list((rlp.encode_int(self.request_id), flag, rlp.encode_list(self.receipts)))


@dataclass(frozen=True, slots=True)
class PooledTransactions:
    """Transactions as raw RLP items: lists for legacy ones, byte strings for typed ones."""

    message: ClassVar[EthMessage] = EthMessage.POOLED_TRANSACTIONS
    request_id: int
    transactions: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the payload `[id, [transaction, ...]]`."""
        return _encode_reply(self.request_id, self.transactions)


@dataclass(frozen=True, slots=True)
class BlockAccessLists:
    """Access lists as raw RLP lists in the order asked for, `UNAVAILABLE` if not held; the end may be missing."""

    message: ClassVar[EthMessage] = EthMessage.BLOCK_ACCESS_LISTS
    request_id: int
    access_lists: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the payload `[id, [list or empty string, ...]]`."""
        return _encode_reply(self.request_id, self.access_lists)


EthReply: TypeAlias = "BlockHeaders | BlockBodies | Receipts | PartialReceipts | PooledTransactions | BlockAccessLists"


RECEIPT_REPLIES: Mapping[int, Callable[[int, tuple[bytes, ...]], Receipts | PartialReceipts]] = {
    68: Receipts,
    69: Receipts,
    70: PartialReceipts,
    71: PartialReceipts,
}
"""How complete lists of receipts are answered, by eth version."""


def _split_reply(payload: bytes, what: str) -> tuple[int, tuple[bytes, ...]]:
    request_id, items = rlp.split_fields(payload, 2, what)
    return rlp.integer(request_id), tuple(rlp.split_list(items))


def decode_block_headers(payload: bytes) -> BlockHeaders:
    """Decode the message, but not the headers in it; raises `MalformedMessage`."""
    return BlockHeaders(*_split_reply(payload, "BlockHeaders"))


def decode_block_bodies(payload: bytes) -> BlockBodies:
    """Decode the message, but not the bodies in it; raises `MalformedMessage`."""
    return BlockBodies(*_split_reply(payload, "BlockBodies"))


def decode_receipts(payload: bytes) -> Receipts:
    """Decode the message of eth/68 and eth/69, but not the receipts in it; raises `MalformedMessage`."""
    return Receipts(*_split_reply(payload, "Receipts"))


def decode_partial_receipts(payload: bytes) -> PartialReceipts:
    """Decode the message of eth/70 and later, but not the receipts in it; raises `MalformedMessage`."""
    request_id, encoded_flag, encoded = rlp.split_fields(payload, 3, "Receipts")
    flag = rlp.integer(encoded_flag, 1)
    receipts = tuple(rlp.split_list(encoded))
    if flag > 1 or (flag and not receipts):
        raise MalformedMessage(f"Receipts with {flag} for an incomplete end, and {len(receipts)} lists")
    return PartialReceipts(rlp.integer(request_id), receipts, bool(flag))


def decode_pooled_transactions(payload: bytes) -> PooledTransactions:
    """Decode the message, but not the transactions in it; raises `MalformedMessage`."""
    return PooledTransactions(*_split_reply(payload, "PooledTransactions"))


def decode_block_access_lists(payload: bytes) -> BlockAccessLists:
    """Decode the message, but not the lists in it; raises `MalformedMessage`."""
    return BlockAccessLists(*_split_reply(payload, "BlockAccessLists"))
