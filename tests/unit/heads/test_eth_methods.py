"""The `eth_` methods on the engine's port, against the public schemas and blocks of geth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ethsync.genesis import network_from_genesis
from ethsync.heads.eth_methods import REFUSED, block_json
from ethsync.heads.head import TrustedHead
from ethsync.heads.known_blocks import KnownBlock, Withdrawal
from ethsync.networks import load_network
from ethsync.wire.headers import build_header
from tests.oracles.engine_client import CallFailed, EngineClient, open_engine
from tests.oracles.payloads import blob_hashes_of, chain_blocks, hexed, payload_of

VECTORS = Path(__file__).parents[2] / "vectors"
BLOCKS = json.loads((VECTORS / "execution-apis" / "blocks.json").read_text())

HEADER_FIELDS = {
    "parentHash": "parent_hash", "sha3Uncles": "ommers_hash", "miner": "coinbase", "stateRoot": "state_root",
    "transactionsRoot": "transactions_root", "receiptsRoot": "receipts_root", "logsBloom": "logs_bloom",
    "difficulty": "difficulty", "number": "number", "gasLimit": "gas_limit", "gasUsed": "gas_used",
    "timestamp": "timestamp", "extraData": "extra_data", "mixHash": "mix_hash", "nonce": "nonce",
    "baseFeePerGas": "base_fee", "withdrawalsRoot": "withdrawals_root", "blobGasUsed": "blob_gas_used",
    "excessBlobGas": "excess_blob_gas", "parentBeaconBlockRoot": "parent_beacon_root", "requestsHash": "requests_hash",
}  # fmt: skip
NUMBERS = {
    *("difficulty", "number", "gas_limit", "gas_used", "timestamp", "base_fee", "blob_gas_used", "excess_blob_gas")
}


def value_of(field: str, text: str) -> bytes | int:
    return int(text, 16) if field in NUMBERS else bytes.fromhex(text[2:])


def known(document: dict[str, Any]) -> KnownBlock:
    """The block that a published answer describes."""
    fields = {field: value_of(field, document[name]) for name, field in HEADER_FIELDS.items() if name in document}
    withdrawals = document.get("withdrawals")
    return KnownBlock(
        build_header(**fields),
        b"".join(bytes.fromhex(each[2:]) for each in document["transactions"]),
        withdrawals and tuple(
            Withdrawal(int(each["index"], 16), int(each["validatorIndex"], 16), bytes.fromhex(each["address"][2:]),
                       int(each["amount"], 16))
            for each in withdrawals
        ) if withdrawals != [] else (),
        int(document["size"], 16),
    )  # fmt: skip


@pytest.mark.parametrize("fork", BLOCKS)
def test_blocks_are_written_as_geth_writes_them(fork: str) -> None:
    # Given a published answer, whose header has the hash that it names
    published = BLOCKS[fork]
    block = known(published)
    assert hexed(block.header.hash) == published["hash"]
    # Then ours is the same, field by field.
    assert block_json(block) == published


async def send_chain(client: EngineClient, first: int, last: int) -> list[bytes]:
    """Send payloads of geth's chain; return their hashes."""
    hashes: list[bytes] = []
    for header, raw in chain_blocks():
        if first <= header.number <= last:
            parameters = [payload_of(raw), blob_hashes_of(raw), hexed(header.parent_beacon_root or b""), []]
            await client.call("engine_newPayloadV4", *parameters)
            hashes.append(header.hash)
    return hashes


async def test_what_chain_it_is() -> None:
    async with open_engine(load_network("hoodi")) as client:
        assert await client.call("eth_chainId") == hex(560048)
        assert await client.call("net_version") == "560048"
        assert (await client.call("web3_clientVersion")).startswith("ethsync/v")


async def test_before_anything_is_known() -> None:
    async with open_engine(load_network("hoodi")) as client:
        assert await client.call("eth_blockNumber") == "0x0"
        assert await client.call("eth_syncing") == {
            "startingBlock": "0x0",
            "currentBlock": "0x0",
            "highestBlock": "0x0",
        }
        assert await client.call("eth_getBlockByNumber", "latest", False) is None
        assert await client.call("eth_getBlockByHash", "0x" + "11" * 32, True) is None


async def test_blocks_that_came_as_payloads_are_given_back() -> None:
    async with open_engine(network_from_genesis(VECTORS / "ethtest" / "genesis.json")) as client:
        hashes = await send_chain(client, 315, 322)
        forkchoice = {"headBlockHash": hexed(hashes[-1]), "safeBlockHash": hexed(hashes[3])}
        await client.call("engine_forkchoiceUpdatedV3", {**forkchoice, "finalizedBlockHash": hexed(hashes[0])})
        by_name = {"latest": 322, "safe": 318, "finalized": 315, "0x140": 320, hex(322): 322}
        for name, number in by_name.items():
            block = await client.call("eth_getBlockByNumber", name, False)
            assert (block["number"], block["hash"]) == (hex(number), hexed(hashes[number - 315]))
            assert await client.call("eth_getBlockByHash", block["hash"], False) == block
        for name in ("pending", "earliest", hex(314), hex(323), hex(2**60)):
            assert await client.call("eth_getBlockByNumber", name, False) is None


async def test_whole_transactions_are_not_kept() -> None:
    async with open_engine(network_from_genesis(VECTORS / "ethtest" / "genesis.json")) as client:
        hashes = await send_chain(client, 320, 320)
        with pytest.raises(CallFailed) as caught:
            await client.call("eth_getBlockByHash", hexed(hashes[0]), True)
    assert caught.value.error["data"] == {"err": "transactions are not kept here, only their hashes"}


async def test_syncing_ends_with_a_complete_state() -> None:
    async with open_engine(load_network("hoodi")) as client:
        client.feed.publish(TrustedHead(bytes((1,)) * 32, 500))
        assert (await client.call("eth_syncing"))["highestBlock"] == hex(500)
        client.feed.held = build_header(number=436)
        assert await client.call("eth_syncing") is False
        assert await client.call("eth_blockNumber") == hex(436)


CALLED = {
    "Lighthouse": ["eth_syncing", "eth_chainId", "eth_blockNumber", "eth_getBlockByNumber", "eth_getBlockByHash",
                   "eth_call", "eth_getLogs"],
    "Lodestar": ["eth_blockNumber", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getCode", "eth_getLogs"],
    "Nimbus": ["eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash"],
    "Prysm": ["eth_getBlockByNumber", "eth_getBlockByHash", "eth_getLogs"],
    "Teku": ["eth_getBlockByNumber", "eth_getBlockByHash"],
}  # fmt: skip
"""Calls outside `engine_` in their sources: execution_layer/src/engine_api/http.rs (2e0eb6d1), beacon-node/src/eth1/
provider (6de07362), beacon_chain/el/el_manager.nim (f54a0366), beacon-chain/execution (7ac522d8), and
executionclient/AbstractExecutionEngineClient.java (90ed09bb)."""


@pytest.mark.parametrize("client", CALLED)
async def test_no_call_of_a_consensus_client_is_unknown(client: str) -> None:
    async with open_engine(load_network("hoodi")) as engine:
        for method in CALLED[client]:
            parameters = {"eth_getBlockByNumber": ["latest", False], "eth_getBlockByHash": ["0x" + "11" * 32, False]}
            if method in REFUSED:
                with pytest.raises(CallFailed, match="Server error"):
                    await engine.call(method)
            else:
                await engine.call(method, *parameters.get(method, []))


async def test_headers_are_asked_for_a_thousand_at_a_time() -> None:
    """Prysm and Lodestar do."""
    async with open_engine(network_from_genesis(VECTORS / "ethtest" / "genesis.json")) as client:
        hashes = await send_chain(client, 315, 322)
        state = {"headBlockHash": hexed(hashes[-1]), "safeBlockHash": hexed(bytes(32))}
        state["finalizedBlockHash"] = state["safeBlockHash"]
        await client.call("engine_forkchoiceUpdatedV3", state)
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": "eth_getBlockByNumber", "params": [hex(number), False]}
            for number in range(1000)
        ]
        _, body = await client.post(json.dumps(calls).encode())
    answers = {each["id"]: each["result"] for each in json.loads(body)}
    assert len(answers) == 1000
    assert {number for number, block in answers.items() if block is not None} == set(range(315, 323))


@pytest.mark.parametrize("method", REFUSED)
async def test_what_needs_execution_is_refused_with_a_reason(method: str) -> None:
    async with open_engine(load_network("hoodi")) as client:
        with pytest.raises(CallFailed) as caught:
            await client.call(method, {}, "latest")
    assert caught.value.code == -32000
    assert "executes no blocks" in caught.value.error["data"]["err"]


@pytest.mark.parametrize(
    "parameters", [[], ["now", False], ["0x00", False], [5, False], ["0x1", "yes"], ["0x1", False, 1]]
)
async def test_other_parameters_are_invalid(parameters: list[Any]) -> None:
    async with open_engine(load_network("hoodi")) as client:
        client.feed.publish(TrustedHead(bytes(32), 5))
        with pytest.raises(CallFailed) as caught:
            await client.call("eth_getBlockByNumber", *parameters)
    assert caught.value.code == -32602
