"""Headers, bodies, receipts and access lists as text, with the roots that a person compares with a header's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.hashing import keccak256
from ethsync.state.block_roots import receipts_root, transactions_root, withdrawals_root
from ethsync.wire import eth
from ethsync.wire.access_lists import decode_access_list
from ethsync.wire.bodies import decode_body
from ethsync.wire.headers import decode_header
from ethsync.wire.receipts import decode_block_receipts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_SHOWN = 8
"""Blocks of one reply that are shown; the others are counted."""


def _header(version: int, raw: bytes) -> list[str]:
    header = decode_header(raw)
    return [
        f"{header.number} 0x{header.hash.hex()} time {header.timestamp} state root 0x{header.state_root.hex()}",
        f"  transactions root 0x{header.transactions_root.hex()}",
        f"  receipts root 0x{header.receipts_root.hex()}",
        *_optional("withdrawals root", header.withdrawals_root),
        *_optional("block access list hash", header.block_access_list_hash),
    ]


def _optional(name: str, digest: bytes | None) -> list[str]:
    return [] if digest is None else [f"  {name} 0x{digest.hex()}"]


def _body(version: int, raw: bytes) -> list[str]:
    body = decode_body(raw)
    lines = [
        f"{len(body.transactions)} transactions, root 0x{transactions_root(body.transactions).hex()}",
        f"  ommers hash 0x{keccak256(body.ommers).hex()}",
    ]
    if body.withdrawals is not None:
        lines.append(f"  {len(body.withdrawals)} withdrawals, root 0x{withdrawals_root(body.withdrawals).hex()}")
    return lines


def _receipts(version: int, raw: bytes) -> list[str]:
    receipts = decode_block_receipts(version, raw)
    failed = sum(receipt.outcome == b"" for receipt in receipts)
    return [f"{len(receipts)} receipts, {failed} of failed transactions, root 0x{receipts_root(receipts).hex()}"]


def _access_list(version: int, raw: bytes) -> list[str]:
    if raw == eth.UNAVAILABLE:
        return ["not held"]
    accounts = decode_access_list(raw)
    written = sum(len(account.storage) for account in accounts)
    return [f"{len(accounts)} accounts, {written} slots changed, hash 0x{keccak256(raw).hex()}"]


_ITEMS: Mapping[type, tuple[str, Callable[[int, bytes], list[str]]]] = {
    eth.BlockHeaders: ("headers", _header),
    eth.BlockBodies: ("bodies", _body),
    eth.Receipts: ("receipts", _receipts),
    eth.PartialReceipts: ("receipts", _receipts),
    eth.BlockAccessLists: ("access_lists", _access_list),
}


def block_lines(version: int, packet: eth.EthPacket) -> list[str] | None:
    """The lines that show a reply about blocks; None for any other packet. Raises MalformedMessage."""
    kind = _ITEMS.get(type(packet))
    if kind is None:
        return None
    field, show = kind
    items: Sequence[bytes] = getattr(packet, field)
    lines = [f"request_id: {getattr(packet, 'request_id', 0)}", f"{field}: {len(items)}"]
    if isinstance(packet, eth.PartialReceipts):
        lines.append(f"incomplete: {packet.incomplete}")
    lines += [f"  {line}" for raw in items[:MOST_SHOWN] for line in show(version, raw)]
    return lines + ([f"  … {len(items) - MOST_SHOWN} more"] if len(items) > MOST_SHOWN else [])
