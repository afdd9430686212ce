"""The peers we are connected to: who gets a slot and who has to go, what they did, and what stays known of them."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from ethsync.discovery.bounded import LRU
from ethsync.discovery.node import ip_of_host
from ethsync.errors import DisconnectReason, Disproved, MalformedMessage, NoSlot, PeerError, PeerGone
from ethsync.peers.assignment import Askable
from ethsync.peers.bans import Bans
from ethsync.peers.drops import Drops
from ethsync.peers.slots import Refused, Replaces, Slots
from ethsync.peers.standing import standing
from ethsync.peers.track import Outcome, Record, RequestKind, new_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethsync.discovery.candidates import Candidates
    from ethsync.peers.greeting import ChainView
    from ethsync.peers.peer import Peer
    from ethsync.wire.enr import IPAddress

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
    """Connected peers by number. Only `connected` adds and removes; `changed` is called whenever something did."""

    changed: Callable[[], None]
    view: ChainView
    """Only `set_head` changes it."""
    peers: dict[int, Peer] = field(default_factory=dict)
    outcomes: Counter[tuple[RequestKind, Outcome]] = field(default_factory=Counter)
    slots: Slots = field(default_factory=Slots)
    bans: Bans = field(default_factory=Bans)
    """Who lied: the one list, kept between runs. Its times are those of `wall`."""
    bans_changed: trio.Event = field(default_factory=trio.Event)
    """Set when somebody was banned, and replaced by whoever takes note of it."""
    wall: Callable[[], float] = time.time
    """The time in Unix seconds."""
    dropped: Drops = field(default_factory=Drops)
    """Everyone that we hung up on for what they did; those who were only undecodable are dialled again."""
    replaced: int = 0
    """Connections that we ended because others needed the slot."""
    failures: dict[bytes, str] = field(default_factory=dict)
    """Why a named node is not connected, by public key."""
    named: frozenset[bytes] = frozenset()
    """Public keys of the nodes that the user named: there is always a slot for them."""
    trusted: frozenset[bytes] = frozenset()
    """Those of them that are let in beyond the maximum."""
    dialable: Candidates | None = None
    """The nodes that may be dialled, once they are known."""
    fork_hint: Callable[[], str | None] | None = None
    """Says whether most nodes know a fork that we do not, where peers are looked for."""
    explain: Callable[[float], str | None] | None = None
    """Says why no peer comes, where peers are looked for."""
    fork_passed: Callable[[], None] | None = None
    """Called when `view` has come to another fork id."""
    wire_bytes: int = 0
    """Bytes received over connections that have ended."""
    _known: LRU[bytes, Acquaintance] = field(default_factory=lambda: LRU(MOST_ACQUAINTANCES))
    _scopes: dict[int, trio.CancelScope] = field(default_factory=dict)
    _verdicts: dict[int, PeerError] = field(default_factory=dict)
    _holders: dict[bytes, int] = field(default_factory=dict)
    """The connection that holds the slot of a node, by public key."""
    _count: int = 0

    @property
    def bytes_received(self) -> int:
        """Bytes received over all connections."""
        return self.wire_bytes + sum(peer.connection.bytes_received for peer in self.peers.values())

    @property
    def awaits_peers(self) -> bool:
        """Whether nobody is connected, and peers are looked for."""
        return not self.peers and self.explain is not None

    def set_head(self, number: int, timestamp: int) -> None:
        """Our head is this block now: peers are told of its fork and judged by it."""
        before = self.view.fork_id
        self.view = replace(self.view, head_number=number, head_time=timestamp)
        if self.view.fork_id != before and self.fork_passed is not None:
            self.fork_passed()

    # What peers do

    def note(self, peer: Peer, kind: RequestKind, outcome: Outcome, why: str = "") -> None:
        """Record how a request ended, and what was wrong with the answer."""
        now = trio.current_time()
        self.outcomes[kind, outcome] += 1
        peer.record.note(kind, outcome, now)
        if self._holders.get(peer.enode.public_key) == peer.number:
            self.slots.judge(peer.enode.public_key, standing(peer.record, now))
        if peer.record.tracks[kind].malformed_in_a_row >= MOST_MALFORMED:
            last = f", the last to a request for {kind.value}{why and ': '}{why}"
            self.drop(peer, PeerError(f"{MOST_MALFORMED} undecodable answers in a row{last}"))

    def drop(self, peer: Peer, verdict: PeerError) -> None:
        """Hang up for what the peer did, with the reason that fits the error. A liar is banned; nobody else is."""
        key = peer.enode.public_key
        self.dropped.note(key, str(peer), str(verdict), peer.number, banned=isinstance(verdict, Disproved))
        sentence = f"{peer} was dropped: {verdict}"
        if isinstance(verdict, Disproved):
            self.bans.ban(key, sentence, self.wall(), ip=ip_of_host(peer.enode.host))
            self.bans_changed.set()
        self._hang_up(peer.number, type(verdict)(sentence))

    def release(self, key: bytes, why: str, reason: DisconnectReason) -> None:
        """Hang up on a peer whose slot others need. It has done no wrong and may come back."""
        number = self._holders.get(key)
        if number is not None:
            self._replace(number, why, reason)

    def is_banned(self, key: bytes, ip: IPAddress | None) -> str | None:
        """Why a node is not to be dealt with; None if it may be."""
        return self.bans.is_banned(key, self.wall(), ip)

    # Whom to ask

    def askable(self, now: float) -> list[Askable]:
        """The connected peers as plain data for `assignment.assign`."""
        return [
            Askable(
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

    # Coming and going

    @contextmanager
    def connected(self, peer: Peer) -> Iterator[trio.CancelScope]:
        """Hold a peer in the pool for the life of its connection. What we learned of the node is kept.

        Raises NoSlot if there is no room for it, or when its slot is given to another one; and the error that it is
        dropped for.
        """
        key = peer.enode.public_key
        self._admit(peer)
        known = self._acquaint(peer)
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
                if self._holders.get(key) == peer.number:
                    del self._holders[key]
                    self.slots.left(key)
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

    # Inside

    def _admit(self, peer: Peer) -> None:
        """Give a peer a slot. Raises NoSlot."""
        key = peer.enode.public_key
        admission = self.slots.admit(
            key, ip_of_host(peer.enode.host), peer.client, trio.current_time(), inbound=peer.inbound,
            fixed=key in self.named, trusted=key in self.trusted,
        )  # fmt: skip
        if isinstance(admission, Refused):
            raise NoSlot(f"{peer} got no slot: {admission.why}", reason=admission.reason)
        if isinstance(admission, Replaces):
            self._replace(self._holders.pop(admission.other), admission.why, DisconnectReason.TOO_MANY_PEERS)
        self._holders[key] = peer.number

    def _acquaint(self, peer: Peer) -> Acquaintance:
        """Go on from what is known of the node. What it did before does not count against its slot."""
        key = peer.enode.public_key
        known = self._known.get(key) or Acquaintance(new_record())
        self._known.put(key, known)
        known.client, known.address = peer.client, f"{peer.enode.host}:{peer.enode.tcp_port}"
        known.inbound, known.connections = peer.inbound, known.connections + 1
        peer.record = known.record
        for track in peer.record.tracks.values():
            track.in_flight = 0
        self.slots.judge(key, standing(peer.record, trio.current_time()))
        return known

    def _replace(self, number: int, why: str, reason: DisconnectReason) -> None:
        self.replaced += 1
        self._hang_up(number, NoSlot(f"{self.peers[number]} had to go: {why}", reason=reason))

    def _hang_up(self, number: int, verdict: PeerError) -> None:
        if number in self._scopes:
            self._verdicts.setdefault(number, verdict)
            self._scopes[number].cancel()
