"""Claims about ranges of a trie, as honest and dishonest peers make them, and the test that nothing false passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from trie import HexaryTrie

from ethsync.errors import Disproved, MalformedMessage
from ethsync.kernels.trie import NO_DEPTH
from ethsync.state.columns import leaves_of
from ethsync.state.proofs import Proven, verify_range
from ethsync.state.replies import ProofNodes
from tests.oracles.leaf_sets import LeafSet
from tests.oracles.tries import proof_of

REFUSED = (Disproved, MalformedMessage)
MAX_KEY = b"\xff" * 32


@dataclass(frozen=True, slots=True)
class Claim:
    """All the leaves from `origin` to the last of `keys`, or so a peer says, with the nodes that shall prove it."""

    origin: bytes
    keys: list[bytes]
    values: list[bytes]
    nodes: list[bytes]

    def verify(self, root: bytes, page_depth: int = NO_DEPTH) -> Proven:
        leaves = leaves_of(self.keys, self.values)
        return verify_range(root, self.origin, leaves, proof_nodes(self.nodes), page_depth=page_depth)

    def is_true(self, truth: LeafSet) -> bool:
        last = self.keys[-1] if self.keys else MAX_KEY
        return (self.keys, self.values) == truth.between(self.origin, last)


def proof_nodes(nodes: Sequence[bytes]) -> ProofNodes:
    """Proof nodes in a buffer of their own."""
    lengths = np.array([len(node) for node in nodes], np.int64)
    return ProofNodes(np.frombuffer(b"".join(nodes), np.uint8), np.cumsum(lengths) - lengths, lengths)


def after(key: bytes, step: int = 1) -> bytes:
    """The key `step` places after this one."""
    return (int.from_bytes(key, "big") + step).to_bytes(32, "big")


def honest(trie: HexaryTrie, truth: LeafSet, first: int, last: int, origin: bytes | None = None) -> Claim:
    """The leaves [first, last) with the proof that an honest peer sends; the origin is the first key unless given."""
    keys, values = truth.keys[first:last], truth.values[first:last]
    origin = keys[0] if origin is None else origin
    return Claim(origin, keys, values, proof_of(trie, origin, *keys[-1:]))


def origin_before(rng: Random, truth: LeafSet, first: int) -> bytes:
    """Any origin for which the leaf number `first` is the next one."""
    low = int.from_bytes(truth.keys[first - 1], "big") + 1 if first else 0
    high = int.from_bytes(truth.keys[first], "big") if first < len(truth) else 2**256 - 1
    return rng.choice((low, high, rng.randint(low, max(low, high)))).to_bytes(32, "big")


def random_claim(rng: Random, trie: HexaryTrie, truth: LeafSet) -> Claim:
    """An honest claim: any range with at least one leaf, or sometimes the empty end of the trie."""
    n = len(truth)
    if rng.random() < 0.1 and truth.keys[-1] != MAX_KEY:
        return honest(trie, truth, n, n, origin_before(rng, truth, n))
    first = rng.randrange(n)
    last = rng.randint(first + 1, n)
    return honest(trie, truth, first, last, origin_before(rng, truth, first))


def accepted(claim: Claim, root: bytes, truth: LeafSet) -> bool:
    """Whether the claim is accepted. Fails if it is accepted and not true, or with a wrong idea of what follows."""
    try:
        proven = claim.verify(root)
    except REFUSED:
        return False
    assert claim.is_true(truth)
    last = claim.keys[-1] if claim.keys else MAX_KEY
    assert proven.more == (truth.keys[-1] > last)
    return True
