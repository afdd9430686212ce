"""How much of everything a discv5 node allows strangers and itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates are per second. A place is a node id at an endpoint (see `ethsync.discovery.discv5_sessions`)."""

    sessions: int = 1024
    """Sessions kept (go-ethereum p2p/discover/v5wire/encoding.go, NewCodec); about 1 kB each."""

    challenges: int = 1024
    """Open challenges kept: far more than are sent in the second for which one is good."""

    place_challenges: float = 1.0
    place_challenge_burst: float = 2.0
    """WHOAREYOUs to one place: one per second and one repetition, which devp2p's test suite asks for
    (go-ethereum cmd/devp2p/internal/v5test, TestHandshakeResend)."""

    network_challenges: float = 5.0
    network_challenge_burst: float = 20.0
    """WHOAREYOUs to one public /24 or /64, of those that strangers share: without forging addresses nobody can use
    them all up. Enough for the nodes of a large hoster that come at once."""

    stranger_challenges: float = 50.0
    stranger_challenge_burst: float = 30.0
    """WHOAREYOUs to strangers in all. Under a flood of forged packets whoever comes first gets them: an honest stranger
    is starved then, but nobody who has a session."""

    known_challenges: float = 10.0
    known_challenge_burst: float = 10.0
    """WHOAREYOUs reserved for places with which we have a session or a request: a peer that lost its session, or one
    whom we contact while it contacts us. Rates and bursts together are the 100 in any second that the world may get."""

    places: int = 10_000
    """Places and networks whose rates are known, the last ones that were challenged; some 3 MB each."""

    requests: float = 10.0
    request_burst: float = 30.0
    """Requests answered per node. A lookup asks one node three times at most (go-ethereum, lookupRequestLimit); each
    costs us up to five packets, half a millisecond."""

    renewals: float = 0.1
    renewal_burst: float = 2.0
    """Records fetched per node because it announced a newer one: announcing costs nothing, records hardly change."""

    all_renewals: float = 20.0
    """The same in all."""

    records: int = 4096
    """Records of other nodes kept for handshakes that come without one; some 4 MB."""

    calls: int = 1024
    """Requests in flight: a lookup has three, revalidation a few, a crawl some hundred."""

    calls_per_place: int = 8
    """Requests in flight to one place: what waits for a handshake would otherwise pile up."""

    queued: int = 4096
    """Packets, and events that nobody asked for, that wait to be taken by our owner, who does so after every call."""


DEFAULT_LIMITS = Limits()
