"""Whose turn it is to be dialled, decided in a number of steps that does not grow with the number of candidates.

A turn goes to a quality, in it to a source, in it to a network, in it to a subnet, and only then to a candidate. So
whoever brings many candidates of one kind gets no more turns than whoever brings one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from ethsync.discovery.addresses import is_public, subnet
from ethsync.discovery.candidate import NEVER, Candidate, Lane, Quality, Source

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from ethsync.discovery.addresses import Subnet
    from ethsync.wire.enr import IPAddress

MOST_PER_SUBNET = 2
"""Dials under way per /24 or /64: what geth allows a subnet in one bucket of its table (p2p/discover/table.go)."""

SUBNET_BURST = 8
SUBNET_PERIOD = 30.0
"""A subnet may be dialled eight times in a row, then once in 30 s. A hosting provider's /24 seldom has more nodes, and
four subnets of an attacker get 8 of the 100 and more dials that we can make in a minute."""

NETWORK_BITS_6 = 32
"""/64s cost nothing to whoever has the network around them; a /32 is the least that a provider is allotted (RIR
policies). Each has one chance among the networks, as an IPv4 /24 has."""

FEW = 8
"""Items of a set up to which a list alone is faster and, with tens of thousands of subnets, 20 MB smaller."""

_B, _G, _L, _N, _S = Quality.BEST, Quality.GOOD, Quality.LIVE, Quality.NEW, Quality.SILENT
CYCLE = (_B, _G, _N, _B, _G, _L, _B, _G, _N, _B, _N, _S)
"""Who is preferred in turn: proven nodes in seven of twelve, new ones in three, so that what an attacker was able to
make us believe in can never be all that we try."""

_SOURCES = tuple(Source)
_FIXED_PLACE: Subnet = (0, 0)

T = TypeVar("T")


def network(ip: IPAddress) -> Subnet:
    """Whose address this is: the /24 of an IPv4 address, the /32 of an IPv6 address."""
    return subnet(ip) if ip.version == 4 else (6, int(ip) >> (128 - NETWORK_BITS_6))


class RandomSet(Generic[T]):
    """A set that can be drawn from: everything takes constant time."""

    __slots__ = ("_items", "_places")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._places: dict[T, int] | None = None
        """Where each item is; searched for while there are FEW, as nearly all subnets have only one."""

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: T) -> bool:
        return item in (self._items if self._places is None else self._places)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def add(self, item: T) -> None:
        """Add an item, unless it is there."""
        if item in self:
            return
        self._items.append(item)
        if self._places is not None:
            self._places[item] = len(self._items) - 1
        elif len(self._items) > FEW:
            self._places = {each: place for place, each in enumerate(self._items)}

    def discard(self, item: T) -> None:
        """Remove an item, if it is there."""
        if item not in self:
            return
        place = self._items.index(item) if self._places is None else self._places.pop(item)
        last = self._items.pop()
        if place < len(self._items):
            self._items[place] = last
            if self._places is not None:
                self._places[last] = place

    def draw(self, rng: random.Random) -> T:
        """Any item, which stays in the set. Raises IndexError if there is none."""
        return self._items[int(rng.random() * len(self._items))]


@dataclass(slots=True, eq=False)
class Neighbours:
    """The candidates of one subnet and what was dialled there."""

    network: Subnet
    subnet: Subnet
    limited: bool
    members: RandomSet[Candidate] = field(default_factory=RandomSet)
    ready: dict[Lane, RandomSet[Candidate]] = field(default_factory=dict)
    dialling: int = 0
    paid_until: float = NEVER
    """When all dials so far have been paid for at one per SUBNET_PERIOD; a burst runs ahead of it."""
    barred: bool = False

    def free_at(self) -> float:
        """When the next dial is allowed, as far as the rate is concerned."""
        return self.paid_until - (SUBNET_BURST - 1) * SUBNET_PERIOD

    def is_barred(self, now: float) -> bool:
        """Whether nobody may be dialled here at present."""
        return self.limited and (self.dialling >= MOST_PER_SUBNET or self.free_at() > now)


class _Queue:
    """The ready candidates of one lane, by network and subnet; barred subnets are left out."""

    __slots__ = ("networks", "subnets")

    def __init__(self) -> None:
        self.networks: RandomSet[Subnet] = RandomSet()
        self.subnets: dict[Subnet, RandomSet[Neighbours]] = {}

    def open(self, neighbours: Neighbours) -> None:
        self.subnets.setdefault(neighbours.network, RandomSet()).add(neighbours)
        self.networks.add(neighbours.network)

    def close(self, neighbours: Neighbours) -> None:
        others = self.subnets.get(neighbours.network)
        if others is not None:
            others.discard(neighbours)
            if not others:
                del self.subnets[neighbours.network]
                self.networks.discard(neighbours.network)


class Turns:
    """The candidates that are ready to be dialled, and the limits of the subnets that all candidates are in."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._queues: defaultdict[Lane, _Queue] = defaultdict(_Queue)
        self._neighbours: dict[Subnet, Neighbours] = {}
        self._fixed = self._neighbours[_FIXED_PLACE] = Neighbours(_FIXED_PLACE, _FIXED_PLACE, limited=False)
        self._networks: defaultdict[Subnet, int] = defaultdict(int)
        self._dials: dict[bytes, Neighbours] = {}
        self._barred: list[tuple[float, Subnet]] = []
        self._turn = 0
        self._next_source = dict.fromkeys(Quality, 0)
        self.ready = 0

    def neighbours(self, candidate: Candidate) -> Neighbours:
        """Who shares the candidate's subnet. Nodes that the user named share one place without limits."""
        ip = candidate.ip
        if candidate.is_fixed or ip is None:
            return self._fixed
        place = subnet(ip)
        found = self._neighbours.get(place)
        if found is None:
            found = self._neighbours[place] = Neighbours(network(ip), place, is_public(ip))
        return found

    def population(self, neighbours: Neighbours) -> int:
        """How many candidates there are in the network around."""
        return self._networks[neighbours.network]

    def join(self, candidate: Candidate) -> None:
        """A candidate is known from now on."""
        neighbours = self.neighbours(candidate)
        neighbours.members.add(candidate)
        self._networks[neighbours.network] += 1

    def leave(self, candidate: Candidate) -> None:
        """It is not, or it gets another address."""
        self.unready(candidate)
        neighbours = self.neighbours(candidate)
        neighbours.members.discard(candidate)
        self._networks[neighbours.network] -= 1
        if not self._networks[neighbours.network]:
            del self._networks[neighbours.network]
        self._forget(neighbours)

    def make_ready(self, candidate: Candidate) -> None:
        """It may be dialled."""
        lane = candidate.lane = candidate.quality, candidate.source
        neighbours = self.neighbours(candidate)
        neighbours.ready.setdefault(lane, RandomSet()).add(candidate)
        self.ready += 1
        if not neighbours.barred:
            self._queues[lane].open(neighbours)

    def unready(self, candidate: Candidate) -> None:
        """It may not, for now; nothing happens if it was not ready."""
        lane, candidate.lane = candidate.lane, None
        if lane is None:
            return
        neighbours = self.neighbours(candidate)
        others = neighbours.ready[lane]
        others.discard(candidate)
        self.ready -= 1
        if not others:
            del neighbours.ready[lane]
            self._queues[lane].close(neighbours)

    def advance(self, now: float) -> None:
        """Let the time pass: subnets whose dials have been paid for may be dialled again."""
        while self._barred and self._barred[0][0] <= now:
            neighbours = self._neighbours.get(heapq.heappop(self._barred)[1])
            if neighbours is not None:
                self._set_barred(neighbours, now)
                if neighbours.paid_until <= now:
                    neighbours.paid_until = NEVER
                    self._forget(neighbours)

    def choose(self) -> Candidate | None:
        """Who should be dialled next; None if nobody may. The candidate stays ready until `began`."""
        if not self.ready:
            return None
        for quality in (Quality.FIXED, CYCLE[self._turn], *Quality):
            first = self._next_source[quality]
            for source in _SOURCES[first:] + _SOURCES[:first]:
                queue = self._queues.get((quality, source))
                if queue is not None and queue.networks:
                    neighbours = queue.subnets[queue.networks.draw(self._rng)].draw(self._rng)
                    return neighbours.ready[quality, source].draw(self._rng)
        return None

    def began(self, candidate: Candidate, now: float) -> None:
        """It is being dialled: the turn is over, and its subnet has used up some of its allowance."""
        if candidate.lane is not None:
            quality, source = candidate.lane
            if quality is not Quality.FIXED:
                self._turn = (self._turn + 1) % len(CYCLE)
            self._next_source[quality] = (source + 1) % len(Source)
        self.unready(candidate)
        neighbours = self._dials[candidate.public_key] = self.neighbours(candidate)
        neighbours.dialling += 1
        if neighbours.limited:
            neighbours.paid_until = max(neighbours.paid_until, now) + SUBNET_PERIOD
            self._set_barred(neighbours, now)
            # A few entries per dial, each gone once the dial has been paid for.
            heapq.heappush(self._barred, (neighbours.paid_until, neighbours.subnet))

    def ended(self, candidate: Candidate, now: float) -> None:
        """The dial is over, for better or worse."""
        neighbours = self._dials.pop(candidate.public_key, None)
        if neighbours is not None:
            neighbours.dialling -= 1
            self._set_barred(neighbours, now)
            self._forget(neighbours)

    def next_change(self) -> float:
        """When the limits of a subnet should be looked at again; infinity if nothing was dialled lately."""
        return self._barred[0][0] if self._barred else float("inf")

    def _set_barred(self, neighbours: Neighbours, now: float) -> None:
        barred = neighbours.is_barred(now)
        if barred and neighbours.free_at() > now:
            heapq.heappush(self._barred, (neighbours.free_at(), neighbours.subnet))
        if barred != neighbours.barred:
            neighbours.barred = barred
            for lane in neighbours.ready:
                (self._queues[lane].close if barred else self._queues[lane].open)(neighbours)

    def _forget(self, neighbours: Neighbours) -> None:
        """Drop an empty subnet, unless it still has to be remembered what was dialled there."""
        is_empty = not neighbours.members and not neighbours.dialling
        if is_empty and neighbours.paid_until == NEVER and neighbours is not self._fixed:
            del self._neighbours[neighbours.subnet]
