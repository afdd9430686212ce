"""Whole syncs in one process: `run_snap` against servers of chosen profiles, over real sockets on the loopback."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import trio

from ethsync.errors import EthsyncError, PeerGone
from ethsync.networks import Network
from ethsync.serve import server as serving
from ethsync.serve.counters import ServerCounters
from ethsync.serve.demo import demo_network
from ethsync.serve.profiles import PROFILES, Profile
from ethsync.serve.server import Server, ServerOptions, open_server
from ethsync.serve.session import Session
from ethsync.serve.snap import Reply
from ethsync.state.account import decode_slim
from ethsync.state.columns import Leaves
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import RECORD, decode_record
from ethsync.sync.chain import only_block
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from ethsync.sync.verifier import verify
from ethsync.sync.verify import Findings
from ethsync.wire.snap import SnapMessage

PATIENCE = 6.0
"""Seconds on the test's clock without a useful answer after which a sync gives up."""


@dataclass(slots=True)
class Watch(ServerCounters):
    """Counters that tell when so many bytes of leaves were served, and why clients hung up."""

    alarms: list[tuple[int, trio.Event]] = field(default_factory=list)
    farewells: list[int | None] = field(default_factory=list)
    goodbye: trio.Event = field(default_factory=trio.Event)
    """Set when the first client has left."""

    def served(self, size: int) -> trio.Event:
        """An event for the reply with which `size` bytes are reached."""
        event = trio.Event()
        self.alarms.append((size, event))
        return event

    def requested(self) -> trio.Event:
        """An event for the first snap request, answered or not."""
        event = trio.Event()
        self.requests = _Announced(event)
        return event

    def count(self, reply: Reply) -> None:
        """Count, then tell who waits."""
        ServerCounters.count(self, reply)
        for size, event in self.alarms:
            if self.total_leaf_bytes >= size:
                event.set()


class _Announced(Counter[SnapMessage]):
    """A counter that tells when it is first used."""

    def __init__(self, used: trio.Event) -> None:
        super().__init__()
        self._used = used

    def __setitem__(self, kind: SnapMessage, count: int) -> None:
        super().__setitem__(kind, count)
        self._used.set()


class AttentiveSession(Session):
    """A session that remembers the reason with which its client hung up."""

    async def run(self) -> None:
        """Serve until the peer leaves."""
        watch = self._server.counters
        assert isinstance(watch, Watch)
        try:
            await super().run()
        except (PeerGone, BaseExceptionGroup) as error:
            watch.farewells += [gone.remote_reason for gone in _all(error) if isinstance(gone, PeerGone)]
            watch.goodbye.set()
            raise


def _all(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _all(each)]
    return [error]


@dataclass(slots=True, eq=False)
class Host:
    """A running server."""

    server: Server
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.server.counters = self.watch


@asynccontextmanager
async def open_hosts(
    view: StateView, *profiles: str | Profile, network: Network | None = None
) -> AsyncIterator[list[Host]]:
    """One server for each profile, all with the same state, on the loopback interface."""
    async with AsyncExitStack() as stack:
        stack.enter_context(mock.patch.object(serving, "Session", AttentiveSession))
        hosts = []
        for wanted in profiles:
            profile = wanted if isinstance(wanted, Profile) else PROFILES[wanted]
            opened = open_server(view, network=network or demo_network(), options=ServerOptions(profile=profile))
            hosts.append(Host(await stack.enter_async_context(opened)))
        yield hosts


@dataclass(slots=True, eq=False)
class Synced:
    """How a sync ended: with a verdict, with an error of ours, or cancelled with neither."""

    progress: Progress
    verified: Verified | None = None
    error: EthsyncError | None = None


async def sync_from(hosts: Sequence[Host], datadir: Path, *, patience: float = PATIENCE, floor: int = 0) -> Synced:
    """Run `ethsync snap` against servers until it ends. Errors that are not ours come through."""
    server = hosts[0].server
    options = SnapOptions(
        server.network, [host.server.enode for host in hosts], only_block(server.head.hash), datadir, floor, patience
    )
    synced = Synced(Progress(trio.current_time()))
    try:
        synced.verified = await run_snap(options, synced.progress)
    except (EthsyncError, BaseExceptionGroup) as error:
        synced.error = error_of(error)
    return synced


def error_of(error: EthsyncError | BaseExceptionGroup) -> EthsyncError:
    """The first error of a group of our own errors. Raises the group if there are others in it."""
    ours = [leaf for leaf in _all(error) if isinstance(leaf, EthsyncError)]
    if len(ours) < len(list(_all(error))):
        raise error
    return ours[0]


async def sync(
    view: StateView, datadir: Path, *profiles: str | Profile, patience: float = PATIENCE
) -> tuple[Synced, list[Host]]:
    """Serve a state with these profiles and sync it from all of them."""
    async with open_hosts(view, *profiles) as hosts:
        synced = await sync_from(hosts, datadir, patience=patience)
    return synced, hosts


async def findings(datadir: Path) -> Findings:
    """What `ethsync verify` finds in a data directory, against the root of its own block."""
    with open_datadir(datadir) as opened:
        root = StateView(opened).state_root
        return await verify(opened, root, trio.CapacityLimiter(2), lambda share: None)


async def assert_state(synced: Synced, state: StateView, datadir: Path, *, counted: bool = True) -> None:
    """A sync ended well, and what is on disk is exactly the state that was served.

    counted: and records say how many slots there are. A power cut can take pages that were counted.
    """
    assert synced.error is None, synced.error
    assert synced.verified is not None
    assert synced.verified.state_root == f"0x{state.state_root.hex()}"
    found = await findings(datadir)
    assert found.problems == []
    with open_datadir(datadir) as opened:
        held = contents(StateView(opened))
        assert held == contents(state)
        told = {account: decode_record(value).leaves for account, value in opened.ledger.scan(RECORD)}
        assert not counted or told == {account: len(held[1][account]) for account in told}


def contents(state: StateView) -> tuple[dict[bytes, bytes], dict[bytes, dict[bytes, bytes]]]:
    """All accounts (slim), and all slots of those that have some."""
    accounts = pairs(state.account_blocks())
    storage = {key: pairs(state.storage_blocks(key)) for key, slim in accounts.items() if decode_slim(slim).has_storage}
    return accounts, storage


def pairs(blocks: Iterable[Leaves]) -> dict[bytes, bytes]:
    """Leaves as a dictionary."""
    return {block.key(row): block.value(row) for block in blocks for row in range(len(block))}
