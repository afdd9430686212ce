"""A node that might be dialled: what is known of it, and how good a choice it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

from ethsync.wire.enode import Enode

if TYPE_CHECKING:
    from ethsync.wire.enr import IPAddress


class Source(IntEnum):
    """Who named a node to us, the hardest to deceive first. A node counts as the best of its sources."""

    STATIC = 0
    """The user: stay connected with it."""
    TRUSTED = 1
    """The user: it always gets a slot. It is dialled like a static one."""
    BOOT = 2
    DNS = 3
    """An EIP-1459 list, signed."""
    STORED = 4
    """Kept from an earlier run."""
    DISCV5 = 5
    DISCV4 = 6
    INBOUND = 7
    """It dialled us."""


class Quality(IntEnum):
    """How good a choice a candidate is, the best first; the order of `Turns` and, backwards, of eviction."""

    FIXED = 0
    """Static or trusted."""
    BEST = 1
    """Has given us much."""
    GOOD = 2
    """Has given us something."""
    LIVE = 3
    """Is there, but had no room, or we did not come to asking; or it was never dialled, but answered discovery."""
    NEW = 4
    """Was never dialled, and is known by hearsay only."""
    SILENT = 5
    """Could not be reached, or did not speak properly."""
    USELESS = 6
    """Is there, and of no use: other chain, no snap, gave nothing."""


class Reason(Enum):
    """Why a dial or a connection came to nothing. The value goes on after 'twelve of them'."""

    UNREACHABLE = "could not be reached"
    TOO_MANY_PEERS = "had no room for another peer"
    HANDSHAKE = "broke off the handshake"
    HUNG_UP = "hung up before giving anything"
    OTHER_CHAIN = "followed another chain or fork"
    NO_SNAP = "offered no snap"
    UNWANTED = "had no use for us"
    SERVED_NOTHING = "offered snap and gave nothing"
    LIED = "sent data that are wrong"


class Backoff(NamedTuple):
    """Seconds until the next dial after the first failure, doubled with each further one up to `longest`."""

    first: float
    longest: float
    quality: Quality


BACKOFF = {
    # A slot becomes free whenever somebody leaves: such a node is worth asking again soon.
    Reason.TOO_MANY_PEERS: Backoff(60.0, 1800.0, Quality.LIVE),
    Reason.HUNG_UP: Backoff(60.0, 1800.0, Quality.LIVE),
    # Gone for a restart or for ever.
    Reason.UNREACHABLE: Backoff(60.0, 3600.0, Quality.SILENT),
    Reason.HANDSHAKE: Backoff(120.0, 7200.0, Quality.SILENT),
    # It takes a new version or a finished sync of theirs to change this.
    Reason.UNWANTED: Backoff(900.0, 21600.0, Quality.USELESS),
    Reason.SERVED_NOTHING: Backoff(900.0, 21600.0, Quality.USELESS),
    Reason.OTHER_CHAIN: Backoff(1800.0, 86400.0, Quality.USELESS),
    Reason.NO_SNAP: Backoff(1800.0, 86400.0, Quality.USELESS),
    # The ban list has the last word; this only outlives it.
    Reason.LIED: Backoff(43200.0, 86400.0, Quality.USELESS),
}
"""Our own figures: nodes that may soon be of use are tried again sooner than those that need a change of theirs."""

LONGEST_BACKOFF = max(backoff.longest for backoff in BACKOFF.values())

MUCH = 64 << 20
"""Bytes served that make a node one of the best: a minute or so of one peer's work in a sync."""

FORGOTTEN = 6
"""Failures in a row after which former merits no longer count: hours, at the backoff of an unreachable node."""

Lane = tuple[Quality, Source]
"""Candidates of one quality and source: among themselves it makes no difference whose turn it is."""


class Usefulness(NamedTuple):
    """What came of a connection. `asked` counts requests for state, `score` is the record's at the end."""

    asked: int
    served_bytes: int
    score: float = 0.0
    reason: Reason | None = None
    """Why it ended, if that was the node's fault."""
    we_left: bool = False
    """Whether we ended it for reasons of our own."""


class State(Enum):
    """What is going on with a candidate."""

    WAITING = "waiting"
    """For its next dial to be due."""
    READY = "ready"
    DIALLING = "dialling"
    CONNECTED = "connected"


NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Candidate:
    """A node that might be dialled. Only `Candidates` changes it. Times are those of its `now`, in seconds.

    `host` is a name only if `ip` is None. `seq` is the version of the signed record that the address is from, -1 if it
    is from elsewhere. `failures` are those in a row.
    """

    public_key: bytes
    host: str
    ip: IPAddress | None
    tcp_port: int
    udp_port: int
    sources: frozenset[Source]
    seq: int = -1
    fork_checked: bool = False
    """Whether its record named a fork of our chain; else only Status will tell."""
    answered: bool = False
    """Whether it answered discovery at this address. Of those that others only name, many are long gone."""
    client: str = ""
    """What it called itself; empty if it was never connected."""
    last_dial: float = NEVER
    last_success: float = NEVER
    failures: int = 0
    reason: Reason | None = None
    """Of the last failure; None after a success."""
    due: float = NEVER
    """When it may be dialled again."""
    served_bytes: int = 0
    score: float = 0.0
    state: State = State.WAITING
    lane: Lane | None = None
    """Where `Turns` has it, while it is ready."""
    shelf: Lane | None = None
    """Where `Shelves` has it."""

    @property
    def enode(self) -> Enode:
        """Where to dial it."""
        return Enode(self.public_key, self.host, self.tcp_port, self.udp_port)

    @property
    def source(self) -> Source:
        """The best of its sources."""
        return min(self.sources)

    @property
    def is_fixed(self) -> bool:
        """Whether the user named it."""
        return self.source <= Source.TRUSTED

    @property
    def quality(self) -> Quality:
        """How good a choice it is."""
        if self.is_fixed:
            return Quality.FIXED
        if self.served_bytes and self.failures < FORGOTTEN and self.reason not in (Reason.LIED, Reason.OTHER_CHAIN):
            return Quality.BEST if self.served_bytes >= MUCH else Quality.GOOD
        if self.reason is not None:
            return BACKOFF[self.reason].quality
        return Quality.LIVE if self.answered or self.last_success > NEVER else Quality.NEW
