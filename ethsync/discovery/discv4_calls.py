"""Requests that a discv4 node has made and that wait: for their turn, or for their answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ethsync.discovery.node import Endpoint
from ethsync.discovery.pending import Pending

if TYPE_CHECKING:
    from ethsync.discovery.node import Node


class Purpose(Enum):
    """What a request is for."""

    PING = "ping"
    FIND = "find"
    RECORD = "record"


class Phase(Enum):
    """How far a request has come. A ping is sent at once; the others only to a node that should believe our address."""

    AWAITS_PONG = "awaits pong"
    """We pinged the node; if it does not answer, it is not asked."""
    AWAITS_PING = "awaits ping"
    """It answered and may ping us back; at the deadline it is asked in any case."""
    AWAITS_TURN = "awaits turn"
    """Another search waits for the same node's answer, and nothing in an answer says to which it belongs."""
    SENT = "sent"
    """It was asked."""


@dataclass(slots=True, eq=False)
class Call:
    """One request to `node`.

    `unasked` are those that nobody asked for but this protocol itself; `meets` those of them that ping back a node
    which pinged us first. `target` (64 bytes) belongs to a search for nodes, and so do the last four: the nodes found
    by id, the keys of all that were named, the packets that came and those of them that were signed by the node.
    """

    token: int
    node: Node
    purpose: Purpose
    target: bytes = b""
    unasked: bool = False
    meets: bool = False
    phase: Phase = Phase.AWAITS_PONG
    deadline: float = float("inf")
    packet_hash: bytes = b""
    found: dict[bytes, Node] = field(default_factory=dict)
    named: set[bytes] = field(default_factory=set)
    tries: int = 0
    parts: int = 0

    @property
    def place(self) -> Endpoint:
        """Where it is sent to: before its signature is checked, no more is known of whoever sent an answer."""
        return self.node.endpoint

    @property
    def is_searching(self) -> bool:
        """Whether it waits for Neighbors."""
        return self.purpose is Purpose.FIND and self.phase is Phase.SENT


class Calls(Pending[Call, Endpoint]):
    """The calls in flight, by endpoint."""

    def queue(self, call: Call) -> None:
        """The call waits until another one ends; that one has a deadline."""
        self.wait(call, Phase.AWAITS_TURN, float("inf"))

    def wait(self, call: Call, phase: Phase, deadline: float) -> None:
        """The call goes into a phase that ends at `deadline`."""
        call.phase = phase
        self.wait_until(call, deadline)

    def sent(self, call: Call, packet_hash: bytes, deadline: float) -> None:
        """The call went out in a packet with this hash."""
        call.packet_hash = packet_hash
        self.wait(call, Phase.SENT, deadline)

    def to(self, node: Node) -> list[Call]:
        """All calls to a node at its endpoint, oldest first."""
        return [call for call in self.at(node.endpoint) if call.node.node_id == node.node_id]

    def search(self, node: Node) -> Call | None:
        """The one search for nodes that waits for this node's answer."""
        return next((call for call in self.to(node) if call.is_searching), None)

    def queued(self, node: Node) -> list[Call]:
        """The searches that wait for that one to end."""
        return [call for call in self.to(node) if call.phase is Phase.AWAITS_TURN]

    def answered_by(self, packet_hash: bytes, purpose: Purpose, source: Endpoint) -> list[Call]:
        """The calls that an answer from `source` to the packet with this hash belongs to.

        They can be several: nothing in a packet differs from the one before if it is of the same second.
        """
        return [call for call in self.at(source) if call.purpose is purpose and call.packet_hash == packet_hash]

    def answered(self, packet_hash: bytes, purpose: Purpose, sender: Node) -> list[Call]:
        """Those of them that were made to the node which signed the answer."""
        found = self.answered_by(packet_hash, purpose, sender.endpoint)
        return [call for call in found if call.node.node_id == sender.node_id]
