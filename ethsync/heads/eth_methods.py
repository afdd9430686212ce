"""The `eth_` methods that consensus clients call on the engine's port, as far as a client without state can answer.

Source: execution-apis, src/engine/common.md ("Underlying protocol") for which, src/eth and src/schemas for the forms.
What would need state, logs or a pool is refused with an error that says so.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from ethsync import __version__
from ethsync.errors import MalformedMessage
from ethsync.heads.json_fields import data, flag, quantity
from ethsync.heads.json_rpc import RpcCode, RpcError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ethsync.heads.head import HeadFeed
    from ethsync.heads.json_fields import JsonValue
    from ethsync.heads.json_rpc import Method
    from ethsync.heads.known_blocks import KnownBlock
    from ethsync.networks import Network
    from ethsync.wire.headers import Header

CLIENT_VERSION = f"ethsync/v{__version__}/{platform.system().lower()}/python{platform.python_version()}"

REFUSED = ("eth_call", "eth_getCode", "eth_getLogs", "eth_sendRawTransaction")
"""Methods that common.md asks for and that nobody can answer without executing blocks."""

_HEADER_FIELDS: Mapping[str, str] = {
    "hash": "hash",
    "parentHash": "parent_hash",
    "sha3Uncles": "ommers_hash",
    "miner": "coinbase",
    "stateRoot": "state_root",
    "transactionsRoot": "transactions_root",
    "receiptsRoot": "receipts_root",
    "logsBloom": "logs_bloom",
    "difficulty": "difficulty",
    "number": "number",
    "gasLimit": "gas_limit",
    "gasUsed": "gas_used",
    "timestamp": "timestamp",
    "extraData": "extra_data",
    "mixHash": "mix_hash",
    "nonce": "nonce",
    "baseFeePerGas": "base_fee",
    "withdrawalsRoot": "withdrawals_root",
    "blobGasUsed": "blob_gas_used",
    "excessBlobGas": "excess_blob_gas",
    "parentBeaconBlockRoot": "parent_beacon_root",
    "requestsHash": "requests_hash",
    "blockAccessListHash": "block_access_list_hash",
    "slotNumber": "slot_number",
}
"""Fields of a block in JSON-RPC (src/schemas/block.yaml) and in `wire.headers`."""


class EthMethods:
    """Answers about the chain from what a feed knows."""

    def __init__(self, feed: HeadFeed, network: Network) -> None:
        self._feed = feed
        self._network = network

    def methods(self) -> dict[str, Method]:
        """By name."""
        return {
            "eth_chainId": self.chain_id,
            "net_version": self.net_version,
            "web3_clientVersion": client_version,
            "eth_syncing": self.syncing,
            "eth_blockNumber": self.block_number,
            "eth_getBlockByHash": self.block_by_hash,
            "eth_getBlockByNumber": self.block_by_number,
            **dict.fromkeys(REFUSED, refuse),
        }

    async def chain_id(self, _parameters: Sequence[JsonValue]) -> JsonValue:
        """eth_chainId."""
        return hex(self._network.chain_id)

    async def net_version(self, _parameters: Sequence[JsonValue]) -> JsonValue:
        """net_version."""
        return str(self._network.network_id)

    async def syncing(self, _parameters: Sequence[JsonValue]) -> JsonValue:
        """eth_syncing: false once a complete state is held."""
        if self._feed.held is not None:
            return False
        head = self._feed.head
        number = head.number if head is not None and head.number is not None else 0
        return {"startingBlock": "0x0", "currentBlock": "0x0", "highestBlock": hex(number)}

    async def block_number(self, _parameters: Sequence[JsonValue]) -> JsonValue:
        """eth_blockNumber: of the block whose state is held, or of the genesis block."""
        return hex(self._feed.held.number if self._feed.held is not None else 0)

    async def block_by_hash(self, parameters: Sequence[JsonValue]) -> JsonValue:
        """eth_getBlockByHash; null for blocks that are not known here."""
        wanted, full = _block_parameters(parameters)
        return self._block(data(wanted, "the block hash", 32), full)

    async def block_by_number(self, parameters: Sequence[JsonValue]) -> JsonValue:
        """eth_getBlockByNumber, on the chain that ends in the trusted head; null for blocks that are not known here."""
        wanted, full = _block_parameters(parameters)
        head = self._feed.head
        if head is None:
            return None
        tags = {"latest": head.block_hash, "pending": None, "earliest": self._network.genesis_hash}
        tags |= {"safe": head.safe, "finalized": head.finalized}
        if isinstance(wanted, str) and wanted in tags:
            named = tags[wanted]
            return self._block(named, full) if named is not None else None
        number = quantity(wanted, "the block number")
        for header in self._feed.blocks.back_from(head.block_hash):
            if header.number <= number:
                return self._block(header.hash, full) if header.number == number else None
        return None

    def _block(self, block_hash: bytes, full: bool) -> JsonValue:
        block = self._feed.blocks.get(block_hash)
        if block is None:
            return None
        if full and block.transaction_hashes:
            raise RpcError(RpcCode.SERVER_ERROR, "transactions are not kept here, only their hashes")
        return block_json(block)


def _block_parameters(parameters: Sequence[JsonValue]) -> tuple[JsonValue, bool]:
    if not 1 <= len(parameters) <= 2:
        raise MalformedMessage("a block and whether its transactions are wanted whole")
    return parameters[0], flag(parameters[1], "the second parameter") if len(parameters) > 1 else False


def block_json(block: KnownBlock) -> JsonValue:
    """A block as eth_getBlockByHash gives it, with transactions by hash."""
    hashes = block.transaction_hashes
    document: dict[str, JsonValue] = _header_json(block.header)
    document["size"] = hex(block.size)
    document["uncles"] = []
    document["transactions"] = [f"0x{hashes[start : start + 32].hex()}" for start in range(0, len(hashes), 32)]
    if block.withdrawals is not None:
        document["withdrawals"] = [
            {
                "index": hex(each.index),
                "validatorIndex": hex(each.validator_index),
                "address": f"0x{each.address.hex()}",
                "amount": hex(each.amount),
            }
            for each in block.withdrawals
        ]
    return document


def _header_json(header: Header) -> dict[str, JsonValue]:
    values = {name: getattr(header, field) for name, field in _HEADER_FIELDS.items()}
    return {
        name: hex(value) if isinstance(value, int) else f"0x{value.hex()}"
        for name, value in values.items()
        if value is not None
    }


async def client_version(_parameters: Sequence[JsonValue]) -> JsonValue:
    """web3_clientVersion."""
    return CLIENT_VERSION


async def refuse(_parameters: Sequence[JsonValue]) -> JsonValue:
    """What cannot be answered here."""
    raise RpcError(RpcCode.SERVER_ERROR, "ethsync executes no blocks and keeps no logs: ask another execution client")
