"""What a peer is worth to the sync, read off its record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ethsync.peers.track import Outcome, Record, RequestKind

if TYPE_CHECKING:
    from collections.abc import Iterable

SNAP_KINDS = (RequestKind.ACCOUNTS, RequestKind.STORAGE, RequestKind.CODES)

SILENCES = 3
"""Timeouts that count as one refusal: a peer that is only slow answers one of them."""

MANY = 8
"""Refusals after which a peer that never gave anything is given up, as in ethrex (pull request 6807)."""


class Worth(IntEnum):
    """From the worst to the best."""

    USELESS = 0
    """Offers snap, and gave nothing in many requests."""
    DOUBTFUL = 1
    """Offers snap, and gave nothing when it was asked for the first time."""
    UNTRIED = 2
    STALE = 3
    """Gave something, and has nothing at present: it lost the state root that is asked for. Only of a peer that has
    served can that be said; another one may never have had anything."""
    SERVES = 4


@dataclass(frozen=True, slots=True)
class Standing:
    """Counts of a peer's requests for state: with something in the answer, with nothing of use, without an answer.

    Answers that were cut short count as none of these: what was asked for is there, and comes when it is asked again.
    """

    served: int = 0
    refused: int = 0
    silent: int = 0
    last: Outcome | None = None
    score: float = 0.0

    def since(self, before: Standing) -> Standing:
        """What has happened since `before`; merits are kept, so a peer that once served is never called useless."""
        return Standing(self.served, self.refused - before.refused, self.silent - before.silent, self.last, self.score)

    @property
    def asked(self) -> int:
        """Requests that have ended in one of these ways."""
        return self.served + self.refused + self.silent

    @property
    def worth(self) -> Worth:
        """What the counts say."""
        if self.served:
            return Worth.STALE if self.last is Outcome.EMPTY else Worth.SERVES
        refusals = self.refused + self.silent // SILENCES
        if refusals >= MANY:
            return Worth.USELESS
        return Worth.DOUBTFUL if refusals else Worth.UNTRIED


def standing(record: Record, now: float) -> Standing:
    """The standing of the peer with this record."""
    return Standing(
        served=_count(record, (Outcome.SERVED,)),
        refused=_count(record, (Outcome.EMPTY, Outcome.MALFORMED)),
        silent=_count(record, (Outcome.TIMEOUT,)),
        last=record.last,
        score=record.score(now),
    )


def _count(record: Record, outcomes: Iterable[Outcome]) -> int:
    return sum(record.outcomes[kind, outcome] for kind in SNAP_KINDS for outcome in outcomes)
