"""The better candidates, kept between runs, so that the next one has somebody to dial before discovery finds anybody.

`facts` and `restore` work on the candidates and take no time; `save` and `load` are file I/O and belong into a thread.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ethsync import jsonfile
from ethsync.discovery.candidate import NEVER, Candidate, Quality, Reason, Source
from ethsync.wire.enode import Enode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ethsync.discovery.candidates import Candidates

VERSION = 1
"""Of the file's form; one of another version is set aside."""

MOST = 4096
"""Nodes kept, the best first: 1 MB, and ten minutes of dialling."""

WORTH_KEEPING = (Quality.BEST, Quality.GOOD, Quality.LIVE, Quality.NEW)
"""Nodes that the user named come from the user again, and dead ones are best forgotten."""

LONGEST_CLIENT = 256
"""Characters of a client's name that are kept; real ones have up to 100."""

OLDEST = 30 * 86400.0
"""Seconds after which a node is forgotten that was neither dialled nor found again."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What is kept of one candidate. Times in Unix seconds, None for never; `public_key` in hex."""

    public_key: str
    host: str
    tcp_port: int
    udp_port: int
    client: str
    last_dial: float | None
    last_success: float | None
    due: float
    failures: int
    reason: str | None
    served_bytes: int
    score: float


def facts(candidates: Iterable[Candidate], now: float, wall: float) -> list[Fact]:
    """The candidates worth keeping, the best first. `now` is of their clock, `wall` the same moment in Unix seconds."""
    worth = [each for each in candidates if each.quality in WORTH_KEEPING]
    worth.sort(key=lambda each: (each.quality, -each.served_bytes, -each.last_success))
    return [_fact(each, wall - now) for each in worth[:MOST]]


def save(kept: list[Fact], path: Path) -> bool:
    """Write them. Returns whether that worked; it is never an error."""
    return jsonfile.write_json(path, {"version": VERSION, "nodes": [asdict(fact) for fact in kept]})


def load(path: Path) -> list[Fact]:
    """Read them; none if there is no such file. A damaged one is set aside with a warning."""
    document = jsonfile.read_json(path, VERSION)
    if document is None:
        return []
    try:
        return [_checked(row) for row in document["nodes"][:MOST]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        jsonfile.set_aside(path, f"it is damaged: {type(error).__name__}: {error}")
        return []


def restore(candidates: Candidates, kept: Iterable[Fact], now: float, wall: float) -> int:
    """Offer what was kept. Returns how many became candidates."""
    count = 0
    for fact in kept:
        if wall - max(fact.last_success or 0.0, fact.last_dial or 0.0, fact.due) > OLDEST:
            continue
        key = bytes.fromhex(fact.public_key)
        if candidates.offer(Enode(key, fact.host, fact.tcp_port, fact.udp_port), Source.STORED, now):
            candidates.remember(_candidate(fact, key, now - wall), now)
            count += 1
    return count


def _fact(candidate: Candidate, offset: float) -> Fact:
    def wall(time: float) -> float | None:
        return None if time == NEVER else round(time + offset, 3)

    return Fact(
        public_key=candidate.public_key.hex(),
        host=candidate.host,
        tcp_port=candidate.tcp_port,
        udp_port=candidate.udp_port,
        client=candidate.client[:LONGEST_CLIENT],
        last_dial=wall(candidate.last_dial),
        last_success=wall(candidate.last_success),
        due=wall(candidate.due) or 0.0,
        failures=candidate.failures,
        reason=None if candidate.reason is None else candidate.reason.name,
        served_bytes=candidate.served_bytes,
        score=candidate.score,
    )


def _candidate(fact: Fact, key: bytes, offset: float) -> Candidate:
    def ours(time: float | None) -> float:
        return NEVER if time is None else time + offset

    return Candidate(
        key,
        fact.host,
        ip_address(fact.host),
        fact.tcp_port,
        fact.udp_port,
        frozenset({Source.STORED}),
        client=fact.client,
        last_dial=ours(fact.last_dial),
        last_success=ours(fact.last_success),
        due=fact.due + offset,
        failures=fact.failures,
        reason=None if fact.reason is None else Reason[fact.reason],
        served_bytes=fact.served_bytes,
        score=fact.score,
    )


_NUMBERS = {"tcp_port": 65535, "udp_port": 65535, "failures": 1 << 20, "served_bytes": 1 << 62}
_TIMES = ("last_dial", "last_success", "due", "score")
_TEXTS = {"public_key": 128, "host": 45, "client": LONGEST_CLIENT}


def _checked(row: dict[str, Any]) -> Fact:
    """Make a fact of a row. Raises KeyError, TypeError, ValueError or OverflowError if it is none."""
    fact = Fact(**{each.name: row[each.name] for each in fields(Fact)})
    for name, most in _TEXTS.items():
        value = getattr(fact, name)
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"{name} is {value!r:.80}")
    for name, most in _NUMBERS.items():
        value = getattr(fact, name)
        if type(value) is not int or not 0 <= value <= most:
            raise ValueError(f"{name} is {value!r:.80}")
    for name in _TIMES:
        value = getattr(fact, name)
        optional = name.startswith("last")
        if not (optional and value is None) and (isinstance(value, bool) or not math.isfinite(value)):
            raise ValueError(f"{name} is {value!r:.80}")
    if len(bytes.fromhex(fact.public_key)) != 64 or not fact.tcp_port:
        raise ValueError("a node without a key or a port")
    if fact.reason is not None and fact.reason not in Reason.__members__:
        raise ValueError(f"reason is {fact.reason!r:.80}")
    ip_address(fact.host)
    return fact
