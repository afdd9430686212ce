"""Any honest range is accepted with everything it says about pages; nothing false ever is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import rlp
from trie import HexaryTrie

from ethsync.errors import PeerError
from ethsync.hashing import keccak256
from ethsync.kernels.trie import LEAF, NO_DEPTH
from ethsync.state.columns import no_leaves
from ethsync.state.proofs import Proven, verify_range
from ethsync.state.replies import ProofNodes
from tests.oracles.buffers import GuardedMemory
from tests.oracles.leaf_sets import LeafSet, any_leaf_set
from tests.oracles.ranges import Claim, accepted, after, random_claim
from tests.oracles.tries import proof_of, top_under, trie_of

SEEDS = range(60)
PAGE_DEPTHS = (0, 1, 2, 3, 5, 30, 57, 60, 63, NO_DEPTH)


def build(rng: Random, most: int) -> tuple[LeafSet, HexaryTrie]:
    truth = any_leaf_set(rng, most)
    return truth, trie_of(truth.keys, truth.values)


def check_pages(claim: Claim, proven: Proven, truth: LeafSet, trie: HexaryTrie, page_depth: int) -> None:
    """Groups, their tops and which of them are open, against the whole trie."""
    pages = [key.hex()[:page_depth] for key in claim.keys]
    firsts = [row for row, page in enumerate(pages) if row == 0 or pages[row - 1] != page]
    assert proven.groups.tolist() == [*firsts, len(pages)]
    assert len(proven.tops) == len(firsts)
    if not firsts:
        return
    whole = Counter(key.hex()[:page_depth] for key in truth.keys)
    kept = Counter(pages)
    before = any(key.hex()[:page_depth] == pages[0] and key < claim.keys[0] for key in truth.keys)
    after_last = any(key.hex()[:page_depth] == pages[-1] and key > claim.keys[-1] for key in truth.keys)
    assert (proven.open_left, proven.open_right) == (before, after_last)
    for group, row in enumerate(firsts):
        if whole[pages[row]] == kept[pages[row]]:
            found = int(proven.tops.depths[group]), proven.tops.reference(group)
            assert found == top_under(trie, pages[row])


@pytest.mark.parametrize("seed", SEEDS)
def test_honest_ranges_are_accepted_and_cut_into_pages(seed: int) -> None:
    # Given a trie of any shape, and ranges of it with origins on and between keys
    rng = Random(seed)
    truth, trie = build(rng, 80)
    for _ in range(8):
        claim = random_claim(rng, trie, truth)
        rng.shuffle(claim.nodes)
        page_depth = rng.choice(PAGE_DEPTHS)
        # When
        proven = claim.verify(trie.root_hash, page_depth)
        # Then
        last = claim.keys[-1] if claim.keys else b"\xff" * 32
        assert proven.more == (truth.keys[-1] > last)
        assert [proven.leaves.key(row) for row in range(len(proven.leaves))] == claim.keys
        if page_depth < NO_DEPTH:
            check_pages(claim, proven, truth, trie, page_depth)


@pytest.mark.parametrize("seed", range(20))
def test_a_trie_is_fetched_whole_by_ranges_of_any_size(seed: int) -> None:
    # Given a trie, read from the origin on by replies of one to nine leaves
    rng = Random(seed)
    truth, trie = build(rng, 60)
    origin, got, more = bytes(32), list[bytes](), True
    while more:
        first = len(got)
        last = min(len(truth), first + rng.randint(1, 9))
        claim = Claim(origin, truth.keys[first:last], truth.values[first:last],
                      proof_of(trie, origin, truth.keys[last - 1]))  # fmt: skip
        more = claim.verify(trie.root_hash).more
        got += claim.keys
        if more:
            origin = after(got[-1])
    # Then `more` says when to stop.
    assert got == truth.keys


# Lies. Each takes an honest claim and returns another one, false or, by luck, still true.


def drop_leaf(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.keys))
    return replace(
        claim, keys=claim.keys[:at] + claim.keys[at + 1 :], values=claim.values[:at] + claim.values[at + 1 :]
    )


def change_value(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.keys))
    value = bytearray(claim.values[at])
    value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    return replace(claim, values=[*claim.values[:at], bytes(value), *claim.values[at + 1 :]])


def change_key(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.keys))
    key = bytearray(claim.keys[at])
    key[rng.randrange(32)] ^= 1 << rng.randrange(8)
    return replace(claim, keys=[*claim.keys[:at], bytes(key), *claim.keys[at + 1 :]])


def swap_values(rng: Random, claim: Claim) -> Claim:
    values = list(claim.values)
    rng.shuffle(values)
    return replace(claim, values=values)


def swap_keys(rng: Random, claim: Claim) -> Claim:
    keys = list(claim.keys)
    rng.shuffle(keys)
    return replace(claim, keys=keys)


def invent_leaf(rng: Random, claim: Claim) -> Claim:
    key = rng.choice((rng.randbytes(32), after(rng.choice(claim.keys), 1 if claim.keys[-1] < b"\xff" * 32 else -1)))
    leaves = dict(zip(claim.keys, claim.values, strict=True)) | {key: b"\x01"}
    keys = sorted(leaves)
    return replace(claim, keys=keys, values=[leaves[key] for key in keys])


def repeat_leaf(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.keys))
    return replace(claim, keys=claim.keys[:at] + claim.keys[at:][:1] + claim.keys[at:],
                   values=claim.values[:at] + claim.values[at:][:1] + claim.values[at:])  # fmt: skip


def hide_all(rng: Random, claim: Claim) -> Claim:
    return replace(claim, keys=[], values=[])


def end_early(rng: Random, claim: Claim) -> Claim:
    """Leave the last leaves out and keep the proof of the old end."""
    keep = rng.randrange(len(claim.keys))
    return replace(claim, keys=claim.keys[:keep], values=claim.values[:keep])


def begin_late(rng: Random, claim: Claim) -> Claim:
    skip = rng.randrange(len(claim.keys))
    return replace(claim, keys=claim.keys[skip:], values=claim.values[skip:])


def lower_origin(rng: Random, claim: Claim) -> Claim:
    return replace(
        claim, origin=(int.from_bytes(claim.origin, "big") // rng.choice((2, 16, 2**64))).to_bytes(32, "big")
    )


def drop_node(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.nodes))
    return replace(claim, nodes=claim.nodes[:at] + claim.nodes[at + 1 :])


def flip_node_bit(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.nodes))
    node = bytearray(claim.nodes[at])
    node[rng.randrange(len(node))] ^= 1 << rng.randrange(8)
    return replace(claim, nodes=[*claim.nodes[:at], bytes(node), *claim.nodes[at + 1 :]])


def cut_node(rng: Random, claim: Claim) -> Claim:
    at = rng.randrange(len(claim.nodes))
    return replace(claim, nodes=[*claim.nodes[:at], claim.nodes[at][:-1], *claim.nodes[at + 1 :]])


def no_proof(rng: Random, claim: Claim) -> Claim:
    return replace(claim, nodes=[], origin=bytes(32))


LEAF_LIES = (drop_leaf, change_value, change_key, swap_values, swap_keys, invent_leaf, repeat_leaf, hide_all, end_early,
             begin_late)  # fmt: skip
OTHER_LIES = (lower_origin, drop_node, flip_node_bit, cut_node, no_proof)


@pytest.mark.parametrize("lie", [*LEAF_LIES, *OTHER_LIES], ids=lambda lie: lie.__name__)
def test_nothing_false_is_ever_accepted(lie: Callable[[Random, Claim], Claim]) -> None:
    # Given honest claims about many tries
    lies = 0
    for seed in range(60):
        rng = Random(seed)
        truth, trie = build(rng, 50)
        for _ in range(4):
            claim = random_claim(rng, trie, truth)
            if not claim.keys:
                continue
            # When each is bent once, and half of them once more
            told = lie(rng, claim)
            if told.keys and told.nodes and rng.random() < 0.5:
                told = rng.choice(OTHER_LIES)(rng, told)
            # Then it is accepted only if it is still true (`accepted` looks at that).
            accepted(told, trie.root_hash, truth)
            lies += not told.is_true(truth)
    if lie in LEAF_LIES:
        assert lies > 40, "the test told too few lies to show anything"


@pytest.mark.parametrize("seed", range(30))
def test_every_single_bit_of_the_proof_of_a_small_trie(seed: int) -> None:
    # Given a small trie and a claim that leaves out what it should contain, and the honest one
    rng = Random(seed)
    truth, trie = build(rng, 4)
    claim = random_claim(rng, trie, truth)
    for at, node in enumerate(claim.nodes):
        for position in rng.sample(range(8 * len(node)), min(40, 8 * len(node))):
            flipped = bytearray(node)
            flipped[position // 8] ^= 1 << position % 8
            bent = replace(claim, nodes=[*claim.nodes[:at], bytes(flipped), *claim.nodes[at + 1 :]])
            accepted(bent, trie.root_hash, truth)
            accepted(replace(bent, keys=bent.keys[:-1], values=bent.values[:-1]), trie.root_hash, truth)


@pytest.mark.parametrize("seed", range(20))
def test_the_proof_of_another_trie_proves_nothing(seed: int) -> None:
    # Given two tries that differ in one value, and a claim about the one with nodes of both
    rng = Random(seed)
    truth, trie = build(rng, 40)
    row = rng.randrange(len(truth))
    values = [*truth.values[:row], b"\x42" * 9, *truth.values[row + 1 :]]
    false = LeafSet(truth.shape, truth.keys, values)
    other = trie_of(false.keys, false.values)
    for _ in range(6):
        claim = random_claim(rng, other, false)
        last = claim.keys[-1:]
        true_nodes = proof_of(trie, claim.origin, *last)
        # Then nothing begins at the true root, or what begins there leads away from what was said.
        assert not accepted(claim, trie.root_hash, truth)
        for nodes in (claim.nodes + true_nodes, true_nodes):
            bent = replace(claim, nodes=nodes)
            assert accepted(bent, trie.root_hash, truth) == (bent.is_true(truth))


# Nodes that no trie has. Whoever controls a root hash must still not be able to crash us.

EVIL = GuardedMemory(1 << 16)


def check_hostile(nodes: list[bytes], origin: bytes) -> None:
    lengths = np.array([len(node) for node in nodes], np.int64)
    held = ProofNodes(EVIL.hold(b"".join(nodes)), np.cumsum(lengths) - lengths, lengths)
    try:
        verify_range(keccak256(nodes[-1]), origin, no_leaves(LEAF), held)
    except PeerError:
        return


def hostile_node(rng: Random, digests: list[bytes]) -> bytes:
    """A list of 2, 17 or another number of strings, embedded lists, hashes of earlier nodes, absurd paths."""

    def item(depth: int) -> object:
        options: list[object] = [b"", rng.randbytes(rng.choice((1, 2, 31, 32, 33))), rng.choice(digests)]
        if depth:
            options.append([item(depth - 1) for _ in range(rng.choice((0, 1, 2, 2, 2, 17)))])
        return rng.choice(options)

    count = rng.choice((2, 2, 17, 17, 17, 1, 16, 18))
    items = [item(2) for _ in range(count)]
    if count == 2:
        items[0] = bytes([rng.choice((0x00, 0x1F, 0x20, 0x3F, 0x40, 0x0F, 0xFF))]) + rng.randbytes(
            rng.choice((0, 1, 31, 32))
        )
    if count == 17 and rng.random() < 0.9:
        items[16] = b""
    encoded = bytes(rlp.encode(items))
    return encoded[: rng.randrange(1, len(encoded) + 1)] if rng.random() < 0.1 else encoded


@pytest.mark.parametrize("seed", range(40))
def test_hostile_proof_nodes_are_refused_without_reading_past_them(seed: int) -> None:
    # Given proofs whose nodes refer to each other and whose root is made to fit, in memory with guarded ends
    rng = Random(seed)
    for _ in range(40):
        digests, nodes = [rng.randbytes(32)], list[bytes]()
        for _ in range(rng.randint(1, 8)):
            nodes.append(hostile_node(rng, digests))
            digests.append(keccak256(nodes[-1]))
        # Then only errors that blame the peer come out.
        check_hostile(nodes, rng.choice((bytes(32), b"\xff" * 32, rng.randbytes(32))))


def test_a_path_deeper_than_64_nibbles_ends() -> None:
    # Given branches below each other, 70 deep, on the way to the origin
    node = bytes(rlp.encode([b"\x20", b"x"]))
    nodes = list[bytes]()
    for _ in range(70):
        nodes.append(bytes(rlp.encode([keccak256(nodes[-1]) if nodes else keccak256(node)] * 16 + [b""])))
    check_hostile(nodes, bytes(32))
    with pytest.raises(PeerError):
        verify_range(keccak256(nodes[-1]), bytes(32), no_leaves(LEAF), _in_one_buffer(nodes))


def _in_one_buffer(nodes: list[bytes]) -> ProofNodes:
    lengths = np.array([len(node) for node in nodes], np.int64)
    return ProofNodes(np.frombuffer(b"".join(nodes), np.uint8), np.cumsum(lengths) - lengths, lengths)
