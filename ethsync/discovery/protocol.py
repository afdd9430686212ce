"""What discv4 and discv5 have in common, seen from outside: bytes and the time in; packets, events and deadlines out.

A protocol object does no I/O. Its owner gives it every datagram (`receive`) and calls `advance` when `deadline` has
come; after either it sends `packets()` and acts on `events()`, both of which empty what they return. Requests return a
token; exactly one event bears that token later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from ethsync.discovery.node import Datagram, Endpoint, Node
    from ethsync.wire.enr import NodeRecord


@dataclass(frozen=True, slots=True)
class Target:
    """Where a lookup goes. discv4 names a target by a public key (64 bytes) and measures from its hash, the id."""

    public_key: bytes
    node_id: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """`node` answered our ping: it lives, and has that address."""

    token: int
    node: Node


@dataclass(frozen=True, slots=True)
class Found:
    """`node` answered a question for nodes; `nodes` were checked to be what was asked for, and may be none."""

    token: int
    node: Node
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class RecordFetched:
    """`node` (with the record now) sent its own record, with a valid signature and the right key."""

    token: int
    node: Node


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer, or no valid one, came in time."""

    token: int
    node: Node
    why: str


@dataclass(frozen=True, slots=True)
class Met:
    """A node that we did not ask proved its key to us. That it really has the address of its record is not proven."""

    node: Node


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """The node with the id `reporter` says in answer to our ping that it sees us at this endpoint."""

    reporter: bytes
    endpoint: Endpoint
    source: Endpoint
    """Where the report came from."""


Event: TypeAlias = "Pong | Found | RecordFetched | Unanswered | Met | AddressSeen"


class NodeSource(Protocol):
    """What a protocol needs of the table, to answer questions for nodes. Only nodes that answered us are given out."""

    def closest(self, target: bytes, count: int) -> list[Node]:
        """The nodes nearest to a node id (32 bytes), nearest first."""
        ...

    def at_distances(self, distances: list[int], count: int) -> list[Node]:
        """Up to `count` nodes at these logarithmic distances (1 to 256) from us."""
        ...


class DiscoveryProtocol(Protocol):
    """discv4 or discv5."""

    def receive(self, data: bytes, source: Endpoint, now: float) -> bool:
        """Take one datagram. False if it is none of this protocol. Never raises, whatever the bytes are."""
        ...

    def advance(self, now: float) -> None:
        """Let the time pass: give up what waited too long."""
        ...

    @property
    def deadline(self) -> float:
        """When `advance` should be called next; infinity if nothing waits."""
        ...

    def packets(self) -> list[Datagram]:
        """What is to be sent, once."""
        ...

    def events(self) -> list[Event]:
        """What happened, once."""
        ...

    def ping(self, node: Node, now: float) -> int:
        """Ask for a sign of life."""
        ...

    def find_nodes(self, node: Node, target: Target, now: float) -> int:
        """Ask for the nodes that it knows near the target."""
        ...

    def fetch_record(self, node: Node, now: float) -> int:
        """Ask for its record."""
        ...

    def set_record(self, record: NodeRecord) -> None:
        """Our own record changed."""
        ...
