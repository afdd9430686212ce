"""The search for peers in words and numbers: who was found and dialled, who serves, and what became of the others."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ethsync.ui import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethsync.discovery.candidate import Source
    from ethsync.peers.census import Census

REASONS_SHOWN = 3
"""Reasons on one line of a terminal; the report has all."""


def peers_text(connected: int, census: Census | None) -> str:
    """Return `4 connected, 3 serving (2 discv5, 1 static)`; sources only where peers are looked for."""
    if not connected or census is None:
        return numbers.count(connected) + (" connected" if connected else "")
    text = f"{numbers.count(connected)} connected, {numbers.count(census.total.serving)} serving"
    by_source = {source: count.serving for source, count in census.by_source.items()}
    return f"{text} ({_counts(by_source)})" if census.searching and any(by_source.values()) else text


def found_text(census: Census) -> str:
    """Return `812 nodes (700 discv5, 310 dns), 90 more of other chains or forks`; a node may have several sources."""
    by_source = _counts({source: count.found for source, count in census.by_source.items()})
    passed = f", {numbers.count(census.passed_over)} more of other chains or forks" if census.passed_over else ""
    return numbers.several(census.total.found, "node", "nodes") + (f" ({by_source})" if by_source else "") + passed


def dialled_text(census: Census) -> str:
    """Return `52: 30 could not be reached, 12 had no room for another peer`, the most frequent reasons first."""
    worst = sorted(census.by_reason.items(), key=lambda item: -item[1])
    reasons = [f"{numbers.count(count)} {reason.value}" for reason, count in worst[:REASONS_SHOWN]]
    rest = sum(count for _, count in worst[REASONS_SHOWN:])
    if rest:
        reasons.append(f"{numbers.count(rest)} for other reasons")
    return numbers.count(census.total.dialled) + (f": {', '.join(reasons)}" if reasons else "")


def census_fields(census: Census) -> dict[str, Any]:
    """Return the same as values, by name: nodes by source, in all, and by why they are not peers."""
    return {
        "by_source": {source.name.lower(): asdict(count) for source, count in census.by_source.items()},
        "total": asdict(census.total),
        "by_reason": {reason.name.lower(): count for reason, count in census.by_reason.items()},
        "passed_over": census.passed_over,
    }


def _counts(by_source: Mapping[Source, int]) -> str:
    return ", ".join(f"{numbers.count(count)} {source.name.lower()}" for source, count in by_source.items() if count)
