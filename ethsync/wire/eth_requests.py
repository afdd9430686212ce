"""Requests of eth/68 to eth/71: encoding, and decoding for those who serve (devp2p caps/eth.md).

GetReceipts is the only one that versions disagree on: from eth/70 on it says where in the first block to begin
(EIP-7975).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.eth_protocol import EthMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class GetBlockHeaders:
    """Ask for `limit` headers from `origin` (hash of 32 bytes, or number), leaving out `skip` between two of them.

    With `reverse` and a hash this walks back along parent links, even outside the canonical chain.
    """

    message: ClassVar[EthMessage] = EthMessage.GET_BLOCK_HEADERS
    request_id: int
    origin: bytes | int
    limit: int
    skip: int = 0
    reverse: bool = False

    def encode(self) -> bytes:
        """Return the payload `[id, [origin, limit, skip, reverse]]`."""
        if isinstance(self.origin, bytes) and len(self.origin) != 32:
            raise LocalProtocolError(f"a block hash has 32 bytes, not {len(self.origin)}")
        return rlp.encode([self.request_id, [self.origin, self.limit, self.skip, int(self.reverse)]])


@dataclass(frozen=True, slots=True)
class _HashRequest:
    request_id: int
    hashes: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Return the payload `[id, [hash, ...]]`."""
        return rlp.encode([self.request_id, self.hashes])


@dataclass(frozen=True, slots=True)
class GetBlockBodies(_HashRequest):
    """Ask for the bodies of blocks by hash."""

    message: ClassVar[EthMessage] = EthMessage.GET_BLOCK_BODIES


@dataclass(frozen=True, slots=True)
class GetReceipts(_HashRequest):
    """Ask for the receipts of blocks by hash (eth/68, eth/69)."""

    message: ClassVar[EthMessage] = EthMessage.GET_RECEIPTS


@dataclass(frozen=True, slots=True)
class GetPartialReceipts:
    """Ask for the receipts of blocks by hash, those of the first block from `first_index` on (eth/70, EIP-7975)."""

    message: ClassVar[EthMessage] = EthMessage.GET_RECEIPTS
    request_id: int
    hashes: tuple[bytes, ...]
    first_index: int = 0

    def encode(self) -> bytes:
        """Return the payload `[id, firstBlockReceiptIndex, [hash, ...]]`."""
        return rlp.encode([self.request_id, self.first_index, self.hashes])


@dataclass(frozen=True, slots=True)
class GetPooledTransactions(_HashRequest):
    """Ask for transactions by hash; a node without a pool answers with an empty list."""

    message: ClassVar[EthMessage] = EthMessage.GET_POOLED_TRANSACTIONS


@dataclass(frozen=True, slots=True)
class GetBlockAccessLists(_HashRequest):
    """Ask for the access lists of blocks by hash (eth/71, EIP-8159)."""

    message: ClassVar[EthMessage] = EthMessage.GET_BLOCK_ACCESS_LISTS


EthRequest: TypeAlias = (
    "GetBlockHeaders | GetBlockBodies | GetReceipts | GetPartialReceipts | GetPooledTransactions | GetBlockAccessLists"
)

RECEIPT_REQUESTS: Mapping[int, Callable[[int, tuple[bytes, ...]], GetReceipts | GetPartialReceipts]] = {
    68: GetReceipts,
    69: GetReceipts,
    70: GetPartialReceipts,
    71: GetPartialReceipts,
}
"""How receipts are asked for from the beginning, by eth version."""


def decode_get_block_headers(payload: bytes) -> GetBlockHeaders:
    """Decode the message, or raise `MalformedMessage`."""
    request_id, query = rlp.split_fields(payload, 2, "GetBlockHeaders")
    encoded_origin, limit, skip, reverse = rlp.split_fields(query, 4, "header query")
    origin = rlp.string(encoded_origin)
    backwards = rlp.integer(reverse, 1)
    if backwards > 1:
        raise MalformedMessage(f"header query with {backwards} for its direction")
    return GetBlockHeaders(
        rlp.integer(request_id),
        origin if len(origin) == 32 else rlp.to_int(origin),
        rlp.integer(limit),
        rlp.integer(skip),
        bool(backwards),
    )


def _hashes(encoded: bytes, what: str) -> tuple[bytes, ...]:
    hashes = rlp.strings(encoded)
    if any(len(item) != 32 for item in hashes):
        raise MalformedMessage(f"{what} with a hash that has not 32 bytes")
    return hashes


def _split_hashes(payload: bytes, what: str) -> tuple[int, tuple[bytes, ...]]:
    request_id, encoded = rlp.split_fields(payload, 2, what)
    return rlp.integer(request_id), _hashes(encoded, what)


def decode_get_block_bodies(payload: bytes) -> GetBlockBodies:
    """Decode the message, or raise `MalformedMessage`."""
    return GetBlockBodies(*_split_hashes(payload, "GetBlockBodies"))


def decode_get_receipts(payload: bytes) -> GetReceipts:
    """Decode the message of eth/68 and eth/69, or raise `MalformedMessage`."""
    return GetReceipts(*_split_hashes(payload, "GetReceipts"))


def decode_get_partial_receipts(payload: bytes) -> GetPartialReceipts:
    """Decode the message of eth/70 and later, or raise `MalformedMessage`."""
    request_id, first_index, hashes = rlp.split_fields(payload, 3, "GetReceipts")
    return GetPartialReceipts(rlp.integer(request_id), _hashes(hashes, "GetReceipts"), rlp.integer(first_index))


def decode_get_pooled_transactions(payload: bytes) -> GetPooledTransactions:
    """Decode the message, or raise `MalformedMessage`."""
    return GetPooledTransactions(*_split_hashes(payload, "GetPooledTransactions"))


def decode_get_block_access_lists(payload: bytes) -> GetBlockAccessLists:
    """Decode the message, or raise `MalformedMessage`."""
    return GetBlockAccessLists(*_split_hashes(payload, "GetBlockAccessLists"))
