"""`ethsync bench`: the kernels, then a whole sync from a second process over loopback."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from ethsync.commands import healing_bench
from ethsync.commands.child import sync_in_process
from ethsync.commands.header_bench import measure_headers
from ethsync.commands.kernel_bench import measure_kernels
from ethsync.commands.places import synthetic_datadir
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import FACT_DEPTH
from ethsync.ui.machine import read_machine, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

SLOTS_PER_CONTRACT = 28
"""Slots for each contract with storage: 1.4 million for 50,000, as in the figures to be reached."""


def run(accounts: int, slots: int, codes: int, healing: bool, as_json: bool) -> int:
    """Measure and print; return 0. Raises EthsyncError."""
    contracts = min(max(slots // SLOTS_PER_CONTRACT, min(slots, 1)), accounts)
    spec = SyntheticSpec(accounts=accounts, contracts=contracts, slots=slots, codes=min(codes, accounts))
    if healing:
        return healing_bench.run(spec, as_json)
    state = synthetic_datadir(spec)
    state.parent.mkdir(parents=True, exist_ok=True)
    click.echo(f"making the state to serve in {state}, unless it is there", err=True)
    create_synthetic(spec, state)
    with open_datadir(state) as datadir:
        depth = (datadir.accounts.get(FACT_DEPTH) or b"\0")[0]
    click.echo("measuring the kernels", err=True)
    kernels = measure_kernels(state, depth)
    click.echo("measuring headers", err=True)
    headers_per_s = measure_headers()
    click.echo("measuring a sync", err=True)
    report = trio.run(_sync, spec, state)
    result = {
        "date": utc_now(),
        "machine": asdict(read_machine()),
        "state": asdict(spec),
        "kernels": kernels,
        "headers_per_s": headers_per_s,
        "sync": report["sync"],
        "stages": report["stages"],
        "cpu": report["cpu"],
    }
    click.echo(json.dumps(result) if as_json else "\n".join(_lines(result)))
    return 0


async def _sync(spec: SyntheticSpec, state: Path) -> dict[str, Any]:
    """Sync from a process of its own; return the report."""
    with tempfile.TemporaryDirectory(prefix="ethsync-bench-") as place:
        return await sync_in_process(spec, state, Path(place))


def _lines(result: Mapping[str, Any]) -> list[str]:
    kernels, sync = result["kernels"], result["sync"]
    ratio = kernels["vs_trie_package"]
    return [
        f"kernels on {kernels['processor']} ({kernels['instruction_set']})",
        f"  Keccak permutation       {kernels['keccak_permutation_ns']} ns",
        f"  account ranges proven    {kernels['account_range_leaves_per_s']:,} leaves/s on one core",
        f"  against the trie package {f'{ratio:,} times as fast' if ratio else 'not installed'}",
        f"  compiled in              {kernels['compile_s']} s",
        f"headers                    {result['headers_per_s']:,} per second, proven and stored",
        f"sync of {sync['leaves']:,} leaves",
        f"  until verified           {sync['wall_s']} s, {sync['leaves_per_s']:,} leaves/s",
        f"  peak anonymous memory    {(sync['peak_anon_bytes'] or 0) / 1e6:,.0f} MB",
        f"  write amplification      {sync['write_amplification']}",
        f"  event loop lag p99       {sync['loop_lag_p99_ms']} ms",
    ]
