"""`ethsync verify`: is what is on disk the state that the block's header names?"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import trio

from ethsync.errors import DatadirDamaged, NotHeld
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import FACT_VERIFIED
from ethsync.sync.chain import stored_pivot
from ethsync.sync.verifier import verify

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.store.datadir import Datadir
    from ethsync.sync.verify import Findings


def run(path: Path, as_json: bool) -> int:
    """Verify; return 0 if everything holds, 1 if not. Raises EthsyncError."""
    with open_datadir(path) as datadir:
        header = stored_pivot(datadir)
        if header is None:
            raise NotHeld(f"{path} does not hold a block's state yet", hint="run `ethsync snap` into it first")
        try:
            findings = trio.run(_verify, datadir, header.state_root)
        except* DatadirDamaged:
            datadir.forget(FACT_VERIFIED)  # `ethsync snap` must not go on calling this state verified
            raise
        holds = not findings.problems
        if not holds:
            datadir.forget(FACT_VERIFIED)
    if as_json:
        facts = {"holds": holds, "block": header.number, "state_root": f"0x{header.state_root.hex()}"}
        click.echo(json.dumps({**facts, **asdict(findings)}))
        return 0 if holds else 1
    for problem in findings.problems:
        click.echo(f"- {problem}")
    counts = f"{findings.accounts:,} accounts, {findings.slots:,} slots, {findings.codes:,} codes"
    verdict = "holds" if holds else f"does not hold: {len(findings.problems)} problems"
    click.echo(f"block {header.number}, state root 0x{header.state_root.hex()}: {counts}; {verdict}")
    return 0 if holds else 1


async def _verify(datadir: Datadir, state_root: bytes) -> Findings:
    limiter = trio.CapacityLimiter(os.cpu_count() or 1)
    return await verify(datadir, state_root, limiter, lambda share: None)
