"""Range proofs: the cases of go-ethereum's trie/proof_test.go by their names, then those it has no name for."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import rlp
from trie import HexaryTrie

from ethsync.errors import Disproved, LocalProtocolError, MalformedMessage
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import MAX_KEY, ZERO_KEY, Leaves, leaves_of, no_leaves
from ethsync.state.proofs import verify_range
from ethsync.state.replies import ProofNodes
from tests.oracles.accounts import random_account
from tests.oracles.leaf_sets import LeafSet
from tests.oracles.ranges import REFUSED, Claim, after, honest, proof_nodes
from tests.oracles.tries import proof_of, root_of, trie_of

# A trie like go-ethereum's randomTrie: some small keys close together with values of one byte, the rest random.
SMALL_KEYS = 110
RANDOM_KEYS = 900
N = SMALL_KEYS + RANDOM_KEYS


@pytest.fixture(scope="module")
def truth() -> LeafSet:
    rng = Random(1)
    leaves = {number.to_bytes(32, "big"): bytes([number]) for number in range(1, SMALL_KEYS + 1)}
    leaves |= {rng.randbytes(32): rng.randbytes(20) for _ in range(RANDOM_KEYS)}
    return LeafSet("randomTrie", sorted(leaves), [leaves[key] for key in sorted(leaves)])


@pytest.fixture(scope="module")
def trie(truth: LeafSet) -> HexaryTrie:
    return trie_of(truth.keys, truth.values)


@pytest.fixture(scope="module")
def root(trie: HexaryTrie) -> bytes:
    return bytes(trie.root_hash)


def small_trie(*values: bytes) -> tuple[LeafSet, HexaryTrie]:
    """Leaves at the keys 0, 1, 2 …: with short values most nodes are embedded."""
    keys = [number.to_bytes(32, "big") for number in range(len(values))]
    return LeafSet("small", keys, list(values)), trie_of(keys, values)


# go-ethereum, trie/proof_test.go.


def test_range_proof(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given ranges between two existing keys, each with the proofs of both ends
    rng = Random(2)
    for _ in range(150):
        first = rng.randrange(N)
        last = rng.randint(first + 1, N)
        # When it is verified, then it holds, and whether the trie goes on is known.
        proven = honest(trie, truth, first, last).verify(root)
        assert proven.more == (last < N)
        assert len(proven.leaves) == last - first


def test_range_proof_with_non_existent_proof(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given origins that are no keys: one place before a key, and anywhere between two keys
    rng = Random(3)
    for _ in range(60):
        first = rng.randrange(SMALL_KEYS + 1, N - 1)
        gap = int.from_bytes(truth.keys[first], "big") - int.from_bytes(truth.keys[first - 1], "big")
        for origin in (after(truth.keys[first], -1), after(truth.keys[first - 1], rng.randrange(1, gap))):
            proven = honest(trie, truth, first, rng.randint(first + 1, N), origin).verify(root)
            assert len(proven.leaves) > 0


def test_range_proof_with_invalid_non_existent_proof(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given a valid proof that begins before key 100
    claim = honest(trie, truth, 100, 200, after(truth.keys[99]))
    claim.verify(root)
    # When the leaves begin only at key 105, so that there is a gap after the origin
    gapped = replace(claim, keys=claim.keys[5:], values=claim.values[5:])
    # Then it is refused.
    with pytest.raises(Disproved):
        gapped.verify(root)


@pytest.mark.parametrize("first", [1, 50, SMALL_KEYS + 5, N - 1])
def test_one_element_range_proof(first: int, truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given one leaf with the proof of itself, with an origin before it that is no key, and with more nodes than needed
    key = truth.keys[first]
    exact = honest(trie, truth, first, first + 1)
    before = honest(trie, truth, first, first + 1, after(truth.keys[first - 1]))
    wide = replace(before, nodes=proof_of(trie, before.origin, key, after(key) if key != MAX_KEY else key))
    # Then each is accepted.
    for claim in (exact, before, wide):
        assert claim.verify(root).more == (first + 1 < N)


def test_one_element_range_proof_of_a_trie_with_one_element() -> None:
    key, value = Random(4).randbytes(32), b"value"
    only = trie_of([key], [value])
    for origin in (ZERO_KEY, key, after(key, -1)):
        proven = Claim(origin, [key], [value], proof_of(only, origin, key)).verify(only.root_hash)
        assert not proven.more


def test_all_elements_proof(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given the whole trie: without proof, with proofs of its first and last key, with proofs of keys that do not exist
    for origin, nodes in (
        (ZERO_KEY, []),
        (truth.keys[0], proof_of(trie, truth.keys[0], truth.keys[-1])),
        (ZERO_KEY, proof_of(trie, ZERO_KEY, MAX_KEY, truth.keys[-1])),
    ):
        proven = Claim(origin, truth.keys, truth.values, nodes).verify(root)
        # Then nothing follows.
        assert not proven.more
        assert (proven.open_left, proven.open_right) == (False, False)


@pytest.mark.parametrize("last", [1, 2, 51, 101, 501, N - 1, N])
def test_single_side_range_proof(last: int, truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given the leaves from the very beginning of the key space up to some key
    proven = honest(trie, truth, 0, last, ZERO_KEY).verify(root)
    assert proven.more == (last < N)


def modified_key(claim: Claim, at: int) -> Claim:
    return replace(claim, keys=[*claim.keys[:at], after(claim.keys[at]), *claim.keys[at + 1 :]])


def modified_value(claim: Claim, at: int) -> Claim:
    return replace(claim, values=[*claim.values[:at], b"\x99" * 20, *claim.values[at + 1 :]])


def gapped(claim: Claim, at: int) -> Claim:
    return replace(
        claim, keys=claim.keys[:at] + claim.keys[at + 1 :], values=claim.values[:at] + claim.values[at + 1 :]
    )


def out_of_order(claim: Claim, at: int) -> Claim:
    keys, values = list(claim.keys), list(claim.values)
    other = (at + 3) % len(keys)
    for column in (keys, values):
        column[at], column[other] = column[other], column[at]
    return replace(claim, keys=keys, values=values)


def random_key(claim: Claim, at: int) -> Claim:
    return replace(claim, keys=[*claim.keys[:at], keccak256(claim.keys[at]), *claim.keys[at + 1 :]])


def empty_value(claim: Claim, at: int) -> Claim:
    return replace(claim, values=[*claim.values[:at], b"", *claim.values[at + 1 :]])


@pytest.mark.parametrize("damage", [modified_key, modified_value, gapped, out_of_order, random_key, empty_value])
@pytest.mark.parametrize(("first", "last"), [(0, 20), (40, 70), (SMALL_KEYS - 5, SMALL_KEYS + 60), (N - 30, N)])
def test_bad_range_proof(damage: object, first: int, last: int, truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given an honest range
    claim = honest(trie, truth, first, last, after(truth.keys[first - 1]) if first else ZERO_KEY)
    claim.verify(root)
    # When one leaf is damaged: the second, one in the middle, the last but one
    for at in (1, (last - first) // 2, last - first - 2):
        damaged = damage(claim, at)  # type: ignore[operator]
        assert not damaged.is_true(truth)
        # Then the range is refused.
        with pytest.raises(REFUSED):
            damaged.verify(root)


def test_gapped_range_proof() -> None:
    # Given ten leaves with one-byte values, which stand embedded in the nodes of the proof itself
    truth, trie = small_trie(*(bytes([number + 1]) for number in range(10)))
    claim = honest(trie, truth, 2, 8)
    claim.verify(trie.root_hash)
    # When the one in the middle is left out, although the proof contains it
    # Then it does not count as delivered.
    for at in range(1, 5):
        with pytest.raises(Disproved):
            gapped(claim, at).verify(trie.root_hash)


def test_same_side_proofs(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given one leaf, and proofs of two places on its left, or on its right
    position = SMALL_KEYS + 100
    key, value = truth.keys[position], truth.values[position]
    for steps in ((-2, -1), (1, 2)):
        near, far = after(key, steps[0]), after(key, steps[1])
        claim = Claim(near, [key], [value], proof_of(trie, near, far))
        if steps[0] < 0:
            # Then the leaf is proven if the path to it is the same as to its neighbours,
            assert claim.verify(root).more
            # but not as the leaf at one of these places,
            with pytest.raises(REFUSED):
                replace(claim, keys=[far]).verify(root)
        else:
            # and what lies before the origin is refused.
            with pytest.raises(MalformedMessage, match="before the origin"):
                claim.verify(root)


@pytest.mark.parametrize(
    ("first", "last", "more"),
    [
        (0, 1, True),
        (0, 10, True),
        (50, 100, True),
        (50, N, False),
        (N - 1, N, False),
        (N, N, False),
        (0, N, False),
    ],
)
@pytest.mark.parametrize("from_zero", [False, True])
def test_has_right_element(
    first: int, last: int, more: bool, from_zero: bool, truth: LeafSet, trie: HexaryTrie, root: bytes
) -> None:
    # Given a range that begins with a key, or (for the first key) at zero, or after the last key
    origin = after(truth.keys[-1]) if first == N else ZERO_KEY if from_zero and first == 0 else truth.keys[first]
    # Then it is known whether there is anything on its right.
    assert honest(trie, truth, first, last, origin).verify(root).more == more


@pytest.mark.parametrize("position", [0, 50, SMALL_KEYS + 200, N - 2])
def test_empty_range_proof(position: int, truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given a reply without leaves, although some follow the origin
    origin = after(truth.keys[position])
    with pytest.raises(Disproved, match="hides leaves"):
        Claim(origin, [], [], proof_of(trie, origin)).verify(root)


def test_empty_range_proof_after_the_last_key(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    for origin in (after(truth.keys[-1]), MAX_KEY):
        proven = Claim(origin, [], [], proof_of(trie, origin)).verify(root)
        assert (len(proven.leaves), proven.more) == (0, False)


def test_empty_range_proof_at_the_last_key_hides_it(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    with pytest.raises(Disproved):
        Claim(truth.keys[-1], [], [], proof_of(trie, truth.keys[-1])).verify(root)


def test_bloated_proof(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given the proofs of every key of the trie for a range of one leaf
    nodes = proof_of(trie, *truth.keys)
    claim = Claim(truth.keys[50], [truth.keys[50]], [truth.values[50]], nodes)
    # Then it is accepted: extra nodes prove nothing, but they do no harm.
    assert claim.verify(root).more


@pytest.mark.parametrize("at", [0, 5, 10])
def test_empty_value_range_proof(at: int, truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given an honest range into which a key without value is slipped (in go-ethereum: a deletion)
    claim = honest(trie, truth, SMALL_KEYS + 20, SMALL_KEYS + 30)
    keys, values = list(claim.keys), list(claim.values)
    keys.insert(at, after(keys[at - 1]) if at else claim.origin)
    values.insert(at, b"")
    if not at:
        keys[1] = after(keys[1])
    with pytest.raises(REFUSED):
        replace(claim, keys=keys, values=values).verify(root)


def test_all_elements_empty_value_range_proof(truth: LeafSet, root: bytes) -> None:
    # Given the whole trie without proof, and one more key without value
    keys, values = list(truth.keys), list(truth.values)
    keys.insert(201, after(keys[200]))
    values.insert(201, b"")
    with pytest.raises(MalformedMessage, match="a value is empty"):
        Claim(ZERO_KEY, keys, values, []).verify(root)


def test_range_proof_keys_with_shared_prefix() -> None:
    # Given two keys that part at the third nibble, and proofs of places that already part at the first
    keys = [bytes.fromhex("aa" + digits) + b"\0" * 30 for digits in ("10", "20")]
    trie = trie_of(keys, [b"\x02", b"\x03"])
    # When the range is everything
    claim = Claim(ZERO_KEY, keys, [b"\x02", b"\x03"], proof_of(trie, ZERO_KEY, MAX_KEY))
    # Then both are accepted and nothing follows.
    assert not claim.verify(trie.root_hash).more
    assert len(claim.nodes) == 1


def test_range_proof_errors(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    claim = honest(trie, truth, 10, 14)
    nodes = proof_nodes(claim.nodes)
    leaves = leaves_of(claim.keys, claim.values)
    # Different number of keys and values.
    short = Leaves(leaves.keys, leaves.buf, leaves.offsets[:3], leaves.lengths[:3], LEAF)
    for proof in (nodes, proof_nodes([])):
        with pytest.raises(MalformedMessage):
            verify_range(root, claim.origin if len(proof) else ZERO_KEY, short, proof)
    # Keys out of order, the same key twice: with and without proof.
    for order in ([1, 0, 2, 3], [0, 1, 1, 2], [0, 2, 1, 3]):
        keys, values = [claim.keys[row] for row in order], [claim.values[row] for row in order]
        for given in (claim.nodes, []):
            with pytest.raises(MalformedMessage):
                Claim(ZERO_KEY if not given else claim.origin, keys, values, given).verify(root)
    # The first key before the origin.
    with pytest.raises(MalformedMessage, match="before the origin"):
        replace(claim, origin=after(claim.keys[0])).verify(root)


# What go-ethereum's list does not name.


def test_the_wrong_root(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    claim = honest(trie, truth, 30, 60)
    with pytest.raises(Disproved, match="does not begin at the root"):
        claim.verify(keccak256(root))
    with pytest.raises(Disproved, match="whole trie gives root"):
        Claim(ZERO_KEY, truth.keys, truth.values, []).verify(keccak256(root))


def test_a_part_without_proof(truth: LeafSet, root: bytes) -> None:
    with pytest.raises(MalformedMessage, match="without a proof"):
        Claim(truth.keys[0], truth.keys, truth.values, []).verify(root)
    with pytest.raises(Disproved):
        Claim(ZERO_KEY, truth.keys[:-1], truth.values[:-1], []).verify(root)


def test_the_empty_trie() -> None:
    proven = Claim(ZERO_KEY, [], [], []).verify(EMPTY_TRIE_ROOT, page_depth=2)
    assert (len(proven.leaves), proven.more, len(proven.tops)) == (0, False, 0)
    with pytest.raises(Disproved, match="empty reply without proof"):
        Claim(ZERO_KEY, [], [], []).verify(keccak256(b"root"))
    with pytest.raises(Disproved):
        Claim(ZERO_KEY, [b"\x11" * 32], [b"\x01"], []).verify(EMPTY_TRIE_ROOT)


def test_the_single_leaf_of_a_trie_cannot_be_hidden() -> None:
    # Given a trie with one leaf, and a peer that says there is nothing from that key on
    key = b"\x77" * 32
    trie = trie_of([key], [b"value"])
    for origin in (ZERO_KEY, key):
        with pytest.raises(Disproved):
            Claim(origin, [], [], proof_of(trie, origin, key)).verify(trie.root_hash)
    assert not Claim(after(key), [], [], proof_of(trie, key)).verify(trie.root_hash).more


def test_full_set_with_a_proof(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given all leaves and a proof of the first only, although none is needed
    # (go-ethereum, sync_test.go: TestSyncWithStorageMisbehavingProve)
    for nodes in (proof_of(trie, ZERO_KEY), proof_of(trie, truth.keys[-1]), proof_of(trie, ZERO_KEY)[:1]):
        assert not Claim(ZERO_KEY, truth.keys, truth.values, nodes).verify(root).more


def inside_pages(truth: LeafSet) -> tuple[int, int]:
    """A range whose first and last key each have neighbours outside the range with the same first nibble."""
    shared = [row for row in range(SMALL_KEYS + 100, N) if truth.keys[row].hex()[0] == truth.keys[row - 1].hex()[0]]
    return shared[0], next(row for row in shared if row > shared[0] + 200)


@pytest.mark.parametrize("edge", ["left", "right"])
def test_missing_proof_nodes_on_an_edge(edge: str, truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given a range with the branch under the root dropped from one of its edges
    claim = honest(trie, truth, *inside_pages(truth))
    branch = proof_of(trie, claim.keys[0] if edge == "left" else claim.keys[-1])[1]
    assert len(rlp.decode(branch)) == 17
    # Then its siblings outside the range are unknown and the root cannot be met.
    with pytest.raises(Disproved):
        replace(claim, nodes=[other for other in claim.nodes if other != branch]).verify(root)


def test_missing_root_node(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    claim = honest(trie, truth, 30, 60)
    with pytest.raises(Disproved, match="does not begin at the root"):
        replace(claim, nodes=claim.nodes[1:]).verify(root)


def test_order_and_repetition_of_proof_nodes_do_not_matter(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    claim = honest(trie, truth, 30, 300)
    for nodes in (claim.nodes[::-1], claim.nodes * 2, [b"", b"\x80", b"\xc0", *claim.nodes]):
        assert replace(claim, nodes=nodes).verify(root).more


def test_slim_accounts_are_proven_by_full_leaves() -> None:
    # Given an account trie, whose proof nodes hold accounts in full, and a reply with slim accounts
    rng = Random(9)
    keys = sorted(rng.randbytes(32) for _ in range(50))
    accounts = [random_account(rng) for _ in keys]
    trie = trie_of(keys, [account.full for account in accounts])
    nodes = proof_nodes(proof_of(trie, keys[10], keys[29]))
    leaves = leaves_of(keys[10:30], [account.slim for account in accounts[10:30]], SLIM_ACCOUNT)
    # Then the slim accounts are proven,
    assert verify_range(trie.root_hash, keys[10], leaves, nodes).more
    # but not with a wrong nonce, and not if one is no account.
    values = [account.slim for account in accounts[10:30]]
    values[7] = replace(accounts[17], nonce=accounts[17].nonce ^ 1).slim
    with pytest.raises(Disproved):
        verify_range(trie.root_hash, keys[10], leaves_of(keys[10:30], values, SLIM_ACCOUNT), nodes)
    values[7] = b"\xc0"
    with pytest.raises(MalformedMessage, match="an account is not canonical"):
        verify_range(trie.root_hash, keys[10], leaves_of(keys[10:30], values, SLIM_ACCOUNT), nodes)


def test_leaves_and_proof_in_the_same_buffer(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given one message that holds both, as it comes off the wire
    claim = honest(trie, truth, 20, 200)
    leaves = leaves_of(claim.keys, claim.values)
    nodes = proof_nodes(claim.nodes)
    buf = np.concatenate([nodes.buf, leaves.buf])
    shifted = Leaves(leaves.keys, buf, leaves.offsets + len(nodes.buf), leaves.lengths, LEAF)
    assert verify_range(root, claim.origin, shifted, ProofNodes(buf, nodes.offsets, nodes.lengths)).more


@pytest.mark.parametrize(("offset", "length"), [(-1, 40), (0, -1), (0, 10**6), (10**6, 1)])
def test_proof_nodes_outside_their_buffer_are_our_own_fault(offset: int, length: int, root: bytes) -> None:
    nodes = ProofNodes(np.zeros(100, np.uint8), np.array([offset], np.int64), np.array([length], np.int64))
    with pytest.raises(LocalProtocolError):
        verify_range(root, ZERO_KEY, no_leaves(LEAF), nodes)


def test_pages_of_a_proven_range(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    # Given a range from the middle of one page to the middle of another
    first, last = inside_pages(truth)
    # When it is proven with pages of one nibble
    proven = honest(trie, truth, first, last).verify(root, page_depth=1)
    # Then there is a group per first nibble, open on both sides.
    nibbles = [key.hex()[0] for key in truth.keys[first:last]]
    groups = [row for row in range(len(nibbles)) if row == 0 or nibbles[row] != nibbles[row - 1]]
    assert proven.groups.tolist() == [*groups, len(nibbles)]
    assert (proven.open_left, proven.open_right) == (True, True)
    # When the range is cut at page borders, then it is open on neither side.
    first, last = first + groups[1], first + groups[-1]
    proven = honest(trie, truth, first, last).verify(root, page_depth=1)
    assert (proven.open_left, proven.open_right) == (False, False)
    assert len(proven.tops) == len(groups) - 2


def test_without_a_page_depth_a_proven_range_has_no_tops(truth: LeafSet, trie: HexaryTrie, root: bytes) -> None:
    proven = honest(trie, truth, 5, 25).verify(root)
    assert len(proven.tops) == 0
    assert proven.leaves.key(0) == truth.keys[5]


def test_roots_of_the_oracle_and_the_fixture_agree(truth: LeafSet, root: bytes) -> None:
    assert root == root_of(truth.keys, truth.values)
