"""Execution payloads of the Engine API: read, checked, and turned back into the block header that they stand for.

Sources: execution-apis, src/engine/{paris,shanghai,cancun,prague,amsterdam}.md, for the fields and the order of checks;
EIP-3675 for the constant fields of a header after the merge; EIP-4895 (withdrawals), EIP-4844 (blob hashes), EIP-7685
(requests), EIP-7928 (block access list) and EIP-7843 (slot number) for the rest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.heads.json_fields import JsonValue, data, items, mapping, member, only, quantity
from ethsync.heads.known_blocks import KnownBlock, Withdrawal
from ethsync.state.ordered_trie import ordered_root
from ethsync.wire import rlp
from ethsync.wire.headers import build_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ethsync.wire.headers import Header

MOST_TRANSACTIONS = 1 << 20
"""Transactions of a payload (consensus-specs, presets/mainnet/bellatrix.yaml, MAX_TRANSACTIONS_PER_PAYLOAD)."""

MOST_WITHDRAWALS = 1 << 16
"""Withdrawals of a payload: 16 on public networks (presets/mainnet/capella.yaml); others may take more."""

MOST_BLOB_HASHES = 4096
"""Blobs of a block (presets/mainnet/deneb.yaml, MAX_BLOB_COMMITMENTS_PER_BLOCK)."""

MOST_REQUESTS = 256
"""Requests of a block: one for each type, which is a byte (EIP-7685)."""

BLOB_TRANSACTION = 3
"""BLOB_TX_TYPE of EIP-4844: the first byte of a transaction that carries blobs."""

_BLOB_HASHES_FIELD = 10  # position of blob_versioned_hashes in such a transaction (EIP-4844)
_BLOB_TRANSACTION_FIELDS = 14  # chain_id to blob_versioned_hashes, and the three of the signature (EIP-4844)


class InvalidPayload(MalformedMessage):
    """A well-formed payload that no valid block has."""


class WrongBlockHash(InvalidPayload):
    """A payload whose fields do not have the block hash that it names."""


@dataclass(frozen=True, slots=True)
class Field:
    """DATA of `width` or at most `most` bytes, or QUANTITY of `bits`. `header` is the field's name in headers."""

    header: str
    width: int | None = None
    most: int | None = None
    bits: int | None = None

    def read(self, value: JsonValue, name: str) -> bytes | int:
        """Raises MalformedMessage."""
        return quantity(value, name, self.bits) if self.bits else data(value, name, self.width, self.most)


_V1 = {
    "parentHash": Field("parent_hash", width=32),
    "feeRecipient": Field("coinbase", width=20),
    "stateRoot": Field("state_root", width=32),
    "receiptsRoot": Field("receipts_root", width=32),
    "logsBloom": Field("logs_bloom", width=256),
    "prevRandao": Field("mix_hash", width=32),
    "blockNumber": Field("number", bits=64),
    "gasLimit": Field("gas_limit", bits=64),
    "gasUsed": Field("gas_used", bits=64),
    "timestamp": Field("timestamp", bits=64),
    "extraData": Field("extra_data", most=32),
    "baseFeePerGas": Field("base_fee", bits=256),
}
_V3 = {**_V1, "blobGasUsed": Field("blob_gas_used", bits=64), "excessBlobGas": Field("excess_blob_gas", bits=64)}
_V4 = {**_V3, "slotNumber": Field("slot_number", bits=64)}

FIELDS: Mapping[int, Mapping[str, Field]] = {1: _V1, 2: _V1, 3: _V3, 4: _V4}
"""Fields of ExecutionPayloadV1 to V4 that go into the header as they are."""

_OTHERS = {1: {"blockHash", "transactions"}}
_OTHERS |= {2: _OTHERS[1] | {"withdrawals"}, 3: _OTHERS[1] | {"withdrawals"}}
_OTHERS |= {4: _OTHERS[3] | {"blockAccessList"}}


@dataclass(frozen=True, slots=True)
class Payload:
    """An execution payload as it was sent. `fields` are header fields by the names of `wire.headers`."""

    block_hash: bytes
    timestamp: int
    fields: Mapping[str, bytes | int]
    transactions: tuple[bytes, ...]
    withdrawals: tuple[Withdrawal, ...] | None
    block_access_list: bytes | None
    """RLP (EIP-7928)."""


@dataclass(frozen=True, slots=True)
class Companions:
    """Parameters that come beside a payload; None for those that its method does not have."""

    blob_hashes: tuple[bytes, ...] | None = None
    parent_beacon_root: bytes | None = None
    requests: tuple[bytes, ...] | None = None


def decode_payload(value: JsonValue, version: int) -> Payload:
    """Read ExecutionPayloadV1 to V4. Every field must be there, and no other. Raises MalformedMessage."""
    given = mapping(value, "executionPayload")
    only(given, dict.fromkeys((*FIELDS[version], *_OTHERS[version])), "executionPayload")
    read = {field.header: field.read(member(given, name), name) for name, field in FIELDS[version].items()}
    transactions = items(member(given, "transactions"), "transactions", MOST_TRANSACTIONS)
    has_withdrawals = "withdrawals" in _OTHERS[version]
    has_access_list = "blockAccessList" in _OTHERS[version]
    return Payload(
        data(member(given, "blockHash"), "blockHash", 32),
        int(read["timestamp"]),
        read,
        tuple(data(transaction, "a transaction") for transaction in transactions),
        _decode_withdrawals(member(given, "withdrawals")) if has_withdrawals else None,
        data(member(given, "blockAccessList"), "blockAccessList") if has_access_list else None,
    )


def payload_timestamp(value: JsonValue) -> int:
    """The payload's time, for methods that choose the structure by it. Raises MalformedMessage."""
    return quantity(member(value, "timestamp"), "timestamp")


def _decode_withdrawals(value: JsonValue) -> tuple[Withdrawal, ...]:
    return tuple(decode_withdrawal(each) for each in items(value, "withdrawals", MOST_WITHDRAWALS))


def decode_withdrawal(value: JsonValue) -> Withdrawal:
    """Read WithdrawalV1. Raises MalformedMessage."""
    names = dict.fromkeys(("index", "validatorIndex", "address", "amount"))
    only(mapping(value, "a withdrawal"), names, "a withdrawal")
    numbers = {name: quantity(member(value, name), name) for name in names if name != "address"}
    address = data(member(value, "address"), "address", 20)
    return Withdrawal(numbers["index"], numbers["validatorIndex"], address, numbers["amount"])


def decode_hashes(value: JsonValue, what: str, most: int) -> tuple[bytes, ...]:
    """Read an array of 32-byte values. Raises MalformedMessage."""
    return tuple(data(each, what, 32) for each in items(value, what, most))


def decode_requests(value: JsonValue) -> tuple[bytes, ...]:
    """Read executionRequests: one for each type, ascending, none of them empty (prague.md). Raises MalformedMessage."""
    requests = tuple(data(each, "a request") for each in items(value, "executionRequests", MOST_REQUESTS))
    if any(len(request) < 2 for request in requests):
        raise MalformedMessage("an execution request is empty")
    if any(one[0] >= other[0] for one, other in itertools.pairwise(requests)):
        raise MalformedMessage("execution requests are not in ascending order of their types")
    return requests


def check_payload(payload: Payload, companions: Companions) -> KnownBlock:
    """Check what can be checked without a state; return the block. Takes some 10 ms for a full block of mainnet.

    Raises InvalidPayload; WrongBlockHash if everything else is right.
    """
    if not all(payload.transactions):
        raise InvalidPayload("a transaction is empty")
    if companions.blob_hashes is not None and blob_hashes(payload.transactions) != companions.blob_hashes:
        raise InvalidPayload("the transactions' blob hashes are not those that were expected")
    header = build_payload_header(payload, companions)
    if header.hash != payload.block_hash:
        raise WrongBlockHash(f"the payload's block hash is 0x{header.hash.hex()}")
    if header.gas_used > header.gas_limit:
        raise InvalidPayload("more gas was used than the limit")
    hashes = b"".join(keccak256(transaction) for transaction in payload.transactions)
    return KnownBlock(header, hashes, payload.withdrawals, _block_size(header, payload))


def build_payload_header(payload: Payload, companions: Companions) -> Header:
    """The header of the block that a payload stands for."""
    withdrawals, access_list, requests = payload.withdrawals, payload.block_access_list, companions.requests
    return build_header(
        **payload.fields,
        transactions_root=ordered_root(payload.transactions),
        withdrawals_root=None if withdrawals is None else ordered_root([*map(encode_withdrawal, withdrawals)]),
        parent_beacon_root=companions.parent_beacon_root,
        requests_hash=None if requests is None else hash_requests(requests),
        block_access_list_hash=None if access_list is None else keccak256(access_list),
    )


def encode_withdrawal(withdrawal: Withdrawal) -> bytes:
    """RLP of a withdrawal (EIP-4895)."""
    return rlp.encode([withdrawal.index, withdrawal.validator_index, withdrawal.address, withdrawal.amount])


def hash_requests(requests: Sequence[bytes]) -> bytes:
    """The header's commitment to requests: SHA-256 over the SHA-256 of each (EIP-7685). None of them is empty."""
    return sha256(b"".join(sha256(request).digest() for request in requests)).digest()


def blob_hashes(transactions: Sequence[bytes]) -> tuple[bytes, ...]:
    """Versioned hashes of all blobs, in the order of their transactions (EIP-4844). Raises InvalidPayload."""
    found: list[bytes] = []
    for transaction in transactions:
        if transaction[0] == BLOB_TRANSACTION:
            try:
                fields = rlp.split_fields(transaction[1:], _BLOB_TRANSACTION_FIELDS, "a blob transaction")
                found += rlp.strings(fields[_BLOB_HASHES_FIELD])
            except MalformedMessage as error:
                raise InvalidPayload(f"a blob transaction cannot be read: {error}") from error
    return tuple(found)


def _block_size(header: Header, payload: Payload) -> int:
    """Bytes of the whole block in RLP: header, transactions, no ommers, withdrawals."""
    plain: Callable[[bytes], bool] = lambda transaction: transaction[0] >= 0xC0  # noqa: E731
    inner = sum(
        len(transaction) if plain(transaction) else len(transaction) + len(rlp.string_prefix(len(transaction)))
        for transaction in payload.transactions
    )
    size = len(header.raw) + inner + len(rlp.list_prefix(inner)) + 1
    if payload.withdrawals is not None:
        inner = sum(len(encode_withdrawal(withdrawal)) for withdrawal in payload.withdrawals)
        size += inner + len(rlp.list_prefix(inner))
    return size + len(rlp.list_prefix(size))
