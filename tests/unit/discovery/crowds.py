"""Crowds of nodes for the tests of the dial pool: keys and addresses by number, none of them real."""

from __future__ import annotations

import hashlib
import random
from ipaddress import ip_address

from ethsync.discovery.candidate import Reason, Source
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.node import Endpoint, Node
from ethsync.wire import keys, rlp
from ethsync.wire.enr import NodeRecord


def key(number: int | str) -> bytes:
    """64 bytes that look like a public key."""
    return hashlib.sha512(str(number).encode()).digest()


def node(number: int | str, ip: str, *, tcp_port: int = 30303, seq: int | None = None, fork: bool = True) -> Node:
    """A node; with `seq` it has a record of that version (whose signature nobody looks at here)."""
    public_key = key(number)
    record = None
    if seq is not None:
        eth = ((b"eth", rlp.encode([[b"\1\2\3\4", b""]])),) if fork else ()
        record = NodeRecord(b"", seq, public_key, keys.node_id(public_key), eth)
    return Node(keys.node_id(public_key), public_key, Endpoint(ip_address(ip), 30303), tcp_port, record)


def scattered(count: int, *, name: str = "honest") -> list[Node]:
    """Nodes each of which has a /24 of its own; the first 16,000 are in 20.0.0.0/8 to 81.0.0.0/8."""
    return [node(f"{name} {n}", f"{20 + n // 256 // 4}.{n // 256 % 4 * 60 + 3}.{n % 256}.7") for n in range(count)]


def crowded(count: int, subnets: list[str], *, name: str = "attacker") -> list[Node]:
    """Nodes that share a few /24s, given as '66.6.1'."""
    return [node(f"{name} {n}", f"{subnets[n % len(subnets)]}.{n // len(subnets) % 250 + 1}") for n in range(count)]


def pool(*, seed: int = 1, **options: object) -> Candidates:
    """An empty pool."""
    return Candidates(random.Random(seed), **options)  # type: ignore[arg-type]


def offer_all(candidates: Candidates, nodes: list[Node], source: Source = Source.DISCV5, now: float = 0.0) -> int:
    """Offer them all; how many were taken."""
    return sum(candidates.offer(each, source, now) for each in nodes)


def dial_round(candidates: Candidates, now: float, reason: Reason = Reason.UNREACHABLE) -> list[bytes]:
    """Dial until nobody is left to dial now, let all of it fail, and return who was dialled."""
    dialled: list[bytes] = []
    while (candidate := candidates.next(now)) is not None:
        candidates.dialled(candidate.public_key, now)
        dialled.append(candidate.public_key)
    for each in dialled:
        candidates.failed(each, reason, now)
    return dialled


def fail(candidates: Candidates, number: int | str, reason: Reason, now: float) -> float:
    """Dial a node, fail, and return the pause that follows."""
    candidates.dialled(key(number), now)
    candidates.failed(key(number), reason, now)
    candidate = candidates.get(key(number))
    assert candidate is not None
    return candidate.due - now
