"""`ethsync bench --healing`: a finished state is brought to a later one, served by a second process over loopback."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import trio

from ethsync.commands.child import sync_in_process
from ethsync.commands.places import synthetic_datadir
from ethsync.peers.track import RequestKind
from ethsync.serve.synthetic import create_synthetic
from ethsync.ui.machine import read_machine, utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethsync.serve.spec import SyntheticSpec

CHANGED = (10, 1_000, 100_000)
"""Accounts that change between the two states."""

RUNS = 3
"""Of each: the median is told, because other programs may use the machine."""


def run(spec: SyntheticSpec, as_json: bool) -> int:
    """Measure how a state of this kind is healed, and print it; return 0. Raises EthsyncError."""
    later = [replace(spec, changed=changed) for changed in CHANGED if changed <= spec.accounts]
    for each in (spec, *later):
        state = synthetic_datadir(each)
        state.parent.mkdir(parents=True, exist_ok=True)
        click.echo(f"making the state to serve in {state}, unless it is there", err=True)
        create_synthetic(each, state)
    with tempfile.TemporaryDirectory(prefix="ethsync-bench-") as place:
        held = Path(place) / "held"
        held.mkdir()
        click.echo("syncing the state before the changes", err=True)
        trio.run(sync_in_process, spec, synthetic_datadir(spec), held)
        cases = [_measure(each, held, Path(place)) for each in later]
    result = {"date": utc_now(), "machine": asdict(read_machine()), "state": asdict(spec), "healing": cases}
    click.echo(json.dumps(result) if as_json else "\n".join(_lines(result)))
    return 0


def _measure(spec: SyntheticSpec, held: Path, place: Path) -> dict[str, Any]:
    """Heal a copy of what is held, several times; the run with the median time of healing."""
    found = []
    for number in range(RUNS):
        click.echo(f"healing {spec.changed:,} changed accounts, {number + 1} of {RUNS}", err=True)
        copy = place / "healed"
        shutil.copytree(held, copy)
        found.append(_figures(spec, trio.run(sync_in_process, spec, synthetic_datadir(spec), copy)))
        shutil.rmtree(copy)
    middle = median(each["healing_s"] for each in found)
    chosen = next(each for each in found if each["healing_s"] == middle)
    return chosen | {"runs_healing_s": [each["healing_s"] for each in found]}


def _figures(spec: SyntheticSpec, report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of healing. Storage that is fetched whole and bytecodes count in the bytes of the wire."""
    healing = report["stages"]["healing"]
    return {
        "changed_accounts": spec.changed,
        "trie_nodes": healing["items"],
        "trie_nodes_per_changed_account": round(healing["items"] / spec.changed, 2),
        "requests": sum(
            count for kind, count in report["requests"].items() if kind.startswith(f"{RequestKind.NODES.value} ")
        ),
        "trie_node_bytes": healing["bytes"],
        "wire_bytes": report["sync"]["wire_bytes"],
        "healing_s": healing["seconds"],
        "trie_nodes_per_s": round(healing["items_per_s"]),
        "wall_s": report["sync"]["wall_s"],
        "cpu_s": report["cpu"]["total_s"],
        "peak_anon_bytes": report["sync"]["peak_anon_bytes"],
        "loop_lag_p99_ms": report["sync"]["loop_lag_p99_ms"],
    }


def _lines(result: Mapping[str, Any]) -> list[str]:
    lines = [f"healing {result['state']['accounts']:,} accounts, medians of {RUNS} runs"]
    lines += [
        f"  {case['changed_accounts']:>7,} changed  {case['trie_nodes']:>9,} nodes"
        f" ({case['trie_nodes_per_changed_account']} each) in {case['requests']:,} requests,"
        f" {case['trie_node_bytes'] / 1e6:,.2f} MB, {case['healing_s']} s, {case['trie_nodes_per_s']:,} nodes/s"
        for case in result["healing"]
    ]
    return lines
