"""Merkle proofs from pages: the nodes on the path to a key, recomputed because no trie node is stored.

A trie is seen as two parts: the upper trie over page tops, and the page that the key falls into. Both are walked the
same way: at a branch of depth n, one kernel call gives the references of its 16 children, which is all its RLP needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ethsync.hashing import keccak256
from ethsync.kernels.trie import BRANCH, LEAF, SLIM_ACCOUNT
from ethsync.state.account import decode_slim
from ethsync.state.columns import Entries
from ethsync.state.tries import build
from ethsync.wire import rlp

EMPTY_STRING = b"\x80"


def nibbles(key: bytes) -> str:
    """A key as 64 hexadecimal digits: comparing and cutting strings is the quickest way to handle paths in Python."""
    return key.hex()


def hex_prefix(path: str, *, leaf: bool) -> bytes:
    """Hex-prefix encoding of a path given as hexadecimal digits (Yellow Paper, appendix C)."""
    flag = 2 if leaf else 0
    return bytes.fromhex(f"{flag + 1:x}{path}" if len(path) % 2 else f"{flag:x}0{path}")


def as_child(node: bytes) -> bytes:
    """How a parent refers to a node: its hash as an RLP string, or the node itself if it is short."""
    return rlp.encode_bytes(keccak256(node)) if len(node) >= 32 else node


def _quote(reference: bytes) -> bytes:
    return b"\xa0" + reference if len(reference) == 32 else reference


@dataclass(frozen=True, slots=True, eq=False)
class PathNodes:
    """Nodes on the path to a key from the top down.

    nodes: RLP of each hashed node; embedded ones are inside their parents. rest: when the walk ends at an opaque
    reference, its row among the entries; -1 when it ends at a leaf or where the key is absent.
    """

    nodes: list[bytes]
    rest: int


def _short(entries: Entries, row: int, start: int) -> bytes:
    """RLP of the leaf or extension that entry `row` is when its parent's path ends at nibble `start`."""
    path = nibbles(entries.keys[row].tobytes())
    at, size = int(entries.offsets[row]), int(entries.lengths[row])
    value = entries.buf[at : at + size].tobytes()
    kind = int(entries.kinds[row])
    if kind == BRANCH:
        depth = int(entries.paths[row])
        return rlp.encode_list([rlp.encode_bytes(hex_prefix(path[start:depth], leaf=False)), _quote(value)])
    if kind == SLIM_ACCOUNT:
        value = decode_slim(value).full()
    return rlp.encode_list([rlp.encode_bytes(hex_prefix(path[start:], leaf=True)), rlp.encode_bytes(value)])


def path_nodes(entries: Entries, key: bytes, start: int = 0) -> PathNodes:
    """Walk from the top node of `entries`, which begins at nibble `start`, towards a key.

    The entries are a whole trie (start 0) or everything under one path, as a page is (start = depth of its parent
    branch + 1). Cost: about 1.1 hashes per entry.
    """
    found: list[bytes] = []
    wanted = nibbles(key)
    low, high = 0, len(entries)
    while high > low:
        first, last = nibbles(entries.keys[low].tobytes()), nibbles(entries.keys[high - 1].tobytes())
        if high - low == 1:
            if int(entries.kinds[low]) == BRANCH and int(entries.paths[low]) == start:
                return PathNodes(found, low)
            node = _short(entries, low, start)
            _keep(found, node)
            matches = int(entries.kinds[low]) == BRANCH and first[: int(entries.paths[low])] == wanted[: int(entries.paths[low])]
            return PathNodes(found, low if matches else -1)
        depth = next(d for d in range(start, 64) if first[d] != last[d])
        branch, groups = _branch(entries, low, high, depth)
        if depth > start:
            extension = [rlp.encode_bytes(hex_prefix(first[start:depth], leaf=False)), as_child(branch)]
            _keep(found, rlp.encode_list(extension))
            if first[start:depth] != wanted[start:depth]:
                return PathNodes(found, -1)
        _keep(found, branch)
        low, high = groups.get(wanted[depth], (0, 0))
        start = depth + 1
    return PathNodes(found, -1)


def _keep(found: list[bytes], node: bytes) -> None:
    """Only nodes that are referred to by hash are proof nodes; the top node always is."""
    if len(node) >= 32 or not found:
        found.append(node)


def _branch(entries: Entries, low: int, high: int, depth: int) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """RLP of the branch at `depth` over entries [low, high), and the rows under each of its children."""
    part = Entries(
        entries.keys[low:high], entries.paths[low:high], entries.kinds[low:high], entries.buf,
        entries.offsets[low:high], entries.lengths[low:high],
    )  # fmt: skip
    _, tops = build(part, page_depth=depth + 1, rooted=False)
    children = [EMPTY_STRING] * 16
    groups: dict[str, tuple[int, int]] = {}
    for g in range(len(tops)):
        row, end = int(tops.firsts[g]), int(tops.firsts[g + 1])
        path = nibbles(part.keys[row].tobytes())
        below = int(tops.depths[g])
        if end - row == 1 and int(part.kinds[row]) in (LEAF, SLIM_ACCOUNT):
            child = as_child(_short(part, row, depth + 1))
        elif below > depth + 1:
            reference = [rlp.encode_bytes(hex_prefix(path[depth + 1 : below], leaf=False)), _quote(tops.reference(g))]
            child = as_child(rlp.encode_list(reference))
        else:
            child = _quote(tops.reference(g))
        children[int(path[depth], 16)] = child
        groups[path[depth]] = (low + row, low + end)
    return rlp.encode_list([*children, EMPTY_STRING]), groups


def slice_entries(entries: Entries, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Entries:
    """The entries selected by a boolean mask."""
    return Entries(
        np.ascontiguousarray(entries.keys[rows]), entries.paths[rows], entries.kinds[rows], entries.buf,
        entries.offsets[rows], entries.lengths[rows],
    )  # fmt: skip
