"""`ethsync node info` and `ethsync node enr`: who the node of a data directory is."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ethsync.commands.places import default_datadir
from ethsync.commands.record_facts import address_facts, fork_text
from ethsync.commands.targets import enode_of_record
from ethsync.discovery.forks import presumed_head
from ethsync.discovery.identity import KEY_FILE, open_identity, save_identity
from ethsync.discovery.local_record import Announcement, LocalRecord
from ethsync.networks import built_in_networks, load_network
from ethsync.store.datadir import claim

if TYPE_CHECKING:
    from pathlib import Path

    from ethsync.discovery.node import Endpoint
    from ethsync.wire.enr import NodeRecord
    from ethsync.wire.forkid import ForkId

NETWORK = "mainnet"
"""Whose data directory is meant if nobody says which."""


@dataclass(frozen=True, slots=True)
class _Shown:
    directory: Path
    record: NodeRecord
    seen: tuple[Endpoint, ...]


def run_info(datadir: Path | None, network: str | None, as_json: bool) -> int:
    """Print who we are; return 0. Raises ConfigError, StoreError."""
    shown = _identity(datadir, network)
    if as_json:
        click.echo(json.dumps(_facts(shown)))
    else:
        click.echo("\n".join(_lines(shown)))
    return 0


def run_enr(datadir: Path | None, network: str | None) -> int:
    """Print our record and nothing else; return 0. Raises ConfigError, StoreError."""
    click.echo(str(_identity(datadir, network).record))
    return 0


def _identity(datadir: Path | None, network: str | None) -> _Shown:
    """The identity of a data directory; the directory, a key and a first record are made if there are none."""
    directory = datadir or default_datadir(network or NETWORK)
    fork_id = _fork_id(network if datadir else network or NETWORK)
    claim(directory)
    if not (directory / KEY_FILE).exists():
        click.echo(f"made a new node key: {directory / KEY_FILE}", err=True)
    identity = open_identity(directory)
    record = identity.record
    if record is None:
        record = LocalRecord(identity.key, Announcement(fork_id=fork_id), None, time.time()).record
        save_identity(directory, record, identity.seen)
    return _Shown(directory, record, identity.seen)


def _fork_id(network: str | None) -> ForkId | None:
    if network is None:
        return None
    forks = load_network(network).forks
    return forks.fork_id(*presumed_head(forks, time.time()))


def _facts(shown: _Shown) -> dict[str, Any]:
    record = shown.record
    enode = enode_of_record(record)
    return {
        "datadir": str(shown.directory),
        "key_file": str(shown.directory / KEY_FILE),
        "node_id": record.node_id.hex(),
        "public_key": record.public_key.hex(),
        "enode": None if enode is None else str(enode),
        "record": str(record),
        "seq": record.seq,
        "addresses": address_facts(record),
        "seen": [str(endpoint) for endpoint in shown.seen],
        "fork_id": None if record.fork_id is None else str(record.fork_id),
        "chain": fork_text(record.fork_id, built_in_networks()),
    }


def _lines(shown: _Shown) -> list[str]:
    """The same for people."""
    facts = _facts(shown)
    rows = {
        "node id": facts["node_id"],
        "public key": facts["public_key"],
        "key file": facts["key_file"],
        "enode": facts["enode"] or "none: our address is not known yet",
        "record": facts["record"],
        "seq": facts["seq"],
        "address": _addresses(facts["addresses"]),
        "seen as": ", ".join(facts["seen"]) or "nobody has said yet",
        "chain": facts["chain"] if facts["fork_id"] else "not in the record yet: the next sync puts it there",
    }
    return [f"{name:<12} {text}" for name, text in rows.items()]


def _addresses(facts: dict[str, Any]) -> str:
    families = [
        f"{facts[ip]} (TCP {facts[tcp] or 'none'}, UDP {facts[udp] or 'none'})"
        for ip, tcp, udp in (("ip", "tcp", "udp"), ("ip6", "tcp6", "udp6"))
        if facts[ip] is not None
    ]
    return ", ".join(families) or "none announced yet"
