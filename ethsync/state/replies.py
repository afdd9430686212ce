"""Snap replies as bytes → columns, by way of the scanners in `ethsync.kernels.rlp`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethsync.errors import MalformedMessage
from ethsync.kernels import rlp, trie
from ethsync.state.columns import Leaves

if TYPE_CHECKING:
    from ethsync.arrays import Bytes, Ints

SMALLEST_ACCOUNT = 1 + 33 + 5
SMALLEST_SLOT = 1 + 33 + 1
"""Bytes of the shortest item of an AccountRange and of a StorageRanges: list prefix, hash, and an account of four empty
fields or a value of one byte. So a message cannot hold more than its size divided by this."""

MOST_PROOF_NODES = 128
"""Two edges of 64 nodes; go-ethereum refuses longer proofs too (eth/protocols/snap/handlers.go)."""


@dataclass(frozen=True, slots=True, eq=False)
class ProofNodes:
    """Trie nodes of a proof: places in a buffer, in no particular order."""

    buf: Bytes
    offsets: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True, eq=False)
class AccountRange:
    """A scanned AccountRange. `leaves` are slim accounts, not yet known to be sorted or true."""

    request_id: int
    leaves: Leaves
    proof: ProofNodes


@dataclass(frozen=True, slots=True, eq=False)
class StorageRanges:
    """A scanned StorageRanges. Set k has the leaves from starts[k] to starts[k + 1]; the last start is their number."""

    request_id: int
    leaves: Leaves
    starts: Ints
    proof: ProofNodes

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """A scanned ByteCodes or TrieNodes: places of the blobs in the message."""

    request_id: int
    buf: Bytes
    offsets: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    def blob(self, index: int) -> bytes:
        """Copy one blob out."""
        start = int(self.offsets[index])
        return self.buf[start : start + int(self.lengths[index])].tobytes()


def _check(code: int, name: str) -> None:
    if code == rlp.TOO_MANY:
        raise MalformedMessage(f"{name} has more than {MOST_PROOF_NODES} proof nodes or items of impossible size")
    if code < 0:
        raise MalformedMessage(f"{name} is not the RLP that devp2p caps/snap.md describes")


def scan_account_range(payload: bytes) -> AccountRange:
    """Scan an AccountRange. Raises MalformedMessage. Memory: at most 1.3 times the message."""
    buf = np.frombuffer(payload, np.uint8)
    room = len(payload) // SMALLEST_ACCOUNT + 1
    keys, offsets, lengths = np.empty((room, 32), np.uint8), np.empty(room, np.int64), np.empty(room, np.int64)
    proof_offsets, proof_lengths = np.empty(MOST_PROOF_NODES, np.int64), np.empty(MOST_PROOF_NODES, np.int64)
    counts = np.zeros(3, np.int64)
    _check(
        rlp.scan_account_range(buf, keys, offsets, lengths, proof_offsets, proof_lengths, counts), "the AccountRange"
    )
    n, p = int(counts[1]), int(counts[2])
    return AccountRange(
        _unsigned(counts[0]),
        Leaves(keys[:n], buf, offsets[:n], lengths[:n], trie.SLIM_ACCOUNT),
        ProofNodes(buf, proof_offsets[:p], proof_lengths[:p]),
    )


def scan_storage_ranges(payload: bytes, accounts: int) -> StorageRanges:
    """Scan a StorageRanges that answers a request for `accounts` accounts. Raises MalformedMessage."""
    buf = np.frombuffer(payload, np.uint8)
    room = len(payload) // SMALLEST_SLOT + 1
    keys, offsets, lengths = np.empty((room, 32), np.uint8), np.empty(room, np.int64), np.empty(room, np.int64)
    sets = np.empty(accounts + 1, np.int64)
    proof_offsets, proof_lengths = np.empty(MOST_PROOF_NODES, np.int64), np.empty(MOST_PROOF_NODES, np.int64)
    counts = np.zeros(4, np.int64)
    _check(
        rlp.scan_storage_ranges(buf, keys, offsets, lengths, sets[:-1], proof_offsets, proof_lengths, counts),
        "the StorageRanges",
    )
    n, p, s = int(counts[1]), int(counts[2]), int(counts[3])
    sets[s] = n
    return StorageRanges(
        _unsigned(counts[0]),
        Leaves(keys[:n], buf, offsets[:n], lengths[:n], trie.LEAF),
        sets[: s + 1],
        ProofNodes(buf, proof_offsets[:p], proof_lengths[:p]),
    )


def scan_blobs(payload: bytes, most: int) -> Blobs:
    """Scan a ByteCodes or TrieNodes with at most `most` blobs. Raises MalformedMessage."""
    buf = np.frombuffer(payload, np.uint8)
    offsets, lengths, counts = np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(2, np.int64)
    _check(rlp.scan_blobs(buf, offsets, lengths, counts), "the list of blobs")
    n = int(counts[1])
    return Blobs(_unsigned(counts[0]), buf, offsets[:n], lengths[:n])


def _unsigned(value: np.int64) -> int:
    """Request ids are unsigned 64-bit numbers; kernels count in signed ones."""
    return int(value) & (1 << 64) - 1
