"""`ethsync status`: which block, how old, how often it moved, and how far the stages are; from the disk alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ethsync.commands.status import collect, run
from ethsync.errors import DatadirBusy
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.demo_chain import write_chain
from ethsync.serve.small_state import StatedAccount, create_state
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.header_pages import PAGE
from ethsync.store.headers import Change, HeaderStore
from ethsync.store.schema import FACT_HEALED, FACT_MIXED
from ethsync.sync.chain import move_pivot, stored_pivot
from ethsync.sync.progress import Phase, Progress
from ethsync.sync.summary import FILE, INTERVAL, open_summary, read_summary
from ethsync.wire.headers import Header, build_header
from tests.oracles.headers import demo_chain

ACCOUNTS = [StatedAccount(bytes([n]) * 32, 1, 5, {bytes([n]) * 32: n}, bytes([n])) for n in range(1, 30)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_state(ACCOUNTS, tmp_path / "d", demo_network(), lambda root: head_header(root, 1))
    return tmp_path / "d"


@pytest.fixture
def datadir(path: Path) -> Iterator[Datadir]:
    with open_datadir(path) as opened:
        yield opened


def pivot(datadir: Datadir) -> Header:
    found = stored_pivot(datadir)
    assert found is not None
    return found


def test_a_state_of_one_block(datadir: Datadir) -> None:
    facts = collect(datadir, pivot(datadir).timestamp + 3600.4)
    assert facts["block"] == {
        "number": pivot(datadir).number,
        "hash": f"0x{pivot(datadir).hash.hex()}",
        "state_root": f"0x{pivot(datadir).state_root.hex()}",
        "age_s": 3600,
        "moves": 0,
    }
    assert facts["healing"] is None
    assert facts["headers"] == {"held": 0, "lowest": None, "highest": None, "wanted": None, "left": None}
    assert json.loads(json.dumps(facts)) == facts


def test_moves_are_counted_over_all_runs(datadir: Datadir) -> None:
    first = pivot(datadir)
    for number in (2, 3):
        move_pivot(datadir, build_header(number=number, state_root=first.state_root))
    # The same block again is no move, and one with the same state leaves nothing to heal.
    move_pivot(datadir, pivot(datadir))
    facts = collect(datadir, 0.0)
    assert (facts["block"]["number"], facts["block"]["moves"]) == (3, 2)
    assert facts["healing"] is None


def test_how_much_is_proven_equal_to_the_pivot_is_told_until_it_moves(datadir: Datadir) -> None:
    move_pivot(datadir, build_header(number=2, state_root=b"\x22" * 32))
    assert collect(datadir, 0.0)["healing"] == {"equal": 0.0}
    datadir.accounts.put(FACT_HEALED, b"0.250000")
    assert collect(datadir, 0.0)["healing"] == {"equal": 0.25}
    move_pivot(datadir, build_header(number=3, state_root=b"\x33" * 32))
    assert collect(datadir, 0.0)["healing"] == {"equal": 0.0}


def write_change(datadir: Datadir, change: Change) -> None:
    batch = datadir.headers.batch()
    for name in change.deletes:
        batch.delete(name)
    for key, value in change.puts:
        batch.put(key, value)
    datadir.headers.commit(batch)


@pytest.mark.parametrize(("first", "floor", "left"), [(0, 0, 0), (PAGE, 0, PAGE), (PAGE, 1000, 24), (PAGE, PAGE, 0)])
def test_headers_are_counted_down_to_the_lowest_that_is_wanted(
    first: int, floor: int, left: int, datadir: Datadir
) -> None:
    raws = demo_chain(2 * PAGE + 40)
    write_chain(datadir.headers, raws)
    write_change(datadir, HeaderStore(datadir.headers).set_floor(floor))
    if first:  # the lowest page is not there yet
        write_change(datadir, HeaderStore(datadir.headers).drop_page(0))
    assert collect(datadir, 0.0)["headers"] == {
        "held": len(raws) - first,
        "lowest": first,
        "highest": len(raws) - 1,
        "wanted": floor,
        "left": left,
    }


def test_people_read_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_datadir(path) as datadir:
        write_chain(datadir.headers, demo_chain(PAGE + 7))
        move_pivot(datadir, build_header(number=2, state_root=b"\x22" * 32))
        datadir.accounts.put(FACT_HEALED, b"0.5")
        assert datadir.accounts.get(FACT_MIXED) is not None
    assert run(path, as_json=False) == 0
    text = capsys.readouterr().out
    assert "old; the pivot has moved 1 time\n" in text
    assert f"headers    {PAGE + 7:,} held, up to block {PAGE + 6}, all of them\n" in text
    assert "begun; it is not known how many are missing\n" in text  # accounts of this block may name other storage
    assert "50.00 % of the key space proven equal to this one's\n" in text
    assert "not verified yet" in text


def test_people_read_how_many_of_the_recent_headers_are_left(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raws = demo_chain(2 * PAGE + 7)
    with open_datadir(path) as datadir:
        write_chain(datadir.headers, raws)
        write_change(datadir, HeaderStore(datadir.headers).set_floor(1000))
    assert run(path, as_json=False) == 0
    assert (
        f"headers    {len(raws):,} held, up to block {len(raws) - 1}, all from block 1000 on\n"
        in capsys.readouterr().out
    )
    with open_datadir(path) as datadir:
        write_change(datadir, HeaderStore(datadir.headers).drop_page(0))
    assert run(path, as_json=False) == 0
    assert f"up to block {len(raws) - 1}; 24 left down to block 1000\n" in capsys.readouterr().out


async def test_while_a_sync_runs_it_is_asked_what_it_says_of_itself(
    path: Path, capsys: pytest.CaptureFixture[str], mock_clock: MockClock
) -> None:
    progress = Progress(0.0, Phase.HEALING, 7, "0x11", "0x22", held_number=5, healed=0.25, pivot_moves=2)
    progress.accounts.items, progress.headers.items, progress.headers.owed = 1_000, 8, 1_016
    progress.trouble = "no node answers"
    with open_datadir(path):
        # Given that nothing was said yet, then the directory is only in use.
        with pytest.raises(DatadirBusy):
            run(path, as_json=False)
        async with open_summary(progress, path, moves_before=3):
            assert run(path, as_json=True) == 0
            running = json.loads(capsys.readouterr().out)["running"]
            assert running["phase"] == "healing"
            assert (running["block"]["number"], running["block"]["moves"], running["held"]) == (7, 5, 5)
            assert running["healing"] == {"equal": 0.25}
            assert running["headers"] == {"held": 8, "left": 1_016}
            assert (running["storage"]["contracts_missing"], running["codes"]["missing"]) == (None, None)
            # When it goes on, then that is said soon.
            progress.healed, progress.storage.owed = 0.5, 1_234
            await wait_all_tasks_blocked()
            mock_clock.jump(INTERVAL)
            while (read_summary(path) or {})["healing"] != {"equal": 0.5}:
                await trio.lowlevel.checkpoint()
            assert run(path, as_json=False) == 0
    text = capsys.readouterr().out
    assert f"{path}: healing in process " in text
    assert "held       the whole state of block 5\nheaders    8 held, 1,016 left\naccounts   1,000 stored" in text
    assert "0 contracts stored; 1,234 contracts missing\nbytecodes  0 stored, it is not known how many are" in text
    assert "50.00 % of the key space proven equal" in text
    assert text.endswith("no node answers\n")


def test_a_file_that_is_damaged_is_not_believed(path: Path) -> None:
    with open_datadir(path):
        (path / FILE).write_text('{"version":1')
        with pytest.raises(DatadirBusy):
            run(path, as_json=False)
