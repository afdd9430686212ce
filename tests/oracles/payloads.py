"""Execution payloads in the JSON of the Engine API, made from blocks in RLP and beacon blocks that are not ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from ethsync.wire import rlp
from ethsync.wire.headers import Header, decode_header

VECTORS = Path(__file__).parent.parent / "vectors"
CHAIN = VECTORS / "ethtest" / "chain.rlp"

_NUMBERS = {
    *("blockNumber", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas", "slotNumber"),
    *("index", "validatorIndex", "amount"),
}


def hexed(value: bytes | int) -> str:
    """DATA or QUANTITY."""
    return hex(value) if isinstance(value, int) else f"0x{value.hex()}"


def chain_blocks() -> Iterator[tuple[Header, bytes]]:
    """Header and RLP of blocks 1 to 600 that geth made (tests/vectors/ethtest)."""
    data, position = CHAIN.read_bytes(), 0
    while position < len(data):
        _, _, end = rlp.item_bounds(data, position, len(data))
        block = data[position:end]
        yield decode_header(rlp.split_list(block)[0]), block
        position = end


def payload_of(block: bytes) -> dict[str, Any]:
    """The payload of a block in RLP. Its structure is V1, V2 or V3 by the fields that its header has."""
    parts = rlp.split_list(block)
    header = decode_header(parts[0])
    payload = header_fields(header)
    payload["transactions"] = [
        hexed(item if item[0] >= 0xC0 else rlp.string(item)) for item in rlp.split_list(parts[1])
    ]
    if len(parts) > 3:
        payload["withdrawals"] = [_withdrawal(rlp.split_list(item)) for item in rlp.split_list(parts[3])]
    return payload


def header_fields(header: Header) -> dict[str, Any]:
    """The fields of a payload that stand in the header."""
    fields: dict[str, bytes | int | None] = {
        "parentHash": header.parent_hash,
        "feeRecipient": header.coinbase,
        "stateRoot": header.state_root,
        "receiptsRoot": header.receipts_root,
        "logsBloom": header.logs_bloom,
        "prevRandao": header.mix_hash,
        "blockNumber": header.number,
        "gasLimit": header.gas_limit,
        "gasUsed": header.gas_used,
        "timestamp": header.timestamp,
        "extraData": header.extra_data,
        "baseFeePerGas": header.base_fee,
        "blockHash": header.hash,
        "blobGasUsed": header.blob_gas_used,
        "excessBlobGas": header.excess_blob_gas,
        "slotNumber": header.slot_number,
    }
    return {name: hexed(value) for name, value in fields.items() if value is not None}


def _withdrawal(fields: list[bytes]) -> dict[str, str]:
    index, validator, address, amount = fields
    numbers = {"index": index, "validatorIndex": validator, "amount": amount}
    return {**{name: hex(rlp.integer(value)) for name, value in numbers.items()}, "address": hexed(rlp.string(address))}


def blob_hashes_of(block: bytes) -> list[str]:
    """Versioned hashes of a block's blobs."""
    found: list[str] = []
    for item in rlp.split_list(rlp.split_list(block)[1]):
        if item[0] < 0xC0 and rlp.string(item)[0] == 3:
            found += [hexed(each) for each in rlp.strings(rlp.split_list(rlp.string(item)[1:])[10])]
    return found


def payload_of_beacon_block(message: dict[str, Any]) -> dict[str, Any]:
    """The payload of a beacon block: other names, and decimal numbers."""
    found = _renamed(message["body"]["execution_payload"])
    assert isinstance(found, dict)
    return found


def _renamed(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        camel = {re.sub("_(.)", lambda match: match[1].upper(), key): each for key, each in value.items()}
        return {key: _renamed(each, key) for key, each in camel.items()}
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    return hex(int(value)) if name in _NUMBERS else value


def blob_hashes_of_beacon_block(message: dict[str, Any]) -> list[str]:
    """Versioned hashes of its commitments (EIP-4844, kzg_to_versioned_hash)."""
    commitments = message["body"].get("blob_kzg_commitments", [])
    return [f"0x01{sha256(bytes.fromhex(each[2:])).hexdigest()[2:]}" for each in commitments]


def requests_of_beacon_block(message: dict[str, Any]) -> list[str]:
    """Execution requests as bytes: type, then the SSZ of all requests of that type (consensus-specs, electra)."""
    requests = message["body"]["execution_requests"]
    deposits = ("pubkey", "withdrawal_credentials", "amount", "signature", "index")
    withdrawals = ("source_address", "validator_pubkey", "amount")
    consolidations = ("source_address", "source_pubkey", "target_pubkey")
    kinds = {"deposits": deposits, "withdrawals": withdrawals, "consolidations": consolidations}
    encoded = [
        b"".join(_ssz(each[field]) for each in requests[kind] for field in fields) for kind, fields in kinds.items()
    ]
    return [hexed(bytes((kind,)) + content) for kind, content in enumerate(encoded) if content]


def _ssz(value: str) -> bytes:
    return bytes.fromhex(value[2:]) if value.startswith("0x") else int(value).to_bytes(8, "little")
