"""`ethsync probe`: what a node is, and whether it really serves snap."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
import coincurve
import trio

from ethsync.cli import EXIT_FAILED
from ethsync.commands.targets import parse_target
from ethsync.crawl.facts import MEANING, probe_facts
from ethsync.crawl.probe import Probe, probe_node
from ethsync.fork_overrides import with_overrides
from ethsync.networks import BUILT_IN, load_network
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView
from ethsync.ui.numbers import count, duration

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(target: str, network: str, as_json: bool, forks: Sequence[str] = ()) -> int:
    """Probe one node and print what came out; 0 if its Status was read, 1 otherwise. Raises ConfigError."""
    enode = parse_target(target)
    ours, now = with_overrides(load_network(network), forks), int(time.time())
    known = [ours, *(load_network(name) for name in BUILT_IN if name != ours.name)]
    view = ChainView(ours, LATER_THAN_ANY_FORK, now)
    probe = trio.run(probe_node, enode, coincurve.PrivateKey(), view)
    facts = probe_facts(probe, known, now)
    click.echo(json.dumps(facts) if as_json else "\n".join(lines(probe, facts)))
    return 0 if probe.status is not None else EXIT_FAILED


def lines(probe: Probe, facts: dict[str, Any]) -> list[str]:
    """The facts for people."""
    if not probe.reached:
        return [f"{facts['host']}:{facts['tcp_port']} cannot be reached: {facts['error']}"]
    age = facts["head_age_s"]
    rows = {
        "client": facts["client"],
        "speaks": ", ".join(facts["capabilities"]),
        "connected in": _with(facts["connect_ms"], " ms"),
        "network": _network(facts),
        "fork id": _with(facts["fork_id"], f" ({facts['fork']})" if facts["fork"] else ""),
        "blocks": _blocks(facts),
        "head": _with(facts["head_hash"], "" if age is None else f", {duration(age)} old"),
        "answers in": _with(facts["latency_ms"], " ms"),
        "snap": MEANING[probe.snap] + (f" ({probe.accounts} accounts)" if probe.accounts else ""),
        "ended early": facts["error"],
    }
    return [f"{name:<13} {text}" for name, text in rows.items() if text]


def _with(value: object, suffix: str) -> str:
    return "" if value is None else f"{value}{suffix}"


def _network(facts: dict[str, Any]) -> str:
    if facts["network_id"] is None:
        return ""
    name = facts["network"] or f"unknown, genesis {facts['genesis_hash']}"
    return f"{name} (network id {facts['network_id']})"


def _blocks(facts: dict[str, Any]) -> str:
    if facts["latest_block"] is None:
        return ""
    first = "" if facts["earliest_block"] is None else f"{count(facts['earliest_block'])} to "
    return first + count(facts["latest_block"])
