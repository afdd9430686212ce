"""`ethsync peers`: who a sync got its data from, during it and afterwards."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from ethsync.peers.roster import INTERVAL, read_roster
from ethsync.ui import numbers

if TYPE_CHECKING:
    from pathlib import Path

MOST_CLIENT = 40
"""Characters of a client's name that are shown: name and version stand first."""

MISSED = 3 * INTERVAL
"""Seconds after which a sync that runs would have written its list anew."""

HEADINGS = f"  {'score':>6}  {'bytes':>8}  {'latency':>8}  {'dialled':<8}  {'worth':<8}  {'address':<24}  client"
"""Over the columns of `line`. A star says that the peer is, or at the end of a sync was, connected; the latency is that
of the slowest kind of request."""


def run(datadir: Path, as_json: bool) -> int:
    """Print the peers; 0. Raises ConfigError."""
    at, rows = read_roster(datadir)
    if as_json:
        click.echo(json.dumps({"at": at, "peers": rows}))
        return 0
    connected = sum(row["connected"] for row in rows)
    age = max(0.0, time.time() - at)
    then = "" if age < MISSED else " then: no sync is running"
    peers = numbers.several(len(rows), "peer", "peers")
    click.echo(f"{peers}, {connected} connected{then}, as of {numbers.duration(age)} ago")
    if rows:
        click.echo(HEADINGS)
    for row in rows:
        click.echo(line(row))
    return 0


def line(row: dict[str, Any]) -> str:
    """One peer for people."""
    latency = max(row["latency_ms"].values(), default=None)
    parts = [
        f"{'*' if row['connected'] else ' '} {row['score']:>6.1f}",
        f"{numbers.size(row['bytes']):>8}",
        f"{'-' if latency is None else f'{latency:.3g} ms':>8}",
        f"{row['direction']:<8}",
        f"{row.get('worth', ''):<8}",
        f"{row['address']:<24}",
        numbers.printable(row["client"], MOST_CLIENT),
    ]
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(row["outcomes"].items()))
    tail = f"\n           {numbers.printable(row['dropped'])}" if row["dropped"] else ""
    return "  ".join(parts) + (f"\n           {outcomes}" if outcomes else "") + tail
