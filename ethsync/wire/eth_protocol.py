"""What every part of eth shares: its versions as data, message ids and limits (devp2p caps/eth.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "eth"

MAX_MESSAGE_SIZE = 10 * 1024 * 1024
"""Longest message after inflating, in bytes (geth eth/protocols/eth/protocol.go, maxMessageSize)."""

MAX_SERVED = 1024
"""Headers, bodies, receipt lists or access lists that one reply holds at most (geth eth/protocols/eth/handler.go)."""

SOFT_RESPONSE_LIMIT = 2 * 1024 * 1024
"""Bytes after which a server ends its reply (devp2p caps/eth.md; geth eth/protocols/eth/handler.go)."""


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
    GET_BLOCK_ACCESS_LISTS = 0x12
    BLOCK_ACCESS_LISTS = 0x13


@dataclass(frozen=True, slots=True)
class EthVersion:
    """One version of the protocol: ids it occupies, and the messages that a peer may send."""

    number: int
    length: int
    messages: frozenset[EthMessage]


_PROOF_OF_WORK = {EthMessage.NEW_BLOCK_HASHES, EthMessage.NEW_BLOCK}
_ETH_68 = frozenset(message for message in EthMessage if message <= EthMessage.RECEIPTS)
_ETH_69 = (_ETH_68 | {EthMessage.BLOCK_RANGE_UPDATE}) - _PROOF_OF_WORK
_ETH_71 = _ETH_69 | {EthMessage.GET_BLOCK_ACCESS_LISTS, EthMessage.BLOCK_ACCESS_LISTS}

VERSIONS: Mapping[int, EthVersion] = {
    68: EthVersion(68, 17, _ETH_68),
    69: EthVersion(69, 18, _ETH_69),
    70: EthVersion(70, 18, _ETH_69),
    71: EthVersion(71, 20, _ETH_71),
}
"""The versions spoken here (EIP-5793, EIP-7642, EIP-7975, EIP-8159)."""

LENGTHS: Mapping[int, int] = {version.number: version.length for version in VERSIONS.values()}
"""Message ids occupied, by version."""
