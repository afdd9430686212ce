"""Requests that a discv5 node has made and that wait for their answer."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ethsync.discovery.discv5_messages import Request
    from ethsync.discovery.discv5_sessions import Place
    from ethsync.discovery.node import Node

REQUEST_TIMEOUT = 0.7
"""Seconds for an answer: 500 ms in discv5-wire.md, 700 ms in go-ethereum (p2p/discover/common.go, respTimeoutV5), which
is kinder to nodes on the other side of the world."""
HANDSHAKE_TIMEOUT = 1.0  # seconds until the WHOAREYOU has come (discv5-wire.md, "UDP Communication")


class Purpose(Enum):
    """What a request is for."""

    PING = "ping"
    FIND = "find"
    RECORD = "record"
    TALK = "talk"


class Phase(Enum):
    """How far a request has come."""

    WAITS = "waits for the session that another request is about to get"
    PROVOKES = "random bytes were sent, which the other side answers with a challenge"
    SHAKES = "sent in a handshake, which may not have arrived yet"
    SENT = "sent under a session"


@dataclass(slots=True, eq=False)
class Call:
    """One request. `ours` are those that nobody asked for but this protocol itself."""

    token: int
    node: Node
    purpose: Purpose
    message: Request
    ours: bool = False
    phase: Phase = Phase.WAITS
    deadline: float = float("inf")
    nonce: bytes | None = None
    """Of the packet that it was sent in last."""
    challenged: bool = False
    found: dict[bytes, Node] = field(default_factory=dict)
    parts: set[tuple[bytes, ...]] = field(default_factory=set)
    """Contents of the NODES that have come: UDP may deliver one twice."""
    examined: int = 0
    """Records in them that were looked at."""

    @property
    def place(self) -> Place:
        """Whom it was sent to."""
        return self.node.node_id, self.node.endpoint

    @property
    def is_shaking(self) -> bool:
        """Whether it is on the way to a session that others may wait for."""
        return self.phase in (Phase.PROVOKES, Phase.SHAKES)


class Calls:
    """The calls in flight: by token, by nonce, by place, and by deadline.

    What waits has no deadline: it waits for a call to the same place, which has one.
    """

    def __init__(self, most: int, most_per_place: int) -> None:
        self._most = most
        self._most_per_place = most_per_place
        self._by_token: dict[int, Call] = {}
        self._by_nonce: dict[bytes, Call] = {}
        self._by_place: dict[Place, list[Call]] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._by_token)

    def has_room(self, place: Place) -> bool:
        """Whether one more may be made."""
        return len(self._by_token) < self._most and len(self.at(place)) < self._most_per_place

    def add(self, call: Call) -> None:
        """A call that waits."""
        self._by_token[call.token] = call
        self._by_place.setdefault(call.place, []).append(call)

    def sent(self, call: Call, phase: Phase, nonce: bytes, deadline: float) -> None:
        """The call went out in a packet with this nonce."""
        self._forget_nonce(call)
        call.phase, call.nonce, call.deadline = phase, nonce, deadline
        self._by_nonce[nonce] = call
        heapq.heappush(self._deadlines, (deadline, call.token))

    def wait(self, call: Call) -> None:
        """The call was sent in vain; it waits for another session."""
        self._forget_nonce(call)
        call.phase, call.nonce, call.deadline = Phase.WAITS, None, float("inf")

    def remove(self, call: Call) -> None:
        """It is over."""
        del self._by_token[call.token]
        self._forget_nonce(call)
        rest = self._by_place[call.place]
        rest.remove(call)
        if not rest:
            del self._by_place[call.place]

    def _forget_nonce(self, call: Call) -> None:
        if call.nonce is not None:
            del self._by_nonce[call.nonce]

    def with_nonce(self, nonce: bytes) -> Call | None:
        """The call whose last packet that was."""
        return self._by_nonce.get(nonce)

    def at(self, place: Place) -> tuple[Call, ...]:
        """All calls to a place, oldest first."""
        return tuple(self._by_place.get(place, ()))

    def answered_by(self, place: Place, request_id: bytes, purposes: Collection[Purpose]) -> Call | None:
        """The call to that place with that request id, if it is for one of `purposes`."""
        for call in self.at(place):
            if call.message.request_id == request_id and call.purpose in purposes:
                return call
        return None

    @property
    def deadline(self) -> float:
        """When the next one is over, infinity if none is in flight."""
        while self._deadlines:
            at, token = self._deadlines[0]
            call = self._by_token.get(token)
            if call is not None and call.deadline == at:
                return at
            heapq.heappop(self._deadlines)
        return float("inf")

    def expired(self, now: float) -> Iterator[Call]:
        """The calls whose time is up. Each must be removed or sent again before the next one is asked for."""
        while self.deadline <= now:
            yield self._by_token[self._deadlines[0][1]]
