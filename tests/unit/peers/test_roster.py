"""The list of peers that a sync leaves in its data directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
import trio.testing
from click.testing import CliRunner
from trio.testing import MockClock

from ethsync.cli import commands
from ethsync.errors import ConfigError, Disproved
from ethsync.peers.pool import PeerPool
from ethsync.peers.roster import FILE, INTERVAL, read_roster, roster, run_roster
from ethsync.peers.track import Outcome, RequestKind
from ethsync.wire.block_range import BlockRange
from tests.unit.peers.stubs import VIEW, stub_peer


async def met(pool: PeerPool, number: int, outcome: Outcome, *, lasting: bool = False) -> None:
    """A peer that was connected, answered once, and left (or did not)."""
    peer, _ = stub_peer(number, bytes([number]) * 64)
    with pool.connected(peer):
        peer.record.tracks[RequestKind.ACCOUNTS].answered(100_000, 0.05 * number)
        pool.note(peer, RequestKind.ACCOUNTS, outcome)
        if lasting:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()


async def test_peers_are_listed_after_they_have_gone(autojump_clock: MockClock) -> None:
    pool = PeerPool(lambda: None, VIEW)
    # Given a peer that served and left, one that had nothing, and one that serves now
    await met(pool, 1, Outcome.SERVED)
    await met(pool, 2, Outcome.EMPTY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(met, pool, 3, Outcome.EMPTY)
        nursery.start_soon(lambda: met(pool, 4, Outcome.SERVED, lasting=True))
        await trio.testing.wait_all_tasks_blocked()
        # Then the connected one stands first and the useful one before the others.
        for peer in pool.peers.values():
            peer.block_range = BlockRange(5, 9)
        rows = roster(pool, trio.current_time())
        assert [row["connected"] for row in rows] == [True, False, False, False]
        assert rows[1]["score"] > rows[2]["score"]
        assert rows[0]["outcomes"] == {"accounts served": 1}
        assert rows[0]["latency_ms"] == {"accounts": 200.0}
        assert {row["direction"] for row in rows} == {"outbound"}
        assert [row["blocks"] for row in rows] == [[5, 9], None, None, None]
        assert [row["worth"] for row in rows] == ["serves", "serves", "doubtful", "doubtful"]
        nursery.cancel_scope.cancel()


async def test_a_node_that_comes_again_is_one_row() -> None:
    pool = PeerPool(lambda: None, VIEW)
    await met(pool, 1, Outcome.SERVED)
    await met(pool, 1, Outcome.EMPTY)
    (row,) = roster(pool, trio.current_time())
    assert row["connections"] == 2
    assert row["outcomes"] == {"accounts served": 1, "accounts empty": 1}


async def test_a_liar_is_listed_with_what_it_did() -> None:
    pool = PeerPool(lambda: None, VIEW)
    peer, _ = stub_peer(1, b"\1" * 64)

    async def lie() -> None:
        with pool.connected(peer):
            pool.drop(peer, Disproved("its range is not the truth"))
            await trio.sleep_forever()

    with pytest.raises(Disproved):
        await lie()
    (row,) = roster(pool, trio.current_time())
    assert "its range is not the truth" in row["dropped"]
    assert "its range is not the truth" in row["banned"]


async def test_peers_that_the_user_named_are_marked() -> None:
    pool = PeerPool(lambda: None, VIEW)
    pool.named, pool.trusted = frozenset({b"\1" * 64, b"\2" * 64}), frozenset({b"\2" * 64})
    for number in (1, 2, 3):
        await met(pool, number, Outcome.SERVED)
    assert sorted(str(row["named"]) for row in roster(pool, trio.current_time())) == ["None", "static", "trusted"]
    assert all(row["banned"] is None for row in roster(pool, trio.current_time()))


async def test_the_list_is_written_now_and_then_and_at_the_end(tmp_path: Path, autojump_clock: MockClock) -> None:
    pool = PeerPool(lambda: None, VIEW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_roster, pool, tmp_path)
        await met(pool, 1, Outcome.SERVED)
        await trio.sleep(1.5 * INTERVAL)
        while not (tmp_path / FILE).exists():  # the clock jumps on while a thread writes
            await trio.lowlevel.checkpoint()
        assert len(read_roster(tmp_path)[1]) == 1
        await met(pool, 2, Outcome.SERVED)
        nursery.cancel_scope.cancel()
    assert len(read_roster(tmp_path)[1]) == 2
    assert not (tmp_path / FILE).with_suffix(".new").exists()
    # And the command shows it, for people and for programs.
    shown = CliRunner().invoke(commands, ["peers", "--datadir", str(tmp_path)], standalone_mode=False)
    assert shown.output.startswith("2 peers, 0 connected")
    as_json = CliRunner().invoke(commands, ["peers", "--datadir", str(tmp_path), "--json"], standalone_mode=False)
    assert len(json.loads(as_json.output)["peers"]) == 2


@pytest.mark.parametrize(("content", "complaint"), [(None, "knows of no peers"), ("{", "cannot be read")])
def test_a_list_that_is_not_there_or_damaged(tmp_path: Path, content: str | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        read_roster(tmp_path)
