"""Proofs of one key: go-ethereum's trie/proof_test.go by its names, with tries and proofs of the `trie` package."""

from __future__ import annotations

from random import Random

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.state.single_proof import check_proof
from tests.oracles.tries import proof_of, trie_of

RNG = Random(3)
SMALL = {number.to_bytes(32, "big"): bytes([number]) for number in range(1, 40)}
"""Keys close together with values of one byte: most nodes are embedded in others."""
LEAVES = SMALL | {RNG.randbytes(32): RNG.randbytes(20) for _ in range(200)}
TRIE = trie_of(list(LEAVES), list(LEAVES.values()))
ROOT = bytes(TRIE.root_hash)
KEYS = sorted(LEAVES)


def test_proof() -> None:
    for key, value in LEAVES.items():
        nodes = proof_of(TRIE, key)
        assert check_proof(ROOT, key, nodes) == check_proof(ROOT, key, nodes[::-1]) == value


def test_one_element_proof() -> None:
    key = b"k" * 32
    trie = trie_of([key], [b"v"])
    assert check_proof(bytes(trie.root_hash), key, proof_of(trie, key)) == b"v"
    # And the same node shows that there is no other key.
    assert check_proof(bytes(trie.root_hash), b"j" * 32, proof_of(trie, key)) is None


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KEYS), st.integers(0, 100), st.integers(0, 10_000), st.sampled_from(["drop", "flip", "swap"]))
def test_bad_proof(key: bytes, number: int, place: int, how: str) -> None:
    # Given a proof with one of its nodes missing, changed in one bit, or replaced by another
    nodes = proof_of(TRIE, key)
    node = nodes.pop(number % len(nodes))
    if how == "flip":
        bit = place % (8 * len(node))
        node = node[: bit // 8] + bytes([node[bit // 8] ^ 1 << bit % 8]) + node[bit // 8 + 1 :]
        nodes.append(node)
    elif how == "swap":
        nodes.append(rlp.encode([b"\x20", b"another leaf" * 3]))
    # Then it proves nothing.
    with pytest.raises(Disproved):
        check_proof(ROOT, key, nodes)


@pytest.mark.parametrize("seed", range(40))
def test_missing_key_proof(seed: int) -> None:
    # Given a key that is not there: anywhere, or beside one that is
    rng = Random(seed)
    beside = rng.choice(KEYS)
    cut = rng.randrange(32)
    missing = beside[:cut] + bytes([beside[cut] ^ 1 << rng.randrange(8)]) + rng.randbytes(31 - cut)
    assert missing not in LEAVES
    # Then its proof says so, and that of another key does not, unless it leads to the same place.
    assert check_proof(ROOT, missing, proof_of(TRIE, missing)) is None
    other = proof_of(TRIE, KEYS[0] if missing[0] else KEYS[-1])
    if not {*proof_of(TRIE, missing)} <= {*other}:
        with pytest.raises(Disproved):
            check_proof(ROOT, missing, other)


def test_the_empty_trie_has_no_key() -> None:
    assert check_proof(EMPTY_TRIE_ROOT, bytes(32), []) is None


def branches_all_the_way() -> list[bytes]:
    """Branches whose first child is the next one, one more than a key has nibbles."""
    nodes = [rlp.encode([b""] * 16 + [b"v"])]
    for _ in range(64):
        nodes.append(rlp.encode([keccak256(nodes[-1])] + [b""] * 16))
    return nodes


NO_NODES: dict[str, list[bytes]] = {
    "a string": [rlp.encode(b"x" * 40)],
    "three items": [rlp.encode([b"a", b"b", b"c" * 40])],
    "a list for a path": [rlp.encode([[b"a"], b"b" * 40])],
    "an impossible path": [rlp.encode([b"\x40", b"b" * 40])],
    "an empty path": [rlp.encode([b"", b"b" * 40])],
    "a list for a value": [rlp.encode([b"\x20" + bytes(32), [b"b" * 40]])],
    "no RLP": [b"\xf8\x01" + bytes(40)],
    "too deep": branches_all_the_way()[::-1],
}


@pytest.mark.parametrize("nodes", NO_NODES.values(), ids=NO_NODES)
def test_what_is_no_trie_node_is_malformed(nodes: list[bytes]) -> None:
    with pytest.raises(MalformedMessage):
        check_proof(keccak256(nodes[0]), bytes(32), nodes)
