"""What a probe found, as plain values for JSON, SQLite and people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethsync.crawl.probe import Probe, Snap
from ethsync.errors import UselessPeer
from ethsync.peers.greeting import LATER_THAN_ANY_FORK
from ethsync.ui.numbers import printable
from ethsync.wire import keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ethsync.networks import Network

MEANING = {
    Snap.NOT_OFFERED: "not offered",
    Snap.NOT_ASKED: "offered, but there was no head to ask it for",
    Snap.SERVES: "really served for its head, and proven",
    Snap.EMPTY: "offered, but it answered empty for its own head",
    Snap.SILENT: "offered, but it did not answer",
    Snap.MALFORMED: "offered, but its answer does not decode",
    Snap.DISPROVED: "offered, but its answer contradicts its head's state root",
}


def network_of(probe: Probe, networks: Iterable[Network]) -> Network | None:
    """The known network whose genesis block the node named in its Status."""
    if probe.status is None:
        return None
    return next((each for each in networks if each.genesis_hash == probe.status.genesis_hash), None)


def fork_verdict(probe: Probe, network: Network | None, now: int) -> str | None:
    """Whether its fork id fits the network at its head (EIP-2124); None if that cannot be said. `now`: Unix seconds."""
    if probe.status is None or network is None:
        return None
    number, time = (probe.head.number, probe.head.timestamp) if probe.head is not None else (LATER_THAN_ANY_FORK, now)
    try:
        network.forks.validate(probe.status.fork_id, number, time)
    except UselessPeer as error:
        return str(error)
    return "compatible"


def probe_facts(probe: Probe, networks: Iterable[Network], now: int) -> dict[str, Any]:
    """Everything that was found out: numbers, strings and None. Times in milliseconds, hashes as 0x…"""
    network = network_of(probe, networks)
    status, head = probe.status, probe.head
    return {
        "at": now,
        "enode": str(probe.enode),
        "node_id": f"0x{keys.node_id(probe.enode.public_key).hex()}",
        "host": probe.enode.host,
        "tcp_port": probe.enode.tcp_port,
        "reached": probe.reached,
        "connect_ms": _millis(probe.connect),
        "client": None if probe.client is None else printable(probe.client),
        "capabilities": [printable(name) for name in probe.capabilities],
        "eth_version": status.version if status else None,
        "network_id": status.network_id if status else None,
        "network": network.name if network else None,
        "genesis_hash": _hex(status.genesis_hash) if status else None,
        "fork_id": str(status.fork_id) if status else None,
        "fork": fork_verdict(probe, network, now),
        "earliest_block": status.earliest if status else None,
        "latest_block": status.latest if status and status.latest is not None else (head.number if head else None),
        "head_hash": _hex(status.head_hash) if status else None,
        "head_age_s": max(0, now - head.timestamp) if head else None,
        "state_root": _hex(head.state_root) if head else None,
        "latency_ms": _millis(probe.latency),
        "snap": probe.snap.value,
        "accounts_proven": probe.accounts,
        "disconnect_reason": probe.disconnect_reason,
        "error": None if probe.error is None else printable(probe.error),
    }


def _millis(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"
