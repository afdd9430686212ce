"""How many nodes were found, dialled, connected and serve, by who named them; and why the others do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethsync.discovery.candidate import Source
from ethsync.peers.standing import Worth, standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ethsync.discovery.candidate import Candidate, Reason
    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import PeerPool


@dataclass(frozen=True, slots=True)
class SourceCount:
    """Nodes of one source. `dialled` were so at least once, in this run or an earlier one."""

    found: int = 0
    dialled: int = 0
    connected: int = 0
    serving: int = 0
    """Connected peers that have given parts of the state and still do."""


@dataclass(frozen=True, slots=True)
class Census:
    """The nodes of one moment. One that several sources named counts for each of them, and once in `total`."""

    by_source: Mapping[Source, SourceCount]
    total: SourceCount
    by_reason: Mapping[Reason, int]
    """Nodes by why their last dial or connection came to nothing."""
    passed_over: int
    """Nodes that were found and are not worth a dial: their record says that they are on another chain or fork."""

    @property
    def searching(self) -> bool:
        """Whether nodes are looked for, or come by themselves."""
        return bool(self.by_source.keys() - {Source.STATIC, Source.TRUSTED})


def take_census(pool: PeerPool, now: float) -> Census:
    """Count the nodes that a pool knows of. `now` is in seconds of trio's clock."""
    found: Counter[Source] = Counter()
    dialled: Counter[Source] = Counter()
    by_reason: Mapping[Reason, int] = {}
    known = tried = passed_over = 0
    if pool.dialable is not None:
        counts = pool.dialable.statistics()
        found.update(counts.by_source)
        dialled.update(counts.tried_by_source)
        by_reason = counts.by_reason
        known, tried, passed_over = counts.known, counts.tried, counts.passed_over
    peers = list(pool.peers.values())
    strangers = [peer for peer in peers if _candidate(pool, peer) is None]
    found.update(_by_source(pool, strangers))
    called = [peer for peer in strangers if not peer.inbound]
    dialled.update(_by_source(pool, called))
    serving = [peer for peer in peers if standing(peer.record, now).worth is Worth.SERVES]
    connected, given = _by_source(pool, peers), _by_source(pool, serving)
    return Census(
        {each: SourceCount(found[each], dialled[each], connected[each], given[each]) for each in Source if found[each]},
        SourceCount(known + len(strangers), tried + len(called), len(peers), len(serving)),
        by_reason,
        passed_over,
    )


def sources_of(pool: PeerPool, peer: Peer) -> frozenset[Source]:
    """Who named a peer; never empty."""
    candidate = _candidate(pool, peer)
    if candidate is not None:
        return candidate.sources
    return frozenset({Source.INBOUND if peer.inbound else Source.STATIC})


def _candidate(pool: PeerPool, peer: Peer) -> Candidate | None:
    return None if pool.dialable is None else pool.dialable.get(peer.enode.public_key)


def _by_source(pool: PeerPool, peers: Iterable[Peer]) -> Counter[Source]:
    return Counter(source for peer in peers for source in sources_of(pool, peer))
