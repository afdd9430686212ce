"""Blocks whose headers came with a trusted source: bounded, linked by parent hash."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethsync.wire.headers import Header

MOST_BLOCKS = 512
"""Blocks remembered. A pivot is 64 blocks behind the head and moves when it is 120 more behind, so a chain from head to
pivot has under 200; the rest is room for side branches. A mainnet block takes about 16 kB here, so all take 8 MB."""

MOST_INVALID = 128
"""Hashes of invalid blocks remembered. A valid chain has none; these are for a consensus client that asks again."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One withdrawal from the beacon chain (EIP-4895). `amount` is in Gwei, `address` has 20 bytes."""

    index: int
    validator_index: int
    address: bytes
    amount: int


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """A block whose hash was checked. Its transactions are not kept, only their hashes."""

    header: Header
    transaction_hashes: bytes = b""
    """32 bytes for each transaction."""
    withdrawals: tuple[Withdrawal, ...] | None = None
    size: int = 0
    """Bytes of the block in RLP."""


class KnownBlocks:
    """The newest blocks by hash; those not used for longest go first."""

    def __init__(self, most: int = MOST_BLOCKS) -> None:
        self._most = most
        self._blocks: OrderedDict[bytes, KnownBlock] = OrderedDict()
        self._invalid: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: KnownBlock) -> None:
        """Remember a block."""
        self._blocks[block.header.hash] = block
        self._blocks.move_to_end(block.header.hash)
        if len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def get(self, block_hash: bytes) -> KnownBlock | None:
        """The block of this hash, if it is remembered."""
        block = self._blocks.get(block_hash)
        if block is not None:
            self._blocks.move_to_end(block_hash)
        return block

    def mark_invalid(self, block_hash: bytes) -> None:
        """Remember that no valid chain contains this block."""
        self._blocks.pop(block_hash, None)
        self._invalid[block_hash] = None
        if len(self._invalid) > MOST_INVALID:
            self._invalid.popitem(last=False)

    def is_invalid(self, block_hash: bytes) -> bool:
        """Whether this block was marked so."""
        return block_hash in self._invalid

    def back_from(self, block_hash: bytes) -> Iterator[Header]:
        """Headers from this block backwards by parent hash, as far as they are known without a gap."""
        block = self._blocks.get(block_hash)
        while block is not None:
            yield block.header
            block = self._blocks.get(block.header.parent_hash)

    def links(self, descendant: bytes, ancestor: bytes) -> bool:
        """Whether known parent hashes lead from one block back to the other, or they are the same."""
        return descendant == ancestor or any(
            header.parent_hash == ancestor or header.hash == ancestor for header in self.back_from(descendant)
        )

    def contradicts(self, head: bytes, ancestor: bytes) -> bool:
        """Whether what is known proves that `ancestor` is no ancestor of `head`, nor `head` itself.

        Unknown blocks prove nothing.
        """
        known = self._blocks.get(ancestor)
        if known is None or head == ancestor:
            return False
        for header in self.back_from(head):
            if header.number <= known.header.number:
                return header.hash != ancestor
        return False
