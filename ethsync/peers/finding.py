"""Peers without being told of any: discovery fills the dial pool, the dialer and the listener fill the peer pool."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync.discovery import candidates_file
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.forks import NextForks, check_fork_entry
from ethsync.discovery.identity import open_identity
from ethsync.discovery.start import DiscoveryOptions, open_discovery
from ethsync.errors import DisconnectReason, HandshakeFailed
from ethsync.peers.dialer import MAX_PEERS, Dialer, run_dialer
from ethsync.peers.listener import run_listener

if TYPE_CHECKING:
    from ethsync.discovery.node import Node
    from ethsync.peers.pool import PeerPool
    from ethsync.wire.enr import IPAddress

FILE = "candidates.json"

SAVE_INTERVAL = 60.0
"""Seconds between two writings of what is known of candidates: what a kill may cost of it."""

INBOUND_SHARE = 1 / 2
"""Share of the slots that nodes which dialled us may take. geth dials a third itself (p2p/dial.go, defaultDialRatio);
while syncing, those that we chose are worth more than those that chose us."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How to find peers."""

    discovery: DiscoveryOptions
    max_peers: int = MAX_PEERS


async def run_finding(
    pool: PeerPool, options: Finding, *, task_status: trio.TaskStatus[Dialer] = trio.TASK_STATUS_IGNORED
) -> None:
    """Find peers until cancelled. Raises ConfigError, StoreError if addresses or the directory cannot be used."""
    path = options.discovery.directory / FILE
    identity = await trio.to_thread.run_sync(open_identity, options.discovery.directory)

    forks = NextForks(pool.view.network.forks)
    pool.fork_hint = lambda: forks.hint(time.time())

    def may_dial(node: Node) -> str | None:
        if node.record is None:
            return None  # its Status will tell
        view = pool.view
        if node.record.fork_id is not None:
            forks.see(node.record.node_id, node.record.fork_id, view.head_number, view.head_time)
        return check_fork_entry(node.record, view.network.forks, view.head_number, view.head_time)

    candidates = Candidates(random.Random(), may_dial=may_dial)
    kept = await trio.to_thread.run_sync(candidates_file.load, path)
    candidates_file.restore(candidates, kept, trio.current_time(), time.time())
    pool.dialable = candidates
    dialer = Dialer(pool, candidates, identity.key, options.max_peers)
    async with open_discovery(options.discovery, time.time(), dialer.offer) as finder, trio.open_nursery() as nursery:
        dialer.wanted = lambda wanted: finder.want(wanted, trio.current_time())

        def admit(public_key: bytes, ip: IPAddress, client: str) -> None:
            """Refuse liars, and everybody once the inbound share of the slots is taken."""
            if public_key in pool.banned:
                raise HandshakeFailed(f"{client} lied before", reason=DisconnectReason.USELESS_PEER)
            if any(peer.enode.public_key == public_key for peer in pool.peers.values()):
                raise HandshakeFailed("connected already", reason=DisconnectReason.ALREADY_CONNECTED)
            inbound = sum(peer.inbound for peer in pool.peers.values())
            if inbound >= options.max_peers * INBOUND_SHARE or dialer.free_slots <= 0:
                raise HandshakeFailed("as many peers as we take", reason=DisconnectReason.TOO_MANY_PEERS)

        await nursery.start(run_dialer, dialer)
        await nursery.start(run_listener, pool, identity.key, options.discovery.listen, admit)
        task_status.started(dialer)
        try:
            while True:
                await trio.sleep(SAVE_INTERVAL)
                facts = candidates_file.facts(candidates, trio.current_time(), time.time())
                await trio.to_thread.run_sync(candidates_file.save, facts, path)
        finally:
            candidates_file.save(candidates_file.facts(candidates, trio.current_time(), time.time()), path)
