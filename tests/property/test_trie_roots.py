"""A thousand random tries per run against the `trie` package, one by one and as forests."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state import tries
from ethsync.state.columns import entries_of, leaves_of
from tests.oracles.accounts import random_account
from tests.oracles.leaf_sets import SHAPES, LeafSet, any_leaf_set, leaf_set
from tests.oracles.tries import root_of, top_under, trie_of

TRIES = 1000
FORESTS = 10
EVERY_DEPTH = range(65)


@pytest.mark.parametrize("seed", range(FORESTS))
def test_a_hundred_tries_one_by_one_and_as_a_forest(seed: int) -> None:
    # Given tries with short values, shared prefixes, embedded nodes, single leaves, leaves on chunk borders
    rng = Random(seed)
    sets = [any_leaf_set(rng, 40) for _ in range(TRIES // FORESTS)]
    # When the oracle builds them
    expected = [root_of(given.keys, given.values) for given in sets]
    # Then every one has that root alone
    assert [tries.root_of(given.keys, given.values) for given in sets] == expected
    # and in one call with the others.
    starts = np.cumsum([0] + [len(given) for given in sets[:-1]])
    leaves = leaves_of([key for given in sets for key in given.keys], [v for given in sets for v in given.values])
    assert [row.tobytes() for row in tries.roots(leaves, starts)] == expected


@pytest.mark.parametrize("seed", range(20))
def test_slim_accounts_give_the_root_of_the_full_accounts(seed: int) -> None:
    rng = Random(seed)
    keys = sorted(rng.randbytes(32) for _ in range(30))
    accounts = [random_account(rng) for _ in keys]
    full = [account.full for account in accounts]
    assert tries.root(leaves_of(keys, [account.slim for account in accounts], SLIM_ACCOUNT)) == root_of(keys, full)
    assert tries.root(leaves_of(keys, full, LEAF)) == root_of(keys, full)


@pytest.mark.parametrize("seed", range(20))
def test_two_leaf_sets_that_differ_have_different_roots(seed: int) -> None:
    # A kernel that ignores a byte of keys or values would pass every other test with the same leaves on both sides.
    rng = Random(seed)
    given = leaf_set(rng, "shared_prefixes", 12)
    root = tries.root_of(given.keys, given.values)
    for row in range(len(given)):
        values = list(given.values)
        position = rng.randrange(len(values[row]))
        changed = bytearray(values[row])
        changed[position] ^= 1 << rng.randrange(8)
        values[row] = bytes(changed)
        assert tries.root_of(given.keys, values) != root
        keys, rest = given.keys[:row] + given.keys[row + 1 :], given.values[:row] + given.values[row + 1 :]
        assert tries.root_of(keys, rest) != root


def check_tops(given: LeafSet, page_depth: int) -> None:
    """Pages at this depth are found and summed up rightly, and their tops alone give the root again."""
    leaves = leaves_of(given.keys, given.values)
    oracle = trie_of(given.keys, given.values)
    root, tops = tries.build(entries_of(leaves), page_depth=page_depth)
    assert root.tobytes() == oracle.root_hash

    paths = [key.hex()[:page_depth] for key in given.keys]
    firsts = [row for row, path in enumerate(paths) if row == 0 or paths[row - 1] != path]
    assert tops.firsts.tolist() == [*firsts, len(given)]
    assert [(int(tops.depths[g]), tops.reference(g)) for g in range(len(tops))] == [
        top_under(oracle, paths[row]) for row in firsts
    ]

    alone = tries.page_tops(leaves, tops.firsts[:-1])
    assert alone.depths.tolist() == tops.depths.tolist()
    assert [alone.reference(g) for g in range(len(tops))] == [tops.reference(g) for g in range(len(tops))]

    single_values = [given.values[row] if tops.sizes[g] == 0 else b"" for g, row in enumerate(firsts)]
    upper = tries.top_entries(tops, leaves.keys[tops.firsts[:-1]], single_values)
    assert tries.build(upper)[0].tobytes() == root.tobytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_page_tops_at_every_depth(shape: str, seed: int) -> None:
    rng = Random(seed)
    given = leaf_set(rng, shape, rng.choice((2, 9, 30)))
    for page_depth in EVERY_DEPTH:
        check_tops(given, page_depth)


@pytest.mark.parametrize("seed", range(40))
def test_page_tops_of_random_tries(seed: int) -> None:
    rng = Random(seed)
    check_tops(any_leaf_set(rng, 120), rng.choice((0, 1, 2, 3, 5, 30, 57, 58, 60, 63)))


def test_a_trie_large_enough_for_many_full_lanes() -> None:
    given = leaf_set(Random(1), "random_keys", 3000)
    check_tops(given, 2)


@pytest.mark.parametrize("page_depth", [1, 3])
def test_forests_report_the_tops_of_every_trie(page_depth: int) -> None:
    # Given several tries in one call
    rng = Random(page_depth)
    sets = [any_leaf_set(rng, 50) for _ in range(30)]
    starts = np.cumsum([0] + [len(given) for given in sets[:-1]])
    leaves = leaves_of([key for given in sets for key in given.keys], [v for given in sets for v in given.values])
    # When
    _, tops = tries.build(entries_of(leaves), starts, page_depth=page_depth)
    # Then the groups are those of each trie for itself, one after another.
    found = [(int(tops.depths[g]), tops.reference(g)) for g in range(len(tops))]
    expected = []
    for given in sets:
        oracle = trie_of(given.keys, given.values)
        paths = sorted({key.hex()[:page_depth] for key in given.keys})
        expected += [top_under(oracle, path) for path in paths]
    assert found == expected
