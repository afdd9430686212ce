"""What a sync has done so far: plain counters that stages write and that the display and the report read.

One clock: all times are trio's, in seconds. Nothing here is estimated; estimates belong to `ethsync.ui`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ethsync.counters import Counters

if TYPE_CHECKING:
    from ethsync.peers.census import Census
    from ethsync.peers.drops import Drop


class Phase(Enum):
    """Where a sync stands. The order is the order in which they are passed."""

    CONNECTING = "connecting"
    DOWNLOADING = "downloading"
    HEALING = "healing"
    VERIFYING = "verifying"
    DONE = "done"


class Limit(Enum):
    """What holds the sync back at the moment."""

    NETWORK = "network"
    CPU = "cpu"
    DISK = "disk"
    PEERS = "peers"
    NOTHING = "-"


@dataclass(slots=True)
class PeerView:
    """One connected peer, for showing."""

    name: str
    address: str
    bytes: int
    in_flight: int
    rate: float
    """Bytes per second over the last answers."""
    score: float
    source: str = ""
    """Who named it, such as "discv5"."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A block whose state is held while following. The counts and seconds are of the step to it; 0 for the first."""

    number: int
    head: int
    """Number of the newest trusted head then."""
    accounts: int = 0
    slots: int = 0
    codes: int = 0
    """New ones."""
    bytes: int = 0
    """Of its patches."""
    seconds: float = 0.0
    """From when it was wanted until it was on the disk."""

    @property
    def behind(self) -> int:
        """Blocks between it and the head."""
        return max(0, self.head - self.number)


@dataclass(slots=True)
class Progress:
    """A sync's counters."""

    started: float
    phase: Phase = Phase.CONNECTING
    block_number: int | None = None
    block_hash: str = ""
    state_root: str = ""
    block_time: int = 0
    """Its timestamp, in Unix seconds."""
    held_number: int | None = None
    """The last block whose whole state was found to be held."""
    key_space: float = 0.0
    """Share of the account key space whose pages are stored, 0 to 1."""
    accounts: Counters = field(default_factory=Counters)
    storage: Counters = field(default_factory=Counters)
    """`items` are slots; `owed` counts contracts whose storage is not stored yet."""
    parked: int = 0
    """Contracts whose storage is owed besides, and not asked for before their accounts have been healed."""
    doubtful: bool = False
    """Whether stored accounts may be others than the pivot's, or what they owe has not all been counted."""
    contracts: int = 0
    """Contracts whose storage is stored."""
    codes: Counters = field(default_factory=Counters)
    headers: Counters = field(default_factory=Counters)
    """Block headers; `owed` are those that are still missing."""
    healing: Counters = field(default_factory=Counters)
    """`items` are trie nodes that came, `bytes` those of their messages."""
    healed: float = 0.0
    """Share of the account key space that is proven equal to the pivot's, 0 to 1, while healing."""
    pivot_moves: int = 0
    verified: float = 0.0
    """Share of the final verification that is done, 0 to 1."""
    verification: Counters = field(default_factory=Counters)
    """`items` are leaves and `bytes` the bytes read back from disk whose roots and hashes held."""
    peers: list[PeerView] = field(default_factory=list)
    last_peers: list[PeerView] = field(default_factory=list)
    """Those who were connected when no more was asked."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Requests by "kind outcome", such as "accounts served"."""
    wire_bytes: int = 0
    unproven_bytes: int = 0
    """Bytes of replies that wait for a processor or are being proven."""
    written_bytes: int = 0
    write_queue: int = 0
    restarts: int = 0
    limit: Limit = Limit.NOTHING
    dropped: list[Drop] = field(default_factory=list)
    """The peers that we hung up on, with what they did; the last one at the end."""
    census: Census | None = None
    """The nodes found, dialled, connected and serving."""
    warning: str = ""
    """A sentence about something that a person should look into; empty if there is nothing."""
    unserved: str = ""
    """Why the next block's state cannot be had while following; empty if it can."""
    followed: Followed | None = None
    """The block that is held while following, and the step to it."""
    steps: int = 0
    """How many steps were taken in this run."""
    trouble: str = ""
    """A sentence about what is wrong right now, such as why no peer is connected; empty if nothing is."""

    @property
    def all_named(self) -> bool:
        """Whether all accounts of the pivot's state are stored, and what they name is counted."""
        return self.phase in (Phase.VERIFYING, Phase.DONE) or (self.key_space == 1.0 and not self.doubtful)

    @property
    def missing_contracts(self) -> int | None:
        """Contracts whose storage is known to be missing, None if none is and that need not be all."""
        return self._known(self.storage.owed + self.parked)

    @property
    def missing_codes(self) -> int | None:
        """The same of codes."""
        return self._known(self.codes.owed)

    def _known(self, owed: int) -> int | None:
        return owed if owed or self.all_named else None
