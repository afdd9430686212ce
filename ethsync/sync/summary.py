"""What a running sync says of itself, in a file of its data directory: `ethsync status` cannot open its databases."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ethsync.jsonfile import read_json, write_json
from ethsync.sync.progress import Phase, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FILE = "status.json"
VERSION = 1
"""Of the file's form; one of another version is not shown."""

INTERVAL = 10.0
"""Seconds between two writings: a kilobyte, and as stale as a person at a terminal will put up with."""

LOOK = 1.0
"""Seconds between two looks at whether another block is held, or another phase begun: that is written at once."""


def summary(progress: Progress, moves_before: int, now: float) -> dict[str, Any]:
    """The present state of a sync, named as by `ethsync status`. `now`: Unix seconds; moves_before: of earlier runs."""
    accounts, storage, codes, headers = progress.accounts, progress.storage, progress.codes, progress.headers
    return {
        "version": VERSION,
        "process": os.getpid(),
        "at": int(now),
        "phase": progress.phase.value,
        "block": None
        if progress.block_number is None
        else {
            "number": progress.block_number,
            "hash": progress.block_hash,
            "state_root": progress.state_root,
            "age_s": round(now - progress.block_time),
            "moves": moves_before + progress.pivot_moves,
        },
        "held": progress.held_number,
        "behind": progress.followed.behind if progress.followed is not None else None,
        "healing": {"equal": progress.healed} if progress.phase is Phase.HEALING else None,
        "headers": {"held": headers.items, "left": headers.owed},
        "accounts": {"stored": accounts.items, "bytes": accounts.bytes, "key_space": progress.key_space},
        "storage": {
            "slots": storage.items,
            "contracts": progress.contracts,
            "contracts_missing": progress.missing_contracts,
        },
        "codes": {"stored": codes.items, "missing": progress.missing_codes},
        "peers": len(progress.peers),
        "trouble": progress.trouble or None,
    }


def _place(progress: Progress) -> tuple[Phase, int | None]:
    return progress.phase, progress.held_number


def read_summary(directory: Path) -> dict[str, Any] | None:
    """What the last sync there said, or None."""
    return read_json(directory / FILE, VERSION)


@asynccontextmanager
async def open_summary(progress: Progress, directory: Path, moves_before: int) -> AsyncIterator[None]:
    """Keep the file up to date as long as the block lasts."""

    async def write() -> None:
        await trio.to_thread.run_sync(write_json, directory / FILE, summary(progress, moves_before, time.time()))

    async def keep() -> None:
        said, written_at = _place(progress), trio.current_time()
        while True:
            await trio.sleep(LOOK)
            if _place(progress) != said or trio.current_time() >= written_at + INTERVAL:
                said, written_at = _place(progress), trio.current_time()
                await write()

    await write()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        yield
        nursery.cancel_scope.cancel()
