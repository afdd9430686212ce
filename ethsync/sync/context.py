"""What all parts of one sync share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from ethsync.sync.fingerprints import Fingerprints

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethsync.peers.changes import Changes
    from ethsync.peers.pool import PeerPool
    from ethsync.store.datadir import Datadir
    from ethsync.store.writer import Writer
    from ethsync.sync.progress import Progress
    from ethsync.wire.headers import Header


@dataclass(slots=True, eq=False)
class Pivot:
    """The block whose state is wanted, and an event that is set when it becomes another one."""

    header: Header
    on_stale: Callable[[], None] = lambda: None
    """To be called when most peers that served its state have nothing of it any more."""
    moved: trio.Event = field(default_factory=trio.Event)
    lock: trio.Lock = field(default_factory=trio.Lock)
    """Held while it moves on the disk and here, and by whoever makes sure that it does not."""
    is_whole: bool = False
    """Whether its whole state is stored. Then it stays as it is; what is wanted instead is only noted."""

    @property
    def root(self) -> bytes:
        """Its state root."""
        return self.header.state_root

    def move(self, header: Header) -> None:
        """Want another block's state from now on."""
        self.header = header
        moved, self.moved = self.moved, trio.Event()
        moved.set()


@dataclass(frozen=True, slots=True, eq=False)
class SyncContext:
    """Where everything is kept, who is asked, and how it is counted."""

    datadir: Datadir
    writer: Writer
    pool: PeerPool
    changes: Changes
    limiter: trio.CapacityLimiter
    progress: Progress
    patience: float
    """Seconds without a useful answer from anyone before the sync ends."""
    stored_codes: Fingerprints = field(default_factory=Fingerprints)
    """Bytecodes that are known to be stored, whoever stored them or looked."""
