"""Copies what the pool and the writer know into `Progress`, twice a second, and says what holds the sync back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.peers.census import sources_of, take_census
from ethsync.store.writer import QUEUE_BYTES, Writer
from ethsync.sync.progress import Limit, PeerView, Progress

if TYPE_CHECKING:
    from ethsync.peers.pool import PeerPool

INTERVAL = 0.5
"""Seconds between two readings: as often as a person can follow."""

BUSY_BYTES = 4 << 20
"""Replies waiting to be proven from which the processors are what holds us back."""


def read_meters(progress: Progress, pool: PeerPool, writer: Writer, now: float) -> None:
    """Copy counters once."""
    progress.wire_bytes = pool.bytes_received
    progress.written_bytes = writer.statistics.bytes
    progress.write_queue = writer.waiting
    progress.outcomes.clear()
    progress.outcomes.update({f"{kind.value} {outcome.value}": n for (kind, outcome), n in pool.outcomes.items()})
    progress.peers = [
        PeerView(
            peer.client,
            f"{peer.enode.host}:{peer.enode.tcp_port}",
            peer.connection.bytes_received,
            peer.record.in_flight,
            sum(track.rate for track in peer.record.tracks.values()),
            peer.record.score(now),
            "+".join(source.name.lower() for source in sorted(sources_of(pool, peer))),
        )
        for peer in pool.peers.values()
    ]
    progress.census = take_census(pool, now)
    progress.warning = (pool.fork_hint() if pool.fork_hint is not None else None) or ""
    progress.dropped = pool.dropped.all()
    progress.limit = _limit(progress, writer)
    progress.trouble = progress.unserved if pool.peers else _trouble(pool, now)


def _trouble(pool: PeerPool, now: float) -> str:
    """Why no peer is connected, in a sentence; empty if that is not known yet."""
    reasons = list(pool.failures.values())
    found = pool.explain(now) if pool.explain is not None else None
    return found or (reasons[-1] if reasons else "")


def _limit(progress: Progress, writer: Writer) -> Limit:
    if not progress.peers:
        return Limit.PEERS
    if writer.waiting_bytes >= QUEUE_BYTES // 2:
        return Limit.DISK
    return Limit.CPU if progress.unproven_bytes >= BUSY_BYTES else Limit.NETWORK


async def run_meter(progress: Progress, pool: PeerPool, writer: Writer) -> None:
    """Read until cancelled, and a last time then: nobody is connected any more, but the report still has who was."""
    try:
        while True:
            read_meters(progress, pool, writer, trio.current_time())
            await trio.sleep(INTERVAL)
    finally:
        peers, census = progress.peers, progress.census
        read_meters(progress, pool, writer, trio.current_time())
        progress.last_peers, progress.peers = progress.peers or peers, []
        if not pool.peers and census is not None:
            progress.census = census
