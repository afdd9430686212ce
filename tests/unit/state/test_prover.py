"""Merkle proofs made from leaves and from pages, against the `trie` package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import rlp
from trie import HexaryTrie

from ethsync.errors import DatadirDamaged
from ethsync.kernels.trie import LEAF
from ethsync.state.columns import leaves_of
from ethsync.state.paged import PagedTrie
from ethsync.state.pages import path_of
from ethsync.state.prover import BranchSource, EmbeddedNode, leaf_trie, node_at, path_nodes
from ethsync.store.leveldb import Database
from tests.oracles.leaf_sets import SHAPES, LeafSet, leaf_set
from tests.oracles.stored_tries import PAGES, TOPS, store
from tests.oracles.tries import all_nodes, proof_of, trie_of

SEEDS = range(3)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", create=True)
    yield opened
    opened.close()


def questions(rng: Random, truth: LeafSet) -> list[bytes]:
    """Keys that are there, keys beside them, and keys far away."""
    present = rng.sample(truth.keys, min(5, len(truth)))
    beside = [bytes([*key[:-1], key[-1] ^ 1]) for key in present]
    parting = [key[:k] + bytes([key[k] ^ 0x11]) + key[k + 1 :] for key in present for k in (0, 3, 29)]
    return [*present, *beside, *parting, rng.randbytes(32), bytes(32), b"\xff" * 32]


def check(source: BranchSource, trie: HexaryTrie, truth: LeafSet, keys: list[bytes]) -> None:
    values = dict(zip(truth.keys, truth.values, strict=True))
    for key in keys:
        nodes = path_nodes(source, key)
        # The oracle sends exactly the same nodes
        assert nodes == proof_of(trie, key)
        # and believes ours.
        proof = [rlp.decode(node) for node in nodes]
        assert HexaryTrie.get_from_proof(trie.root_hash, key, proof) == values.get(key, b"")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_proofs_from_leaves_are_those_of_the_trie_package(shape: str, seed: int) -> None:
    rng = Random(seed)
    truth = leaf_set(rng, shape, 60)
    source = leaf_trie(leaves_of(truth.keys, truth.values))
    check(source, trie_of(truth.keys, truth.values), truth, questions(rng, truth))


@pytest.mark.parametrize("depth", [0, 1, 3, 4, 6])
@pytest.mark.parametrize("shape", SHAPES)
def test_proofs_from_stored_pages_are_those_of_the_trie_package(shape: str, depth: int, database: Database) -> None:
    # Given pages of any depth, also deeper than the part of the trie that stays in memory
    rng = Random(depth)
    truth = leaf_set(rng, shape, 60)
    store(database, leaves_of(truth.keys, truth.values), depth)
    # When keys are proven, then it does not show where the pages were cut.
    source = PagedTrie(database, PAGES, TOPS, depth, LEAF)
    check(source, trie_of(truth.keys, truth.values), truth, questions(rng, truth))


@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_split_pages_are_proven_and_read_like_others(depth: int, database: Database) -> None:
    # Given a trie in which the pages under one path are a nibble longer than the others
    rng = Random(depth)
    keys = sorted({bytes([0xAB, 0xCD, rng.choice((0, 0x50, 0xEF))]) + rng.randbytes(29) for _ in range(60)}
                  | {rng.randbytes(32) for _ in range(60)})  # fmt: skip
    truth = LeafSet("split", keys, [rng.randbytes(20) for _ in keys])
    store(database, leaves_of(truth.keys, truth.values), depth, split="abcdef"[:depth])
    source = PagedTrie(database, PAGES, TOPS, depth, LEAF)
    check(source, trie_of(truth.keys, truth.values), truth, questions(rng, truth))
    for key in questions(rng, truth):
        assert source.value(key) == dict(zip(truth.keys, truth.values, strict=True)).get(key)
        found = source.read(key, b"\xff" * 32, 400)
        first = sum(other < key for other in truth.keys)
        assert [found.key(row) for row in range(len(found))] == truth.keys[first : first + 8]  # 7 · 52 ≤ 400 < 8 · 52


@pytest.mark.parametrize("origin", [bytes(32), b"\x40" + bytes(31), b"\xff" * 32])
@pytest.mark.parametrize("end", [None, b"\x41" + bytes(31), b"\xc0" + bytes(31)])
def test_blocks_go_through_all_leaves_in_order(origin: bytes, end: bytes | None, database: Database) -> None:
    rng = Random(5)
    truth = leaf_set(rng, "random_keys", 300)
    store(database, leaves_of(truth.keys, truth.values), 2)
    blocks = list(PagedTrie(database, PAGES, TOPS, 2, LEAF).blocks(origin, end))
    found = [(block.key(row), block.value(row)) for block in blocks for row in range(len(block))]
    expected = zip(truth.keys, truth.values, strict=True)
    assert found == [(key, value) for key, value in expected if origin <= key and (end is None or key < end)]


@pytest.mark.parametrize("depth", [0, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_node_is_found_by_its_path_and_no_other(shape: str, depth: int, database: Database) -> None:
    rng = Random(depth)
    truth = leaf_set(rng, shape, 40)
    expected = all_nodes(trie_of(truth.keys, truth.values))
    store(database, leaves_of(truth.keys, truth.values), depth)
    source = PagedTrie(database, PAGES, TOPS, depth, LEAF)
    for path, node in expected.items():
        if node is None:
            with pytest.raises(EmbeddedNode):
                node_at(source, path)
        else:
            assert node_at(source, path) == node
    for key in questions(rng, truth):
        for size in range(0, 65, 3):
            if key.hex()[:size] not in expected:
                assert node_at(source, key.hex()[:size]) is None


def test_an_empty_trie_has_no_nodes(database: Database) -> None:
    source = PagedTrie(database, PAGES, TOPS, 3, LEAF)
    assert path_nodes(source, bytes(32)) == []
    assert node_at(source, "") is None
    assert len(source.read(bytes(32), b"\xff" * 32, 1000)) == 0
    assert source.value(bytes(32)) is None


def test_a_page_shorter_than_its_header_is_damage(database: Database) -> None:
    for number in (1, 2):
        database.put(PAGES + path_of(bytes([number]) * 32, 2).stored, b"\x01")
    with pytest.raises(DatadirDamaged):
        PagedTrie(database, PAGES, TOPS, 2, LEAF).read(bytes(32), b"\xff" * 32, 1000)
