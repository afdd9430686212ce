"""What is known of nodes, kept in the data directory between runs: whom to dial, and who lied.

Candidates only save time, so they are written now and then. A ban is written at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.discovery import candidates_file
from ethsync.peers import bans

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.discovery.candidates import Candidates
    from ethsync.peers.pool import PeerPool

CANDIDATES_FILE = "candidates.json"
BANS_FILE = "bans.json"

SAVE_INTERVAL = 60.0
"""Seconds between two writings of what is known of candidates: what a kill may cost of it."""


async def recall(pool: PeerPool, candidates: Candidates, directory: Path) -> None:
    """Take over what an earlier run kept. Files that are damaged are set aside with a warning."""
    pool.bans = await trio.to_thread.run_sync(bans.load, directory / BANS_FILE, pool.wall())
    kept = await trio.to_thread.run_sync(candidates_file.load, directory / CANDIDATES_FILE)
    candidates_file.restore(candidates, kept, trio.current_time(), pool.wall())


async def keep(pool: PeerPool, candidates: Candidates, directory: Path) -> None:
    """Write both, at the end of a run; in threads, as forcing files to the disk takes its time. Not to be cancelled."""
    with trio.CancelScope(shield=True):
        await _keep_bans(pool, directory)
        await _keep_candidates(pool, candidates, directory)


async def run_keeping(pool: PeerPool, candidates: Candidates, directory: Path) -> None:
    """Write each when it is time, until cancelled."""
    due = trio.current_time() + SAVE_INTERVAL
    while True:
        with trio.move_on_at(due):
            await pool.bans_changed.wait()
        if pool.bans_changed.is_set():
            pool.bans_changed = trio.Event()
            await _keep_bans(pool, directory)
        if trio.current_time() >= due:
            await _keep_candidates(pool, candidates, directory)
            due = trio.current_time() + SAVE_INTERVAL


async def _keep_bans(pool: PeerPool, directory: Path) -> None:
    await trio.to_thread.run_sync(bans.save, pool.bans.document(pool.wall()), directory / BANS_FILE)


async def _keep_candidates(pool: PeerPool, candidates: Candidates, directory: Path) -> None:
    facts = candidates_file.facts(candidates, trio.current_time(), pool.wall())
    await trio.to_thread.run_sync(candidates_file.save, facts, directory / CANDIDATES_FILE)
