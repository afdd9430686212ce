"""Who there is in a simulated network: keys, addresses, records and manners of thousands of nodes.

All of it comes from one seed, and nothing happens here: nodes come to life in `light` when a packet reaches them, and
behind `doors` when they are dialled.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from typing import TypeVar

import coincurve

from ethsync.discovery.addresses import is_public
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import Endpoint, Node, node_of_record
from ethsync.networks import Network
from ethsync.serve.demo import HEAD_NUMBER, SLOT_SECONDS, demo_network
from ethsync.wire import keys
from ethsync.wire.enr import NodeRecord, sign_record
from ethsync.wire.forkid import ForkId

NETWORK = demo_network()
HEAD = HEAD_NUMBER, NETWORK.forks.genesis_time + SLOT_SECONDS * HEAD_NUMBER
"""Number and time of the head that all good nodes have."""

PORT = 30303
BUCKET_SIZE = 16

T = TypeVar("T")


class Manner(Enum):
    """How a node behaves over UDP."""

    HONEST = "honest"
    DEAD = "dead"
    """Does not answer, but others still name it."""
    INVENTS = "names nodes that do not exist, at the right distances"
    STRAYS = "names real nodes at other distances than those asked for"
    MISLEADS = "names nodes of another fork only"
    PROMISES = "announces many more packets than it sends"
    ATTACKS = "names its accomplices only, and calls on us"


LIES = (Manner.INVENTS, Manner.STRAYS, Manner.MISLEADS, Manner.PROMISES)


class Door(Enum):
    """What a dial finds."""

    OPEN = "welcome"
    FULL = "too many peers"
    SILENT = "no answer"
    REFUSED = "connection refused"
    OTHER_CHAIN = "a Status of another chain"
    RUDE = "hangs up in the handshake"


DOORS = {Door.OPEN: 25, Door.FULL: 45, Door.SILENT: 15, Door.REFUSED: 5, Door.OTHER_CHAIN: 5, Door.RUDE: 5}
"""Out of a hundred nodes that announce our fork. Our own guess, after what crawls of mainnet show: one in two to five
nodes can be had as a peer, most of the others are full."""

OURS, OTHER, NONE = "ours", "other", "none"
FORKS = {OURS: 60, OTHER: 15, NONE: 25}
"""Out of a hundred nodes of the discv5 network: those of our fork, of another, and without `eth`: consensus clients."""

OTHER_FORK = ForkId(b"\xde\xad\xbe\xef", 0)
CROWDED = 30
"""Out of a hundred nodes so many live in one of the big hosters' subnets, of which there is one for 50 nodes."""


@dataclass(slots=True, eq=False)
class Citizen:
    """One node of the network."""

    key: coincurve.PrivateKey
    endpoint: Endpoint
    manner: Manner
    door: Door
    fork: str
    public_key: bytes = field(init=False)
    node_id: bytes = field(init=False)
    _record: NodeRecord | None = None

    def __post_init__(self) -> None:
        self.public_key = keys.identity(self.key.public_key)
        self.node_id = keys.node_id(self.public_key)

    @property
    def number(self) -> int:
        """The id as a number."""
        return int.from_bytes(self.node_id, "big")

    @property
    def record(self) -> NodeRecord:
        """Its record, signed when somebody wants it first."""
        if self._record is None:
            fork_id = {OURS: NETWORK.forks.fork_id(*HEAD), OTHER: OTHER_FORK, NONE: None}[self.fork]
            ip = self.endpoint.ip
            assert isinstance(ip, IPv4Address)
            announcement = Announcement(ip, tcp=PORT, udp=PORT, fork_id=fork_id, serves_snap=fork_id is not None)
            self._record = sign_record(self.key, 1, announcement.pairs())
        return self._record

    @property
    def node(self) -> Node:
        """What others know of it."""
        node = node_of_record(self.record)
        assert node is not None
        return node


class Index:
    """Nodes in the order of their ids: which of them are at some distance from some place, without looking at all."""

    def __init__(self, citizens: Iterable[Citizen], seed: int = 0) -> None:
        self.citizens = sorted(citizens, key=lambda one: one.node_id)
        self._numbers = [one.number for one in self.citizens]
        self._seed = seed

    def bucket(self, centre: int, distance: int) -> Sequence[Citizen]:
        """Whom a node with this id knows at this distance: 16 at most, always the same ones, in no order."""
        low = ((centre >> (distance - 1)) ^ 1) << (distance - 1)
        first = bisect.bisect_left(self._numbers, low)
        last = bisect.bisect_left(self._numbers, low + (1 << (distance - 1)), first)
        rng = random.Random(centre ^ distance ^ self._seed)
        return [self.citizens[place] for place in rng.sample(range(first, last), min(BUCKET_SIZE, last - first))]

    def nearest(self, target: int, count: int) -> list[Citizen]:
        """The nodes nearest to a place, found the slow and certain way."""
        return sorted(self.citizens, key=lambda one: one.number ^ target)[:count]


@dataclass(slots=True, eq=False)
class World:
    """All nodes. `residents` know each other; liars name `inventions`; `attackers` know only themselves."""

    residents: Index
    inventions: Index
    attackers: Index
    network: Network = field(default_factory=lambda: NETWORK)
    at: dict[Endpoint, Citizen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index in (self.residents, self.attackers):
            self.at.update((one.endpoint, one) for one in index.citizens)

    def honest(self) -> Iterator[Citizen]:
        """Residents that live and tell the truth, in no order that means anything."""
        return (one for one in self.residents.citizens if one.manner is Manner.HONEST)

    def boot_nodes(self, count: int = 3) -> list[Citizen]:
        """Nodes to begin with. They are of no use as peers."""
        chosen = [one for one in self.honest() if one.fork == OURS][:count]
        for one in chosen:
            one.door = Door.FULL
        return chosen


def populate(
    size: int, *, seed: int = 1, dead: float = 0.0, lying: float = 0.0, doors: dict[Door, int] | None = None
) -> World:
    """A network of `size` nodes of which these shares are dead and lie. Liars share a tenth as many inventions."""
    rng = random.Random(seed)
    addresses = _addresses(rng, size)
    doors = doors or DOORS
    residents = []
    for _ in range(size):
        draw = rng.random()
        manner = Manner.DEAD if draw < dead else rng.choice(LIES) if draw < dead + lying else Manner.HONEST
        door = Door.SILENT if manner is not Manner.HONEST else _drawn(rng, doors)
        residents.append(Citizen(_key(rng), next(addresses), manner, door, _drawn(rng, FORKS)))
    inventions = [
        Citizen(_key(rng), next(addresses), Manner.DEAD, Door.SILENT, rng.choice((OURS, OTHER)))
        for _ in range(int(size * lying / 2))
    ]
    return World(Index(residents, seed), Index(inventions, seed), Index((), seed))


def besieged(world: World, count: int, subnets: Sequence[str], *, seed: int = 1) -> World:
    """The same network with attackers in a few subnets (like '66.6.1'), that all pretend to be good peers."""
    rng = random.Random(f"attackers {seed}")
    attackers = [
        Citizen(
            _key(rng),
            Endpoint(
                IPv4Address(f"{subnets[number % len(subnets)]}.{number // len(subnets) % 254 + 1}"),
                PORT + number // len(subnets) // 254,
            ),
            Manner.ATTACKS,
            Door.OPEN,
            OURS,
        )
        for number in range(count)
    ]
    return World(world.residents, world.inventions, Index(attackers, seed))


def _key(rng: random.Random) -> coincurve.PrivateKey:
    return coincurve.PrivateKey(rng.randbytes(32))


def _drawn(rng: random.Random, weights: dict[T, int]) -> T:
    return rng.choices(list(weights), list(weights.values()))[0]


def _addresses(rng: random.Random, size: int) -> Iterator[Endpoint]:
    """Public addresses, all different: some in the subnets of hosters, the others anywhere."""
    hosters = [rng.getrandbits(24) << 8 for _ in range(max(1, size // 50))]
    used: set[int] = set()
    while True:
        crowded = rng.randrange(100) < CROWDED
        number = rng.choice(hosters) | rng.randrange(256) if crowded else rng.getrandbits(32)
        ip = IPv4Address(number)
        if number not in used and is_public(ip) and not ip.is_multicast and not ip.is_reserved:
            used.add(number)
            yield Endpoint(ip, PORT)
