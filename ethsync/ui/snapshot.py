"""Everything that one look at a sync shows, as values that do not change any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.sync.progress import Limit, PeerView, Phase, Progress
from ethsync.ui.numbers import printable

if TYPE_CHECKING:
    from ethsync.counters import Counters
    from ethsync.peers.census import Census
    from ethsync.ui.estimate import Estimate, Span

PHASES = (Phase.CONNECTING, Phase.DOWNLOADING, Phase.HEALING, Phase.VERIFYING)
"""The phases that people wait for, in their order. A sync whose block did not change in the meantime need not heal."""

PEERS_SHOWN = 3
"""What fits below the stages on a terminal of 24 lines."""


@dataclass(frozen=True, slots=True)
class Row:
    """One stage. `share` (0 to 1) is of the account key space, for headers and verification of the work; `rate` is per
    second. What does not apply, or is not known, is None."""

    name: str
    share: float
    items: int
    rate: float | None
    bytes: int
    in_flight: int | None
    owed: int | None


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One of the peers that have served most. Text is made safe to print."""

    name: str
    address: str
    rate: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown of a sync at one time. `elapsed` is in seconds since its start: the only clock.

    `kept` counts the accounts, slots and codes that earlier runs had stored.
    """

    elapsed: float
    phase: Phase
    block_number: int | None
    state_root: str
    key_space: float
    verified: float
    rows: tuple[Row, ...]
    peer_count: int
    peers: tuple[PeerRow, ...]
    census: Census | None
    dropped_count: int
    dropped: str
    """A sentence about the peer that was dropped last."""
    kept: int
    wire_bytes: int
    wire_rate: float | None
    written_bytes: int
    write_queue: int
    left: Span | None
    limit: Limit
    warning: str
    trouble: str

    @property
    def done(self) -> bool:
        """Whether the root was verified; before that nothing is shown as complete."""
        return self.phase is Phase.DONE


def take_snapshot(progress: Progress, estimate: Estimate, now: float) -> Snapshot:
    """Return what there is to show at `now` (seconds of trio's clock)."""
    done = progress.phase is Phase.DONE
    return Snapshot(
        elapsed=max(0.0, now - progress.started),
        phase=progress.phase,
        block_number=progress.block_number,
        state_root=progress.state_root,
        key_space=progress.key_space,
        verified=progress.verified,
        rows=_rows(progress, estimate),
        peer_count=len(progress.peers),
        peers=_peer_rows(progress.peers),
        census=progress.census,
        dropped_count=len(progress.dropped),
        dropped=printable(str(progress.dropped[-1])) if progress.dropped else "",
        kept=sum(stage.kept_items for stage in (progress.accounts, progress.storage, progress.codes)),
        wire_bytes=progress.wire_bytes,
        wire_rate=estimate.wire_bytes,
        written_bytes=progress.written_bytes,
        write_queue=progress.write_queue,
        left=estimate.left,
        limit=Limit.NOTHING if done else progress.limit,
        warning=progress.warning,
        trouble="" if done else printable(progress.trouble),
    )


def _rows(progress: Progress, estimate: Estimate) -> tuple[Row, ...]:
    accounts, storage, codes = progress.accounts, progress.storage, progress.codes
    whole = progress.key_space
    return (
        _row("Accounts", accounts, whole, estimate.accounts, None),
        _row("Storage", storage, whole * _paid(progress.contracts, storage.owed), estimate.slots, storage.owed),
        _row("Bytecodes", codes, whole * _paid(codes.items, codes.owed), estimate.codes, codes.owed),
        *_headers(progress, estimate),
        *_healing(progress, estimate),
        Row(
            "Verification",
            progress.verified,
            progress.verification.items,
            estimate.leaves_verified,
            progress.verification.bytes,
            None,
            None,
        ),
    )


def _headers(progress: Progress, estimate: Estimate) -> tuple[Row, ...]:
    """A row where headers are wanted; its share is of these."""
    stage = progress.headers
    if not stage.items + stage.owed:
        return ()
    return (_row("Headers", stage, _paid(stage.items, stage.owed), estimate.headers, stage.owed),)


def _healing(progress: Progress, estimate: Estimate) -> tuple[Row, ...]:
    """A row once there is something to heal; its items are trie nodes."""
    stage = progress.healing
    if progress.phase is not Phase.HEALING and not stage.items:
        return ()
    return (_row("Healing", stage, progress.healed, estimate.nodes, None),)


def _row(name: str, stage: Counters, share: float, rate: float | None, owed: int | None) -> Row:
    return Row(name, share, stage.items, rate, stage.bytes, stage.in_flight, owed)


def _paid(stored: int, owed: int) -> float:
    """Return the share that is stored of what the accounts so far have named."""
    return stored / (stored + owed) if stored + owed else 1.0


def _peer_rows(peers: list[PeerView]) -> tuple[PeerRow, ...]:
    """Return those that served most; by bytes in all, because an order by rate would change at every look."""
    first = sorted(peers, key=lambda peer: (-peer.bytes, peer.address))[:PEERS_SHOWN]
    return tuple(PeerRow(printable(p.name, 40), printable(p.address, 60), p.rate, p.in_flight) for p in first)
