"""How much of everything a discv4 node allows strangers and itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ethsync.discovery.addresses import Subnet, is_loopback, subnet
from ethsync.discovery.bounded import RateLimiter, TokenBucket

if TYPE_CHECKING:
    from ethsync.discovery.node import Endpoint
    from ethsync.wire.enr import IPAddress

Origin: TypeAlias = "IPAddress | Subnet | Endpoint"


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates are per second. An origin is an IPv4 address, a /64 of IPv6 (see `Gate`), or a port of this machine."""

    packets: float = 50.0
    packet_burst: float = 200.0
    """Packets read per origin. Who looks something up sends under ten; a crawl of ours may ask one node twenty times a
    second, with two packets in each answer. Reading one takes about 0.1 ms: half a percent of a core."""

    requests: float = 1000.0
    """Pings and questions whose signature is checked, in all: at most a tenth of a core, however many addresses are
    forged. Those from where we wait for something are not counted."""

    pongs: float = 5.0
    pong_burst: float = 20.0
    """Pings answered per origin. An origin may be forged, so this is also what others can have us send to a victim:
    157 bytes for a ping of at least 113."""

    ping_backs: float = 0.2
    ping_back_burst: float = 5.0
    """Pings of our own to an origin because of its ping: one in five seconds, and some at once for nodes that share
    an address. With one, a ping has us send 291 bytes for 113; with UDP and IP headers that is 2.5 times as much, under
    the three times that RFC 9000, section 8.1, allows towards an address that is not validated, and never lasts."""

    all_ping_backs: float = 100.0
    """The same in all: each is a call that waits for half a second, and they must not take the room of our own."""

    record_fetches: float = 20.0
    """Records that we ask for because a pong announced a newer one, in all."""

    origins: int = 10_000
    """Origins whose rates are known, the last ones that sent; some 4 MB for each of three rates."""

    calls: int = 1024
    """Requests in flight: a lookup has three, revalidation a few, a crawl some hundred."""

    calls_per_endpoint: int = 8
    """Requests in flight to one address and port, whatever ids are said to be there: we are no flood ourselves."""

    bonds: int = 16_384
    """Endpoint proofs kept, some 6 MB. Whoever falls out is pinged anew."""

    queued: int = 4096
    """Packets, and events that nobody asked for, that wait to be taken by our owner, who does so after every call."""


DEFAULT_LIMITS = Limits()


class Gate:
    """The rates of `Limits`, counted. Every method that returns True has counted one more."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._packets: RateLimiter[Origin] = RateLimiter(limits.packets, limits.packet_burst, limits.origins)
        self._pongs: RateLimiter[Origin] = RateLimiter(limits.pongs, limits.pong_burst, limits.origins)
        self._ping_backs: RateLimiter[Origin] = RateLimiter(limits.ping_backs, limits.ping_back_burst, limits.origins)
        self._requests = TokenBucket(limits.requests, limits.requests)
        self._all_ping_backs = TokenBucket(limits.all_ping_backs, limits.all_ping_backs)
        self._record_fetches = TokenBucket(limits.record_fetches, limits.record_fetches)

    def admits_packet(self, source: Endpoint, now: float) -> bool:
        """Whether a packet from there is read at all."""
        return self._packets.allow(origin(source), now)

    def admits_request(self, now: float) -> bool:
        """Whether the signature of a request that we did not provoke is checked."""
        return self._requests.take(now)

    def may_pong(self, to: Endpoint, now: float) -> bool:
        """Whether a ping from there is answered."""
        return self._pongs.allow(origin(to), now)

    def may_ping_back(self, to: Endpoint, now: float) -> bool:
        """Whether we may ping an address because of its ping."""
        return self._ping_backs.allow(origin(to), now) and self._all_ping_backs.take(now)

    def may_fetch_record(self, now: float) -> bool:
        """Whether we may ask for one more record of our own accord."""
        return self._record_fetches.take(now)


def origin(source: Endpoint) -> Origin:
    """What rates are counted by: what one sender cannot easily have many of.

    On loopback every port is another program, and nobody else can send from there.
    """
    if is_loopback(source.ip):
        return source
    return source.ip if source.ip.version == 4 else subnet(source.ip)
