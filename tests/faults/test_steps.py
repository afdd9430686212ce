"""A followed state: after every step it is exactly that of one block, whatever changed and whenever it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ethsync.serve.small_state import StatedAccount
from ethsync.store.datadir import open_datadir
from ethsync.store.folding import fold_all
from ethsync.store.patches import last_step
from ethsync.store.schema import RECORD, decode_record
from tests.faults.changing_states import changed, some_account
from tests.faults.states import opened
from tests.faults.stepping import assert_holds, create, take_step


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few leaves, so that some hundred accounts have many of them."""
    monkeypatch.setattr("ethsync.state.pages.TARGET_LEAVES", 2)


@pytest.mark.parametrize("seed", range(3))
async def test_steps_lead_from_block_to_block(seed: int, tmp_path: Path) -> None:
    # Given a directory with the whole state of a block,
    rng = Random(seed)
    accounts = [some_account(rng) for _ in range(rng.choice((1, 3, 40, 200)))]
    create(tmp_path / "d", accounts)
    for number in range(5):
        # when the next block has changed a few accounts, or all of them,
        accounts = changed(rng, accounts, rng.choice((0.02, 0.1, 0.5))) or accounts
        create(tmp_path / str(number), accounts)
        with opened(tmp_path / str(number)) as state:
            with open_datadir(tmp_path / "d") as datadir:
                new = await take_step(datadir, state)
                assert new.root == state.state_root
            # then the directory holds exactly that block's state.
            await assert_holds(tmp_path / "d", state)
    # And once everything is folded, nothing is laid over the pages any more, and it is still that state.
    with open_datadir(tmp_path / "d") as datadir:
        fold_all(datadir)
        assert last_step(datadir.patches) == 0
        assert list(datadir.patches.scan(b"")) == []
        assert datadir.accounts.overlay is None
    with opened(tmp_path / "4") as state:
        await assert_holds(tmp_path / "d", state)


async def test_folding_can_be_left_off_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a state with patches on many pages, and little folded at a time
    monkeypatch.setattr("ethsync.store.folding.FOLDED_AT_ONCE", 5)
    rng = Random(7)
    accounts = [some_account(rng) for _ in range(200)]
    create(tmp_path / "d", accounts)
    create(tmp_path / "1", changed(rng, accounts, 0.3))
    looks = iter(range(4))

    def interrupt() -> None:
        if next(looks) == 3:
            raise KeyboardInterrupt

    with opened(tmp_path / "1") as state:
        with open_datadir(tmp_path / "d") as datadir:
            await take_step(datadir, state)
            before = sum(1 for _ in datadir.patches.scan(b""))
            # when folding all of them is interrupted, then some are folded and some are not,
            with pytest.raises(KeyboardInterrupt):
                fold_all(datadir, interrupt)
            assert 0 < sum(1 for _ in datadir.patches.scan(b"")) < before
        # and it is the same state.
        await assert_holds(tmp_path / "d", state)


async def test_a_record_that_counts_too_few_slots_is_no_hindrance(tmp_path: Path) -> None:
    # Given a big contract whose record counts less than there is, as after a power cut,
    rng = Random(8)
    big = StatedAccount(rng.randbytes(32), storage={rng.randbytes(32): rng.getrandbits(64) + 1 for _ in range(150)})
    create(tmp_path / "d", [big])
    with open_datadir(tmp_path / "d") as datadir:
        record = decode_record(datadir.ledger.get(RECORD + big.key) or b"")
        assert record.leaves == 150
        datadir.ledger.put(RECORD + big.key, replace(record, leaves=10, size=10).encode())
    # when a block clears most of it, then the step is taken all the same.
    create(tmp_path / "1", [replace(big, storage=dict(list(big.storage.items())[:5]))])
    with opened(tmp_path / "1") as state:
        with open_datadir(tmp_path / "d") as datadir:
            await take_step(datadir, state)
        await assert_holds(tmp_path / "d", state)
