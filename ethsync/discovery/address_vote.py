"""Our address as others see it: a vote among the nodes that answer our pings.

Behind a router we cannot know the address at which the world reaches us; the nodes that we ping tell us. Some of them
lie, so several must agree that are not in one hand, and an address once found gives way only to a clear majority. The
shape (rounds, three voters, public before private) is that of ethrex's discovery/ip_predictor.rs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ethsync.discovery.addresses import is_loopback, is_public, is_usable, subnet
from ethsync.discovery.node import Endpoint

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ethsync.discovery.protocol import AddressSeen
    from ethsync.wire.enr import IPAddress

T = TypeVar("T")

FEWEST_VOTES = 3
"""Voters that must agree (ethrex). Our pings choose the voters, so a liar needs nodes in three networks among them."""

ROUND = 300.0
"""Seconds that a round lasts (ethrex). The first one ends as soon as an address has its votes."""

CLEAR_LEAD = 2
"""How many times as many votes as the present address a new one needs: two that share the voters do not take turns."""

MOST_VOTES = 256
"""Votes of a round that are kept; more of them would not change what 256 networks say."""

_SITE_SHIFT = 128 - 48
"""A customer has up to a /48 of IPv6 (RFC 6177), so that, and not the /64 of a household, counts as one voter here."""


@dataclass(slots=True)
class _Round:
    """Votes of one round. `voters` are the ids and the networks that have voted."""

    ends: float
    votes: list[Endpoint] = field(default_factory=list)
    voters: set[bytes | tuple[int, int]] = field(default_factory=set)


class AddressVote:
    """Counts votes, for IPv4 and IPv6 apart.

    `port` is the UDP port that we listen on: it stands where voters agree on the address and not on the port, as behind
    a router that maps every connection differently. For the IP versions in `announced` the user has said what the
    address is, and nobody is asked.
    """

    def __init__(self, port: int, announced: Collection[int] = ()) -> None:
        self._port = port
        self._announced = frozenset(announced)
        self._rounds: dict[int, _Round] = {}
        self._winners: dict[int, Endpoint] = {}

    def winner(self, version: int) -> Endpoint | None:
        """What others say our endpoint of this IP version (4 or 6) is; None as long as too few agree."""
        return self._winners.get(version)

    def count(self, seen: AddressSeen, now: float) -> Endpoint | None:
        """Count a vote at the time `now` (seconds); return our endpoint if that changes what it is."""
        endpoint = Endpoint.of(*seen.endpoint)
        source = Endpoint.of(*seen.source).ip
        version = endpoint.ip.version
        if version in self._announced or not _is_plausible(endpoint, source):
            return None
        before = self._winners.get(version)
        votes = self._rounds.get(version)
        if votes is not None and now >= votes.ends:
            self._decide(version, votes, ended=True)
        if votes is None or now >= votes.ends:
            votes = self._rounds[version] = _Round(now + ROUND)
        _add(votes, seen.reporter, source, endpoint)
        self._decide(version, votes, ended=False)
        after = self._winners.get(version)
        return after if after != before else None

    def _decide(self, version: int, votes: _Round, *, ended: bool) -> None:
        """Let votes take effect: during a round only to find a first address, or a public one after a private one."""
        present = self._winners.get(version)
        if present is not None and is_public(present.ip) and not ended:
            return
        counts = Counter(endpoint.ip for endpoint in votes.votes)
        public = _most({ip: count for ip, count in counts.items() if is_public(ip)})
        private = _most({ip: count for ip, count in counts.items() if not is_public(ip)})
        if present is None:
            chosen = public or private
        elif not is_public(present.ip):
            chosen = public or (private if ended else None)
        else:
            chosen = public or (None if counts[present.ip] else private)
        if chosen is None:
            return
        if present is not None and chosen != present.ip:
            better = is_public(chosen) and not is_public(present.ip)
            if not better and counts[chosen] < CLEAR_LEAD * counts[present.ip]:
                return
        self._winners[version] = Endpoint(chosen, self._port_at(chosen, votes, present))

    def _port_at(self, ip: IPAddress, votes: _Round, present: Endpoint | None) -> int:
        """The port that voters agree on; without agreement the one known before, or else the one we listen on."""
        known = present.port if present is not None and present.ip == ip else None
        counts = Counter(endpoint.port for endpoint in votes.votes if endpoint.ip == ip)
        port = _most(counts)
        if port is not None and (known is None or counts[port] >= CLEAR_LEAD * counts[known]):
            return port
        return self._port if known is None else known


def _is_plausible(endpoint: Endpoint, source: IPAddress) -> bool:
    """Whether a node at `source` can see us at `endpoint` at all."""
    ip = endpoint.ip
    if not endpoint.port or ip.version != source.version or not is_usable(ip):
        return False
    if is_loopback(ip):
        return is_loopback(source)
    return not (ip.is_link_local and is_public(source))


def _add(votes: _Round, reporter: bytes, source: IPAddress, endpoint: Endpoint) -> None:
    """Take a vote if neither its node nor its network has voted in this round.

    Nodes beside us are all in one network, so there each may vote, but only on our address in that network.
    """
    nearby = not is_public(source) and not is_public(endpoint.ip)
    site = reporter if nearby else _site(source)
    if len(votes.votes) >= MOST_VOTES or reporter in votes.voters or site in votes.voters:
        return
    votes.voters.update((reporter, site))
    votes.votes.append(endpoint)


def _site(ip: IPAddress) -> tuple[int, int]:
    return subnet(ip) if ip.version == 4 else (6, int(ip) >> _SITE_SHIFT)


def _most(counts: Mapping[T, int]) -> T | None:
    """What has the most votes, if it has enough of them and more than everything else."""
    ranked = sorted(counts.items(), key=lambda item: item[1], reverse=True)[:2]
    if not ranked or ranked[0][1] < FEWEST_VOTES or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]
