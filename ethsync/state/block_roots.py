"""Bodies, receipts and access lists against the header of their block: what proves them, and the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import Disproved
from ethsync.hashing import keccak256
from ethsync.state.ordered_trie import ordered_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.wire.bodies import Body
    from ethsync.wire.headers import Header
    from ethsync.wire.receipts import Receipt


def transactions_root(transactions: Sequence[bytes]) -> bytes:
    """Root (32 bytes) of transactions in consensus form, in block order (Yellow Paper 4.3.2, EIP-2718)."""
    return ordered_root(transactions)


def withdrawals_root(withdrawals: Sequence[bytes]) -> bytes:
    """Root (32 bytes) of withdrawals as RLP lists, in block order (EIP-4895)."""
    return ordered_root(withdrawals)


def receipts_root(receipts: Sequence[Receipt]) -> bytes:
    """Root (32 bytes) of a block's receipts, their blooms computed from their logs (Yellow Paper 4.3.2)."""
    return ordered_root([receipt.consensus() for receipt in receipts])


def check_body(header: Header, body: Body) -> None:
    """Raises Disproved unless every part of the body is the header's."""
    withdrawals = None if body.withdrawals is None else withdrawals_root(body.withdrawals)
    _compare(header, "transactions root", transactions_root(body.transactions), header.transactions_root)
    _compare(header, "ommers hash", keccak256(body.ommers), header.ommers_hash)
    _compare(header, "withdrawals root", withdrawals, header.withdrawals_root)


def check_receipts(header: Header, receipts: Sequence[Receipt]) -> None:
    """Raises Disproved unless these are all receipts of the header's block."""
    _compare(header, "receipts root", receipts_root(receipts), header.receipts_root)


def check_access_list(header: Header, raw: bytes) -> None:
    """Raises Disproved unless the RLP `raw` is the block access list of the header's block (EIP-7928).

    The bytes as they came are hashed: clients do not agree on how storage keys are written, only on the hash.
    """
    _compare(header, "block access list hash", keccak256(raw), header.block_access_list_hash)


def _compare(header: Header, what: str, found: bytes | None, expected: bytes | None) -> None:
    if found != expected:
        raise Disproved(f"{what} {_text(found)} instead of {_text(expected)} in block {header.number}")


def _text(digest: bytes | None) -> str:
    return "none" if digest is None else f"0x{digest.hex()}"
