"""Block headers: 15 fields since Frontier, and a tail that forks have appended to.

Fields in order: Yellow Paper 4.3, then EIP-1559, EIP-4895, EIP-4844 (two), EIP-4788, EIP-7685, EIP-7928, EIP-7843.
A header's hash is the Keccak-256 of its bytes as received, so fields that we do not know yet do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY_OMMERS_HASH = keccak256(b"\xc0")
"""Ommers hash of a block without ommers: the hash of the empty list."""

MAX_SIZE = 64 * 1024
"""Longest header we take: a 32-byte extraData limit and 23 fields give under 1 kB; clique checkpoints had a few kB."""


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: a byte string of `width` bytes (None: any), or an integer of at most `integer` bytes."""

    width: int | None = None
    integer: int | None = None

    def decode(self, encoded: bytes, name: str) -> bytes | int:
        if self.integer is not None:
            return rlp.integer(encoded, self.integer)
        if self.width is not None:
            return rlp.fixed_string(encoded, self.width, f"header field {name}")
        return rlp.string(encoded)

    def encode(self, value: bytes | int, name: str) -> bytes:
        wanted = int if self.integer is not None else bytes
        if not isinstance(value, wanted) or (isinstance(value, bytes) and self.width not in (None, len(value))):
            raise LocalProtocolError(f"header field {name} cannot be {value!r}")
        return rlp.encode(value)


_HASH, _UINT64, _UINT256 = Field(width=32), Field(integer=8), Field(integer=32)

BASE_FIELDS: Mapping[str, Field] = {
    "parent_hash": _HASH,
    "ommers_hash": _HASH,
    "coinbase": Field(width=20),
    "state_root": _HASH,
    "transactions_root": _HASH,
    "receipts_root": _HASH,
    "logs_bloom": Field(width=256),
    "difficulty": _UINT256,
    "number": _UINT64,
    "gas_limit": _UINT64,
    "gas_used": _UINT64,
    "timestamp": _UINT64,
    "extra_data": Field(),
    "mix_hash": _HASH,
    "nonce": Field(width=8),
}
"""Fields that every header has, in wire order."""

TAIL_FIELDS: Mapping[str, Field] = {
    "base_fee": _UINT256,
    "withdrawals_root": _HASH,
    "blob_gas_used": _UINT64,
    "excess_blob_gas": _UINT64,
    "parent_beacon_root": _HASH,
    "requests_hash": _HASH,
    "block_access_list_hash": _HASH,
    "slot_number": _UINT64,
}
"""Fields that forks appended, in wire order; a header has the first few of them."""

FORK_FIELDS: Mapping[str, str] = {
    "London": "base_fee",
    "Shanghai": "withdrawals_root",
    "Cancun": "parent_beacon_root",
    "Prague": "requests_hash",
    "Amsterdam": "slot_number",
}
"""The forks that appended fields, and one field of each by which a header shows that the fork is in force."""

_FIELDS = {**BASE_FIELDS, **TAIL_FIELDS}


@dataclass(frozen=True, slots=True)
class Header:
    """One block header. Hashes and roots are 32 bytes, `timestamp` is in Unix seconds, the tail is None if absent."""

    raw: bytes
    hash: bytes
    parent_hash: bytes
    ommers_hash: bytes
    coinbase: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    logs_bloom: bytes
    difficulty: int
    number: int
    gas_limit: int
    gas_used: int
    timestamp: int
    extra_data: bytes
    mix_hash: bytes
    nonce: bytes
    base_fee: int | None = None
    withdrawals_root: bytes | None = None
    blob_gas_used: int | None = None
    excess_blob_gas: int | None = None
    parent_beacon_root: bytes | None = None
    requests_hash: bytes | None = None
    block_access_list_hash: bytes | None = None
    slot_number: int | None = None


def decode_header(raw: bytes) -> Header:
    """Decode one header and compute its hash. Fields after the 23 known ones are kept in `raw` only.

    Raises `MalformedMessage`. Says nothing about whether the header belongs to any chain.
    """
    if len(raw) > MAX_SIZE:
        raise MalformedMessage(f"header of {len(raw)} bytes, more than {MAX_SIZE}")
    encoded = rlp.split_list(raw)
    if len(encoded) < len(BASE_FIELDS):
        raise MalformedMessage(f"header has {len(encoded)} fields, fewer than {len(BASE_FIELDS)}")
    values = {name: field.decode(item, name) for (name, field), item in zip(_FIELDS.items(), encoded, strict=False)}
    return Header(raw=bytes(raw), hash=keccak256(raw), **values)  # type: ignore[arg-type]


_DEFAULTS: Mapping[str, bytes | int] = {
    "parent_hash": bytes(32),
    "ommers_hash": EMPTY_OMMERS_HASH,
    "coinbase": bytes(20),
    "state_root": EMPTY_TRIE_ROOT,
    "transactions_root": EMPTY_TRIE_ROOT,
    "receipts_root": EMPTY_TRIE_ROOT,
    "logs_bloom": bytes(256),
    "difficulty": 0,
    "number": 0,
    "gas_limit": 0,
    "gas_used": 0,
    "timestamp": 0,
    "extra_data": b"",
    "mix_hash": bytes(32),
    "nonce": bytes(8),
}


def build_header(**fields: bytes | int | None) -> Header:
    """Build a header from its fields by name, for genesis blocks and tests.

    Base fields left out are those of an empty block; tail fields left out or None end the header. Raises
    `LocalProtocolError` for unknown names, wrong types or widths, and a tail with a gap.
    """
    unknown = fields.keys() - _FIELDS.keys()
    if unknown:
        raise LocalProtocolError(f"unknown header fields: {', '.join(sorted(unknown))}")
    given = {name: value for name, value in fields.items() if value is not None}
    names = list(BASE_FIELDS)
    tail = [name for name in TAIL_FIELDS if name in given]
    if tail != list(TAIL_FIELDS)[: len(tail)]:
        raise LocalProtocolError(f"header tail has a gap before {tail[-1]}")
    values = {**_DEFAULTS, **given}
    return decode_header(rlp.encode_list(_FIELDS[name].encode(values[name], name) for name in names + tail))
