"""The peers we are connected to, and the tasks that keep it that way: one task tree per node to stay connected with."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.bounded import LRU
from ethsync.errors import Disproved, MalformedMessage, PeerError, PeerGone, UselessPeer
from ethsync.peers.assignment import Candidate
from ethsync.peers.drops import Drops
from ethsync.peers.greeting import ChainView, dial_peer
from ethsync.peers.peer import Peer, run_peer
from ethsync.peers.track import Outcome, Record, RequestKind, new_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import coincurve

    from ethsync.discovery.candidates import Candidates
    from ethsync.wire.enode import Enode

FIRST_RETRY = 1.0  # seconds until a lost or unreachable node is dialled again
LONGEST_RETRY = 60.0
STEADY = 60.0
"""Seconds of connection after which a node has proven itself and backoff starts anew."""

MOST_MALFORMED = 3
"""Undecodable answers of one kind in a row after which we hang up; the node may come back later."""


MOST_ACQUAINTANCES = 4096
"""Nodes remembered after their connection has ended; 2 MB. A sync over days meets a few thousand."""


@dataclass(slots=True, eq=False)
class Acquaintance:
    """What stays known of a node between its connections. `bytes_received` are of those that have ended."""

    record: Record
    client: str = ""
    address: str = ""
    inbound: bool = False
    connections: int = 0
    bytes_received: int = 0


@dataclass(slots=True, eq=False)
class PeerPool:
    """Connected peers by number. Only `run_pool` adds and removes; `changed` is called whenever something did."""

    changed: Callable[[], None]
    view: ChainView
    peers: dict[int, Peer] = field(default_factory=dict)
    outcomes: Counter[tuple[RequestKind, Outcome]] = field(default_factory=Counter)
    banned: dict[bytes, str] = field(default_factory=dict)
    """Public keys of liars, with what they did; for the life of the process."""
    dropped: Drops = field(default_factory=Drops)
    """Everyone that we hung up on, and why; those who were only undecodable are dialled again."""
    failures: dict[bytes, str] = field(default_factory=dict)
    """Why a wanted node is not connected, by public key."""
    dialable: Candidates | None = None
    """The nodes that may be dialled, once they are known."""
    fork_hint: Callable[[], str | None] | None = None
    """Says whether most nodes know a fork that we do not, where peers are looked for."""
    explain: Callable[[float], str | None] | None = None
    """Says why no peer comes, where peers are looked for."""
    wire_bytes: int = 0
    """Bytes received over connections that have ended."""
    _known: LRU[bytes, Acquaintance] = field(default_factory=lambda: LRU(MOST_ACQUAINTANCES))
    _scopes: dict[int, trio.CancelScope] = field(default_factory=dict)
    _verdicts: dict[int, PeerError] = field(default_factory=dict)
    _count: int = 0

    @property
    def bytes_received(self) -> int:
        """Bytes received over all connections."""
        return self.wire_bytes + sum(peer.connection.bytes_received for peer in self.peers.values())

    def note(self, peer: Peer, kind: RequestKind, outcome: Outcome, why: str = "") -> None:
        """Record how a request ended, and what was wrong with the answer."""
        self.outcomes[kind, outcome] += 1
        peer.record.note(kind, outcome, trio.current_time())
        if peer.record.tracks[kind].malformed_in_a_row >= MOST_MALFORMED:
            last = f", the last to a request for {kind.value}{why and ': '}{why}"
            self.drop(peer, PeerError(f"{MOST_MALFORMED} undecodable answers in a row{last}"))

    def drop(self, peer: Peer, verdict: PeerError) -> None:
        """Hang up with the reason that fits the error; a liar is not dialled again."""
        key, sentence = peer.enode.public_key, f"{peer} was dropped: {verdict}"
        self.dropped.note(key, str(peer), str(verdict), peer.number, banned=isinstance(verdict, Disproved))
        if isinstance(verdict, Disproved):
            self.banned[key] = sentence
        if peer.number in self._scopes:
            self._verdicts[peer.number] = type(verdict)(sentence)
            self._scopes[peer.number].cancel()

    def candidates(self, now: float) -> list[Candidate]:
        """The connected peers as plain data for `assignment.assign`."""
        return [
            Candidate(
                peer.number,
                {kind: track.in_flight for kind, track in peer.record.tracks.items()},
                {kind: track.rate for kind, track in peer.record.tracks.items()},
                {kind: track.budget for kind, track in peer.record.tracks.items()},
                frozenset(kind for kind, track in peer.record.tracks.items() if track.paused_until > now),
                peer.record.score(now),
            )
            for peer in self.peers.values()
        ]

    def next_pause_end(self, now: float) -> float:
        """When the first peer that is left alone may be asked again; infinity if none is."""
        ends = (track.paused_until for peer in self.peers.values() for track in peer.record.tracks.values())
        return min((end for end in ends if end > now), default=float("inf"))

    @contextmanager
    def connected(self, peer: Peer) -> Iterator[trio.CancelScope]:
        """Hold a peer in the pool for the life of its connection. What we learned of the node is kept."""
        key = peer.enode.public_key
        known = self._known.get(key) or Acquaintance(new_record())
        self._known.put(key, known)
        known.client, known.address = peer.client, f"{peer.enode.host}:{peer.enode.tcp_port}"
        known.inbound, known.connections = peer.inbound, known.connections + 1
        peer.record = known.record
        for track in peer.record.tracks.values():
            track.in_flight = 0
        self.failures.pop(key, None)
        self.peers[peer.number] = peer
        with trio.CancelScope() as scope:
            self._scopes[peer.number] = scope
            self.changed()
            try:
                yield scope
            except MalformedMessage as error:
                self.dropped.note(key, str(peer), str(error), peer.number)
                raise
            finally:
                del self.peers[peer.number], self._scopes[peer.number]
                self.wire_bytes += peer.connection.bytes_received
                known.bytes_received += peer.connection.bytes_received
                peer.fail(PeerGone(f"{peer} is gone"))
                self.changed()
        verdict = self._verdicts.pop(peer.number, None)
        if verdict is not None:
            raise verdict

    def acquaintances(self) -> list[tuple[bytes, Acquaintance]]:
        """All nodes that were connected in this run, by public key, unless too many others came after them."""
        return self._known.items()

    def next_number(self) -> int:
        """A number that no peer had before."""
        self._count += 1
        return self._count


async def _stay_connected(pool: PeerPool, enode: Enode, key: coincurve.PrivateKey) -> None:
    """Dial one node, again and again with backoff, until it is found to lie."""
    retry = FIRST_RETRY
    while enode.public_key not in pool.banned:
        began = trio.current_time()
        try:
            await _be_connected(pool, enode, key)
        except PeerError as error:
            pool.failures[enode.public_key] = str(error)
            if isinstance(error, UselessPeer):
                retry = LONGEST_RETRY
        pool.changed()
        if trio.current_time() - began > STEADY:
            retry = FIRST_RETRY
        await trio.sleep(retry)
        retry = min(2 * retry, LONGEST_RETRY)


async def _be_connected(pool: PeerPool, enode: Enode, key: coincurve.PrivateKey) -> None:
    async with dial_peer(pool.next_number(), enode, key, pool.view) as peer:
        with pool.connected(peer):
            await run_peer(peer)


async def run_pool(
    pool: PeerPool,
    targets: Sequence[Enode],
    key: coincurve.PrivateKey,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep connections to the given nodes until cancelled. Their faults end a connection, never the pool."""
    async with trio.open_nursery() as nursery:
        for enode in {target.public_key: target for target in targets}.values():
            nursery.start_soon(_stay_connected, pool, enode, key)
        task_status.started()
        await trio.sleep_forever()
