"""Walks from a stored trie to another one: which nodes they ask for, when, and what is in the pages then."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.arrays import Ints
from ethsync.kernels.trie import LEAF
from ethsync.state.columns import Leaves
from ethsync.store.leveldb import Database
from ethsync.sync import walk as walks
from ethsync.sync.local_trie import LocalTrie, PageCache
from ethsync.sync.walk import Openings
from tests.oracles.leaf_sets import SHAPES, leaf_set
from tests.oracles.stored_tries import PAGES, TOPS
from tests.oracles.tries import all_nodes, root_of, trie_of
from tests.oracles.walks import Contents, Healing, blobs_of, held, put


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", create=True)
    yield opened
    opened.close()


def changed(rng: Random, before: Contents, share: float) -> Contents:
    """Some leaves go, some get other values, some are added beside those that are there; one at least remains."""
    after = dict(before)
    for key in before:
        if rng.random() < share:
            what = rng.randrange(4)
            if what == 0:
                del after[key]
            elif what == 1:
                after[key] = rng.randbytes(rng.choice((1, 2, 33)))
            else:
                cut = rng.randrange(32)
                after[key[:cut] + rng.randbytes(32 - cut)] = rng.randbytes(rng.choice((1, 2, 33)))
    return after or before


def check(database: Database, depth: int, after: Contents) -> None:
    """The pages hold exactly these leaves, and their tops give the root of a trie that is built from nothing."""
    keys = sorted(after)
    assert held(database) == after
    assert LocalTrie(database, PAGES, TOPS, depth, LEAF).root == root_of(keys, [after[key] for key in keys])


def walk_to_another(shape: str, depth: int, split: bool, seed: int, share: float) -> None:
    # Given a stored trie of any shape, some of its pages perhaps a nibble deeper than the others, and another trie
    rng = Random(seed)
    truth = leaf_set(rng, shape, rng.randrange(1, 80))
    before = dict(zip(truth.keys, truth.values, strict=True))
    after = changed(rng, before, share)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "MOST_OPEN", rng.choice((1, 3, 1000)))
        database = Database(Path(place) / "db", create=True)
        put(database, before, depth, rng.choice(truth.keys).hex()[:depth] if split else None)
        # when it is walked, with answers that come late or are not whole,
        healing = Healing(database, depth, after)
        healing.run(rng)
        # then the pages are those of the other trie, every part of the key space is accounted for,
        check(database, depth, after)
        assert healing.walk.equal == pytest.approx(1.0)
        # and what changed is said exactly.
        gone, come = dict(before), Contents()
        for page in healing.pages:
            for key in keys_of(page.gone):
                del gone[key]
            come |= dict(zip(keys_of(page.come), values_of(page.come), strict=True))
        assert gone | come == after
        assert all(before.get(key) != value for key, value in come.items())
        database.close()


WALKS = (st.sampled_from(sorted(SHAPES)), st.integers(0, 3), st.booleans(), st.integers(0, 2**32), st.floats(0, 1))


@settings(max_examples=120, deadline=None)
@given(*WALKS)
def test_a_walk_makes_of_any_stored_trie_any_other(
    shape: str, depth: int, split: bool, seed: int, share: float
) -> None:
    walk_to_another(shape, depth, split, seed, share)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # some 60 s where nobody else works
@settings(max_examples=3000, deadline=None)
@given(*WALKS)
def test_thousands_of_walks(shape: str, depth: int, split: bool, seed: int, share: float) -> None:
    walk_to_another(shape, depth, split, seed, share)


def keys_of(leaves: Leaves) -> list[bytes]:
    return [leaves.key(row) for row in range(len(leaves))]


def values_of(leaves: Leaves) -> list[bytes]:
    return [leaves.value(row) for row in range(len(leaves))]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2))
def test_what_was_found_before_another_root_is_wanted_counts(seed: int, depth: int) -> None:
    # Given a walk that is given up in the middle, so that what it found so far is written,
    rng = Random(seed)
    truth = leaf_set(rng, "random_keys", 120)
    before = dict(zip(truth.keys, truth.values, strict=True))
    between = changed(rng, before, 0.5)
    after = changed(rng, between, 0.1)
    with tempfile.TemporaryDirectory() as place:
        database = Database(Path(place) / "db", create=True)
        put(database, before, depth)
        first = Healing(database, depth, between)
        for _ in range(rng.randrange(8)):
            if first.walk.waiting:
                first.answer(first.walk.take(30))
        first.write(first.walk.abandon())
        # then all of that is of the trie that was walked,
        assert all(between.get(key) == value or before[key] == value for key, value in held(database).items())
        # and a walk to a third one ends with that.
        second = Healing(database, depth, after)
        second.run(rng)
        check(database, depth, after)
        database.close()


def test_a_walk_without_missing_answers_asks_for_every_node_once(database: Database) -> None:
    rng = Random(1)
    after = {rng.randbytes(32): rng.randbytes(40) for _ in range(500)}
    healing = Healing(database, 1, after)
    while not healing.walk.done:
        healing.answer(healing.walk.take(50))
        healing.write(healing.walk.take_finished())
    assert healing.asked == sum(node is not None for node in all_nodes(healing.remote).values())
    check(database, 1, after)


def test_pages_that_were_begun_come_before_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given room for two pages at a time,
    monkeypatch.setattr(walks, "MOST_OPEN", 2)
    rng = Random(2)
    after = {rng.randbytes(32): rng.randbytes(40) for _ in range(300)}
    healing = Healing(database, 1, after)
    begun: set[str] = set()
    finished = 0
    healing.answer(healing.walk.take(10))
    while not healing.walk.done:
        # when more nodes are asked for than there are in two,
        wanted = healing.walk.take(1000)
        begun |= {path.tobytes().hex()[0] for path in wanted.paths}
        # then no third page is begun before one of them is finished.
        assert len(begun) - finished <= 2
        healing.answer(wanted)
        regions = healing.walk.take_finished()
        finished += len(regions)
        healing.write(regions)
    assert finished == 16
    check(database, 1, after)


def test_walks_share_the_room_for_pages_under_way(database: Database) -> None:
    # Given two walks, and room for three pages
    openings = Openings()
    openings.limit(3)
    tries = []
    for seed in (1, 2):
        rng = Random(seed)
        after = {rng.randbytes(32): rng.randbytes(40) for _ in range(300)}
        healing = Healing(database, 1, after, openings=openings)
        healing.answer(healing.walk.take(1))
        tries.append(healing)
    # When both take what they may
    taken = [healing.walk.take(100) for healing in tries]
    # Then the first has begun three pages, and the second one, so that it does not stand still.
    assert list(map(len, taken)) == [3, 1]
    assert openings.room == 0
    # And when the first comes to its end, in whatever way, there is room for others.
    tries[0].walk.abandon()
    assert openings.open == 1
    assert tries[1].walk.waiting == 2


def test_a_page_is_read_once_while_there_is_room_for_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a trie of 16 pages
    rng = Random(3)
    put(database, {rng.randbytes(32): rng.randbytes(40) for _ in range(800)}, 1)
    local = LocalTrie(database, PAGES, TOPS, 1, LEAF)
    read: list[int] = []
    read_pages = local.read

    def note(pages: Sequence[int]) -> tuple[Leaves, Ints]:
        read.extend(pages)
        return read_pages(pages)

    monkeypatch.setattr(local, "read", note)
    # When each is wanted twice, the second time at once
    cache = PageCache()
    assert cache.room is None
    for page in range(16):
        assert cache.structure(local, page) is cache.structure(local, page)
    assert read == list(range(16))
    # Then the cache says how many like them it would hold,
    size = cache._size
    assert cache.room == pytest.approx(16 * (96 << 20) / size, abs=1)
    # and a smaller one has those used last, and the one in hand however large.
    small, read[:] = PageCache(size // 3), []
    for page in [*range(16), 15, 14, 0]:
        small.structure(local, page)
    assert read == [*range(16), 0]
    assert small.room in (4, 5, 6)
    assert PageCache(1).structure(local, 0).nbytes > 1


def test_nodes_that_are_given_back_are_asked_for_again(database: Database) -> None:
    rng = Random(3)
    healing = Healing(database, 1, {rng.randbytes(32): rng.randbytes(40) for _ in range(100)})
    first = healing.walk.take(10)
    assert (len(first), healing.walk.waiting) == (1, 0)
    healing.walk.give_back(first)
    assert healing.walk.waiting == 1
    again = healing.walk.take(10)
    assert again.hashes.tobytes() == first.hashes.tobytes()
    assert not healing.walk.done


def test_a_page_of_another_trie_that_was_taken_whole_is_not_compared_with_what_is_gone(database: Database) -> None:
    # Given pages under "a" only, and a trie that has leaves under "b" only
    rng = Random(4)
    before = {b"\xa0" + rng.randbytes(31): b"x" * 40 for _ in range(50)}
    after = {b"\xb0" + rng.randbytes(31): b"x" * 40 for _ in range(50)}
    put(database, before, 2)
    healing = Healing(database, 2, after)
    healing.run(rng)
    # then the pages are gone, with their tops.
    check(database, 2, after)
    assert [key for key, _ in database.scan(PAGES)] == [key for key, _ in database.scan(TOPS)]


def test_pages_are_found_by_the_paths_of_nodes(database: Database) -> None:
    # Given pages at two nibbles, and at three below "ab",
    rng = Random(5)
    before = {rng.randbytes(32): b"x" * 40 for _ in range(800)} | {b"\xab" + rng.randbytes(31): b"y" for _ in range(60)}
    put(database, before, 2, split="ab")
    local = LocalTrie(database, PAGES, TOPS, 2, LEAF)
    names = [str(local.path(page)) for page in range(len(local))]
    healing = Healing(database, 2, changed(rng, before, 0.9))
    seen = 0
    while not healing.walk.done:
        wanted = healing.walk.take(100)
        # then a node belongs to the page whose path its path begins with, or to none.
        covering = local.covering(wanted).tolist()
        for path, depth, page in zip(wanted.paths, wanted.depths.tolist(), covering, strict=True):
            digits = path.tobytes().hex()[:depth]
            over = [number for number, name in enumerate(names) if digits.startswith(name)]
            assert over == ([page] if page >= 0 else [])
            seen += len(digits) > 2 and digits.startswith("ab") and page >= 0
        healing.answer(wanted)
        healing.walk.take_finished()
    assert seen


def test_an_empty_trie_covers_nothing_and_has_the_empty_root(database: Database) -> None:
    local = LocalTrie(database, PAGES, TOPS, 3, LEAF)
    healing = Healing(database, 3, {b"\x01" * 32: b"x"})
    wanted = healing.walk.take(1)
    assert local.root == trie_of([], []).root_hash
    assert local.covering(wanted).tolist() == [-1]
    node = healing.remote.db[wanted.hashes[0].tobytes()]
    assert len(local.compare(blobs_of([node]), wanted.depths, wanted, PageCache()).leaves) == 1
