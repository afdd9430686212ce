"""Storage without its account page, as a power cut can leave it, is gone before the page is stored again."""

from __future__ import annotations

import pytest

from ethsync.peers.track import Outcome
from ethsync.state.pages import KEY_SPACE, path_of, stored_path
from ethsync.store.datadir import Datadir
from ethsync.store.schema import (
    ACCOUNT_PAGE,
    BUNDLE,
    MARKER,
    RECORD,
    STORAGE_PAGE,
    TOP,
    Marker,
    TrieRecord,
    account_key,
    storage_key,
)
from ethsync.store.writer import Writer
from ethsync.sync.accounts import AccountStage
from ethsync.sync.leftovers import remove_leftovers, remove_unrecorded
from tests.unit.sync.account_ranges import ACCOUNTS
from tests.unit.sync.storages import written


def leave(datadir: Datadir, account: bytes, depth: int) -> None:
    """A bundle of the account's page, and a contract of its own."""
    datadir.bundles.put(account_key(BUNDLE, path_of(account, depth)), b"bundle")
    datadir.ledger.put(RECORD + account, TrieRecord(bytes(32), 1, True, 1, 1).encode())
    for family in (STORAGE_PAGE, TOP):
        datadir.storage.put(storage_key(family, account, path_of(account, 1)), b"page")
    key, value = Marker(0, KEY_SPACE, 1, 1).encode()
    datadir.storage.put(MARKER + account + key, value)


def held(datadir: Datadir) -> tuple[list[str], list[bytes], list[bytes]]:
    """Paths of bundles, accounts with a record, and accounts with storage."""
    bundles = [str(stored_path(path)) for path, _ in datadir.bundles.scan(BUNDLE)]
    return bundles, [account for account, _ in datadir.ledger.scan(RECORD)], list(datadir.storage.neighbourhoods())


LOW, INSIDE, HIGH = b"\x3f" * 32, b"\x47" * 32, b"\x50" + bytes(31)


@pytest.mark.parametrize(
    ("origin", "end"),
    [(0x40 << 248, 0x50 << 248), (int.from_bytes(LOW, "big") + 1, 0x50 << 248), (0x47 << 248, 0x48 << 248)],
)
async def test_only_the_range_is_cleared(datadir: Datadir, writer: Writer, origin: int, end: int) -> None:
    for account in (LOW, INSIDE, HIGH):
        leave(datadir, account, 2)
    # Many keys of one contract, too
    for number in range(2_000):
        datadir.storage.put(storage_key(STORAGE_PAGE, INSIDE, path_of(number.to_bytes(2, "big") + bytes(30), 4)), b"p")
    await remove_leftovers(datadir, writer, origin, end)
    await written(writer, datadir)
    assert held(datadir) == (["3f", "50"], [LOW, HIGH], [LOW, HIGH])


async def test_the_whole_key_space_is_cleared_with_a_bundle_of_the_only_page(datadir: Datadir, writer: Writer) -> None:
    for account in (bytes(32), LOW, b"\xff" * 32):
        leave(datadir, account, 0)
        leave(datadir, account, 3)
    await remove_leftovers(datadir, writer, 0, KEY_SPACE)
    await written(writer, datadir)
    assert held(datadir) == ([], [], [])


async def test_what_was_left_over_is_gone_from_the_disk_before_pages_come_in_its_place(
    datadir: Datadir, writer: Writer
) -> None:
    # Given nothing to remove, nothing is forced to the disk;
    await remove_leftovers(datadir, writer, 0, KEY_SPACE)
    assert writer.statistics.syncs == 0
    # given something, then it is: else a second power cut could bring it back beside a page that owes no storage.
    leave(datadir, LOW, 2)
    await remove_leftovers(datadir, writer, 0, KEY_SPACE)
    assert held(datadir) == ([], [], [])
    assert writer.statistics.syncs > 0


async def test_accounts_that_come_again_bring_their_storage_anew(
    account_stage: AccountStage, datadir: Datadir, writer: Writer
) -> None:
    # Given storage of accounts whose pages are lost, some of it under paths that are no page's any more
    for account in (b"\x05" * 32, b"\xf3" * 32):
        leave(datadir, account, 2)
    # When the accounts of the lower half come, and then the others
    job = account_stage.take(1 << 17)
    assert await account_stage.process(job, ACCOUNTS.answer(job, 150)) is Outcome.SERVED
    assert not list(datadir.accounts.scan(ACCOUNT_PAGE))  # one page, not complete yet
    assert held(datadir)[0] == ["05", "f3"]
    while account_stage.ready():
        job = account_stage.take(1 << 17)
        assert await account_stage.process(job, ACCOUNTS.answer(job, 300)) is Outcome.SERVED
    await written(writer, datadir)
    # Then nothing of it is left.
    assert list(datadir.accounts.scan(ACCOUNT_PAGE))
    assert held(datadir) == ([], [], [])


@pytest.mark.parametrize("recorded", [[], [LOW], [HIGH], [LOW, HIGH], [INSIDE], [LOW, INSIDE, HIGH]])
def test_pages_without_a_record_are_removed_and_no_others(datadir: Datadir, recorded: list[bytes]) -> None:
    for account in (LOW, INSIDE, HIGH):
        leave(datadir, account, 2)
        if account not in recorded:
            ledger = datadir.ledger.batch()
            ledger.delete(RECORD + account)
            datadir.ledger.commit(ledger)
    before = {account: list(datadir.storage.scan(STORAGE_PAGE + account)) for account in recorded}
    assert remove_unrecorded(datadir) == 3 - len(recorded)
    assert list(datadir.storage.neighbourhoods()) == recorded
    assert {account: list(datadir.storage.scan(STORAGE_PAGE + account)) for account in recorded} == before
    assert remove_unrecorded(datadir) == 0
