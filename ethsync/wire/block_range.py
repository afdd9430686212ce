"""The blocks that a peer holds: bodies and receipts from one number to another (EIP-7642, devp2p caps/eth.md).

It comes with Status from eth/69 on, and in BlockRangeUpdate. It is a hint: nothing proves it, nor that the last block
is on the chain that we follow. Headers are assumed to be held from genesis on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ethsync.errors import MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.eth_protocol import EthMessage


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Blocks `earliest` to `latest`, both included. `latest_hash` is None where the protocol does not say it."""

    earliest: int
    latest: int
    latest_hash: bytes | None = None

    def __contains__(self, number: int) -> bool:
        return self.earliest <= number <= self.latest


@dataclass(frozen=True, slots=True)
class BlockRangeUpdate:
    """The blocks that a peer holds, unasked. `latest_hash` has 32 bytes."""

    message: ClassVar[EthMessage] = EthMessage.BLOCK_RANGE_UPDATE
    earliest: int
    latest: int
    latest_hash: bytes

    def encode(self) -> bytes:
        """Return the payload `[earliest, latest, latestHash]`."""
        return rlp.encode([self.earliest, self.latest, self.latest_hash])

    @property
    def range(self) -> BlockRange:
        """What it says."""
        return BlockRange(self.earliest, self.latest, self.latest_hash)


def decode_block_range_update(payload: bytes) -> BlockRangeUpdate:
    """Decode the message and check that its range makes sense; raises `MalformedMessage`."""
    earliest, latest, encoded_hash = rlp.split_fields(payload, 3, "BlockRangeUpdate")
    latest_hash = rlp.fixed_string(encoded_hash, 32, "latest hash")
    update = BlockRangeUpdate(rlp.integer(earliest), rlp.integer(latest), latest_hash)
    check_block_range(update.earliest, update.latest, update.latest_hash)
    return update


def check_block_range(earliest: int, latest: int, latest_hash: bytes) -> None:
    """Check a block range of Status or BlockRangeUpdate as geth does. Raises `MalformedMessage`."""
    if earliest > latest:
        raise MalformedMessage(f"block range begins at {earliest}, after its end {latest}")
    if not any(latest_hash):
        raise MalformedMessage("block range ends in an all-zero hash")
