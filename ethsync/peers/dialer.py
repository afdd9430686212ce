"""Fills the pool: dials candidates as long as there are free slots, and tells them what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ethsync.discovery.candidate import Reason, Usefulness
from ethsync.errors import Disproved, PeerError
from ethsync.peers.failures import reason_of
from ethsync.peers.greeting import dial_peer
from ethsync.peers.peer import run_peer
from ethsync.peers.track import OF_THE_CHAIN, Outcome, RequestKind

if TYPE_CHECKING:
    from collections.abc import Callable

    import coincurve

    from ethsync.discovery.candidate import Candidate, Source
    from ethsync.discovery.candidates import Candidates
    from ethsync.discovery.node import Node
    from ethsync.peers.pool import PeerPool
    from ethsync.peers.track import Record

MAX_PEERS = 50  # geth node/defaults.go, MaxPeers


class Dialer:
    """Dials for one pool. `offer` may be called from anywhere on the event loop.

    `wanted`, once set, is called with whether more nodes are wanted whenever that changes.
    """

    def __init__(
        self,
        pool: PeerPool,
        candidates: Candidates,
        key: coincurve.PrivateKey,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self.candidates = candidates
        self._pool = pool
        self._key = key
        self.wanted: Callable[[bool], None] | None = None
        self._max_peers = max_peers
        self._dialling = 0
        self._changed = trio.Event()
        self._was_wanted = True

    def offer(self, source: Source, node: Node) -> None:
        """A source named a node."""
        self.candidates.offer(node, source, trio.current_time())
        self._changed.set()

    @property
    def free_slots(self) -> int:
        """How many more peers there may be, those being dialled counted as if they were connected."""
        return self._max_peers - len(self._pool.peers) - self._dialling

    async def run(self) -> None:
        """Dial until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                now = trio.current_time()
                in_use = {peer.enode.public_key for peer in self._pool.peers.values()} | self._pool.banned.keys()
                while self.free_slots > 0 and (candidate := self.candidates.next(now, in_use)) is not None:
                    self.candidates.dialled(candidate.public_key, now)
                    self._dialling += 1
                    nursery.start_soon(self._dial, candidate)
                self._say_wanted()
                with trio.move_on_at(self.candidates.wake_at() if self.free_slots > 0 else float("inf")):
                    await self._changed.wait()

    def _say_wanted(self) -> None:
        wanted = self.free_slots > 0
        if wanted != self._was_wanted and self.wanted is not None:
            self._was_wanted = wanted
            self.wanted(wanted)

    async def _dial(self, candidate: Candidate) -> None:
        """One connection from its dial to its end."""
        key, pool = candidate.public_key, self._pool
        record: Record | None = None
        received = 0
        failure: PeerError | None = None
        try:
            async with dial_peer(pool.next_number(), candidate.enode, self._key, pool.view) as peer:
                self._dialling -= 1
                self.candidates.connected(key, peer.client, trio.current_time())
                try:
                    with pool.connected(peer):
                        record = peer.record
                        await run_peer(peer)
                finally:
                    received = peer.connection.bytes_received
        except PeerError as error:
            failure = error
            pool.failures[key] = str(error)
        finally:
            now = trio.current_time()
            if record is None:
                self._dialling -= 1
                if failure is None:
                    self.candidates.abandoned(key, now)
                else:
                    self.candidates.failed(key, reason_of(failure), now)
            else:
                self.candidates.ended(key, _usefulness(record, received, failure, now), now)
            self._changed.set()
            pool.changed()


def _usefulness(record: Record, received: int, failure: PeerError | None, now: float) -> Usefulness:
    """What a connection was good for. Answers about the chain alone do not make a peer useful for a state."""
    asked = sum(count for (kind, _), count in record.outcomes.items() if kind not in OF_THE_CHAIN)
    served = any(record.outcomes[kind, Outcome.SERVED] for kind in RequestKind if kind not in OF_THE_CHAIN)
    blame = Reason.LIED if isinstance(failure, Disproved) else None
    return Usefulness(asked, received if served else 0, record.score(now), blame)


async def run_dialer(dialer: Dialer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Keep the pool full until cancelled. Nodes' faults end their connection, never this."""
    task_status.started()
    await dialer.run()
