"""Deterministic genesis files in go-ethereum's format, for peers that are not ours."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal, TypeAlias

Fork: TypeAlias = Literal["london", "shanghai", "cancun", "prague"]

TEST_ACCOUNT = "0x71562b71999873db5b286df957af199ec94617f7"
"""Address of go-ethereum's well-known test key b71c71a6…; the JavaScript peer sends its transactions from it."""

LARGE_CONTRACT_FACTOR = 50
"""Contract 0 has this many times the slots of the others, so that its storage takes several replies."""

CHAIN_ID = 1337
TIMESTAMP = 0x65A00000

_BLOCK_FORKS = (
    "homestead eip150 eip155 eip158 byzantium constantinople petersburg istanbul berlin london".split()  # noqa: SIM905
)
_BLOB_LIMITS = {"target": 3, "max": 6, "baseFeeUpdateFraction": 3_338_477}  # EIP-4844, EIP-7840
_BLOB_LIMITS_PRAGUE = {"target": 6, "max": 9, "baseFeeUpdateFraction": 5_007_716}  # EIP-7691


SETTER = "6020356000355560003560206000a100"
"""Code that stores calldata[32:64] at slot calldata[0:32] and logs it; the JavaScript peer calls what begins so."""

SUICIDE = "33ff"
"""Code that destroys its contract, which is gone with its storage then; before Cancun (EIP-6780)."""


def make_genesis(
    accounts: int, contracts: int, slots: int = 20, *, fork: Fork = "cancun", changing: int = 0
) -> dict[str, Any]:
    """Return a genesis of plain accounts, contracts with about `slots` slots each, and one funded test account.

    A third of the contracts share one code; every fifth has no storage; values have every length from 1 to 32 bytes.
    `changing`: of so many blocks with transactions each changes storage, empties one contract, and deletes an account.
    """
    alloc: dict[str, Any] = {}
    for i in range(accounts):
        nonce = {"nonce": hex(i % 7)} if i % 7 else {}
        alloc[_address(f"account {i}")] = {"balance": hex(10**18 + i), **nonce}
    for i in range(contracts):
        storage = _storage(i, slots)
        alloc[_address(f"contract {i}")] = {
            "balance": hex(i),
            "nonce": "0x1",
            "code": "0x" + _code(i).hex(),
            **({"storage": storage} if storage else {}),
        }
    alloc |= _changing(changing, slots)
    alloc[TEST_ACCOUNT] = {"balance": hex(10**24)}
    return {
        "config": _config(fork),
        "nonce": "0x0",
        "timestamp": hex(TIMESTAMP),
        "extraData": "0x" + b"ethsync".hex(),
        "gasLimit": hex(30_000_000),
        "difficulty": "0x20000" if fork == "london" else "0x0",
        "mixHash": "0x" + "00" * 32,
        "coinbase": "0x" + "00" * 20,
        "number": "0x0",
        "gasUsed": "0x0",
        "parentHash": "0x" + "00" * 32,
        "baseFeePerGas": hex(10**9),
        **({"excessBlobGas": "0x0", "blobGasUsed": "0x0"} if fork in ("cancun", "prague") else {}),
        "alloc": alloc,
    }


def _changing(blocks: int, slots: int) -> dict[str, Any]:
    """Contracts and accounts that transactions change, by what they are: see chain.mjs."""
    alloc: dict[str, Any] = {}
    for i in range(1 + blocks if blocks else 0):
        code = SETTER + _hash(f"setter {i}").hex()
        # The first has a thousand slots, of which each block changes some; the others have one, which a block clears.
        storage = _storage(0, slots) if i == 0 else {"0x" + "00" * 31 + "07": "0x" + "00" * 31 + "2a"}
        alloc[_address(f"setter {i}")] = {"balance": "0x0", "nonce": "0x1", "code": "0x" + code, "storage": storage}
    for i in range(blocks):
        code = SUICIDE + _hash(f"mortal {i}").hex()
        storage = _storage(1 + i * 5, slots)
        alloc[_address(f"mortal {i}")] = {"balance": "0x1", "nonce": "0x1", "code": "0x" + code, "storage": storage}
        # Without nonce, balance and code: whoever touches it takes it away (EIP-161).
        alloc[_address(f"empty {i}")] = {"balance": "0x0"}
    return alloc


def _config(fork: Fork) -> dict[str, Any]:
    config: dict[str, Any] = {"chainId": CHAIN_ID, **{f"{name}Block": 0 for name in _BLOCK_FORKS}}
    if fork == "london":
        return {**config, "ethash": {}}
    merged = {"mergeNetsplitBlock": 0, "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": True}
    config |= {**merged, "shanghaiTime": 0}
    if fork == "cancun":
        config |= {"cancunTime": 0, "blobSchedule": {"cancun": _BLOB_LIMITS}}
    if fork == "prague":
        config |= {
            "cancunTime": 0,
            "pragueTime": 0,
            "depositContractAddress": "0x" + "42" * 20,
            "blobSchedule": {"cancun": _BLOB_LIMITS, "prague": _BLOB_LIMITS_PRAGUE},
        }
    return config


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _address(seed: str) -> str:
    return "0x" + _hash(seed)[:20].hex()


def _code(contract: int) -> bytes:
    """Code of 35 bytes to 4 kB that returns at once: PUSH0 PUSH0 RETURN, then filling."""
    kind = contract if contract % 3 else 0
    return bytes.fromhex("5f5ff3") + b"".join(_hash(f"code {kind}.{i}") for i in range(1 + kind % 128))


def _storage(contract: int, slots: int) -> dict[str, str]:
    if contract and contract % 5 == 0:
        return {}
    storage: dict[str, str] = {}
    for i in range(slots if contract else slots * LARGE_CONTRACT_FACTOR):
        slot = i.to_bytes(32, "big") if i % 2 else _hash(f"slot {contract}.{i}")
        value = _hash(f"value {contract}.{i}")[: 1 + i * 7 % 32]
        first = value[0] or 1  # a leading zero would be cut off
        storage["0x" + slot.hex()] = "0x" + (bytes([first]) + value[1:]).rjust(32, b"\0").hex()
    return storage
