"""What discv5 remembers of others: session keys and open challenges, both bounded (discv5-theory.md, "Sessions")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery import discv5_crypto as crypto
from ethsync.discovery.addresses import is_public, subnet
from ethsync.discovery.bounded import LRU, RateLimiter, TokenBucket
from ethsync.errors import MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.discovery.addresses import Subnet
    from ethsync.discovery.discv5_limits import Limits
    from ethsync.discovery.discv5_packets import Packet
    from ethsync.discovery.node import Datagram, Endpoint, Node
    from ethsync.wire.enr import NodeRecord

Place: TypeAlias = "tuple[bytes, Endpoint]"
"""A node id at an address: what a session belongs to. The same node at another address needs a session of its own."""

CHALLENGE_LIFETIME = 1.0  # seconds for a handshake (discv5-wire.md, "UDP Communication")
REPETITION_TIME = 0.5
"""Seconds for which the same WHOAREYOU is sent again to a node that sends another packet: its handshake may be on its
way to us. After such a round trip it is not, and the request that the WHOAREYOU names is about to be given up."""
PREVIOUS_LIFETIME = 10.0
"""Seconds for which the session before the last one still counts: several times longer than anything of it can be on
its way. Afterwards trying it only doubles what a forged packet costs."""
MOST_ATTEMPTS = 3
"""Handshakes that may fail for one challenge: each costs us up to two signature checks, about 0.2 ms."""


@dataclass(slots=True, eq=False)
class Session:
    """Keys shared with a node at an address; `node` has that endpoint and, as far as known, its record.

    `previous` is the session before this one. When both sides shake hands at once, either may take another of the two
    sessions for the newer one.
    """

    node: Node
    write_key: bytes
    read_key: bytes
    confirmed: bool
    """Whether the other side has shown that it has the keys."""
    previous: Session | None = None
    since: float = 0.0
    """When it was used for the first time, or again."""
    sent: int = 0

    def next_nonce(self, entropy: Callable[[int], bytes]) -> bytes:
        """A nonce that this session did not use: a counter of 32 bits, then 64 random ones (discv5-theory.md)."""
        self.sent += 1
        return (self.sent & 0xFFFFFFFF).to_bytes(4, "big") + entropy(8)


class Sessions:
    """All sessions, by place; of each place the two last ones."""

    def __init__(self, most: int) -> None:
        self._sessions: LRU[Place, Session] = LRU(most)

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, place: Place) -> Session | None:
        """The session under which to write there, or None."""
        return self._sessions.get(place)

    def begin(self, place: Place, session: Session, now: float) -> None:
        """Write under this session from now on."""
        before = self._sessions.get(place)
        if before is not None:
            before.previous, session.previous = None, before
        session.since = now
        self._sessions.put(place, session)

    def open(self, place: Place, packet: Packet, now: float) -> tuple[Session, bytes] | None:
        """The session and the plaintext of a packet's message; None if no session opens it.

        A session that opens a packet is the one to write under: the other side has it for certain.
        """
        current = self._sessions.get(place)
        if current is None:
            return None
        if now > current.since + PREVIOUS_LIFETIME:
            current.previous = None
        for session in (current, current.previous) if current.previous else (current,):
            plaintext = _unsealed(session, packet)
            if plaintext is not None:
                if session is not current:
                    self.begin(place, session, now)
                return session, plaintext
        return None


def _unsealed(session: Session, packet: Packet) -> bytes | None:
    try:
        return crypto.unseal(session.read_key, packet.nonce, packet.message, packet.ad)
    except MalformedMessage:
        return None


@dataclass(slots=True, eq=False)
class Challenge:
    """A WHOAREYOU of ours that was not answered yet. `data` is what the answer must sign."""

    data: bytes
    datagram: Datagram
    record: NodeRecord | None
    sent_at: float
    failures: int = 0


class Challenges:
    """Open challenges, and how many may be sent."""

    def __init__(self, limits: Limits) -> None:
        self._challenges: LRU[Place, Challenge] = LRU(limits.challenges)
        self._places: RateLimiter[Place] = RateLimiter(
            limits.place_challenges, limits.place_challenge_burst, limits.places
        )
        self._networks: RateLimiter[Subnet] = RateLimiter(
            limits.network_challenges, limits.network_challenge_burst, limits.places
        )
        self._strangers = TokenBucket(limits.stranger_challenges, limits.stranger_challenge_burst)
        self._known = TokenBucket(limits.known_challenges, limits.known_challenge_burst)

    def __len__(self) -> int:
        return len(self._challenges)

    @property
    def watched(self) -> int:
        """Places and networks whose rates are known."""
        return len(self._places) + len(self._networks)

    def may_send(self, place: Place, now: float, *, known: bool) -> bool:
        """Whether one more WHOAREYOU may go there now; if so it is counted.

        What many share is looked at first: under a flood of forged packets it is used up, and they leave no trace.
        """
        bucket = self._known if known and self._known.ready(now) else self._strangers
        if not bucket.ready(now):
            return False
        ip = place[1].ip
        if bucket is self._strangers and is_public(ip) and not self._networks.allow(subnet(ip), now):
            return False
        return self._places.allow(place, now) and bucket.take(now)

    def open(self, place: Place, now: float) -> Challenge | None:
        """The challenge that may still be answered, or None."""
        challenge = self._challenges.get(place)
        if challenge is None or now > challenge.sent_at + CHALLENGE_LIFETIME:
            return None
        return challenge

    def fresh(self, place: Place, now: float) -> Challenge | None:
        """The challenge that was just sent there, or None."""
        challenge = self._challenges.get(place)
        if challenge is None or now > challenge.sent_at + REPETITION_TIME:
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
