"""Root of a list: the trie that maps RLP(index) to each item (Yellow Paper 4.3.2).

Transactions, receipts and withdrawals of a block are proven by it. The kernel that hashes branches takes leaves of at
most four blocks of Keccak, while a transaction may have 128 kB; so leaves are encoded and hashed here, and handed to it
as references.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.kernels import trie
from ethsync.kernels.keccak import hash_many
from ethsync.state import tries
from ethsync.state.columns import KEY_BYTES, Entries
from ethsync.state.tries import TrieError
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_SIZE = 32  # nodes from this size on are referred to by their hash (Yellow Paper, appendix D)
_LEAF_FLAG = 0x20  # hex-prefix of a leaf with an even number of nibbles; an odd one has 0x30 (Yellow Paper, appendix C)


def ordered_root(items: Sequence[bytes]) -> bytes:
    """Root hash (32 bytes) of the trie that maps RLP(i) to items[i], for transactions, receipts and withdrawals.

    Items are the bytes stored: a typed transaction or receipt is its type byte and payload, everything else RLP. The
    empty list has the root of the empty trie. Raises TrieError if an item is empty.
    """
    if not all(items):
        raise TrieError("an item of a list is empty")
    if len(items) < 2:
        return keccak256(_leaf(_key(0), items[0])) if items else EMPTY_TRIE_ROOT
    order = _key_order(len(items))
    keys = [_key(index) for index in order]
    depths = _leaf_depths(keys)
    nodes = [_leaf(key[depth:], items[index]) for key, depth, index in zip(keys, depths, order, strict=True)]
    roots, _ = tries.build(_entries(keys, depths, _references(nodes)))
    return roots.tobytes()


def _key_order(count: int) -> list[int]:
    """Indexes in the order of their keys: RLP puts zero, as the empty string 0x80, after 127."""
    return [*range(1, min(count, 128)), 0, *range(128, count)]


def _key(index: int) -> str:
    """RLP(index) in hexadecimal digits, which are the nibbles of its path."""
    return rlp.encode_int(index).hex()


def _leaf_depths(keys: Sequence[str]) -> list[int]:
    """Nibbles that lead to each leaf: one more than it shares with the neighbour that it shares most with."""
    shared = [0] + [_common(one, other) for one, other in itertools.pairwise(keys)] + [0]
    return [max(left, right) + 1 for left, right in itertools.pairwise(shared)]


def _common(one: str, other: str) -> int:
    return next(i for i in range(len(one)) if one[i] != other[i])  # no key is the beginning of another: RLP is not


def _leaf(path: str, value: bytes) -> bytes:
    """RLP of the leaf node that the nibbles `path` lead to, in hex-prefix encoding."""
    odd = len(path) % 2
    first = _LEAF_FLAG + (0x10 + int(path[0], 16) if odd else 0)
    return rlp.encode_list((rlp.encode_bytes(bytes((first,)) + bytes.fromhex(path[odd:])), rlp.encode_bytes(value)))


def _references(nodes: Sequence[bytes]) -> list[bytes]:
    """What stands for each node in its parent: its hash, or itself if it is shorter than a hash."""
    lengths = np.fromiter((len(node) for node in nodes), np.int64, len(nodes))
    hashes = np.empty((len(nodes), HASH_SIZE), np.uint8)
    hash_many(np.frombuffer(b"".join(nodes), np.uint8), np.cumsum(lengths) - lengths, lengths, hashes)
    return [node if len(node) < HASH_SIZE else row.tobytes() for node, row in zip(nodes, hashes, strict=True)]


def _entries(keys: Sequence[str], depths: Sequence[int], references: Sequence[bytes]) -> Entries:
    paths = (bytes.fromhex(key[:depth].ljust(2 * KEY_BYTES, "0")) for key, depth in zip(keys, depths, strict=True))
    lengths = np.fromiter((len(reference) for reference in references), np.int64, len(references))
    return Entries(
        np.frombuffer(b"".join(paths), np.uint8).reshape(-1, KEY_BYTES),
        np.array(depths, np.uint8),
        np.full(len(keys), trie.UNKNOWN, np.uint8),
        np.frombuffer(b"".join(references), np.uint8),
        np.cumsum(lengths) - lengths,
        lengths,
    )
