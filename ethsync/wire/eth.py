"""eth/68 and eth/69: Status, headers, and the messages that a good neighbour must answer (devp2p caps/eth.md).

What differs between versions is data: `VERSIONS` here, `LAYOUTS` in `ethsync.wire.status`. Headers, bodies and
receipts travel as raw RLP items; `ethsync.wire.headers` decodes the ones that are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.status import Status as Status
from ethsync.wire.status import check_block_range
from ethsync.wire.status import check_status as check_status
from ethsync.wire.status import decode_status as decode_status
from ethsync.wire.status import encode_status as encode_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = "eth"
MAX_MESSAGE_SIZE = 10 * 1024 * 1024
"""Longest message after inflating, in bytes (geth eth/protocols/eth/protocol.go, maxMessageSize)."""

MAX_SERVED = 1024
"""Headers, bodies or receipts that one reply holds at most (geth eth/protocols/eth/handler.go)."""


class EthMessage(IntEnum):
    """Message ids relative to the eth offset; which of them exist depends on the version."""

    STATUS = 0x00
    NEW_BLOCK_HASHES = 0x01
    TRANSACTIONS = 0x02
    GET_BLOCK_HEADERS = 0x03
    BLOCK_HEADERS = 0x04
    GET_BLOCK_BODIES = 0x05
    BLOCK_BODIES = 0x06
    NEW_BLOCK = 0x07
    NEW_POOLED_TRANSACTION_HASHES = 0x08
    GET_POOLED_TRANSACTIONS = 0x09
    POOLED_TRANSACTIONS = 0x0A
    GET_RECEIPTS = 0x0F
    RECEIPTS = 0x10
    BLOCK_RANGE_UPDATE = 0x11


@dataclass(frozen=True, slots=True)
class EthVersion:
    """One version of the protocol: ids it occupies, and the messages that a peer may send."""

    number: int
    length: int
    messages: frozenset[EthMessage]


_PROOF_OF_WORK = {EthMessage.NEW_BLOCK_HASHES, EthMessage.NEW_BLOCK}

VERSIONS: Mapping[int, EthVersion] = {
    68: EthVersion(68, 17, frozenset(EthMessage) - {EthMessage.BLOCK_RANGE_UPDATE}),
    69: EthVersion(69, 18, frozenset(EthMessage) - _PROOF_OF_WORK),
}
"""The versions spoken here (EIP-5793, EIP-7642)."""

LENGTHS: Mapping[int, int] = {version.number: version.length for version in VERSIONS.values()}
"""Message ids occupied, by version."""


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
    """Ask for the receipts of blocks by hash."""

    message: ClassVar[EthMessage] = EthMessage.GET_RECEIPTS


@dataclass(frozen=True, slots=True)
class GetPooledTransactions(_HashRequest):
    """Ask for transactions by hash; a node without a pool answers with an empty list."""

    message: ClassVar[EthMessage] = EthMessage.GET_POOLED_TRANSACTIONS


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
class PooledTransactions:
    """Transactions as raw RLP items: lists for legacy ones, byte strings for typed ones."""

    message: ClassVar[EthMessage] = EthMessage.POOLED_TRANSACTIONS
    request_id: int
    transactions: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the payload `[id, [transaction, ...]]`."""
        return _encode_reply(self.request_id, self.transactions)


@dataclass(frozen=True, slots=True)
class BlockRangeUpdate:
    """The blocks that a peer holds, unasked (EIP-7642). A hint: nothing proves `latest_hash`."""

    message: ClassVar[EthMessage] = EthMessage.BLOCK_RANGE_UPDATE
    earliest: int
    latest: int
    latest_hash: bytes

    def encode(self) -> bytes:
        """Return the payload `[earliest, latest, latestHash]`."""
        return rlp.encode([self.earliest, self.latest, self.latest_hash])


EthPacket: TypeAlias = (
    "Status | GetBlockHeaders | GetBlockBodies | GetReceipts | GetPooledTransactions | BlockHeaders | BlockBodies"
    " | Receipts | PooledTransactions | BlockRangeUpdate"
)


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


def _split_hashes(payload: bytes, what: str) -> tuple[int, tuple[bytes, ...]]:
    request_id, encoded = rlp.split_fields(payload, 2, what)
    hashes = rlp.strings(encoded)
    if any(len(item) != 32 for item in hashes):
        raise MalformedMessage(f"{what} with a hash that has not 32 bytes")
    return rlp.integer(request_id), hashes


def decode_get_block_bodies(payload: bytes) -> GetBlockBodies:
    """Decode the message, or raise `MalformedMessage`."""
    return GetBlockBodies(*_split_hashes(payload, "GetBlockBodies"))


def decode_get_receipts(payload: bytes) -> GetReceipts:
    """Decode the message, or raise `MalformedMessage`."""
    return GetReceipts(*_split_hashes(payload, "GetReceipts"))


def decode_get_pooled_transactions(payload: bytes) -> GetPooledTransactions:
    """Decode the message, or raise `MalformedMessage`."""
    return GetPooledTransactions(*_split_hashes(payload, "GetPooledTransactions"))


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
    """Decode the message, but not the receipts in it; raises `MalformedMessage`."""
    return Receipts(*_split_reply(payload, "Receipts"))


def decode_pooled_transactions(payload: bytes) -> PooledTransactions:
    """Decode the message, but not the transactions in it; raises `MalformedMessage`."""
    return PooledTransactions(*_split_reply(payload, "PooledTransactions"))


def decode_block_range_update(payload: bytes) -> BlockRangeUpdate:
    """Decode the message and check that its range makes sense; raises `MalformedMessage`."""
    earliest, latest, encoded_hash = rlp.split_fields(payload, 3, "BlockRangeUpdate")
    latest_hash = rlp.fixed_string(encoded_hash, 32, "latest hash")
    update = BlockRangeUpdate(rlp.integer(earliest), rlp.integer(latest), latest_hash)
    check_block_range(update.earliest, update.latest, update.latest_hash)
    return update


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
}


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
    decoder = _DECODERS.get(EthMessage(code))
    return decoder(payload) if decoder else None
