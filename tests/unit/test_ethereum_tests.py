"""Headers, tries and RLP against the figures of ethereum/tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ethsync.errors import Disproved, MalformedMessage, VerificationFailed
from ethsync.hashing import keccak256
from ethsync.headers.rules import NEVER, ChainRules
from ethsync.headers.segment import HeaderQuery, read_headers
from ethsync.state.tries import root_of
from ethsync.wire import rlp
from ethsync.wire.eth import BlockHeaders
from ethsync.wire.headers import build_header, decode_header

VECTORS = Path(__file__).parents[1] / "vectors" / "ethereum-tests"
TRIES = json.loads((VECTORS / "tries.json").read_text())
RLP = json.loads((VECTORS / "rlp.json").read_text())
HEADERS = json.loads((VECTORS / "headers.json").read_text())

FIELDS = {
    "parentHash": "parent_hash", "uncleHash": "ommers_hash", "coinbase": "coinbase", "stateRoot": "state_root",
    "transactionsTrie": "transactions_root", "receiptTrie": "receipts_root", "difficulty": "difficulty",
    "number": "number", "gasLimit": "gas_limit", "gasUsed": "gas_used", "timestamp": "timestamp",
    "extraData": "extra_data", "mixHash": "mix_hash", "nonce": "nonce", "baseFeePerGas": "base_fee",
    "withdrawalsRoot": "withdrawals_root", "blobGasUsed": "blob_gas_used", "excessBlobGas": "excess_blob_gas",
    "parentBeaconBlockRoot": "parent_beacon_root",
}  # fmt: skip

SCHEDULES = {
    "FrontierToHomesteadAt5": [NEVER] * 5,
    "EIP158ToByzantiumAt5": [NEVER] * 5,
    "BerlinToLondonAt5": [5, *[NEVER] * 4],
    "ArrowGlacierToParisAtDiffC0000": [0, *[NEVER] * 4],
    "ParisToShanghaiAtTime15k": [0, 15_000, *[NEVER] * 3],
    "ShanghaiToCancunAtTime15k": [0, 0, 15_000, *[NEVER] * 2],
    "Cancun": [0, 0, 0, *[NEVER] * 2],
}
"""Since when the forks that append header fields are in force, as the names say."""

NEEDS_MORE = {
    "wrongGasLimit/0": "the limit's distance from the parent's",
    "wrongGasUsed/0": "execution",
    "wrongDifficulty/0": "whether work was ever proven: its parent is the genesis block, which belongs to neither time",
    "GasLimitHigherThan2p63m1/0": "a bound on the gas limit, which no rule of ours has",
}
"""Invalid headers that look right from their fields: a trusted hash is what refuses them."""


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.mark.parametrize("name", TRIES)
def test_hashed_tries_have_the_published_roots(name: str) -> None:
    leaves: dict[bytes, bytes] = {}
    for key, value in TRIES[name]["in"]:
        hashed = keccak256(unhex(key) if key.startswith("0x") else key.encode())
        if value is None:
            del leaves[hashed]
        else:
            leaves[hashed] = unhex(value) if value.startswith("0x") else value.encode()
    keys = sorted(leaves)
    assert root_of(keys, [leaves[key] for key in keys]) == unhex(TRIES[name]["root"])


def as_items(value: Any) -> Any:
    """A published value as what RLP has: bytes and lists of them."""
    if isinstance(value, list):
        return [as_items(each) for each in value]
    if isinstance(value, str) and not value.startswith("#"):
        return value.encode()
    number = int(value.removeprefix("#")) if isinstance(value, str) else int(value)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


@pytest.mark.parametrize("name", RLP["valid"])
def test_rlp_is_written_and_read_as_published(name: str) -> None:
    value, encoded = as_items(RLP["valid"][name]["in"]), unhex(RLP["valid"][name]["out"])
    assert rlp.encode(value) == encoded
    assert rlp.decode(encoded) == value


@pytest.mark.parametrize("name", RLP["invalid"])
def test_rlp_that_is_published_as_invalid_is_refused(name: str) -> None:
    with pytest.raises(MalformedMessage):
        rlp.decode(unhex(RLP["invalid"][name]))


@pytest.mark.parametrize("name", HEADERS["chains"])
def test_headers_have_the_published_fields_and_hashes(name: str) -> None:
    for published in HEADERS["chains"][name]["headers"]:
        header = decode_header(unhex(published["rlp"]))
        for theirs, ours in FIELDS.items():
            found = getattr(header, ours)
            text = published.get(theirs)
            wanted = None if text is None else int(text, 16) if isinstance(found, int) else unhex(text)
            assert found == wanted, theirs
        assert header.hash == unhex(published["hash"])
        built = {name: getattr(header, name) for name in FIELDS.values() if getattr(header, name) is not None}
        assert build_header(**built, logs_bloom=header.logs_bloom).raw == header.raw


def proven(raws: list[bytes], schedule: list[int], genesis: bytes) -> None:
    """Read headers, the highest first, as the reply to a request for the hash of the highest."""
    query = HeaderQuery(decode_header(raws[0]).number, len(raws), keccak256(raws[0]))
    rules = ChainRules(np.array(schedule, np.int64), genesis)
    segment = read_headers(BlockHeaders(1, tuple(raws)).encode(), query, rules)
    assert segment is not None
    assert len(segment) == len(raws)


@pytest.mark.parametrize("name", HEADERS["chains"])
def test_chains_across_forks_are_proven(name: str) -> None:
    chain = HEADERS["chains"][name]
    raws = [unhex(published["rlp"]) for published in chain["headers"]][::-1]
    schedule = SCHEDULES[chain["network"]]
    proven(raws, schedule, keccak256(raws[-1]))
    # And under rules of another fork they are not.
    shifted = [0, *schedule[1:]] if schedule[0] else [*schedule[:3], 0, NEVER]
    with pytest.raises(VerificationFailed, match="has not the fields of its fork"):
        proven(raws, shifted, keccak256(raws[-1]))


@pytest.mark.parametrize("name", sorted(set(HEADERS["invalid"]) - set(NEEDS_MORE)))
def test_headers_that_no_client_takes_are_refused(name: str) -> None:
    case = HEADERS["invalid"][name]
    raws = [unhex(case["rlp"]), unhex(case["parent"])]
    genesis = keccak256(raws[-1])
    with pytest.raises((Disproved, VerificationFailed, MalformedMessage)):
        proven(raws, SCHEDULES["Cancun"], genesis)


@pytest.mark.parametrize("name", NEEDS_MORE)
def test_headers_that_only_the_trusted_hash_refuses(name: str) -> None:
    case = HEADERS["invalid"][name]
    header, parent = decode_header(unhex(case["rlp"])), unhex(case["parent"])
    proven([header.raw, parent], SCHEDULES["Cancun"], keccak256(parent))
    # Asked for by the hash of a valid one, it is a lie.
    valid = build_header(number=header.number, parent_hash=keccak256(parent))
    query = HeaderQuery(valid.number, 2, valid.hash)
    rules = ChainRules(np.array(SCHEDULES["Cancun"], np.int64), keccak256(parent))
    with pytest.raises(Disproved):
        read_headers(BlockHeaders(1, (header.raw, parent)).encode(), query, rules)
