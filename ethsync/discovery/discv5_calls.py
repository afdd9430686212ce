"""Requests that a discv5 node has made and that wait for their answer."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethsync.discovery.discv5_messages import FindNode, Ping, TalkRequest
    from ethsync.discovery.discv5_sessions import Place
    from ethsync.discovery.node import Node

REQUEST_TIMEOUT = 0.7
"""Seconds for an answer: 500 ms in discv5-wire.md, 700 ms in go-ethereum (p2p/discover/common.go), which is kinder to
nodes on the other side of the world."""
HANDSHAKE_TIMEOUT = 1.0  # seconds until the WHOAREYOU has come (discv5-wire.md, "UDP Communication")

MOST_CALLS = 1024
"""Requests in flight: a lookup has three, revalidation a few; thousands would mean that something runs away."""
MOST_PER_PLACE = 8
"""Requests to one node at a time: what waits for a handshake would otherwise pile up."""


class Purpose(Enum):
    """What a request is for."""

    PING = "ping"
    FIND = "find"
    RECORD = "record"
    TALK = "talk"


@dataclass(slots=True, eq=False)
class Call:
    """One request. `ours` are those that nobody asked for but this protocol itself."""

    token: int
    node: Node
    purpose: Purpose
    message: Ping | FindNode | TalkRequest
    deadline: float
    ours: bool = False
    nonce: bytes | None = None
    """Of the packet that it was sent in; None while it waits for a handshake."""
    challenged: bool = False
    found: dict[bytes, Node] = field(default_factory=dict)
    parts: int = 0
    """NODES that have come."""

    @property
    def place(self) -> Place:
        """Whom it was sent to."""
        return self.node.node_id, self.node.endpoint


class Calls:
    """The calls in flight: by token, by nonce, by place, and by deadline."""

    def __init__(self) -> None:
        self._by_token: dict[int, Call] = {}
        self._by_nonce: dict[bytes, int] = {}
        self._by_place: dict[Place, list[Call]] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._by_token)

    def has_room(self, place: Place) -> bool:
        """Whether one more may be made."""
        return len(self._by_token) < MOST_CALLS and len(self._by_place.get(place, ())) < MOST_PER_PLACE

    def add(self, call: Call) -> None:
        """Begin to wait for an answer."""
        self._by_token[call.token] = call
        self._by_place.setdefault(call.place, []).append(call)
        heapq.heappush(self._deadlines, (call.deadline, call.token))

    def sent(self, call: Call, nonce: bytes, deadline: float) -> None:
        """The call went out in a packet with this nonce."""
        if call.nonce is not None:
            self._by_nonce.pop(call.nonce, None)
        call.nonce, call.deadline = nonce, deadline
        self._by_nonce[nonce] = call.token
        heapq.heappush(self._deadlines, (deadline, call.token))

    def remove(self, call: Call) -> None:
        """It is over."""
        del self._by_token[call.token]
        if call.nonce is not None:
            self._by_nonce.pop(call.nonce, None)
        rest = self._by_place[call.place]
        rest.remove(call)
        if not rest:
            del self._by_place[call.place]

    def with_nonce(self, nonce: bytes) -> Call | None:
        """The call that went out in that packet."""
        token = self._by_nonce.get(nonce)
        return None if token is None else self._by_token.get(token)

    def at(self, place: Place) -> list[Call]:
        """All calls to a place, oldest first."""
        return list(self._by_place.get(place, ()))

    def matching(self, place: Place, request_id: bytes, fits: Callable[[Purpose], bool]) -> Call | None:
        """The call to that place with that request id, if its purpose fits the answer."""
        for call in self._by_place.get(place, ()):
            if call.message.request_id == request_id and fits(call.purpose):
                return call
        return None

    @property
    def deadline(self) -> float:
        """When the next one is over, infinity if none waits."""
        while self._deadlines:
            at, token = self._deadlines[0]
            call = self._by_token.get(token)
            if call is not None and call.deadline == at:
                return at
            heapq.heappop(self._deadlines)
        return float("inf")

    def expired(self, now: float) -> Iterator[Call]:
        """The calls whose time is up. Each must be removed before the next one is asked for."""
        while self.deadline <= now:
            yield self._by_token[self._deadlines[0][1]]
