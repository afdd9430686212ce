"""Why nobody gives what a sync needs: what became of every peer, in one sentence, and what a person can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ethsync.peers.track import Outcome, RequestKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.peers.drops import Drop
    from ethsync.peers.peer import Peer
    from ethsync.peers.pool import PeerPool
    from ethsync.peers.track import Record

STATE = (RequestKind.ACCOUNTS, RequestKind.STORAGE, RequestKind.CODES, RequestKind.NODES)
HEADER = (RequestKind.HEADERS,)

REASONS_SHOWN = 3
"""Reasons why nodes are not connected, in a sentence: what a person reads."""


class Fared(Enum):
    """How a connected peer fared: in words for one, and for several."""

    LOST = ("gave something before, and then said that it has nothing", "gave something before, and nothing any more")
    EMPTY = ("said that it has nothing", "said that they have nothing")
    SILENT = ("did not answer in time", "did not answer in time")
    CUT_SHORT = ("left something out of its last answer", "left something out of their last answers")
    GARBLED = ("sent an undecodable answer", "sent undecodable answers")
    BROKE_OFF = ("hung up on a request", "hung up on requests")
    UNASKED = ("has only just connected", "have only just connected")


_FAILURES = {
    Outcome.EMPTY: Fared.EMPTY,
    Outcome.TIMEOUT: Fared.SILENT,
    Outcome.CUT_SHORT: Fared.CUT_SHORT,
    Outcome.MALFORMED: Fared.GARBLED,
    Outcome.DISCONNECTED: Fared.BROKE_OFF,
}


@dataclass(frozen=True, slots=True)
class Shortage:
    """`why`: what became of the peers. `advice`: what to do, an imperative without a full stop."""

    why: str
    advice: str


def shortage(pool: PeerPool, now: float, kinds: Sequence[RequestKind] = STATE) -> Shortage:
    """Say why no peer answers requests of these kinds any more. `now` is in seconds of trio's clock."""
    fared = _fared(pool, kinds)
    dropped = pool.dropped.all()
    parts = [_connected(how, peers, kinds) for how, peers in fared.items()]
    if dropped:
        parts.append(_dropped(dropped))
    if not fared:
        parts += _not_connected(pool, now)
    return Shortage("; ".join(parts) or "no node has answered yet", _advice(bool(fared), bool(dropped)))


def share_from(share: float, first: bytes) -> str:
    """A share of the key space, 0 to 1, and the lowest key of it, in words."""
    return f"{100 * share:.3g} % of the key space, from 0x{first.hex().rstrip('0') or '0'} on"


def count_of(number: int, thing: str) -> str:
    """So many things, in words; empty if there are none."""
    return f"{number} {thing}{'' if number == 1 else 's'}" if number else ""


def _fared(pool: PeerPool, kinds: Sequence[RequestKind]) -> dict[Fared, list[Peer]]:
    """Connected peers by how they fared, most first. One that was dropped before and is back tells nothing new."""
    found: dict[Fared, list[Peer]] = {}
    for peer in pool.peers.values():
        if peer.enode.public_key not in pool.dropped:
            found.setdefault(_judge(peer.record, kinds), []).append(peer)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _judge(record: Record, kinds: Sequence[RequestKind]) -> Fared:
    worst = _worst(record, kinds)
    if not _count(record, kinds, worst):
        return Fared.UNASKED
    served = _count(record, kinds, Outcome.SERVED)
    return Fared.LOST if served and worst is Outcome.EMPTY else _FAILURES[worst]


def _worst(record: Record, kinds: Sequence[RequestKind]) -> Outcome:
    return max(_FAILURES, key=lambda outcome: _count(record, kinds, outcome))


def _count(record: Record, kinds: Sequence[RequestKind], outcome: Outcome) -> int:
    return sum(record.outcomes[kind, outcome] for kind in kinds)


def _connected(how: Fared, peers: list[Peer], kinds: Sequence[RequestKind]) -> str:
    alone, together = how.value
    if len(peers) > 1:
        return f"{len(peers)} connected peers {together}"
    times = _count(peers[0].record, kinds, _worst(peers[0].record, kinds))
    return f"{peers[0]} {alone}{f', {times} times' if times > 1 else ''}"


def _dropped(dropped: list[Drop]) -> str:
    """The one dropped most often stands for the rest."""
    worst = max(dropped, key=lambda drop: drop.times)
    others = len(dropped) - 1
    return f"{worst}{f' (and {others} more were dropped)' if others else ''}"


def _not_connected(pool: PeerPool, now: float) -> list[str]:
    explained = pool.explain(now) if pool.explain is not None else None
    if explained:
        return [explained]
    failures = {why for key, why in pool.failures.items() if key not in pool.dropped}
    return sorted(failures)[:REASONS_SHOWN]


def _advice(connected: bool, dropped: bool) -> str:
    if connected:
        return "run the same command again when a peer serves it"
    if dropped:
        return "run the same command again with another --peer"
    return "check --peer and the network, then run the same command again"
