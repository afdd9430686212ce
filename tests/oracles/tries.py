"""Merkle Patricia tries by the `trie` and `rlp` packages: slow, obvious and not ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rlp
from rlp.codec import encode_raw
from trie import HexaryTrie

from ethsync.hashing import keccak256

SINGLE_LEAF = (64, b"")


def trie_of(keys: Sequence[bytes], values: Sequence[bytes]) -> HexaryTrie:
    trie = HexaryTrie({})
    for key, value in zip(keys, values, strict=True):
        trie[key] = value
    return trie


def root_of(keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    return bytes(trie_of(keys, values).root_hash)


def proof_of(trie: Any, *keys: bytes) -> list[bytes]:
    """The nodes of a HexaryTrie on the paths to some keys, present or absent, each once: what a peer sends as proof."""
    nodes: dict[bytes, bytes] = {}
    for key in keys:
        for depth, node in enumerate(trie.get_proof(key)):
            encoded = encode_raw(node)
            if depth == 0 or len(encoded) >= 32:  # shorter ones travel inside their parents
                nodes[keccak256(encoded)] = encoded
    return list(nodes.values())


def path_of(encoded: bytes) -> tuple[str, bool]:
    """Decode a hex-prefix path (Yellow Paper, appendix C) into hex digits, and whether it ends in a leaf."""
    digits = encoded.hex()
    flag = int(digits[0], 16)
    return (digits[1:] if flag & 1 else digits[2:]), flag >= 2


def top_under(trie: HexaryTrie, prefix: str) -> tuple[int, bytes]:
    """Depth and reference of the highest branch at or below the hex digits `prefix`, or SINGLE_LEAF."""
    reference, node = bytes(trie.root_hash), _load(trie, trie.root_hash)
    depth = 0
    while True:
        if len(node) == 17:
            if depth >= len(prefix):
                return depth, reference
            child = node[int(prefix[depth], 16)]
            depth += 1
        else:
            path, is_leaf = path_of(node[0])
            if is_leaf:
                return SINGLE_LEAF
            child = node[1]
            depth += len(path)
        embedded = isinstance(child, list)
        reference = encode_raw(child) if embedded else child
        node = child if embedded else _load(trie, child)


def _load(trie: HexaryTrie, digest: bytes) -> Any:
    return rlp.decode(trie.db[digest])


def all_nodes(trie: HexaryTrie) -> dict[str, bytes | None]:
    """Every node of an oracle's trie by its path: its RLP, or None if it stands in its parent."""
    found: dict[str, bytes | None] = {}

    def visit(node: Any, path: str) -> None:
        encoded = encode_raw(node)
        found[path] = encoded if len(encoded) >= 32 or not path else None
        children = (
            [(f"{k:x}", child) for k, child in enumerate(node[:16]) if child]
            if len(node) == 17
            else [(path_of(node[0])[0], node[1])] * (not path_of(node[0])[1])
        )
        for step, child in children:
            visit(child if isinstance(child, list) else rlp.decode(trie.db[child]), path + step)

    visit(rlp.decode(trie.db[trie.root_hash]), "")
    return found
