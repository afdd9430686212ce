"""Real states over real sockets: mainnet's genesis, and the 600th block of a chain that go-ethereum made."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from ethsync.genesis import genesis_state
from ethsync.hashing import keccak256
from ethsync.networks import Network, load_network
from ethsync.serve.profiles import PROFILES
from ethsync.serve.small_state import StatedAccount, create_state, stated
from ethsync.wire.headers import Header, build_header, decode_header
from tests.faults.states import opened
from tests.faults.syncing import Synced, assert_state, open_hosts, sync_from

ETHTEST = Path(__file__).parents[1] / "vectors" / "ethtest"
MAINNET_ROOT = "d7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544"


async def synced_over_sockets(
    tmp_path: Path, accounts: list[StatedAccount], network: Network, header: Header, most_bytes: int
) -> Synced:
    """Write a state, serve it with three profiles, and sync it."""

    def checked(root: bytes) -> Header:
        assert header.state_root == root
        return header

    create_state(accounts, tmp_path / "served", network, checked)
    mix = [replace(PROFILES[name], most_bytes=most_bytes) for name in ("geth", "nethermind", "besu")]
    with opened(tmp_path / "served") as state:
        async with open_hosts(state, *mix, network=network) as hosts:
            synced = await sync_from(hosts, tmp_path / "d")
        await assert_state(synced, state, tmp_path / "d")
    return synced


async def test_the_genesis_state_of_mainnet(tmp_path: Path) -> None:
    """8,893 accounts, from the executable specification of Ethereum (which has no wheels for Python 3.13 yet)."""
    pytest.importorskip("ethereum")
    source = str(resources.files("ethereum") / "assets" / "mainnet.json")
    network = replace(load_network(source), name="mainnet")
    assert network.genesis_header_raw is not None
    header = decode_header(network.genesis_header_raw)
    accounts = [stated(account) for account in genesis_state(source)]
    synced = await synced_over_sockets(tmp_path, accounts, network, header, 64_000)
    assert synced.verified is not None
    assert synced.verified.state_root == f"0x{MAINNET_ROOT}"
    assert (synced.verified.block_number, synced.verified.accounts) == (0, 8_893)
    assert synced.verified.block_hash == f"0x{load_network('mainnet').genesis_hash.hex()}"


HEADER_FIELDS = {
    "parent_hash": "parentHash",
    "ommers_hash": "sha3Uncles",
    "coinbase": "miner",
    "state_root": "stateRoot",
    "transactions_root": "transactionsRoot",
    "receipts_root": "receiptsRoot",
    "logs_bloom": "logsBloom",
    "extra_data": "extraData",
    "mix_hash": "mixHash",
    "nonce": "nonce",
    "withdrawals_root": "withdrawalsRoot",
    "parent_beacon_root": "parentBeaconBlockRoot",
    "requests_hash": "requestsHash",
}
HEADER_NUMBERS = {
    "difficulty": "difficulty",
    "number": "number",
    "gas_limit": "gasLimit",
    "gas_used": "gasUsed",
    "timestamp": "timestamp",
    "base_fee": "baseFeePerGas",
    "blob_gas_used": "blobGasUsed",
    "excess_blob_gas": "excessBlobGas",
}
"""Our names of header fields, and go-ethereum's in JSON."""


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def head_block() -> Header:
    """The header of block 600, checked against its hash."""
    block = json.loads((ETHTEST / "headblock.json").read_bytes())
    strings: dict[str, bytes | int | None] = {ours: unhex(block[theirs]) for ours, theirs in HEADER_FIELDS.items()}
    numbers: dict[str, bytes | int | None] = {ours: int(block[theirs], 16) for ours, theirs in HEADER_NUMBERS.items()}
    header = build_header(**strings, **numbers)
    assert header.hash == unhex(block["hash"])
    return header


def dumped_account(fields: dict[str, Any]) -> StatedAccount:
    """One account of a geth state dump; slot values come without leading zeros."""
    slots = {keccak256(unhex(slot)): int(value, 16) for slot, value in fields.get("storage", {}).items()}
    return StatedAccount(
        unhex(fields["key"]), fields["nonce"], int(fields["balance"]), slots, unhex(fields.get("code", "0x"))
    )


@pytest.mark.parametrize("most_bytes", [900, 1 << 20])
async def test_the_state_after_600_blocks_of_go_ethereum(most_bytes: int, tmp_path: Path) -> None:
    state = json.loads((ETHTEST / "headstate.json").read_bytes())
    accounts = [dumped_account(fields) for fields in state["accounts"].values()]
    network = replace(load_network(ETHTEST / "genesis.json"), name="ethtest")
    synced = await synced_over_sockets(tmp_path, accounts, network, head_block(), most_bytes)
    assert synced.verified is not None
    assert synced.verified.state_root == f"0x{state['root']}"
    assert (synced.verified.block_number, synced.verified.accounts, synced.verified.slots) == (600, 194, 2_164)
