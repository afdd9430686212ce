"""The stored chain: what is proven when it is opened, look-ups, and the index that is merged."""

from __future__ import annotations

import pytest

from ethsync.errors import DatadirDamaged
from ethsync.hashing import keccak256
from ethsync.serve.demo_chain import write_chain
from ethsync.store.datadir import Datadir
from ethsync.store.header_index import RUN, page_index_key
from ethsync.store.header_pages import PAGE, build_page
from ethsync.store.headers import Change, HeaderStore, Link
from ethsync.store.schema import FACT_TOP, HEADER_MARKER, HEADER_PAGE, header_key
from ethsync.wire.headers import decode_header
from tests.oracles.headers import demo_chain

RAWS = demo_chain(3 * PAGE + 50)
TOP = len(RAWS) - 1


@pytest.fixture
def written(datadir: Datadir) -> Datadir:
    """Three pages and fifty single headers."""
    assert write_chain(datadir.headers, RAWS) == RAWS[-1]
    return datadir


def apply(datadir: Datadir, change: Change) -> None:
    batch = datadir.headers.batch()
    for key in change.deletes:
        batch.delete(key)
    for key, value in change.puts:
        batch.put(key, value)
    datadir.headers.commit(batch)


def test_nothing_is_proven_of_nothing(datadir: Datadir) -> None:
    store = HeaderStore(datadir.headers)
    assert (store.top, store.below, store.holds(0)) == (None, None, False)
    assert (store.header(0), store.number_of(bytes(32)), store.hash_of(5)) == (None, None, None)


def test_what_hangs_on_the_trusted_header_is_proven(written: Datadir) -> None:
    store = HeaderStore(written.headers)
    assert store.top == Link(TOP, keccak256(RAWS[-1]))
    assert (store.low, store.islands) == (0, {})
    assert sorted(store.singles) == list(range(3 * PAGE, TOP + 1))
    for number in (0, 1, PAGE - 1, PAGE, 3 * PAGE - 1, 3 * PAGE, TOP):
        assert store.raw(number) == RAWS[number]
        assert store.by_hash(keccak256(RAWS[number])) == decode_header(RAWS[number])


def test_a_page_that_is_missing_ends_the_proven_chain(written: Datadir) -> None:
    apply(written, HeaderStore(written.headers).drop_page(PAGE))
    store = HeaderStore(written.headers)
    assert store.low == 2 * PAGE
    assert store.below is not None
    assert (store.below.number, store.below.hash) == (2 * PAGE - 1, keccak256(RAWS[2 * PAGE - 1]))
    # What is below is an island, and not shown.
    assert list(store.islands) == [0]
    assert store.header(5) is None
    assert store.by_hash(keccak256(RAWS[5])) is None
    assert store.by_hash(keccak256(RAWS[2 * PAGE])) is not None


def test_a_page_of_another_chain_is_an_island(written: Datadir) -> None:
    apply(written, HeaderStore(written.headers).put_page(*build_page(demo_chain(2 * PAGE, seed=9)[PAGE:])))
    store = HeaderStore(written.headers)
    assert store.low == 2 * PAGE
    assert sorted(store.islands) == [0, PAGE]


def test_a_single_header_that_is_not_on_the_chain_is_not_shown(datadir: Datadir) -> None:
    # Given a lone header of an earlier pivot
    write_chain(datadir.headers, RAWS)
    stray = demo_chain(PAGE + 1, seed=9)[PAGE]
    datadir.headers.put(header_key(PAGE), stray)
    store = HeaderStore(datadir.headers)
    assert store.raw(PAGE) == RAWS[PAGE]
    assert store.by_hash(keccak256(stray)) is None


def test_parents_and_children_are_checked_when_asked_for(written: Datadir) -> None:
    seen: list[tuple[int, int]] = []
    HeaderStore(written.headers, lambda link, edge: seen.append((link.number, edge.time)))
    numbers = [TOP - k for k in range(50)] + [3 * PAGE - 1, 2 * PAGE - 1, PAGE - 1]
    assert seen == [(number, decode_header(RAWS[number]).timestamp) for number in numbers]


def test_damage_is_told(written: Datadir) -> None:
    headers = written.headers
    headers.put(header_key(PAGE, HEADER_PAGE), b"\x01")
    with pytest.raises(DatadirDamaged):
        HeaderStore(headers).raw(PAGE)
    headers.put(header_key(PAGE, HEADER_MARKER), b"\x01")
    with pytest.raises(DatadirDamaged):
        HeaderStore(headers)
    headers.put(FACT_TOP, b"\x01")
    with pytest.raises(DatadirDamaged):
        HeaderStore(headers)


def test_an_index_is_merged_once_its_256_pages_are_there(datadir: Datadir) -> None:
    # Given 256 pages and one more, of which only the markers and the index matter here
    write_chain(datadir.headers, RAWS)
    pages = range(0, RUN + PAGE, PAGE)
    index = datadir.headers.get(page_index_key(PAGE)) or b""
    for first in pages[3:]:
        datadir.headers.put(page_index_key(first), index)
    store = HeaderStore(datadir.headers)
    assert store.indexed == set(pages)
    assert not store.mergeable(0)
    store.top = Link(RUN + PAGE - 1, b"")
    assert store.mergeable(5)
    assert not store.mergeable(RUN)
    # When they are merged
    apply(datadir, store.merge(0))
    store.merged_run(0)
    # Then the large run is found again, the small ones are gone,
    again = HeaderStore(datadir.headers)
    assert again.indexed == {RUN} == store.indexed
    assert store.merged == {0}
    # and the headers are found as before.
    for number in (0, PAGE, 2 * PAGE + 5):
        assert store.number_of(keccak256(RAWS[number])) == number


def test_a_merge_without_an_index_is_damage(written: Datadir) -> None:
    with pytest.raises(DatadirDamaged):
        HeaderStore(written.headers).merge(0)


def test_look_ups_keep_few_pages(written: Datadir) -> None:
    store = HeaderStore(written.headers)
    for first in range(0, 3 * PAGE, PAGE):
        store.raw(first)
    for number in range(20):
        store.show(number * PAGE, build_page(RAWS[:PAGE])[1])
    assert len(store._cache) == 8
