"""Receipts by the Ethereum execution specification (`ethereum-execution`): bloom and consensus form, not ours."""

from __future__ import annotations

from typing import Any

from ethereum.forks.osaka.blocks import Log
from ethereum.forks.osaka.blocks import Receipt as SpecifiedReceipt
from ethereum.forks.osaka.bloom import logs_bloom
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes20, Bytes32
from ethereum_types.numeric import Uint

LogFields = tuple[bytes, tuple[bytes, ...], bytes]
"""Address, topics, data."""


def consensus_form(tx_type: int, succeeded: bool, cumulative_gas: int, logs: list[LogFields]) -> bytes:
    """What the receipts trie stores for a receipt."""
    entries = tuple(Log(Bytes20(address), tuple(map(Bytes32, topics)), data) for address, topics, data in logs)
    receipt: Any = SpecifiedReceipt(succeeded, Uint(cumulative_gas), logs_bloom(entries), entries)
    encoded = bytes(rlp.encode(receipt))
    return bytes((tx_type,)) + encoded if tx_type else encoded
