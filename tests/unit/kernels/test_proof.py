"""One edge of a range proof: what hangs off it outside the range, and nodes that no trie has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rlp

from ethsync.hashing import keccak256
from ethsync.kernels import proof
from ethsync.kernels.trie import BRANCH, LEAF, UNKNOWN
from tests.oracles.buffers import GuardedMemory

MEMORY = GuardedMemory(1 << 16)
ZERO = b"\0" * 32
HASH = b"\x11" * 32
ROOM = proof.MOST_ENTRIES // 2

Entry = tuple[str, int, bytes]  # path as hex digits, kind, value or reference


def edge(
    nodes: list[bytes], key: bytes, *, right: bool, root: bytes | None = None, room: int = ROOM
) -> tuple[int, list[Entry]]:
    """Walk to a key from the first node, unless another root is given. Returns the kernel's answer and the entries."""
    lengths = np.array([len(node) for node in nodes], np.int64)
    starts = np.cumsum(lengths) - lengths
    buf = MEMORY.hold(b"".join(nodes))
    hashes = np.frombuffer(b"".join(keccak256(node) for node in nodes), np.uint8).reshape(-1, 32)
    ends = np.frombuffer((keccak256(nodes[0]) if root is None else root) + key, np.uint8).reshape(2, 32)
    keys, paths, kinds = np.full((room, 32), 0xEE, np.uint8), np.zeros(room, np.uint8), np.zeros(room, np.uint8)
    offsets, sizes = np.zeros(room, np.int64), np.zeros(room, np.int64)
    work = np.zeros((7, 64), np.int64)
    columns = keys, paths, kinds, offsets, sizes
    code = int(proof.edge(buf, starts, lengths, hashes, ends, right, work, *columns))
    entries = []
    for row in range(max(code, 0)):
        start, size = int(offsets[row]), int(sizes[row])
        assert 0 <= start <= start + size <= len(buf)
        digits = keys[row].tobytes().hex()
        assert set(digits[paths[row] :]) <= {"0"}, "paths are padded with zeros"
        entries.append((digits[: paths[row]], int(kinds[row]), buf[start : start + size].tobytes()))
    return code, entries


def branch(children: dict[int, Any]) -> list[Any]:
    return [children.get(nibble, b"") for nibble in range(16)] + [b""]


def at(path: str) -> bytes:
    return bytes.fromhex(path.ljust(64, "0"))


def test_siblings_come_out_by_distance_from_the_edge() -> None:
    # Given a branch with three children, and edges to one of them and beside them
    root = rlp.encode(branch({1: HASH, 5: HASH, 9: HASH}))
    assert edge([root], at("5"), right=False) == (1, [("1", UNKNOWN, HASH)])
    assert edge([root], at("5"), right=True) == (1, [("9", UNKNOWN, HASH)])
    assert edge([root], at("0"), right=False) == (0, [])
    assert [path for path, _, _ in edge([root], at("0"), right=True)[1]] == ["9", "5", "1"]
    assert [path for path, _, _ in edge([root], at("f"), right=False)[1]] == ["1", "5", "9"]


def test_an_extension_beside_the_edge_is_the_branch_it_leads_to() -> None:
    root = rlp.encode([b"\x00\x12\x34", HASH])
    assert edge([root], at("1233"), right=True) == (1, [("1234", BRANCH, HASH)])
    assert edge([root], at("1235"), right=False) == (1, [("1234", BRANCH, HASH)])
    assert edge([root], at("1235"), right=True) == (0, [])
    # On the edge itself nothing is outside; what the proof lacks below is left to the leaves.
    assert edge([root], at("12345"), right=True) == (0, [])


def test_a_leaf_beside_the_edge_is_a_leaf() -> None:
    key = at("77")
    root = rlp.encode([b"\x20" + key, b"value"])
    assert edge([root], at("76"), right=True) == (1, [(key.hex(), LEAF, b"value")])
    assert edge([root], at("78"), right=False) == (1, [(key.hex(), LEAF, b"value")])
    # A leaf at the edge counts as inside, whichever side is asked for.
    assert edge([root], key, right=True) == (0, [])
    assert edge([root], key, right=False) == (0, [])


def test_embedded_nodes_are_taken_for_what_they_are() -> None:
    # Given a branch 62 nibbles deep with an embedded leaf and an embedded branch of two leaves below it
    path = "a" * 62
    leaf = [b"\x35", b"x"]
    pair = branch({3: [b"\x20", b"y"], 4: [b"\x20", b"z"]})
    below = rlp.encode(branch({2: leaf, 6: pair, 8: [b"\x35", b"w"]}))
    nodes = [rlp.encode([b"\x00" + bytes.fromhex(path), keccak256(below)]), below]
    assert len(rlp.encode(pair)) < 32
    # When the edge passes before all, then the leaves are leaves and the branch is one reference;
    assert edge(nodes, at(path + "00"), right=True) == (
        3,
        [(path + "85", LEAF, b"w"), (path + "6", BRANCH, rlp.encode(pair)), (path + "25", LEAF, b"x")],
    )
    # when it goes through the embedded branch, then that is walked too.
    assert edge(nodes, at(path + "63"), right=True) == (2, [(path + "85", LEAF, b"w"), (path + "64", LEAF, b"z")])


def test_the_root_must_be_among_the_nodes() -> None:
    root = rlp.encode(branch({1: HASH}))
    assert edge([root], ZERO, right=True, root=HASH)[0] == proof.MISSING_ROOT


LONG = b"\x99" * 40

BAD_NODES: dict[str, bytes] = {
    "nothing": b"",
    "a string": b"\x83abc",
    "the empty string": b"\x80",
    "an empty list": b"\xc0",
    "one item": rlp.encode([b"x"]),
    "three items": rlp.encode([b"\x20", b"x", b"y"]),
    "16 items": rlp.encode([b""] * 16),
    "18 items": rlp.encode([b""] * 18),
    "a branch with a value": rlp.encode([b""] * 16 + [b"value"]),
    "a branch with a list as value": rlp.encode([b""] * 16 + [[]]),
    "a child of 31 bytes": rlp.encode(branch({3: HASH[:31]})),
    "a child of 33 bytes": rlp.encode(branch({3: HASH + b"x"})),
    "an embedded child of 32 bytes": rlp.encode(branch({3: [b"\x20", b"x" * 29]})),
    "an embedded child that is no node": rlp.encode(branch({3: [b"", b"", b""]})),
    "an embedded leaf that ends too early": rlp.encode(branch({3: [b"\x20\x12", b"x"]})),
    "a path that is a list": rlp.encode([[], b"x"]),
    "an empty path string": rlp.encode([b"", HASH]),
    "path flag 4": rlp.encode([b"\x40\x12", HASH]),
    "path flag 15": rlp.encode([b"\xf0\x12", HASH]),
    "an even path with a nibble in its flag": rlp.encode([b"\x01\x12", HASH]),
    "an even leaf path with a nibble in its flag": rlp.encode([b"\x21" + at("1"), b"x"]),
    "a path of 65 nibbles": rlp.encode([b"\x31" + at("1"), b"x"]),
    "a path of 80 nibbles": rlp.encode([b"\x20" + LONG, b"x"]),
    "an extension over nothing": rlp.encode([b"\x00", HASH]),
    "an extension to a whole key": rlp.encode([b"\x00" + at("1"), HASH]),
    "an extension to 31 bytes": rlp.encode([b"\x00\x12", HASH[:31]]),
    "an extension to nothing": rlp.encode([b"\x00\x12", b""]),
    "an extension to an embedded node of 32 bytes": rlp.encode([b"\x00\x12", [b"\x20", b"x" * 29]]),
    "a leaf that ends too early": rlp.encode([b"\x20\x12", b"x"]),
    "a leaf without value": rlp.encode([b"\x20" + at("1"), b""]),
    "a leaf with a list": rlp.encode([b"\x20" + at("1"), [b"x"]]),
    "bytes after the node": rlp.encode(branch({3: HASH})) + b"\0",
    "a node cut off": rlp.encode(branch({3: HASH}))[:-1],
    "a header in the long form": b"\xf8\x11" + b"\x80" * 17,
    "an item in the long form": b"\xd2\xb8\x00" + b"\x80" * 16,
    "a length that begins with a zero": b"\xf9\x00\x31" + rlp.encode(branch({3: HASH}))[1:],
}


@pytest.mark.parametrize("node", BAD_NODES.values(), ids=BAD_NODES)
def test_what_is_not_a_trie_node(node: bytes) -> None:
    # Given an edge at the very left, whose right side looks at everything in the node
    assert edge([node], ZERO, right=True)[0] == proof.MALFORMED_NODE


def test_the_table_is_wrong_only_in_one_place() -> None:
    for node in (branch({3: HASH}), branch({}), [b"\x00\x12", HASH], [b"\x20" + at("1"), b"x"]):
        assert edge([rlp.encode(node)], ZERO, right=True)[0] >= 0


def test_a_branch_below_the_last_nibble_is_too_deep() -> None:
    nodes = [rlp.encode(branch({0: HASH}))]
    for _ in range(64):
        nodes.append(rlp.encode(branch({0: keccak256(nodes[-1])})))
    nodes.reverse()
    assert edge(nodes[1:], ZERO, right=True)[0] == 0, "64 branches are as deep as a trie can be"
    assert edge(nodes, ZERO, right=True)[0] == proof.TOO_DEEP


def test_the_widest_edge_fits_and_a_smaller_place_is_refused() -> None:
    # Given 64 full branches below each other: 15 siblings at each, as many as an edge can have
    full = [HASH] * 16 + [b""]
    nodes = [rlp.encode(full)]
    for _ in range(63):
        nodes.append(rlp.encode([keccak256(nodes[-1]), *full[1:]]))
    nodes.reverse()
    code, entries = edge(nodes, ZERO, right=True)
    assert code == 64 * 15 <= ROOM
    assert [path for path, _, _ in entries] == sorted((path for path, _, _ in entries), reverse=True)
    assert edge(nodes, ZERO, right=True, room=64 * 15)[0] == 64 * 15
    assert edge(nodes, ZERO, right=True, room=64 * 15 - 1)[0] == proof.NO_ROOM


def test_no_nodes_and_no_work_space() -> None:
    nothing, none = np.zeros(0, np.uint8), np.zeros(0, np.int64)
    hashes, ends = np.zeros((0, 32), np.uint8), np.zeros((2, 32), np.uint8)
    out = np.zeros((1, 32), np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.int64)
    columns = (*out, np.zeros(1, np.int64))

    def walk(places: Any, ends_: Any, work: Any) -> int:
        return int(proof.edge(nothing, places[0], places[1], hashes, ends_, True, work, *columns))

    assert walk((none, none), ends, np.zeros((7, 64), np.int64)) == proof.MISSING_ROOT
    assert walk((none, none), ends, np.zeros((6, 64), np.int64)) == proof.NO_ROOM
    assert walk((none, none), ends, np.zeros((7, 63), np.int64)) == proof.NO_ROOM
    assert walk((none, none), ends[:1], np.zeros((7, 64), np.int64)) == proof.NO_ROOM
    assert walk((none, np.zeros(1, np.int64)), ends, np.zeros((7, 64), np.int64)) == proof.NO_ROOM


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), (0, 11), (11, 0)])
def test_nodes_outside_the_buffer(offset: int, length: int) -> None:
    places = np.array([offset], np.int64), np.array([length], np.int64)
    hashes, ends = np.zeros((1, 32), np.uint8), np.zeros((2, 32), np.uint8)
    columns = np.zeros((1, 32), np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.int64)
    code = proof.edge(np.zeros(10, np.uint8), *places, hashes, ends, True, np.zeros((7, 64), np.int64), *columns,
                      np.zeros(1, np.int64))  # fmt: skip
    assert code == proof.MALFORMED_NODE
