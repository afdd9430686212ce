"""Nodes of a remote trie against local leaves: what to fetch, put, clear. The oracle is the `trie` package."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import Disproved, MalformedMessage
from ethsync.hashing import keccak256
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.account import decode_slim
from ethsync.state.columns import entries_of, leaves_of
from ethsync.state.difference import Difference, Wanted, compare, match_nodes, root_wanted, slim
from ethsync.state.replies import scan_blobs
from ethsync.state.tries import structure
from ethsync.wire.snap_replies import encode_trie_nodes
from tests.oracles.accounts import random_account
from tests.oracles.leaf_sets import SHAPES, leaf_set
from tests.oracles.tries import trie_of

if TYPE_CHECKING:
    from trie import HexaryTrie

    from tests.oracles.leaf_sets import LeafSet


def against(nodes: list[bytes], at: Wanted, local: dict[bytes, bytes]) -> Difference:
    """Compare these nodes with a local trie."""
    keys = sorted(local)
    leaves = leaves_of(keys, [local[key] for key in keys])
    buf = np.frombuffer(b"".join(nodes), np.uint8)
    lengths = np.array([len(node) for node in nodes], np.int64)
    return compare(buf, np.cumsum(lengths) - lengths, lengths, at, structure(entries_of(leaves)), LEAF)


def healed(local: dict[bytes, bytes], remote: HexaryTrie) -> tuple[dict[bytes, bytes], int, float]:
    """Walk the remote trie from its root, level by level; the local leaves then, the nodes it took, the share equal."""
    new = dict(local)
    asked, equal = 0, 0.0
    wanted = root_wanted(remote.root_hash)
    while len(wanted):
        asked += len(wanted)
        nodes = [remote.db[digest.tobytes()] for digest in wanted.hashes]
        found = against(nodes, wanted, local)
        equal += found.equal
        for path, (depth, kept) in zip(found.cleared, found.cleared_depths.tolist(), strict=True):
            under, stays = path.tobytes().hex()[:depth], path.tobytes().hex()[:kept]
            for key in local:
                if key.hex().startswith(under) and not (kept and key.hex().startswith(stays)):
                    del new[key]
        new.update({found.leaves.key(row): found.leaves.value(row) for row in range(len(found.leaves))})
        wanted = found.wanted
    return new, asked, equal


def changed(rng: Random, given: LeafSet, share: float) -> dict[bytes, bytes]:
    """Some leaves go, some get other values, some are added beside those that are there."""
    found = dict(zip(given.keys, given.values, strict=True))
    for key in given.keys:
        if rng.random() < share:
            what = rng.randrange(3)
            if what == 0:
                del found[key]
            elif what == 1:
                found[key] = rng.randbytes(rng.choice((1, 2, 33)))
            else:
                cut = rng.randrange(32)
                found[key[:cut] + rng.randbytes(32 - cut)] = rng.randbytes(rng.choice((1, 2, 33)))
    return found


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.integers(0, 2**32), st.floats(0, 1))
def test_a_walk_makes_of_any_local_trie_the_remote_one(shape: str, seed: int, share: float) -> None:
    # Given a remote trie, and a local one from which it was changed
    rng = Random(seed)
    before = leaf_set(rng, shape, rng.randrange(1, 60))
    local = dict(zip(before.keys, before.values, strict=True))
    after = changed(rng, before, share) or local
    keys = sorted(after)
    remote = trie_of(keys, [after[key] for key in keys])
    # When it is walked, then the local leaves are those of the remote trie, and all of the key space is accounted for.
    new, _, equal = healed(local, remote)
    assert new == after
    assert equal == pytest.approx(1.0)


def test_a_trie_that_did_not_change_needs_one_node() -> None:
    rng = Random(1)
    same = leaf_set(rng, "random_keys", 200)
    _, asked, equal = healed(dict(zip(same.keys, same.values, strict=True)), trie_of(same.keys, same.values))
    assert asked == 1
    assert equal == 1.0


def test_nothing_local_needs_every_node() -> None:
    rng = Random(2)
    remote = leaf_set(rng, "random_keys", 100)
    oracle = trie_of(remote.keys, remote.values)
    new, asked, _ = healed({}, oracle)
    assert new == dict(zip(remote.keys, remote.values, strict=True))
    assert asked > 100


def test_one_changed_leaf_of_a_thousand_needs_the_nodes_above_it() -> None:
    rng = Random(3)
    remote = leaf_set(rng, "random_keys", 1000)
    local = dict(zip(remote.keys, remote.values, strict=True))
    local[remote.keys[500]] = b"other"
    _, asked, _ = healed(local, trie_of(remote.keys, remote.values))
    assert asked <= 5


def test_accounts_get_their_slim_form() -> None:
    rng = Random(4)
    accounts = [random_account(rng) for _ in range(200)]
    keys = sorted(rng.randbytes(32) for _ in accounts)
    made = slim(leaves_of(keys, [account.full for account in accounts]))
    assert made.kind == SLIM_ACCOUNT
    assert [made.value(row) for row in range(len(made))] == [decode_slim(account.slim).slim() for account in accounts]


@given(st.binary(max_size=200))
def test_a_leaf_that_is_no_account_is_refused(value: bytes) -> None:
    account = random_account(Random(5))
    if value and value != account.full:
        with pytest.raises(MalformedMessage):
            slim(leaves_of([bytes(32)], [value + b"\0"]))


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1, max_size=600), st.integers(0, 64))
def test_any_bytes_are_a_node_or_an_error(node: bytes, depth: int) -> None:
    rng = Random(6)
    local = leaf_set(rng, "random_keys", 50)
    at = Wanted(np.zeros((1, 32), np.uint8), np.array([depth], np.int64), np.zeros((1, 32), np.uint8))
    try:
        found = against([node], at, dict(zip(local.keys, local.values, strict=True)))
    except MalformedMessage:
        return
    assert len(found.wanted) <= 16


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_node_with_a_changed_byte_is_a_node_or_an_error(data: st.DataObject) -> None:
    rng = Random(data.draw(st.integers(0, 50)))
    remote = leaf_set(rng, rng.choice(sorted(SHAPES)), 40)
    nodes = list(trie_of(remote.keys, remote.values).db.values())
    node = bytearray(data.draw(st.sampled_from(nodes)))
    node[data.draw(st.integers(0, len(node) - 1))] ^= data.draw(st.integers(1, 255))
    at = Wanted(np.zeros((1, 32), np.uint8), np.array([data.draw(st.integers(0, 64))]), np.zeros((1, 32), np.uint8))
    try:
        found = against([bytes(node)], at, dict(zip(remote.keys, remote.values, strict=True)))
    except MalformedMessage:
        return
    assert len(found.leaves) <= len(node)


class TestMatching:
    """A reply may leave out nodes, or send an empty string for one; nothing else."""

    def wanted(self, nodes: list[bytes]) -> Wanted:
        hashes = np.frombuffer(b"".join(map(keccak256, nodes)), np.uint8).reshape(-1, 32)
        return Wanted(np.zeros((len(nodes), 32), np.uint8), np.arange(len(nodes)), hashes)

    def test_what_came_is_found_by_its_hash(self) -> None:
        nodes = [rlp.encode([bytes([k]) * 40, b"x"]) for k in range(5)]
        came = encode_trie_nodes(1, [nodes[0], b"", nodes[3], nodes[4]])
        rows, blobs = match_nodes(scan_blobs(came, 5), self.wanted(nodes))
        assert rows.tolist() == [0, 3, 4]
        assert blobs.tolist() == [0, 2, 3]

    def test_a_node_that_was_not_asked_for_is_a_lie(self) -> None:
        nodes = [rlp.encode([bytes([k]) * 40, b"x"]) for k in range(5)]
        with pytest.raises(Disproved):
            match_nodes(scan_blobs(encode_trie_nodes(1, [nodes[0], b"other"]), 5), self.wanted(nodes))

    def test_nodes_in_another_order_are_a_lie(self) -> None:
        nodes = [rlp.encode([bytes([k]) * 40, b"x"]) for k in range(2)]
        with pytest.raises(Disproved):
            match_nodes(scan_blobs(encode_trie_nodes(1, nodes[::-1]), 2), self.wanted(nodes))
