"""Roots of lists against the `trie` package and the lists of geth's chain."""

from __future__ import annotations

from random import Random

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from ethsync.hashing import EMPTY_TRIE_ROOT
from ethsync.state.ordered_trie import ordered_root
from ethsync.state.tries import TrieError


def oracle_root(items: list[bytes]) -> bytes:
    trie = HexaryTrie({}, prune=True)
    for index, item in enumerate(items):
        trie[rlp.encode(index)] = item
    return bytes(trie.root_hash)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=70), max_size=150))
def test_any_list_has_the_root_that_the_trie_package_gives(items: list[bytes]) -> None:
    assert ordered_root(items) == oracle_root(items)


@pytest.mark.parametrize("count", [1, 2, 16, 17, 126, 127, 128, 129, 130, 255, 256, 257, 300, 700])
@pytest.mark.parametrize("longest", [1, 40, 2000])
def test_keys_of_one_two_and_three_bytes(count: int, longest: int) -> None:
    # Given lists whose leaves are embedded in branches, or hashed, or longer than the trie kernel takes
    rng = Random(count)
    items = [rng.randbytes(rng.randint(1, longest)) for _ in range(count)]
    # Then their root is that of the obvious trie.
    assert ordered_root(items) == oracle_root(items)


def test_a_transaction_with_blobs_of_data_is_hashed_too() -> None:
    items = [b"\x02" + bytes(128 << 10), b"\x7f"]
    assert ordered_root(items) == oracle_root(items)


def test_the_empty_list_has_the_root_of_the_empty_trie() -> None:
    assert ordered_root([]) == EMPTY_TRIE_ROOT


def test_an_empty_item_has_no_place_in_a_trie() -> None:
    with pytest.raises(TrieError, match="empty"):
        ordered_root([b"\x01", b""])


def test_order_and_every_byte_count() -> None:
    items = [bytes((i, i)) for i in range(1, 9)]
    root = ordered_root(items)
    assert ordered_root(items[::-1]) != root
    assert ordered_root(items[:-1]) != root
    assert ordered_root([*items[:-1], b"\x08\x09"]) != root
