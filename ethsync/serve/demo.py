"""The chain that a synthetic state belongs to: a post-merge network, the same for all synthetic states."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ethsync.genesis import network_from_genesis
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.wire.headers import Header, build_header

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.networks import Network

NAME = "demo"
CHAIN_ID = 424_242
GENESIS_TIME = 1_710_338_135
"""When Cancun went live on mainnet: all its forks are active from the demo chain's first block on."""

HEAD_NUMBER = 1_000
SLOT_SECONDS = 12
GAS_LIMIT = 30_000_000
BASE_FEE = 7
"""Wei: the least that EIP-1559's rule reaches in a chain of empty blocks."""

GENESIS_FILE = "genesis.json"

_BLOCK_FORKS = (
    "homesteadBlock", "eip150Block", "eip155Block", "eip158Block", "byzantiumBlock", "constantinopleBlock",
    "petersburgBlock", "istanbulBlock", "berlinBlock", "londonBlock", "mergeNetsplitBlock",
)  # fmt: skip


def demo_genesis() -> dict[str, Any]:
    """The genesis in go-ethereum's JSON format. Its state is empty."""
    config: dict[str, Any] = {"chainId": CHAIN_ID, **dict.fromkeys(_BLOCK_FORKS, 0)}
    config |= {"terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0}
    config["blobSchedule"] = {"cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477}}  # EIP-4844
    return {
        "config": config,
        "timestamp": hex(GENESIS_TIME),
        "gasLimit": hex(GAS_LIMIT),
        "difficulty": "0x0",
        "nonce": "0x0",
        "extraData": "0x",
        "alloc": {},
    }


def demo_network() -> Network:
    """The network of all synthetic states."""
    return replace(network_from_genesis(demo_genesis()), name=NAME)


def write_genesis(directory: Path) -> Path:
    """Write the genesis beside the state, for clients in other processes; return its path."""
    path = directory / GENESIS_FILE
    path.write_text(json.dumps(demo_genesis(), indent=1) + "\n", encoding="utf-8")
    return path


def head_header(state_root: bytes, seed: int, number: int = HEAD_NUMBER, parent: bytes | None = None) -> Header:
    """A plausible Cancun header of an empty block with this state root; without `parent` of a chain not held."""
    return build_header(
        parent_hash=parent if parent is not None else keccak256(f"parent {seed}".encode()),
        state_root=state_root,
        number=number,
        gas_limit=GAS_LIMIT,
        timestamp=GENESIS_TIME + SLOT_SECONDS * number,
        mix_hash=keccak256(f"randao {seed}".encode()),
        base_fee=BASE_FEE,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_root=keccak256(f"beacon {seed}".encode()),
    )
