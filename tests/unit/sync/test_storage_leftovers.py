"""Pages that nothing speaks for, as kills and power cuts leave them: gone once a contract is stored in any way."""

from __future__ import annotations

import pytest

from ethsync.state.pages import SMALL_TRIE, path_of
from ethsync.store.datadir import Datadir
from ethsync.store.schema import (
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Marker,
    TrieRecord,
    decode_marker,
    storage_key,
)
from ethsync.store.writer import Writer
from tests.unit.sync.storages import (
    ACCOUNT,
    BIG,
    STATE_ROOT,
    TWIN,
    NewStage,
    all_ranges,
    first_chunk,
    next_range,
    owing,
    storage,
    stored_record,
    stored_root,
    stored_slots,
    synced,
)

pytestmark = pytest.mark.usefixtures("small_pages")

DEEPER = 5
"""Nibbles to a page that is left over; those that are stored anew have two."""


def leave(datadir: Datadir, account: bytes, *, marked: bool = True) -> None:
    """Pages, tops and a marker of a contract, cut at another depth than it would be today."""
    for key, _ in BIG.pairs[::9]:
        for family in (STORAGE_PAGE, TOP):
            datadir.storage.put(storage_key(family, account, path_of(key, DEEPER)), b"left over")
    if marked:
        key, value = Marker(0, 1 << 200, 3, 3).encode()
        datadir.storage.put(MARKER + account + key, value)


def assert_stored(datadir: Datadir, account: bytes) -> None:
    """All slots are there, in pages that do not lie over one another, with one marker at the most for each range."""
    assert stored_slots(datadir, account) == BIG.pairs
    assert stored_root(datadir, account) == BIG.root
    record = stored_record(datadir, account)
    assert record is not None
    assert (record.root, record.complete, record.leaves) == (BIG.root, True, 200)
    markers = [decode_marker(key, value) for key, value in datadir.storage.scan(MARKER + account)]
    assert sum(marker.leaves for marker in markers) == 200


async def test_a_copy_takes_the_place_of_what_was_left_over(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given two accounts with one root, of which the second has pages without a record, cut at another depth
    leave(datadir, TWIN)
    stage = new_stage()
    await stage.owe(owing(2), [(ACCOUNT, BIG.root), (TWIN, BIG.root)], STATE_ROOT)
    # When the first one is downloaded, and copied for the second
    await first_chunk(stage, 100)
    await all_ranges(stage)
    await synced(datadir, writer)
    # Then both have the same pages, and nothing else.
    assert_stored(datadir, ACCOUNT)
    assert_stored(datadir, TWIN)


async def test_a_small_trie_takes_the_place_of_pages_that_were_left_over(
    new_stage: NewStage, datadir: Datadir, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given pages of a contract whose storage looked big when it was begun, because its slots were mined
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 1000)
    leave(datadir, ACCOUNT)
    small = storage(2, SMALL_TRIE)
    stage = new_stage()
    await stage.owe(owing(1), [(ACCOUNT, small.root)], STATE_ROOT)
    # When it comes in two parts and turns out to be small
    await first_chunk(stage, 30, small)
    await next_range(stage, 100, small)
    await synced(datadir, writer)
    # Then it is in the bundle, and only there.
    assert stage.done
    assert list(datadir.bundles.scan(b"B"))
    assert list(datadir.storage.neighbourhoods()) == []


async def test_a_contract_that_was_begun_without_a_marker_is_cut_anew(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a copy that was interrupted: a record, some pages, no marker
    leave(datadir, ACCOUNT, marked=False)
    datadir.ledger.put(RECORD + ACCOUNT, TrieRecord(BIG.root, 2, False, 0, 0).encode())
    # When another process takes it up
    stage = new_stage()
    assert stage.resume_big(owing(1), ACCOUNT, BIG.root, STATE_ROOT)
    await all_ranges(stage)
    await synced(datadir, writer)
    # Then no page of the copy is left where it is cut in another way now.
    assert_stored(datadir, ACCOUNT)


async def test_a_contract_that_has_lost_all_its_slots_leaves_no_page(
    new_stage: NewStage, datadir: Datadir, writer: Writer
) -> None:
    # Given a big contract, and pages of another one
    first = new_stage()
    await first.owe(owing(1), [(ACCOUNT, BIG.root)], STATE_ROOT)
    await first_chunk(first, 100)
    await all_ranges(first)
    await writer.settle(datadir.ledger)
    leave(datadir, TWIN)
    # When it has no storage any more
    await new_stage().big.remove(ACCOUNT)
    await synced(datadir, writer)
    assert stored_record(datadir, ACCOUNT) is None
    assert list(datadir.storage.neighbourhoods()) == [TWIN]
