"""Pages and bundles with changes applied are those that would be written of the changed leaves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import DatadirDamaged
from ethsync.store.merging import NO_ROOT, ChangedTrie, changed_bundle, changed_page, encode_changed_tries
from tests.oracles.pages import page_of

PREFIX = bytes.fromhex("abcd")
LEAVES = st.dictionaries(st.integers(0, 40), st.binary(min_size=1, max_size=5), max_size=12)
CHANGES = st.lists(st.dictionaries(st.integers(0, 40), st.binary(max_size=5), min_size=1, max_size=6), max_size=4)
DEPTHS = st.integers(0, 4)


def key(number: int) -> bytes:
    return PREFIX + bytes(28) + number.to_bytes(2, "big")


def page(leaves: dict[int, bytes], depth: int) -> bytes:
    ordered = sorted(leaves)
    return page_of([key(number) for number in ordered], [leaves[number] for number in ordered], depth)


@settings(max_examples=300, deadline=None)
@given(LEAVES, CHANGES, DEPTHS)
def test_a_changed_page_is_the_page_of_the_changed_leaves(
    leaves: dict[int, bytes], changes: list[dict[int, bytes]], depth: int
) -> None:
    expected = dict(leaves)
    for change in changes:
        expected |= change
    expected = {number: value for number, value in expected.items() if value}
    before = page(leaves, depth) if leaves else None
    encoded = [page(change, depth) for change in changes]
    if before is not None or encoded:
        changed = changed_page(before, encoded)
        assert changed == (page(expected, depth) if expected else None)
        # Applied once more, as after a kill between the page and the removal of its patches, they change nothing.
        assert changed_page(changed, encoded) == changed if encoded else True


SLOTS = st.dictionaries(st.integers(0, 9), st.binary(max_size=3), max_size=4)
TRIES = st.dictionaries(st.integers(0, 5), SLOTS, max_size=4)


def bundle(tries: dict[int, dict[int, bytes]], root: bytes, depth: int) -> bytes:
    return encode_changed_tries(
        depth,
        {key(account)[depth // 2 :]: ChangedTrie(root, {key(slot): value for slot, value in slots.items()})
         for account, slots in tries.items()},
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(TRIES, st.lists(st.tuples(TRIES, st.booleans()), max_size=4), DEPTHS)
def test_a_changed_bundle_is_the_bundle_of_the_changed_tries(
    tries: dict[int, dict[int, bytes]], changes: list[tuple[dict[int, dict[int, bytes]], bool]], depth: int
) -> None:
    # Given tries with slots; each change goes by trie, and takes whole tries away or changes slots of some,
    held = {account: {1: b"v"} | {slot: value for slot, value in slots.items() if value}
            for account, slots in tries.items()}  # fmt: skip
    before = bundle(held, b"\1" * 32, depth) if held else None
    encoded = []
    for change, removes in changes:
        encoded.append(bundle({a: {} if removes else s | {2: b"w"} for a, s in change.items()},
                              NO_ROOT if removes else b"\1" * 32, depth))  # fmt: skip
        for account, slots in change.items():
            if removes:
                held.pop(account, None)
            else:
                held[account] = held.get(account, {}) | slots | {2: b"w"}
    # then what is left is the same as if the bundle had been written then.
    expected = {a: {s: v for s, v in slots.items() if v} for a, slots in held.items()}
    if before is not None or encoded:
        changed = changed_bundle(before, encoded)
        assert changed == (bundle(expected, b"\1" * 32, depth) if expected else None)
        assert changed_bundle(changed, encoded) == changed


def test_changes_of_another_page_are_refused() -> None:
    with pytest.raises(DatadirDamaged, match="another page"):
        changed_page(page({1: b"a"}, 2), [page({2: b"b"}, 4)])


@pytest.mark.parametrize("cut", [0, 5, 12, 30, -1])
def test_damaged_pages_and_bundles_are_refused(cut: int) -> None:
    whole = page({1: b"a", 2: b"bb"}, 3)
    with pytest.raises(DatadirDamaged):
        changed_page(whole[:cut], [whole])
    many = bundle({1: {1: b"a"}, 2: {3: b"bb"}}, b"\1" * 32, 3)
    with pytest.raises(DatadirDamaged):
        changed_bundle(many[:cut], [many])
