"""Requests that a discv5 node has made and that wait for their answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ethsync.discovery.discv5_sessions import Place
from ethsync.discovery.pending import Pending

if TYPE_CHECKING:
    from collections.abc import Collection

    from ethsync.discovery.discv5_messages import Request
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


class Calls(Pending[Call, Place]):
    """The calls in flight, by place and by nonce.

    What waits for a session has no deadline: it waits for a call to the same place, which has one.
    """

    def __init__(self, most: int, most_per_place: int) -> None:
        super().__init__(most, most_per_place)
        self._by_nonce: dict[bytes, Call] = {}

    def sent(self, call: Call, phase: Phase, nonce: bytes, deadline: float) -> None:
        """The call went out in a packet with this nonce."""
        self._forget_nonce(call)
        call.phase, call.nonce = phase, nonce
        self._by_nonce[nonce] = call
        self.wait_until(call, deadline)

    def wait(self, call: Call) -> None:
        """The call was sent in vain; it waits for another session."""
        self._forget_nonce(call)
        call.phase, call.nonce = Phase.WAITS, None
        self.wait_until(call, float("inf"))

    def remove(self, call: Call) -> None:
        """It is over."""
        super().remove(call)
        self._forget_nonce(call)

    def _forget_nonce(self, call: Call) -> None:
        if call.nonce is not None:
            del self._by_nonce[call.nonce]

    def with_nonce(self, nonce: bytes) -> Call | None:
        """The call whose last packet that was."""
        return self._by_nonce.get(nonce)

    def answered_by(self, place: Place, request_id: bytes, purposes: Collection[Purpose]) -> Call | None:
        """The call to that place with that request id, if it is for one of `purposes`."""
        for call in self.at(place):
            if call.message.request_id == request_id and call.purpose in purposes:
                return call
        return None
