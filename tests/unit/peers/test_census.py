"""Counting nodes by who named them and by what became of them."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest

from ethsync.discovery.candidate import Reason, Source
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.node import Endpoint, Node
from ethsync.peers.census import SourceCount, sources_of, take_census
from ethsync.peers.peer import Peer
from ethsync.peers.pool import PeerPool
from ethsync.peers.track import Outcome, RequestKind
from ethsync.wire import keys
from tests.unit.peers.stubs import VIEW, stub_peer


def key(number: int) -> bytes:
    return number.to_bytes(64, "big")


def offer(candidates: Candidates, number: int, source: Source) -> None:
    endpoint = Endpoint(IPv4Address(f"20.{number}.0.1"), 30303)
    candidates.offer(Node(keys.node_id(key(number)), key(number), endpoint, 30303), source, 0.0)


def connected(pool: PeerPool, number: int, *outcomes: Outcome, inbound: bool = False) -> Peer:
    """A peer with requests that ended like this."""
    peer, _ = stub_peer(number, key(number))
    peer.inbound = inbound
    pool.peers[number] = peer
    if pool.dialable is not None:
        pool.dialable.connected(key(number), "stub/1", 0.0)
    for outcome in outcomes:
        peer.record.note(RequestKind.ACCOUNTS, outcome, 0.0)
    return peer


@pytest.fixture
def pool() -> PeerPool:
    """Ten nodes: 1 to 6 by discv5, 5 to 9 by DNS, 10 by the user; an eleventh of another chain."""
    found = PeerPool(lambda: None, VIEW)
    refused = key(11)
    candidates = Candidates(random.Random(1), refuses=lambda node: "no" if node.public_key == refused else None)
    for number in range(1, 7):
        offer(candidates, number, Source.DISCV5)
    for number in range(5, 10):
        offer(candidates, number, Source.DNS)
    offer(candidates, 10, Source.STATIC)
    offer(candidates, 11, Source.DISCV4)
    found.dialable = candidates
    return found


def test_nodes_are_counted_for_each_source_and_once_in_all(pool: PeerPool) -> None:
    assert pool.dialable is not None
    for number in (1, 2, 5, 10):
        pool.dialable.dialled(key(number), 0.0)
    pool.dialable.failed(key(1), Reason.UNREACHABLE, 1.0)
    # Given one peer that serves, found twice, one that was named and gives nothing, and one that dialled us
    connected(pool, 5, Outcome.SERVED)
    connected(pool, 10, Outcome.EMPTY)
    connected(pool, 12, inbound=True)
    census = take_census(pool, 2.0)
    assert census.by_source == {
        Source.STATIC: SourceCount(found=1, dialled=1, connected=1, serving=0),
        Source.DNS: SourceCount(found=5, dialled=1, connected=1, serving=1),
        Source.DISCV5: SourceCount(found=6, dialled=3, connected=1, serving=1),
        Source.INBOUND: SourceCount(found=1, dialled=0, connected=1, serving=0),
    }
    assert census.total == SourceCount(found=11, dialled=4, connected=3, serving=1)
    assert census.by_reason == {Reason.UNREACHABLE: 1}
    assert census.passed_over == 1
    assert census.searching


def test_a_peer_that_lost_the_state_does_not_serve_any_more(pool: PeerPool) -> None:
    connected(pool, 1, Outcome.SERVED, Outcome.EMPTY)
    assert take_census(pool, 0.0).total.serving == 0


def test_a_peer_knows_all_who_named_it(pool: PeerPool) -> None:
    assert sources_of(pool, connected(pool, 5)) == {Source.DNS, Source.DISCV5}
    assert sources_of(pool, connected(pool, 12, inbound=True)) == {Source.INBOUND}


def test_with_named_peers_only_nobody_searches() -> None:
    pool = PeerPool(lambda: None, VIEW)
    connected(pool, 1, Outcome.SERVED)
    census = take_census(pool, 0.0)
    assert census.by_source == {Source.STATIC: SourceCount(1, 1, 1, 1)}
    assert census.total == SourceCount(1, 1, 1, 1)
    assert not census.searching
