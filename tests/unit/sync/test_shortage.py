"""Why a sync ends without a state, in a sentence."""

from __future__ import annotations

import pytest

from ethsync.errors import Disproved, PeerError
from ethsync.peers.peer import Peer
from ethsync.peers.pool import MOST_MALFORMED, PeerPool
from ethsync.peers.track import Outcome, RequestKind
from ethsync.sync.shortage import HEADER, shortage
from tests.unit.peers.stubs import VIEW, stub_peer

ACCOUNTS, CODES, HEADERS = RequestKind.ACCOUNTS, RequestKind.CODES, RequestKind.HEADERS
STUB = "stub/1 at 127.0.0.1:30303"
AGAIN = "run the same command again when a peer serves it"


@pytest.fixture
def pool() -> PeerPool:
    return PeerPool(lambda: None, VIEW)


def connected(pool: PeerPool, number: int, *outcomes: Outcome, kind: RequestKind = ACCOUNTS) -> Peer:
    """A connected peer whose requests ended like this."""
    peer, _ = stub_peer(number, bytes([number]) * 64)
    pool.peers[number] = peer
    for outcome in outcomes:
        pool.note(peer, kind, outcome)
    return peer


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ([], "has only just connected"),
        ([Outcome.EMPTY], "said that it has nothing"),
        ([Outcome.EMPTY] * 5, "said that it has nothing, 5 times"),
        ([Outcome.SERVED, *[Outcome.EMPTY] * 2], "gave something before, and then said that it has nothing, 2 times"),
        ([Outcome.TIMEOUT, Outcome.TIMEOUT, Outcome.EMPTY], "did not answer in time, 2 times"),
        ([Outcome.MALFORMED], "sent an undecodable answer"),
        ([Outcome.DISCONNECTED] * 3, "hung up on a request, 3 times"),
    ],
)
async def test_one_connected_peer_is_named_with_what_it_did(pool: PeerPool, outcomes: list[Outcome], said: str) -> None:
    connected(pool, 1, *outcomes)
    found = shortage(pool, 0.0)
    assert (found.why, found.advice) == (f"{STUB} {said}", AGAIN)


async def test_many_connected_peers_are_counted(pool: PeerPool) -> None:
    for number in (1, 2, 3):
        connected(pool, number, Outcome.EMPTY)
    connected(pool, 4, Outcome.TIMEOUT)
    assert shortage(pool, 0.0).why == (f"3 connected peers said that they have nothing; {STUB} did not answer in time")


async def test_requests_of_other_kinds_do_not_count(pool: PeerPool) -> None:
    connected(pool, 1, Outcome.EMPTY, kind=HEADERS)
    assert shortage(pool, 0.0).why.endswith("has only just connected")
    assert shortage(pool, 0.0, HEADER).why.endswith("said that it has nothing")


async def test_a_peer_that_was_dropped_and_is_back_is_told_of_as_dropped(pool: PeerPool) -> None:
    """Given undecodable codes, a hang-up, a new connection and the same again, then all of it is said."""
    for number in (1, 2):
        peer, _ = stub_peer(number)
        peer.record.tracks[CODES].malformed_in_a_row = MOST_MALFORMED - 1
        pool.note(peer, CODES, Outcome.MALFORMED, "more codes than were asked for")
    pool.peers[3] = stub_peer(3)[0]
    found = shortage(pool, 0.0)
    assert found.why == (
        f"{STUB} was dropped 2 times: 3 undecodable answers in a row, the last to a request for codes: more codes than"
        " were asked for"
    )
    assert found.advice == "run the same command again with another --peer"


async def test_of_many_dropped_peers_one_stands_for_the_rest(pool: PeerPool) -> None:
    for number in range(1, 5):
        pool.drop(stub_peer(number, bytes([number % 3]) * 64)[0], Disproved("it lied"))
    assert shortage(pool, 0.0).why == f"{STUB} was dropped 2 times: it lied (and 2 more were dropped)"


async def test_dropped_peers_beside_connected_ones_are_not_forgotten(pool: PeerPool) -> None:
    connected(pool, 1, Outcome.EMPTY)
    pool.drop(stub_peer(2, b"\2" * 64)[0], PeerError("it talks nonsense"))
    found = shortage(pool, 0.0)
    assert found.why == f"{STUB} said that it has nothing; {STUB} was dropped: it talks nonsense"
    assert found.advice == AGAIN


def test_nodes_that_were_never_reached(pool: PeerPool) -> None:
    assert shortage(pool, 0.0).why == "no node has answered yet"
    pool.failures = {bytes([number]) * 64: f"cannot reach node {number}" for number in range(1, 6)}
    found = shortage(pool, 0.0)
    assert found.why == "cannot reach node 1; cannot reach node 2; cannot reach node 3"
    assert found.advice == "check --peer and the network, then run the same command again"


def test_where_peers_are_looked_for_the_search_says_why_none_comes(pool: PeerPool) -> None:
    pool.failures = {b"\1" * 64: "cannot reach it"}
    pool.explain = lambda now: f"12 nodes tried by {now:.0f} s, none reachable"
    assert shortage(pool, 60.0).why == "12 nodes tried by 60 s, none reachable"
