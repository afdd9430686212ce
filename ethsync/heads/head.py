"""The newest block that somebody trusted vouches for, and how the one who vouches is doing.

Peers cannot name the head of a proof-of-stake chain: whatever they say must be proven from a block hash that comes from
elsewhere. A source publishes such hashes here; whoever chooses a pivot reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import trio

from ethsync.heads.known_blocks import KnownBlocks

if TYPE_CHECKING:
    from ethsync.wire.headers import Header


@dataclass(frozen=True, slots=True)
class TrustedHead:
    """A block that somebody trusted vouches for. Hashes are execution block hashes, 32 bytes.

    Only the hash is certain. Number, state root and all the rest come from the header that has this hash.
    """

    block_hash: bytes
    number: int | None = None
    """Block number as the source says it; None where it does not say one (a forkchoice without payload, Gloas)."""
    finalized: bytes | None = None
    """The newest finalized block that the source knows; None if there is none or it does not say."""
    safe: bytes | None = None
    """What the source takes for safe from reorganisation; only the Engine API says it."""
    slot: int | None = None
    """Slot of the beacon block that names it; only the Beacon API says it."""
    optimistic: bool = False
    """The consensus client has not had this block executed by anybody yet."""
    only_finalized: bool = False
    """The source has no newer block than the finalized one, which is 64 slots old and more."""


class HeadPhase(Enum):
    """What a source of heads is doing."""

    WAITING = "waiting"
    """No head yet: nobody answered or called so far."""
    SYNCING = "syncing"
    """The consensus client has not reached the head of its own chain."""
    DISAGREEING = "disagreeing"
    """Several were asked and name different blocks."""
    FOLLOWING = "following"
    """Heads arrive."""
    LOST = "lost"
    """Heads did arrive, but the consensus client is silent or out of reach now. The last head stays."""
    FIXED = "fixed"
    """There is one head and will be no other."""


@dataclass(frozen=True, slots=True)
class HeadState:
    """What a source is doing since when (seconds of trio's clock), and why, for people to read."""

    phase: HeadPhase
    since: float
    detail: str = ""


class HeadFeed:
    """The newest trusted head: one writes, any number read. Older ones that nobody took are replaced, never queued."""

    def __init__(self, now: float) -> None:
        self.head: TrustedHead | None = None
        self.state = HeadState(HeadPhase.WAITING, now)
        self.blocks = KnownBlocks()
        self.held: Header | None = None
        """The block whose whole state is on disk and verified, if there is one; set by whoever completes a state."""
        self._changed = trio.Event()

    def publish(self, head: TrustedHead) -> None:
        """Make this the newest head; wakes who waits, unless nothing changed.

        Beacon blocks name the same execution block several times, at first with its number and later without.
        """
        last = self.head
        if last is not None and last.block_hash == head.block_hash and head.number is None:
            head = replace(head, number=last.number)
        if head != last:
            self.head = head
            self._changed.set()
            self._changed = trio.Event()

    def report(self, phase: HeadPhase, now: float, detail: str = "") -> None:
        """Say what the source is doing. The time is that of the last change of phase."""
        since = self.state.since if phase is self.state.phase else now
        self.state = HeadState(phase, since, detail)

    def known_header(self, block_hash: bytes) -> Header | None:
        """The header of a block that the source has sent whole and whose hash is right; None if it did not lately."""
        block = self.blocks.get(block_hash)
        return block.header if block is not None else None

    async def newer_than(self, head: TrustedHead | None) -> TrustedHead:
        """Wait until there is a head other than this one, and return it. Pass None to get the first."""
        while True:
            changed = self._changed
            if self.head is not None and self.head != head:
                return self.head
            await changed.wait()
