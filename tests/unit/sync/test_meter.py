"""What the display and the report read of the pool."""

from __future__ import annotations

from typing import cast

import trio
from trio.testing import MockClock

from ethsync.discovery.candidate import Source
from ethsync.errors import Disproved
from ethsync.peers.census import SourceCount
from ethsync.peers.pool import PeerPool
from ethsync.peers.track import Outcome, RequestKind
from ethsync.store.writer import Writer, WriterStatistics
from ethsync.sync.meter import INTERVAL, read_meters, run_meter
from ethsync.sync.progress import Limit, Progress
from tests.unit.peers.stubs import VIEW, stub_peer


class IdleWriter:
    """A writer that has written 5 bytes and has nothing to do."""

    def __init__(self) -> None:
        self.statistics = WriterStatistics(bytes=5)
        self.waiting = self.waiting_bytes = 0


WRITER = cast("Writer", IdleWriter())


async def test_everything_is_copied(mock_clock: MockClock) -> None:
    pool, progress = PeerPool(lambda: None, VIEW), Progress(0.0)
    pool.fork_hint = lambda: "a fork comes"
    liar, _ = stub_peer(1, b"\1" * 64)
    pool.drop(liar, Disproved("it lied"))
    peer, _ = stub_peer(2, b"\2" * 64)
    with pool.connected(peer):
        pool.note(peer, RequestKind.CODES, Outcome.SERVED)
        read_meters(progress, pool, WRITER, 0.0)
    assert progress.written_bytes == 5
    assert progress.outcomes == {"codes served": 1}
    assert [(view.name, view.source) for view in progress.peers] == [("stub/1", "static")]
    assert [str(drop) for drop in progress.dropped] == ["stub/1 at 127.0.0.1:30303 was dropped: it lied"]
    assert progress.census is not None
    assert progress.census.by_source == {Source.STATIC: SourceCount(1, 1, 1, 1)}
    assert (progress.warning, progress.trouble, progress.limit) == ("a fork comes", "", Limit.NETWORK)


async def test_without_a_peer_it_says_why(mock_clock: MockClock) -> None:
    pool, progress = PeerPool(lambda: None, VIEW), Progress(0.0)
    pool.failures[b"\1" * 64] = "cannot reach it"
    read_meters(progress, pool, WRITER, 0.0)
    assert (progress.trouble, progress.limit, progress.warning) == ("cannot reach it", Limit.PEERS, "")


async def test_who_was_connected_until_the_end_is_kept(autojump_clock: MockClock) -> None:
    pool, progress = PeerPool(lambda: None, VIEW), Progress(0.0)
    peer, _ = stub_peer()
    async with trio.open_nursery() as nursery:
        pool.peers[1] = peer
        nursery.start_soon(run_meter, progress, pool, WRITER)
        await trio.sleep(INTERVAL)
        # When peers are left before the last reading
        pool.peers.clear()
        nursery.cancel_scope.cancel()
    # Then nobody is connected, and the report still has them.
    assert progress.peers == []
    assert [view.name for view in progress.last_peers] == ["stub/1"]
    assert progress.census is not None
    assert progress.census.total.connected == 1
