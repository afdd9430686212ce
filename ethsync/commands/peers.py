"""`ethsync peers`: who a sync got its data from, during it and afterwards."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from ethsync.peers.roster import read_roster
from ethsync.ui import numbers

if TYPE_CHECKING:
    from pathlib import Path

MOST_CLIENT = 40
"""Characters of a client's name that are shown: name and version stand first."""


def run(datadir: Path, as_json: bool) -> int:
    """Print the peers; 0. Raises ConfigError."""
    at, rows = read_roster(datadir)
    if as_json:
        click.echo(json.dumps({"at": at, "peers": rows}))
        return 0
    connected = sum(row["connected"] for row in rows)
    age = numbers.duration(max(0.0, time.time() - at))
    click.echo(f"{numbers.several(len(rows), 'peer', 'peers')}, {connected} connected, as of {age} ago")
    for row in rows:
        click.echo(line(row))
    return 0


def line(row: dict[str, Any]) -> str:
    """One peer for people."""
    latency = min(row["latency_ms"].values(), default=None)
    parts = [
        f"{'*' if row['connected'] else ' '} {row['score']:>6.1f}",
        f"{numbers.size(row['bytes']):>8}",
        f"{'-' if latency is None else f'{latency:.0f} ms':>8}",
        f"{row['direction']:<8}",
        f"{row.get('worth', ''):<8}",
        f"{row['address']:<24}",
        numbers.printable(row["client"], MOST_CLIENT),
    ]
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(row["outcomes"].items()))
    tail = f"\n           {numbers.printable(row['dropped'])}" if row["dropped"] else ""
    return "  ".join(parts) + (f"\n           {outcomes}" if outcomes else "") + tail
