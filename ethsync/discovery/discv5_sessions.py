"""What discv5 remembers of others: session keys and open challenges, both bounded (discv5-theory.md, "Sessions")."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery.bounded import LRU, RateLimiter, TokenBucket
from ethsync.errors import MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.discovery.discv5_packets import Packet
    from ethsync.discovery.node import Datagram, Endpoint, Node
    from ethsync.wire.enr import NodeRecord

Place: TypeAlias = "tuple[bytes, Endpoint]"
"""A node id at an address: what a session belongs to. The same node at another address needs a session of its own."""

MOST_SESSIONS = 1024  # as go-ethereum (p2p/discover/v5wire); about 1 kB each
MOST_CHALLENGES = 1024
"""More than are sent in the second for which a challenge is good (`CHALLENGES_PER_SECOND`)."""

CHALLENGE_LIFETIME = 1.0  # seconds for a handshake (discv5-wire.md, "UDP Communication")
MOST_ATTEMPTS = 3
"""Handshakes that may fail for one challenge: each costs us a signature check."""

CHALLENGES_PER_PLACE = 1.0
BURST_PER_PLACE = 3.0
"""WHOAREYOUs to one node at one address: one per second, and two repetitions for packets that crossed."""
CHALLENGES_PER_SECOND = 100.0
"""WHOAREYOUs in all: with forged source addresses we must not become somebody's flood."""
PLACES_WATCHED = 10_000
"""Places whose rate is known, the last ones that sent; some 3 MB."""

REQUESTS_PER_SECOND = 10.0
REQUEST_BURST = 30.0
"""Requests answered per session. A lookup asks one node three times (geth, lookupRequestLimit)."""


def _allowance() -> TokenBucket:
    return TokenBucket(REQUESTS_PER_SECOND, REQUEST_BURST)


@dataclass(slots=True, eq=False)
class Session:
    """Keys shared with a node at an address. `node` has its record.

    The read key of the session before this one still opens packets: when both sides shake hands at once, each may
    take another of the two sessions for the newer one.
    """

    node: Node
    write_key: bytes
    read_key: bytes
    previous_read_key: bytes | None = None
    sent: int = 0
    allowance: TokenBucket = field(default_factory=_allowance)

    def next_nonce(self, entropy: Callable[[int], bytes]) -> bytes:
        """A nonce that this session did not use: a counter of 32 bits, then 64 random ones (discv5-wire.md)."""
        self.sent += 1
        return (self.sent & 0xFFFFFFFF).to_bytes(4, "big") + entropy(8)

    def open(self, packet: Packet) -> bytes:
        """Decrypt a packet's message. Raises MalformedMessage."""
        try:
            return crypto.unseal(self.read_key, packet.nonce, packet.message, packet.ad)
        except MalformedMessage:
            if self.previous_read_key is None:
                raise
            return crypto.unseal(self.previous_read_key, packet.nonce, packet.message, packet.ad)


@dataclass(slots=True, eq=False)
class Challenge:
    """A WHOAREYOU of ours that was not answered yet. `data` is what the answer must sign."""

    data: bytes
    datagram: Datagram
    record: NodeRecord | None
    sent_at: float
    failures: int = 0


class Sessions:
    """All sessions, by place."""

    def __init__(self) -> None:
        self._sessions: LRU[Place, Session] = LRU(MOST_SESSIONS)

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, place: Place) -> Session | None:
        """The session, or None."""
        return self._sessions.get(place)

    def begin(self, place: Place, session: Session) -> None:
        """Keep a new session; the key of the one before it stays good for reading."""
        before = self._sessions.get(place)
        if before is not None:
            session.previous_read_key = before.read_key
            session.allowance = before.allowance
        self._sessions.put(place, session)


class Challenges:
    """Open challenges, and how many may be sent."""

    def __init__(self) -> None:
        self._challenges: LRU[Place, Challenge] = LRU(MOST_CHALLENGES)
        self._per_place: RateLimiter[Place] = RateLimiter(CHALLENGES_PER_PLACE, BURST_PER_PLACE, PLACES_WATCHED)
        self._in_all = TokenBucket(CHALLENGES_PER_SECOND, CHALLENGES_PER_SECOND)

    def __len__(self) -> int:
        return len(self._challenges)

    @property
    def places_watched(self) -> int:
        """Places whose rate is known."""
        return len(self._per_place)

    def may_send(self, place: Place, now: float) -> bool:
        """Whether one more WHOAREYOU may go there now; if so it is counted."""
        return self._per_place.allow(place, now) and self._in_all.take(now)

    def open(self, place: Place, now: float) -> Challenge | None:
        """The challenge that may still be answered, or None."""
        challenge = self._challenges.get(place)
        if challenge is None or now > challenge.sent_at + CHALLENGE_LIFETIME:
            return None
        return challenge

    def add(self, place: Place, challenge: Challenge) -> None:
        """Remember a challenge that is being sent."""
        self._challenges.put(place, challenge)

    def close(self, place: Place) -> None:
        """It was answered."""
        self._challenges.pop(place)

    def failed(self, place: Place, challenge: Challenge) -> None:
        """An answer was wrong; too many wrong ones close the challenge."""
        challenge.failures += 1
        if challenge.failures >= MOST_ATTEMPTS:
            self._challenges.pop(place)
