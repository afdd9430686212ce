"""Nodes by their paths, from tables that are made part by part, against the `trie` package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state import paged
from ethsync.state.columns import entries_of, leaves_of
from ethsync.state.node_tables import NodeTables, node_table, read_compact_paths
from ethsync.state.paged import PagedTrie, SmallTrie
from ethsync.state.prover import hex_prefix
from ethsync.store.leveldb import Database
from tests.oracles.accounts import random_account
from tests.oracles.leaf_sets import SHAPES, LeafSet, leaf_set
from tests.oracles.stored_tries import PAGES, TOPS, store
from tests.oracles.tries import all_nodes, trie_of

MISSING = b""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", create=True)
    yield opened
    opened.close()


def questions(rng: Random, truth: LeafSet, expected: dict[str, bytes | None]) -> list[str]:
    """Every path that has a node, and as many that may have none, sorted as peers ask."""
    keys = [*rng.sample(truth.keys, min(8, len(truth))), rng.randbytes(32), bytes(32), b"\xff" * 32]
    beside = [key[:cut] + bytes([key[cut] ^ 0x11]) + key[cut + 1 :] for key in keys for cut in (0, 3, 31)]
    return sorted({*expected, *(key.hex()[: rng.randrange(65)] for key in keys + beside)})


def check(tables: NodeTables, trie: PagedTrie | SmallTrie, truth: LeafSet, rng: Random) -> None:
    expected = all_nodes(trie_of(truth.keys, truth.values))
    asked = questions(rng, truth, expected)
    for paths in (asked, rng.sample(asked, len(asked)), asked[-1:]):
        found = tables.nodes(b"", trie, read_compact_paths([hex_prefix(path, leaf=False) for path in paths]))
        assert list(found) == [expected.get(path, MISSING) for path in paths]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_node_of_a_small_trie_is_found_and_no_other(shape: str, seed: int) -> None:
    rng = Random(seed)
    truth = leaf_set(rng, shape, 60)
    check(NodeTables(), SmallTrie(leaves_of(truth.keys, truth.values)), truth, rng)


@pytest.mark.parametrize("upper", [1, 4])
@pytest.mark.parametrize("depth", [0, 1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_node_of_a_stored_trie_is_found_and_no_other(
    shape: str, depth: int, upper: int, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given pages above, at, and below the depth down to which a trie stays in memory
    monkeypatch.setattr(paged, "UPPER_DEPTH", upper)
    rng = Random(depth)
    truth = leaf_set(rng, shape, 60)
    store(database, leaves_of(truth.keys, truth.values), depth)
    # When nodes are asked for, then it does not show where the trie was cut.
    check(NodeTables(), PagedTrie(database, PAGES, TOPS, depth, LEAF), truth, rng)


@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_nodes_of_split_pages_are_found_like_others(depth: int, database: Database) -> None:
    # Given a trie in which the pages under one path are a nibble longer than the others
    rng = Random(depth)
    keys = sorted({bytes([0xAB, 0xCD, rng.choice((0, 0x50, 0xEF))]) + rng.randbytes(29) for _ in range(60)}
                  | {rng.randbytes(32) for _ in range(60)})  # fmt: skip
    truth = LeafSet("split", keys, [rng.randbytes(rng.choice((1, 20, 40))) for _ in keys])
    store(database, leaves_of(truth.keys, truth.values), depth, split="abcdef"[:depth])
    check(NodeTables(), PagedTrie(database, PAGES, TOPS, depth, LEAF), truth, rng)


def test_little_room_makes_no_difference(database: Database) -> None:
    rng = Random(1)
    truth = leaf_set(rng, "random_keys", 300)
    store(database, leaves_of(truth.keys, truth.values), 2)
    check(NodeTables(most=1), PagedTrie(database, PAGES, TOPS, 2, LEAF), truth, rng)


def test_accounts_are_served_in_their_full_form() -> None:
    rng = Random(2)
    accounts = [random_account(rng) for _ in range(100)]
    keys = sorted(rng.randbytes(32) for _ in accounts)
    stored = leaves_of(keys, [account.slim for account in accounts], SLIM_ACCOUNT)
    truth = LeafSet("accounts", keys, [account.full for account in accounts])
    check(NodeTables(), SmallTrie(stored), truth, rng)


def test_a_table_of_nothing_has_no_nodes() -> None:
    table = node_table(entries_of(leaves_of([], [])), rooted=True)
    assert table.find(read_compact_paths([b"\x00", b"\x11"])).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("encoded", "path"), [(b"", ""), (b"\x00", ""), (b"\x11", "1"), (b"\x20\xab", "ab"), (b"\x3a\xbc", "abc")]
)
def test_compact_paths_are_read_as_geth_reads_them(encoded: bytes, path: str) -> None:
    found = read_compact_paths([encoded])
    assert found.paths[0].tobytes().hex()[: int(found.depths[0])] == path


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20))
def test_any_bytes_are_a_path_or_lead_nowhere(encoded: list[bytes]) -> None:
    rng = Random(3)
    truth = leaf_set(rng, "random_keys", 50)
    trie = SmallTrie(leaves_of(truth.keys, truth.values))
    expected = all_nodes(trie_of(truth.keys, truth.values))
    found = list(NodeTables().nodes(b"", trie, read_compact_paths(encoded)))
    digits = [path.hex() for path in encoded]
    paths = [each[1:] if each and int(each[0], 16) & 1 else each[2:] for each in digits]
    assert found == [expected.get(path, MISSING) for path in paths]
