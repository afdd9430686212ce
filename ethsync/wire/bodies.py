"""Block bodies: `[transactions, ommers, withdrawals]`, the last one since Shanghai (devp2p caps/eth.md, EIP-4895).

A body has no hash of its own; `ethsync.state.block_roots` compares its parts with a header. What is inside
transactions, ommers and withdrawals is not looked at: their roots prove it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp

MAX_TRANSACTION_TYPE = 0x7F
"""Largest first byte of a typed transaction (EIP-2718)."""


@dataclass(frozen=True, slots=True)
class Body:
    """One block's body. `withdrawals` is None before Shanghai.

    transactions: in consensus form, as the transactions trie stores them: an RLP list, or a type byte and a payload.
    ommers: the RLP list of headers. withdrawals: RLP lists.
    """

    transactions: tuple[bytes, ...]
    ommers: bytes = b"\xc0"
    withdrawals: tuple[bytes, ...] | None = None

    def encode(self) -> bytes:
        """The body as BlockBodies holds it."""
        parts = [rlp.encode_list(map(_wire_form, self.transactions)), self.ommers]
        if self.withdrawals is not None:
            parts.append(rlp.encode_list(self.withdrawals))
        return rlp.encode_list(parts)


def _wire_form(transaction: bytes) -> bytes:
    return rlp.encode_bytes(transaction) if transaction[0] <= MAX_TRANSACTION_TYPE else transaction


def _consensus_form(item: bytes) -> bytes:
    if item[0] >= 0xC0:
        return item
    transaction = rlp.string(item)
    if len(transaction) < 2 or transaction[0] > MAX_TRANSACTION_TYPE:
        raise MalformedMessage("typed transaction without a type or without content")
    return transaction


def _lists(encoded: bytes, what: str) -> tuple[bytes, ...]:
    items = tuple(rlp.split_list(encoded))
    if any(item[0] < 0xC0 for item in items):
        raise MalformedMessage(f"{what} is a byte string")
    return items


def decode_body(raw: bytes) -> Body:
    """Decode one item of BlockBodies. Raises MalformedMessage. Holds one copy of `raw` and 100 bytes for each item."""
    parts = rlp.split_list(raw)
    if len(parts) not in (2, 3):
        raise MalformedMessage(f"block body has {len(parts)} parts instead of two or three")
    transactions = tuple(_consensus_form(item) for item in rlp.split_list(parts[0]))
    _lists(parts[1], "ommer")
    return Body(transactions, parts[1], _lists(parts[2], "withdrawal") if len(parts) == 3 else None)
