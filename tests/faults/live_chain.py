"""A chain that grows while it is synced: servers hold the newest states of it, and a head source names its head.

Only blocks that are to be pivots have a state that anybody holds; the others have a root and a header.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from unittest import mock

import trio

from ethsync.errors import EthsyncError
from ethsync.heads.head import HeadFeed, TrustedHead
from ethsync.heads.source import BeaconNodes, HeadSource
from ethsync.networks import Network
from ethsync.serve.blocks import HeaderChain
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.profiles import Profile
from ethsync.serve.served import ServedStates
from ethsync.serve.small_state import StatedAccount
from ethsync.state.view import StateView
from ethsync.sync import chain as chain_of_sync
from ethsync.sync.chain import ALL, ChainOptions
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, run_snap
from ethsync.wire.headers import Header, decode_header
from tests.faults.states import create_demo_state, opened
from tests.faults.syncing import PATIENCE, Host, Synced, Watch, error_of, open_hosts
from tests.oracles.beacon_node import FakeBeaconNode, Reply, beacon_head


@dataclass(frozen=True, slots=True)
class Chain:
    """Headers by number from the genesis on, and the states of some of these blocks."""

    headers: Sequence[Header]
    states: Mapping[int, StateView]

    def branch(self, number: int, states: Mapping[int, StateView], length: int, seed: int) -> Chain:
        """Another chain of `length` headers that is the same below a block number."""
        shared = {at: state for at, state in self.states.items() if at < number}
        return make_chain({**shared, **states}, length, seed, self.headers[:number])


def make_chain(
    states: Mapping[int, StateView], length: int, seed: int = 1, below: Sequence[Header] = ()
) -> Chain:  # fmt: skip
    """A chain of `length` headers, the genesis included, on top of others. Blocks without a state get any root."""
    rng = Random(seed)
    headers = list(below) or [decode_header(demo_network().genesis_header_raw or b"")]
    for number in range(len(headers), length):
        root = states[number].state_root if number in states else rng.randbytes(32)
        headers.append(head_header(root, seed, number, headers[-1].hash))
    return Chain(headers, states)


@dataclass(slots=True, eq=False)
class LiveChain:
    """What the servers know of a chain, and the head that is trusted. `window`: of how many states they keep."""

    chain: Chain
    hosts: list[Host]
    window: int
    head: Header
    watch: Watch = field(default_factory=Watch)
    """Of all hosts together."""
    feed: HeadFeed | None = None
    beacon: FakeBeaconNode | None = None
    """Names the head over HTTP as well."""
    named: list[int] = field(default_factory=list)
    """Numbers of the heads that were named, in order."""

    def grow(self, number: int, chain: Chain | None = None) -> None:
        """The chain, or another one, has this block as its head now: servers have it, and it is trusted."""
        self.chain = chain or self.chain
        self.serve(number)
        self.trust(number)

    async def served(self, size: int) -> None:
        """Wait until so many more bytes of leaves and nodes were served by all together."""
        await self.watch.served(self.watch.total_leaf_bytes + size).wait()

    def serve(self, number: int) -> None:
        """Servers have everything up to this block, and the newest states."""
        for host in self.hosts:
            host.server.head = self.chain.headers[number]
            host.server.service.chain = HeaderChain(self.chain.headers[:number], self.chain.headers[number])
        self.serve_states(*sorted(at for at in self.chain.states if at <= number)[-self.window :])

    def serve_states(self, *numbers: int) -> None:
        """Servers have the states of these blocks and of no others."""
        for host in self.hosts:
            host.server.states = ServedStates(*(self.chain.states[number] for number in numbers))

    def trust(self, number: int) -> None:
        """Name this block as the head."""
        self.head = self.chain.headers[number]
        self.named.append(number)
        if self.feed is not None:
            self.feed.publish(TrustedHead(self.head.hash, number))
        if self.beacon is not None:
            self.beacon.replies = beacon_replies(self.head)

    async def run_source(
        self,
        source: HeadSource,
        network: Network,
        feed: HeadFeed,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """What stands in for `run_head_source`."""
        self.feed = feed
        feed.publish(TrustedHead(self.head.hash, self.head.number))
        task_status.started()


@asynccontextmanager
async def open_live_chain(
    chain: Chain, head: int, *profiles: str | Profile, window: int = 2
) -> AsyncIterator[LiveChain]:
    """Servers of these profiles that know the chain up to a head; it is the first that is trusted."""
    async with open_hosts(chain.states[min(chain.states)], *profiles) as hosts:
        live = LiveChain(chain, hosts, window, chain.headers[head])
        for host in hosts:
            host.watch = host.server.counters = live.watch
        live.grow(head)
        yield live


@asynccontextmanager
async def open_states(
    path: Path, states: Mapping[int, Sequence[StatedAccount]]
) -> AsyncIterator[dict[int, StateView]]:  # fmt: skip
    """States by the numbers of their blocks, in directories of their own."""
    with ExitStack() as stack:
        views = {}
        for number, accounts in states.items():
            create_demo_state(path / str(number), accounts)
            views[number] = stack.enter_context(opened(path / str(number)))
        yield views


async def follow(
    live: LiveChain, datadir: Path, *, patience: float = PATIENCE, headers: str = ALL, source: HeadSource | None = None
) -> Synced:
    """Sync from the chain's servers until that ends, with its heads, or those of another source."""
    peers = [host.server.enode for host in live.hosts]
    chain = ChainOptions(source or BeaconNodes(()), headers)
    options = SnapOptions(demo_network(), peers, chain, datadir, 0, patience)
    synced = Synced(Progress(trio.current_time()))
    with ExitStack() as stack:
        if source is None:
            stack.enter_context(mock.patch.object(chain_of_sync, "run_head_source", live.run_source))
        try:
            synced.verified = await run_snap(options, synced.progress)
        except (EthsyncError, BaseExceptionGroup) as error:
            synced.error = error_of(error)
    return synced


async def follow_until_served(live: LiveChain, size: int, datadir: Path) -> Synced | None:
    """The same, but cancelled when so many more bytes were served; None if it was."""
    finished: list[Synced] = []
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await live.served(size)
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        finished.append(await follow(live, datadir))
        nursery.cancel_scope.cancel()
    return finished[0] if finished else None


def beacon_replies(head: Header) -> dict[str, Reply]:
    """What a beacon node answers whose head's execution block is this one."""
    return beacon_head(head.hash, head.number, head.parent_hash, demo_network().chain_id)
