"""Payloads turned back into headers: geth's chain, beacon blocks of public networks, and EELS for every fork."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
import rlp
from Crypto.Hash import keccak

from ethsync.errors import MalformedMessage
from ethsync.heads.json_fields import JsonValue
from ethsync.heads.payload import (
    Companions,
    InvalidPayload,
    WrongBlockHash,
    blob_hashes,
    build_payload_header,
    check_payload,
    decode_payload,
    decode_requests,
    hash_requests,
)
from tests.oracles.payloads import (
    blob_hashes_of,
    blob_hashes_of_beacon_block,
    chain_blocks,
    payload_of,
    payload_of_beacon_block,
    requests_of_beacon_block,
)

BEACON = Path(__file__).parents[2] / "vectors" / "beacon"
EMPTY_REQUESTS = sha256(b"").digest()


def data(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def beacon_block(name: str) -> tuple[dict[str, Any], Companions, int]:
    """Payload, companions and structure of a beacon block in the vectors."""
    message = json.loads((BEACON / f"block_{name}.json").read_text())
    if name == "capella":
        return payload_of_beacon_block(message), Companions(), 2
    companions = Companions(
        tuple(data(each) for each in blob_hashes_of_beacon_block(message)),
        data(message["parent_root"]),
        tuple(data(each) for each in requests_of_beacon_block(message)),
    )
    return payload_of_beacon_block(message), companions, 3


@pytest.mark.parametrize("name", ["capella", "electra_deposits", "electra_withdrawals", "electra_consolidations"])
def test_payloads_of_public_networks_have_the_hash_that_they_name(name: str) -> None:
    payload, companions, structure = beacon_block(name)
    block = check_payload(decode_payload(payload, structure), companions)
    assert block.header.hash == data(payload["blockHash"])
    assert len(block.transaction_hashes) == 32 * len(payload["transactions"])
    assert block.header.number == int(payload["blockNumber"], 16)


def test_the_blocks_of_geths_chain_come_back_from_their_payloads() -> None:
    # Given 600 blocks of Shanghai, Cancun and Prague, but for those with requests, which are not part of a block
    kinds: list[tuple[int, bool]] = []
    for header, raw in chain_blocks():
        if header.requests_hash not in (None, EMPTY_REQUESTS):
            continue
        structure = 2 if header.blob_gas_used is None else 3
        companions = Companions(
            None if structure == 2 else tuple(data(each) for each in blob_hashes_of(raw)),
            header.parent_beacon_root,
            None if header.requests_hash is None else (),
        )
        # When only what a payload has is known, then the same header and size come out of it.
        block = check_payload(decode_payload(payload_of(raw), structure), companions)
        assert (block.header, block.size) == (header, len(raw))
        kinds.append((structure, header.requests_hash is None))
    assert set(kinds) == {(2, True), (3, True), (3, False)}
    assert len(kinds) >= 590


def changes(payload: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every field of a payload with another value of the same form."""
    found: list[tuple[str, Any]] = []
    for name, value in payload.items():
        if isinstance(value, str):
            last = format(int(value[-1], 16) ^ 1, "x") if len(value) > 3 or value == "0x0" else "2"
            found.append((name, f"0x{'01' if value == '0x' else value[2:-1] + last}"))
        elif value:
            found += [(name, value[:-1]), (name, [*value, value[0]])]
            found += [(name, [*value[:-1], value[0]])] if value[0] != value[-1] else []
    return found


@pytest.mark.parametrize("name", ["capella", "electra_deposits"])
def test_a_change_of_any_field_is_noticed(name: str) -> None:
    payload, companions, structure = beacon_block(name)
    assert {field for field, _ in changes(payload)} == set(payload)
    for field, value in changes(payload):
        with pytest.raises(InvalidPayload):
            check_payload(decode_payload({**payload, field: value}, structure), companions)


def test_a_change_beside_the_payload_is_noticed() -> None:
    payload, companions, structure = beacon_block("electra_deposits")
    decoded = decode_payload(payload, structure)
    hashes, root, requests = companions.blob_hashes, companions.parent_beacon_root, companions.requests
    assert hashes
    assert requests
    with pytest.raises(WrongBlockHash):
        check_payload(decoded, Companions(hashes, bytes(32), requests))
    with pytest.raises(WrongBlockHash):
        check_payload(decoded, Companions(hashes, root, ()))
    with pytest.raises(InvalidPayload, match="blob hashes"):
        check_payload(decoded, Companions(hashes[::-1], root, requests))
    with pytest.raises(InvalidPayload, match="blob hashes"):
        check_payload(decoded, Companions((*hashes, hashes[0]), root, requests))
    with pytest.raises(InvalidPayload, match="blob hashes"):
        check_payload(decoded, Companions((), root, requests))


def test_an_empty_transaction_is_invalid() -> None:
    payload, companions, structure = beacon_block("electra_deposits")
    with pytest.raises(InvalidPayload, match="empty"):
        check_payload(decode_payload({**payload, "transactions": ["0x"]}, structure), companions)


@pytest.mark.parametrize("text", ["03", "03c0", "03ff", "0380", "03" + "c1" * 3, "03cd" + "80" * 13])
def test_a_blob_transaction_that_cannot_be_read_is_invalid(text: str) -> None:
    with pytest.raises(InvalidPayload, match="blob transaction"):
        blob_hashes((bytes.fromhex(text),))


@pytest.mark.parametrize("name", ["capella", "electra_deposits"])
def test_fields_that_are_missing_or_too_many_are_refused(name: str) -> None:
    payload, _, structure = beacon_block(name)
    for field in payload:
        for wrong in ({key: value for key, value in payload.items() if key != field}, {**payload, field: None}):
            with pytest.raises(MalformedMessage, match=field):
                decode_payload(wrong, structure)
    with pytest.raises(MalformedMessage, match="slotNumber"):
        decode_payload({**payload, "slotNumber": "0x1"}, structure)
    # A field that is null counts as not there (cancun.md).
    assert decode_payload({**payload, "slotNumber": None}, structure) == decode_payload(payload, structure)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("blockHash", "0x00"),
        ("parentHash", "00" * 32),
        ("logsBloom", "0x" + "00" * 255),
        ("extraData", "0x" + "00" * 33),
        ("blockNumber", "0x"),
        ("blockNumber", "0x00"),
        ("blockNumber", "1"),
        ("blockNumber", 1),
        ("blockNumber", "0x1" + "0" * 16),
        ("baseFeePerGas", "0x1" + "0" * 64),
        ("feeRecipient", "0x" + "0g" * 20),
        ("stateRoot", "0x" + " " + "0" * 63),
        ("transactions", "0x"),
        ("transactions", ["0x0"]),
        ("transactions", [None]),
        ("withdrawals", [{}]),
        ("withdrawals", [[]]),
        ("withdrawals", [{"index": "0x0", "validatorIndex": "0x0", "address": "0x" + "00" * 20, "amount": 5}]),
    ],
)
def test_values_of_another_form_are_refused(field: str, value: JsonValue) -> None:
    payload, _, structure = beacon_block("electra_deposits")
    with pytest.raises(MalformedMessage):
        decode_payload({**payload, field: value}, structure)


@pytest.mark.parametrize(
    "requests", [["0x"], ["0x00"], ["0x0001", "0x00ff"], ["0x0101", "0x0001"], "0x0001", [None], None, ["0x0001"] * 257]
)
def test_requests_out_of_order_or_empty_are_refused(requests: JsonValue) -> None:
    # prague.md, engine_newPayloadV4, parameter 4
    with pytest.raises(MalformedMessage):
        decode_requests(requests)


def eels(fork: str, module: str) -> Any:
    return importlib.import_module(f"ethereum.forks.{fork}.{module}")


FORKS = {"paris": (1, 0), "shanghai": (2, 0), "cancun": (3, 2), "prague": (3, 3), "osaka": (3, 3), "bpo2": (3, 3)}
"""Structure of the payload and number of companions."""


def random_payload(rng: Random, structure: int) -> dict[str, Any]:
    data_fields = {"parentHash": 32, "feeRecipient": 20, "stateRoot": 32, "receiptsRoot": 32, "logsBloom": 256}
    data_fields |= {"prevRandao": 32, "extraData": rng.randrange(33)}
    numbers: dict[str, Callable[[], int]] = dict.fromkeys(
        ("blockNumber", "gasUsed", "timestamp"), lambda: rng.getrandbits(rng.randrange(1, 64))
    )
    numbers |= {"gasLimit": lambda: 2**64 - 1, "baseFeePerGas": lambda: rng.getrandbits(rng.randrange(1, 256))}
    if structure >= 3:
        numbers |= dict.fromkeys(("blobGasUsed", "excessBlobGas"), lambda: rng.getrandbits(64))
    if structure >= 4:
        numbers["slotNumber"] = lambda: rng.getrandbits(64)
    payload: dict[str, Any] = {name: f"0x{rng.randbytes(width).hex()}" for name, width in data_fields.items()}
    payload |= {name: hex(make()) for name, make in numbers.items()}
    kinds = (b"\x01", b"\x02", b"\x04", b"\xc8")
    count = rng.choice((0, 1, 2, 17, 130))
    payload["transactions"] = [
        f"0x{(rng.choice(kinds) + rng.randbytes(rng.randrange(90))).hex()}" for _ in range(count)
    ]
    if structure >= 2:
        payload["withdrawals"] = [random_withdrawal(rng) for _ in range(rng.choice((0, 1, 16)))]
    if structure >= 4:
        payload["blockAccessList"] = f"0x{rlp.encode([[rng.randbytes(20), [], [], [], [], []]]).hex()}"
    return payload


def random_withdrawal(rng: Random) -> dict[str, str]:
    numbers = {name: hex(rng.getrandbits(rng.randrange(1, 64))) for name in ("index", "validatorIndex", "amount")}
    return {**numbers, "address": f"0x{rng.randbytes(20).hex()}"}


def eels_hash(fork: str, payload: dict[str, Any], companions: Companions) -> bytes:
    """The hash that the executable specification gives the block of a payload."""
    from ethereum.crypto.hash import keccak256
    from ethereum_rlp import rlp as ethereum_rlp
    from ethereum_types.bytes import Bytes8, Bytes20, Bytes32, Bytes256
    from ethereum_types.numeric import U64, U256, Uint

    blocks, tries = eels(fork, "blocks"), eels(fork, "trie")

    def root(items: list[Any]) -> Any:
        trie = tries.Trie(secured=False, default=None)
        for index, item in enumerate(items):
            tries.trie_set(trie, ethereum_rlp.encode(Uint(index)), item)
        return tries.root(trie)

    def number(name: str) -> int:
        return int(payload[name], 16)

    fields: dict[str, Any] = {
        "parent_hash": Bytes32(data(payload["parentHash"])),
        "ommers_hash": keccak256(ethereum_rlp.encode([])),
        "coinbase": Bytes20(data(payload["feeRecipient"])),
        "state_root": Bytes32(data(payload["stateRoot"])),
        "transactions_root": root([data(each) for each in payload["transactions"]]),
        "receipt_root": Bytes32(data(payload["receiptsRoot"])),
        "bloom": Bytes256(data(payload["logsBloom"])),
        "difficulty": Uint(0),
        "number": Uint(number("blockNumber")),
        "gas_limit": Uint(number("gasLimit")),
        "gas_used": Uint(number("gasUsed")),
        "timestamp": U256(number("timestamp")),
        "extra_data": data(payload["extraData"]),
        "prev_randao": Bytes32(data(payload["prevRandao"])),
        "nonce": Bytes8(bytes(8)),
        "base_fee_per_gas": Uint(number("baseFeePerGas")),
    }
    if "withdrawals" in payload:
        fields["withdrawals_root"] = root(
            [
                blocks.Withdrawal(
                    index=U64(int(each["index"], 16)),
                    validator_index=U64(int(each["validatorIndex"], 16)),
                    address=Bytes20(data(each["address"])),
                    amount=U256(int(each["amount"], 16)),
                )
                for each in payload["withdrawals"]
            ]
        )
    if companions.parent_beacon_root is not None:
        fields |= {"blob_gas_used": U64(number("blobGasUsed")), "excess_blob_gas": U64(number("excessBlobGas"))}
        fields["parent_beacon_block_root"] = Bytes32(companions.parent_beacon_root)
    if companions.requests is not None:
        fields["requests_hash"] = Bytes32(eels(fork, "requests").compute_requests_hash(list(companions.requests)))
    return bytes(keccak256(ethereum_rlp.encode(blocks.Header(**fields))))


@pytest.mark.parametrize("fork", FORKS)
def test_the_executable_specification_gives_every_block_the_same_hash(fork: str) -> None:
    pytest.importorskip("ethereum", reason="ethereum-execution needs Python < 3.13")
    rng = Random(fork)
    structure, companion_count = FORKS[fork]
    for _ in range(12):
        payload = random_payload(rng, structure)
        requests = tuple(bytes((kind,)) + rng.randbytes(rng.randrange(1, 200)) for kind in range(rng.randrange(4)))
        companions = Companions(
            () if companion_count >= 2 else None,
            rng.randbytes(32) if companion_count >= 2 else None,
            requests if companion_count >= 3 else None,
        )
        payload["blockHash"] = f"0x{eels_hash(fork, payload, companions).hex()}"
        assert check_payload(decode_payload(payload, structure), companions).header.hash == data(payload["blockHash"])


def test_amsterdam_appends_the_hash_of_the_access_list_and_the_slot() -> None:
    # Given a payload of Amsterdam, for which there is no executable specification yet
    rng = Random(7)
    payload, companions = random_payload(rng, 4), Companions((), rng.randbytes(32), (b"\x01\x02",))
    payload["blockHash"] = "0x" + "00" * 32
    with pytest.raises(WrongBlockHash):
        check_payload(decode_payload(payload, 4), companions)
    # Then its header is that of Prague with two more fields at the end (EIP-7928, EIP-7843; go-ethereum at 02b73d4e,
    # core/types/block.go, Header), encoded here by another package.
    prague = {name: value for name, value in payload.items() if name not in ("blockAccessList", "slotNumber")}
    with pytest.raises(WrongBlockHash):
        check_payload(decode_payload(prague, 3), companions)
    fields = rlp.decode(build_payload_header(decode_payload(prague, 3), companions).raw)
    access_list = keccak.new(digest_bits=256, data=data(payload["blockAccessList"])).digest()
    slot = int(payload["slotNumber"], 16)
    raw = rlp.encode([*fields, access_list, slot.to_bytes(8, "big").lstrip(b"\0")])
    payload["blockHash"] = f"0x{keccak.new(digest_bits=256, data=raw).hexdigest()}"
    block = check_payload(decode_payload(payload, 4), companions)
    assert (block.header.raw, block.header.slot_number, block.header.block_access_list_hash) == (raw, slot, access_list)


def test_no_requests_have_the_hash_of_nothing() -> None:
    assert hash_requests(()) == EMPTY_REQUESTS
