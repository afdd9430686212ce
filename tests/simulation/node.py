"""Our node in a simulated network: the whole of `run_finding` as it is, on a socket and on streams in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import coincurve
import pytest
import trio

from ethsync.discovery import start
from ethsync.discovery.candidates import Candidates
from ethsync.discovery.finder import Finder
from ethsync.discovery.identity import KEY_FILE
from ethsync.discovery.lane import Lane
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import Node
from ethsync.discovery.options import DiscoveryOptions
from ethsync.discovery.table import Table
from ethsync.peers import finding
from ethsync.peers.finding import Finding, run_finding
from ethsync.peers.greeting import ChainView
from ethsync.peers.pool import PeerPool
from ethsync.wire import keys
from tests.simulation.doors import welcome
from tests.simulation.post import US, Post
from tests.simulation.roads import Roads
from tests.simulation.world import HEAD, Citizen, World

MAX_PEERS = 75
"""With as many, we dial 50: a third of the slots is for those who call on us, and here nobody does unless a test says
so."""


@dataclass(slots=True, eq=False)
class Sighted:
    """Our node, its network, and when it got how many peers."""

    world: World
    post: Post
    roads: Roads
    key: bytes
    """Our public key."""
    began: float
    pool: PeerPool
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the beginning and number of peers, whenever that changed."""
    changed: trio.Event = field(default_factory=trio.Event)
    finder: Finder = field(init=False)
    candidates: Candidates = field(init=False)

    @property
    def lane(self) -> Lane:
        """discv5 at work."""
        return self.finder.lanes["discv5"]

    @property
    def table(self) -> Table:
        """Whom discv5 knows."""
        return self.lane.table

    @property
    def as_seen(self) -> Node:
        """What others know of us."""
        return Node(keys.node_id(self.key), self.key, US, US.port)

    @property
    def peers(self) -> int:
        """How many there are."""
        return len(self.pool.peers)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self.began

    def cut(self, down: bool = True) -> None:
        """Cut our cable, or mend it."""
        self.post.down = self.roads.down = down

    async def reaches(self, peers: int, within: float) -> float:
        """Wait until there are so many peers; how long that took. Raises TooSlowError."""
        before = trio.current_time()
        with trio.fail_after(within):
            while self.peers < peers:
                await self.changed.wait()
        return trio.current_time() - before

    def ring(self) -> None:
        """Something changed in the pool."""
        self.arrivals.append((self.elapsed, self.peers))
        self.changed.set()
        self.changed = trio.Event()


@dataclass(frozen=True, slots=True)
class Wires:
    """What connects us with the others, and how to find them. `key` is our public key."""

    post: Post
    roads: Roads
    key: bytes
    options: DiscoveryOptions


@asynccontextmanager
async def open_wires(
    world: World,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    boot: Sequence[Citizen] | None = None,
    loss: float = 0.0,
    seed: int = 1,
) -> AsyncIterator[Wires]:
    """Sockets and streams in memory for whatever runs inside the block: discv5 from some boot nodes on, and RLPx."""
    our_key = _prepare(directory, seed)
    seeds = random.Random(f"our chance {seed}")
    chance = SimpleNamespace(Random=lambda: random.Random(seeds.random()))
    async with trio.open_nursery() as nursery:
        post, roads = Post(world, seed=seed, loss=loss), Roads(nursery, seed=seed)
        roads.welcome = welcome(world)
        monkeypatch.setattr(trio, "open_tcp_stream", roads.open_tcp_stream)
        monkeypatch.setattr(trio, "open_tcp_listeners", roads.open_tcp_listeners)
        monkeypatch.setattr(start, "open_sockets", post.open_sockets)
        for module in (start, finding):
            monkeypatch.setattr(module, "random", chance)
        nursery.start_soon(post.run)
        texts = [str(one.record) for one in (world.boot_nodes() if boot is None else boot)]
        fork_id = world.network.forks.fork_id(*HEAD)
        options = DiscoveryOptions(frozenset({"v5"}), texts, (), [US], directory, fork_id, Announcement())
        yield Wires(post, roads, our_key, options)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_node(
    world: World,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    max_peers: int = MAX_PEERS,
    loss: float = 0.0,
    seed: int = 1,
) -> AsyncIterator[Sighted]:
    """Our node, told of three boot nodes, looking for peers with discv5 alone for as long as the block lasts."""
    opened = open_wires(world, directory, monkeypatch, loss=loss, seed=seed)
    async with opened as wires, trio.open_nursery() as nursery:
        ring: list[Callable[[], None]] = []
        pool = PeerPool(lambda: ring[0](), ChainView(world.network, *HEAD))
        node = Sighted(world, wires.post, wires.roads, wires.key, trio.current_time(), pool)
        ring.append(node.ring)
        monkeypatch.setattr(start, "_finder", partial(_kept_finder, node, start._finder))
        dialer = await nursery.start(run_finding, pool, Finding(wires.options, max_peers))
        node.candidates = dialer.candidates
        yield node
        nursery.cancel_scope.cancel()


def _prepare(directory: Path, seed: int) -> bytes:
    """A directory with a key that is the same in every run; its public key."""
    directory.mkdir(exist_ok=True)
    key = random.Random(f"our key {seed}").randbytes(32)
    path = directory / KEY_FILE
    path.write_text(key.hex())
    path.chmod(0o600)
    return keys.identity(coincurve.PrivateKey(key).public_key)


def _kept_finder(node: Sighted, make: Callable[..., Finder], *arguments: object) -> Finder:
    node.finder = make(*arguments)
    return node.finder
