"""Who the peers of a sync are and were, kept in its data directory for `ethsync peers`."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import trio

from ethsync.discovery.node import ip_of_host
from ethsync.errors import ConfigError
from ethsync.peers.standing import standing
from ethsync.wire import keys

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import Acquaintance, PeerPool

FILE = "peers.json"

INTERVAL = 10.0
"""Seconds between two writings: a few kilobytes, and as stale as a person at a terminal will put up with."""


def roster(pool: PeerPool, now: float) -> list[dict[str, Any]]:
    """All peers of this run, connected ones first, better ones before worse ones. Times in milliseconds."""
    connected = {peer.enode.public_key: peer for peer in pool.peers.values()}
    rows = [_row(pool, key, known, connected.get(key), now) for key, known in pool.acquaintances()]
    return sorted(rows, key=lambda row: (not row["connected"], -row["score"], row["node_id"]))


def _row(pool: PeerPool, key: bytes, known: Acquaintance, peer: Peer | None, now: float) -> dict[str, Any]:
    record, dropped = known.record, pool.dropped.get(key)
    return {
        "node_id": f"0x{keys.node_id(key).hex()}",
        "address": known.address,
        "direction": "inbound" if known.inbound else "outbound",
        "named": "trusted" if key in pool.trusted else "static" if key in pool.named else None,
        "client": known.client,
        "connected": peer is not None,
        "connections": known.connections,
        "score": round(record.score(now), 2),
        "blocks": _blocks(peer),
        "worth": standing(record, now).worth.name.lower(),
        "latency_ms": {
            kind.value: round(1000 * track.round_trip.smoothed, 1)
            for kind, track in record.tracks.items()
            if track.round_trip.smoothed is not None
        },
        "bytes": known.bytes_received + (peer.connection.bytes_received if peer is not None else 0),
        "outcomes": {f"{kind.value} {outcome.value}": count for (kind, outcome), count in record.outcomes.items()},
        "dropped": None if dropped is None else str(dropped),
        "banned": pool.is_banned(key, ip_of_host(known.address.rpartition(":")[0])),
    }


def _blocks(peer: Peer | None) -> list[int] | None:
    """First and last of the blocks that it says it has."""
    held = peer.block_range if peer is not None else None
    return None if held is None else [held.earliest, held.latest]


def write_roster(path: Path, rows: list[dict[str, Any]], at: int) -> None:
    """Replace the file in one step. `at` is in Unix seconds. A disk that is full costs the list, not the sync."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_text(json.dumps({"at": at, "peers": rows}), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)


def read_roster(directory: Path) -> tuple[int, list[dict[str, Any]]]:
    """Return (when it was written, in Unix seconds; its rows). Raises ConfigError if there is none."""
    path = directory / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return int(found["at"]), list(found["peers"])
    except FileNotFoundError:
        raise ConfigError(f"{directory} knows of no peers", hint="name the --datadir of a sync") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="the next sync writes it anew") from error


async def run_roster(pool: PeerPool, directory: Path) -> None:
    """Write the list until cancelled, and a last time then."""
    path = directory / FILE
    try:
        while True:
            await trio.sleep(INTERVAL)
            await trio.to_thread.run_sync(write_roster, path, roster(pool, trio.current_time()), int(time.time()))
    finally:
        write_roster(path, roster(pool, trio.current_time()), int(time.time()))
