"""Rates over a sliding window, and the time left as a range. Pure: samples with their times go in.

The time left rests on the share of the key space that is stored, never on counts of nodes: account hashes are even, so
contracts and codes that lie ahead are as dense as those behind. It is a range between a hopeful and a cautious rate, or
nothing at all; it is about the present phase only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ethsync.sync.progress import Phase, Progress

RECENT_SECONDS = 10.0
"""Rates shown are means over this time: shorter ones jump about, longer ones hide a stall."""

WINDOW_SECONDS = 120.0
"""The longest memory of the time left."""

SAMPLE_SECONDS = 1.0
"""Figures change once a second at most, which keeps them readable and the window small."""

LEAST_SECONDS = 3.0
"""Less than this says nothing about the time left."""

HOPE = 0.9
CAUTION = 1.25
"""Factors on the time at the fastest and at the slowest rate seen. Chosen, not measured: slowing down is more usual
than speeding up, and even a steady rate is no promise."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the counters said at one time (seconds of trio's clock). Items exclude what earlier runs had stored."""

    at: float
    phase: Phase
    key_space: float
    accounts: int
    contracts: int
    contracts_owed: int
    slots: int
    codes: int
    codes_owed: int
    codes_in_all: int
    healed: float
    nodes: int
    headers: int
    headers_owed: int
    verified: float
    leaves_verified: int
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class Span:
    """A range of seconds, 0 <= low < high."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Rates per second and the time that the present phase still takes; None if unknown or of another phase."""

    accounts: float | None = None
    slots: float | None = None
    codes: float | None = None
    nodes: float | None = None
    headers: float | None = None
    leaves_verified: float | None = None
    wire_bytes: float | None = None
    left: Span | None = None


def take_sample(progress: Progress, now: float) -> Sample:
    """Return the counters that estimates need as they are at `now`."""
    return Sample(
        at=now,
        phase=progress.phase,
        key_space=progress.key_space,
        accounts=progress.accounts.items - progress.accounts.kept_items,
        contracts=progress.contracts,
        contracts_owed=progress.storage.owed,
        slots=progress.storage.items - progress.storage.kept_items,
        codes=progress.codes.items - progress.codes.kept_items,
        codes_owed=progress.codes.owed,
        codes_in_all=progress.codes.items,
        healed=progress.healed,
        nodes=progress.healing.items,
        headers=progress.headers.items,
        headers_owed=progress.headers.owed,
        verified=progress.verified,
        leaves_verified=progress.verification.items,
        wire_bytes=progress.wire_bytes,
    )


class Window:
    """The samples of the last two minutes of the present phase."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def add(self, sample: Sample) -> None:
        """Remember a sample, unless the one before is less than a second old. A new phase forgets those of the old."""
        samples = self._samples
        if samples and samples[-1].phase is not sample.phase:
            samples.clear()
        if samples and sample.at - samples[-1].at < SAMPLE_SECONDS:
            return
        samples.append(sample)
        while sample.at - samples[0].at > WINDOW_SECONDS:
            samples.popleft()

    def estimate(self) -> Estimate:
        """Return the rates of the last ten seconds and the range of the time left."""
        if len(self._samples) < 2:
            return Estimate()
        last = self._samples[-1]
        recent = next(sample for sample in self._samples if last.at - sample.at <= RECENT_SECONDS)
        if recent is last:
            recent = self._samples[-2]
        oldest = self._samples[0]
        left = _time_left(oldest, recent, last) if last.at - oldest.at >= LEAST_SECONDS else None
        if last.phase is Phase.VERIFYING:
            return Estimate(leaves_verified=_rate(recent, last, "leaves_verified"), left=left)
        wire_bytes, headers = _rate(recent, last, "wire_bytes"), _rate(recent, last, "headers")
        if last.phase is Phase.HEALING:
            return Estimate(nodes=_rate(recent, last, "nodes"), headers=headers, wire_bytes=wire_bytes, left=left)
        if last.phase is not Phase.DOWNLOADING:
            return Estimate()
        return Estimate(
            accounts=_rate(recent, last, "accounts"),
            slots=_rate(recent, last, "slots"),
            codes=_rate(recent, last, "codes"),
            headers=headers,
            wire_bytes=wire_bytes,
            left=left,
        )


def _rate(first: Sample, last: Sample, counter: str) -> float:
    """Return how fast a counter grew, per second; 0 if it shrank (work that had to be done again)."""
    grown: float = getattr(last, counter) - getattr(first, counter)
    return max(0.0, grown / (last.at - first.at))


def _time_left(oldest: Sample, recent: Sample, last: Sample) -> Span | None:
    """Return how long the present phase still takes: as long as the slowest of what runs side by side in it."""
    if last.phase is Phase.DOWNLOADING and last.key_space > 0:
        work = [("key_space", 1 - last.key_space, 1 - last.key_space)]
        # A stage that owes nothing keeps up with the accounts and adds no time of its own.
        if last.contracts_owed:
            known = last.contracts + last.contracts_owed
            work.append(("contracts", last.contracts_owed, known / last.key_space - last.contracts))
        if last.codes_owed:
            known = last.codes_in_all + last.codes_owed
            work.append(("codes", last.codes_owed, known / last.key_space - last.codes_in_all))
    elif last.phase is Phase.HEALING:
        work = [("healed", 1 - last.healed, 1 - last.healed)]
    elif last.phase is Phase.VERIFYING:
        work = [("verified", 1 - last.verified, 1 - last.verified)]
    else:
        return None
    if last.headers_owed and last.phase is not Phase.VERIFYING:
        work.append(("headers", last.headers_owed, last.headers_owed))
    low = high = 0.0
    for counter, least, most in work:
        if most <= 0:
            continue
        rates = (_rate(recent, last, counter), _rate(oldest, last, counter))
        if min(rates) == 0:
            return None
        low = max(low, least / max(rates) * HOPE)
        high = max(high, most / min(rates) * CAUTION)
    return Span(low, high) if high > low else None
