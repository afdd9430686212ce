"""Checking a Merkle proof of one key, node by node: the slow, obvious way, as a second opinion on what we serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.wire import rlp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.wire.rlp import RLPItem


def check_proof(root: bytes, key: bytes, nodes: Iterable[bytes]) -> bytes | None:
    """Return the value that the trie `root` holds for a 32-byte key, or None if the proof shows that it holds none.

    Nodes may come in any order (EIP-1186 gives them from the root down). Raises Disproved if they show neither,
    MalformedMessage for a node that is no trie node.
    """
    by_hash = {keccak256(node): node for node in nodes}
    if root == EMPTY_TRIE_ROOT:
        return None
    path = key.hex()
    reference: RLPItem = root
    while True:
        node = _node(reference, by_hash)
        if len(node) == 17:
            if not path:
                raise MalformedMessage("a branch lies below the last nibble")
            reference, path = node[int(path[0], 16)], path[1:]
            if reference == b"":
                return None
            continue
        if len(node) != 2 or not isinstance(node[0], bytes):
            raise MalformedMessage("a trie node has 2 or 17 items")
        part, leaf = _path(node[0])
        if leaf:
            return _value(node[1]) if part == path else None
        if not path.startswith(part):
            return None
        reference, path = node[1], path[len(part) :]


def _node(reference: RLPItem, by_hash: dict[bytes, bytes]) -> list[RLPItem]:
    if isinstance(reference, list):
        return reference
    node = by_hash.get(reference)
    if node is None:
        raise Disproved(f"the proof lacks the node {reference.hex()}")
    item = rlp.decode(node)
    if not isinstance(item, list):
        raise MalformedMessage("a trie node is a list")
    return item


def _path(encoded: bytes) -> tuple[str, bool]:
    """Decode a hex-prefix path (Yellow Paper, appendix C)."""
    digits = encoded.hex()
    flag = int(digits[0], 16) if digits else 4
    if flag > 3:
        raise MalformedMessage("a trie node has an impossible path")
    return digits[1 if flag & 1 else 2 :], flag >= 2


def _value(item: RLPItem) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedMessage("the value of a leaf is a string")
    return item
