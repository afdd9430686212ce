"""Peers for a sync: those that the user named, those that discovery finds, and those that come to us, in one pool."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.candidate import Source
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.forks import NextForks, check_fork_entry
from ethsync.discovery.identity import open_identity
from ethsync.discovery.options import DiscoveryOptions
from ethsync.errors import DisconnectReason
from ethsync.peers.dialer import Dialer, run_dialer
from ethsync.peers.keeping import keep, recall, run_keeping
from ethsync.peers.listener import run_listener
from ethsync.peers.slots import INBOUND_SHARE, MOST_PEERS, ROTATION, Slots
from ethsync.wire import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ethsync.discovery.node import Node
    from ethsync.peers.pool import PeerPool
    from ethsync.wire.enode import Enode
    from ethsync.wire.forkid import ForkId

LONGEST_WAIT = 600.0
"""Seconds after which the clock on the wall is looked at again while a fork is awaited: it may be set meanwhile."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whom to be connected with. Without protocols nothing is looked for; without an address nobody is let in."""

    discovery: DiscoveryOptions
    max_peers: int = MOST_PEERS
    static: Sequence[Enode] = ()
    """Nodes to be connected with, whoever else has to go."""
    trusted: Sequence[Enode] = ()
    """The same beyond the maximum, and also when they dial us."""


def named_only(directory: Path, fork_id: ForkId) -> Finding:
    """Nothing is looked for, and nobody is let in: only named nodes are dialled, if any are added."""
    return Finding(DiscoveryOptions(frozenset(), (), (), (), directory, fork_id))


async def run_finding(
    pool: PeerPool, finding: Finding, *, task_status: trio.TaskStatus[Dialer] = trio.TASK_STATUS_IGNORED
) -> None:
    """Find peers until cancelled. Raises ConfigError, StoreError if addresses or the directory cannot be used."""
    options = finding.discovery
    identity = await trio.to_thread.run_sync(open_identity, options.directory)
    listens = bool(options.listen)
    pool.slots = Slots(finding.max_peers, inbound_share=INBOUND_SHARE if listens else 0.0)
    pool.trusted = frozenset(enode.public_key for enode in finding.trusted)
    pool.named = pool.trusted | {enode.public_key for enode in finding.static}
    own_key = keys.identity(identity.key.public_key)
    pool.dialable = candidates = Candidates(random.Random(), refuses=_fork_filter(pool), own_key=own_key)
    await recall(pool, candidates, options.directory)
    dialer = Dialer(pool, candidates, identity.key)
    for source, enodes in ((Source.STATIC, finding.static), (Source.TRUSTED, finding.trusted)):
        for enode in enodes:
            dialer.offer(source, enode)
    async with AsyncExitStack() as stack:
        # After all connections have ended, and what they were good for is known
        stack.push_async_callback(keep, pool, candidates, options.directory)
        if options.protocols:
            await _discover(pool, dialer, options, stack)
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(run_dialer, dialer)
        if listens:
            await nursery.start(run_listener, pool, candidates, identity.key, options.listen)
        nursery.start_soon(run_rotation, pool, candidates)
        nursery.start_soon(run_fork_clock, pool)
        nursery.start_soon(run_keeping, pool, candidates, options.directory)
        task_status.started(dialer)


async def _discover(pool: PeerPool, dialer: Dialer, options: DiscoveryOptions, stack: AsyncExitStack) -> None:
    """Look for nodes as long as the stack is open, and tell others of us."""
    from ethsync.discovery.start import open_discovery  # and with it both protocols: a tenth of the time of a start

    found = await stack.enter_async_context(open_discovery(options, pool.wall(), dialer.offer))

    def fork_passed() -> None:
        found.announcer.set_fork(pool.view.fork_id)
        dialer.candidates.recheck(trio.current_time())
        dialer.look()

    dialer.wanted = lambda wanted: found.finder.want(wanted, trio.current_time())
    pool.fork_passed = fork_passed
    pool.explain = dialer.candidates.explain


def _fork_filter(pool: PeerPool) -> Callable[[Node], str | None]:
    """Says why a node is not worth a dial, and has `pool` say whether most nodes know a fork that we do not."""
    forks = NextForks(pool.view.network.forks)
    pool.fork_hint = lambda: forks.hint(pool.wall())

    def refuses(node: Node) -> str | None:
        if node.record is None:
            return None  # its Status will tell
        view = pool.view
        if node.record.fork_id is not None:
            forks.see(node.record.node_id, node.record.fork_id, view.head_number, view.head_time)
        return check_fork_entry(node.record, view.network.forks, view.head_number, view.head_time)

    return refuses


async def run_rotation(pool: PeerPool, candidates: Candidates) -> None:
    """Hang up on useless peers, one at a time, where others may be better; until cancelled."""
    while True:
        await trio.sleep(ROTATION)
        key = pool.slots.rotation(trio.current_time(), candidates.ready)
        if key is not None:
            pool.release(key, "it gave nothing that it was asked for", DisconnectReason.USELESS_PEER)


async def run_fork_clock(pool: PeerPool) -> None:
    """Have our head pass each fork by time whose time comes during the run; return when there is none left.

    The head may be a block of an hour ago, but the chain's has passed by then, and others expect us to know.
    """
    began = pool.wall()
    for fork in pool.view.network.forks.time_forks:
        if fork > began:
            await _sleep_until(fork, pool.wall)
            pool.set_head(pool.view.head_number, max(pool.view.head_time, fork))


async def _sleep_until(time: float, wall: Callable[[], float]) -> None:
    """Sleep until a time of the clock on the wall, in Unix seconds."""
    while True:
        wait = time - wall()
        if wait <= 0:
            return
        await trio.sleep(min(wait, LONGEST_WAIT))
