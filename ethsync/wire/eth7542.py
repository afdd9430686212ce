"""The withdrawn EIP-7542 as a protocol of its own, for private networks: which blocks a peer has, on request.

The EIP called itself eth/70, a number that EIP-7975 has now; nobody ever spoke it. So it never travels as "eth": its
capability is named `eth7542`, stands beside eth, and is only announced by those who are told to. From eth/69 on Status
and BlockRangeUpdate say the same unasked (`ethsync.wire.block_range`).

Where the EIP is silent we decide: RequestBlockRange is an empty list, there are no request ids, a range that ends
before it begins is malformed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import rlp
from ethsync.wire.block_range import BlockRange
from ethsync.wire.forkid import decode_fork_id
from ethsync.wire.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "eth7542"
VERSION = 70  # the one that the EIP gave itself

LENGTH = 17
"""Message ids occupied: those of the eth that the EIP extends, whose last one is Receipts (0x10)."""

LENGTHS: Mapping[int, int] = {VERSION: LENGTH}

REQUEST = b"\xc0"
"""Payload of RequestBlockRange."""


class Message7542(IntEnum):
    """Message ids relative to the offset of `eth7542`. The EIP has no others of its own."""

    STATUS = 0x00
    REQUEST_BLOCK_RANGE = 0x0B
    SEND_BLOCK_RANGE = 0x0C


def encode_status(status: Status) -> bytes:
    """The payload `[version, networkid, blockhash, genesis, forkid, [startBlock, endBlock]]`.

    The version sent is 70, whatever the one of `status`. Raises LocalProtocolError if it has no block range.
    """
    held = status.block_range
    if held is None:
        raise LocalProtocolError("a Status of EIP-7542 needs a block range")
    numbers = map(rlp.encode_int, (VERSION, status.network_id))
    hashes = map(rlp.encode_bytes, (status.head_hash, status.genesis_hash))
    return rlp.encode_list((*numbers, *hashes, status.fork_id.encode(), encode_block_range(held)))


def decode_status(payload: bytes) -> Status:
    """Decode a Status of EIP-7542. Raises MalformedMessage."""
    version, network_id, head_hash, genesis_hash, fork_id, held = rlp.split_fields(payload, 6, "eth7542 Status")
    blocks = decode_block_range(held)
    return Status(
        rlp.integer(version, 4),
        rlp.integer(network_id),
        rlp.fixed_string(genesis_hash, 32, "genesis hash in Status"),
        decode_fork_id(fork_id),
        rlp.fixed_string(head_hash, 32, "head hash in Status"),
        earliest=blocks.earliest,
        latest=blocks.latest,
    )


def encode_block_range(held: BlockRange) -> bytes:
    """The payload of SendBlockRange, `[startBlock, endBlock]`."""
    return rlp.encode([held.earliest, held.latest])


def decode_block_range(payload: bytes) -> BlockRange:
    """Decode SendBlockRange. Raises MalformedMessage."""
    start, end = rlp.split_fields(payload, 2, "block range")
    held = BlockRange(rlp.integer(start), rlp.integer(end))
    if held.earliest > held.latest:
        raise MalformedMessage(f"block range begins at {held.earliest}, after its end {held.latest}")
    return held


def heard_range(code: int, payload: bytes) -> BlockRange | None:
    """The blocks that a peer holds, if the message `code` of `eth7542` says so; None for a request.

    Raises MalformedMessage, also for an id that is none of the EIP's.
    """
    if code == Message7542.STATUS:
        return decode_status(payload).block_range
    if code == Message7542.SEND_BLOCK_RANGE:
        return decode_block_range(payload)
    if code == Message7542.REQUEST_BLOCK_RANGE:
        return None
    raise MalformedMessage(f"message 0x{code:02x} does not exist in {NAME}/{VERSION}")
