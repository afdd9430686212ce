"""What became of the candidates, in numbers; and in one sentence for when no peer comes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.discovery.candidate import NEVER, Reason, Source, State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ethsync.discovery.candidate import Candidate

TELLING = 8
"""Nodes tried from which their failures say something of us, and not only of them. Of the nodes that discovery finds,
one in two to five can be reached."""

SHOWN = 3
"""Reasons in a sentence: what a person reads."""

FINDERS = frozenset({Source.DNS, Source.DISCV5, Source.DISCV4})
"""Sources that show that discovery works."""

UDP_BLOCKED = "no node found yet by discovery: is UDP blocked?"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of candidates. A candidate counts for each source that named it, and for its last failure."""

    known: int
    ready: int
    dialling: int
    connected: int
    tried: int
    by_source: Mapping[Source, int]
    by_reason: Mapping[Reason, int]
    passed_over: int
    """Nodes that were refused: they are not candidates."""
    tried_by_source: Mapping[Source, int]


class Tally:
    """Counts kept up to date, so that asking costs nothing. `put` and `remove` frame every change of a candidate."""

    def __init__(self) -> None:
        self.known = 0
        self.tried = 0
        self.found = 0
        self.states: Counter[State] = Counter()
        self.by_source: Counter[Source] = Counter()
        self.tried_by_source: Counter[Source] = Counter()
        self.by_reason: Counter[Reason] = Counter()

    def put(self, candidate: Candidate) -> None:
        """Count it as it is."""
        self._count(candidate, 1)

    def remove(self, candidate: Candidate) -> None:
        """Do not count it any more. It must not have changed since `put`."""
        self._count(candidate, -1)

    def _count(self, candidate: Candidate, one: int) -> None:
        self.known += one
        self.states[candidate.state] += one
        self.by_source.update(dict.fromkeys(candidate.sources, one))
        self.found += one * (not FINDERS.isdisjoint(candidate.sources))
        if candidate.last_dial > NEVER:
            self.tried += one
            self.tried_by_source.update(dict.fromkeys(candidate.sources, one))
        if candidate.reason is not None:
            self.by_reason[candidate.reason] += one

    def statistics(self, ready: int, passed_over: int) -> Statistics:
        """A copy that stays as it is."""
        return Statistics(
            self.known,
            ready,
            self.states[State.DIALLING],
            self.states[State.CONNECTED],
            self.tried,
            {source: self.by_source[source] for source in Source if self.by_source[source]},
            {reason: self.by_reason[reason] for reason in Reason if self.by_reason[reason]},
            passed_over,
            {source: self.tried_by_source[source] for source in Source if self.tried_by_source[source]},
        )


def explain(tally: Tally, passed_over: Sequence[str], *, discovering: bool = True) -> str | None:
    """Why no peer comes, in one sentence; None if one has come, or it is too early to say.

    `passed_over` has a sentence for each node that may not be dialled, like those of `forks.check_fork_entry`.
    """
    if tally.states[State.CONNECTED]:
        return None
    nothing_found = discovering and not tally.found and not passed_over
    failed = Counter({reason.value: count for reason, count in tally.by_reason.items() if count})
    if failed:
        tried = _of_failures(failed)
        untried = f"{len(passed_over)} more were not tried: {_sentences(passed_over)}" if passed_over else ""
        more = UDP_BLOCKED if nothing_found else untried
        return f"{tried}{' ' if tried.endswith('?') else '; '}{more}" if more else tried
    if passed_over and not tally.found:
        return f"discovery finds nodes, but none of the {len(passed_over)} can be of use: {_sentences(passed_over)}"
    return UDP_BLOCKED if nothing_found and not tally.states[State.DIALLING] else None


def _sentences(whys: Sequence[str]) -> str:
    """How often each was said, with the most common wording: they vary in parentheses and after a colon."""
    kinds: Counter[str] = Counter()
    wording: dict[str, str] = {}
    for why, count in Counter(whys).most_common():
        kind = why.partition(" (")[0].partition(":")[0]
        kinds[kind] += count
        wording.setdefault(kind, why)
    return "; ".join(f"{wording[kind]} ({count} times)" for kind, count in kinds.most_common(SHOWN))


def _of_failures(failed: Counter[str]) -> str:
    count = failed.total()
    tried = f"{count} node{'s' if count > 1 else ''} tried"
    if set(failed) != {Reason.UNREACHABLE.value}:
        return f"{tried}: {_list(failed)}"
    return f"{tried}, none reachable" + (": is outbound TCP blocked?" if count >= TELLING else " so far")


def _list(counts: Counter[str]) -> str:
    shown = [f"{count} {what}" for what, count in counts.most_common(SHOWN)]
    rest = counts.total() - sum(count for _, count in counts.most_common(SHOWN))
    if rest:
        shown.append(f"{rest} for other reasons")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
