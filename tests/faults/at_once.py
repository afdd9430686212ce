"""Whole syncs without sockets, threads, files or waiting, so that thousands of them can be looked at.

`run_snap` and everything below it is the real thing: stages, healing, debts, writer, verification. What is left out is
what they stand on: the one peer answers from a stored state as soon as it is asked, databases are in memory, and what
belongs to a thread is done at once. So a run depends on its seed alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast
from unittest import mock

import trio

from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.peers.finding import Finding
from ethsync.peers.peer import Peer, run_peer
from ethsync.peers.pool import PeerPool
from ethsync.rlpx.connection import Connection
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.served import ServedStates
from ethsync.serve.small_state import StatedAccount, fill
from ethsync.serve.snap import serve
from ethsync.state.columns import Leaves, row_bytes
from ethsync.state.pages import decode_bundle, decode_pages, stored_path
from ethsync.state.view import StateView
from ethsync.store.datadir import DATABASES, Datadir
from ethsync.store.leveldb import Database
from ethsync.store.schema import ACCOUNT_PAGE, BUNDLE, CODE, FORMAT_VERSION, STORAGE_PAGE, Format
from ethsync.sync.chain import Chain, move_pivot, only_block, open_chain
from ethsync.sync.context import Pivot
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, run_snap
from ethsync.wire.enode import Enode
from ethsync.wire.eth import BlockHeaders, EthMessage
from ethsync.wire.snap import REQUEST_DECODERS, SnapMessage, peek_request_id
from tests.oracles.memory_disk import MemoryDatabase, MemoryDisk
from tests.unit.peers.stubs import StubConnection

PATIENCE = 6.0
"""Seconds of a clock that stands still while anything can be done: a sync that waits has failed."""

NETWORK = demo_network()

ENODE = Enode(b"\1" * 64, "127.0.0.1", 30303, 30303)

BUNDLED_BY = (
    "ethsync.serve.small_state", "ethsync.sync.big_contracts", "ethsync.sync.storage_proofs",
    "tests.faults.changing_states",
)  # fmt: skip
"""Who asks how many slots share a bundle at the most."""

T = TypeVar("T")


@dataclass
class ServedConnection(StubConnection):
    """The other side has states of which it keeps the newest two, and sends at most so many bytes of them at a time."""

    states: ServedStates = field(default_factory=lambda: ServedStates(window=2))
    head: StateView | None = None
    """What has its header."""
    most_bytes: int = 1 << 20
    answered: trio.Event = field(default_factory=trio.Event)
    """Set with each answer about the state, and replaced."""
    asked: Counter[int] = field(default_factory=Counter)
    """Requests by message."""
    traffic: Counter[int] = field(default_factory=Counter)
    """Bytes of requests and replies by message of the request."""

    def serve(self, view: StateView) -> None:
        """Have this state, which is that of the head."""
        self.head = view
        self.states.add(view)

    async def answers(self, number: int) -> None:
        """Wait until so many more requests about the state were answered."""
        for _ in range(number):
            await self.answered.wait()

    async def send(self, capability: str, code: int, payload: bytes) -> None:
        """Take a request, and answer."""
        await trio.lowlevel.checkpoint()
        if capability == "eth":
            assert self.head is not None
            headers = BlockHeaders(peek_request_id(payload), (self.head.header.raw,))
            self.arrive("eth", EthMessage.BLOCK_HEADERS, headers.encode())
            return
        request = REQUEST_DECODERS[SnapMessage(code)](payload)
        reply = serve(self.states, replace(request, response_bytes=min(request.response_bytes, self.most_bytes)))
        self.asked[code] += 1
        self.traffic[code] += len(payload) + len(reply.payload)
        self.arrive(capability, reply.message, reply.payload)
        answered, self.answered = self.answered, trio.Event()
        answered.set()


def lying_on(disk: MemoryDisk, path: Path) -> Datadir:
    """The databases of a data directory, without the directory."""
    databases = {name: MemoryDatabase(disk, path / name, shape.neighbourhood) for name, shape in DATABASES.items()}
    form = Format(FORMAT_VERSION, NETWORK.name, NETWORK.chain_id, "0x" + NETWORK.genesis_hash.hex())
    return Datadir(path, form, **databases)


def built(accounts: Sequence[StatedAccount]) -> StateView:
    """The whole state of these accounts, built from nothing, in memory."""
    datadir = lying_on(MemoryDisk(), Path("built"))
    fill(datadir, accounts, NETWORK, lambda root: head_header(root, 1))
    return StateView(datadir)


@dataclass(frozen=True, slots=True)
class Whole:
    """All leaves of a state, and its codes."""

    accounts: dict[bytes, bytes]
    storage: dict[bytes, dict[bytes, bytes]]
    codes: frozenset[bytes]


def whole(datadir: Datadir) -> Whole:
    """Everything that is stored, page by page and bundle by bundle, whether it belongs there or not."""
    storage = {}
    for key, value in datadir.bundles.scan(BUNDLE):
        bundle = decode_bundle(stored_path(key), value)
        for k, account in enumerate(row_bytes(bundle.accounts)):
            storage[account] = _pairs(bundle.leaves[int(bundle.starts[k]) : int(bundle.starts[k + 1])])
    for account in datadir.storage.neighbourhoods():
        storage[account] = _leaves(datadir.storage, STORAGE_PAGE + account, LEAF)
    codes = frozenset(key for key, _ in datadir.codes.scan(CODE))
    return Whole(_leaves(datadir.accounts, ACCOUNT_PAGE, SLIM_ACCOUNT), storage, codes)


def _leaves(database: Database, pages: bytes, kind: int) -> dict[bytes, bytes]:
    stored = list(database.scan(pages))
    if not stored:
        return {}
    return _pairs(decode_pages([stored_path(key) for key, _ in stored], [value for _, value in stored], kind)[0])


def _pairs(leaves: Leaves) -> dict[bytes, bytes]:
    return {leaves.key(row): leaves.value(row) for row in range(len(leaves))}


@contextmanager
def told(seed: int) -> Iterator[None]:
    """A failure says which of many seeds it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@contextmanager
def nothing_waits(seed: int) -> Iterator[None]:
    """No threads: what is given to one is done at once, and tasks take turns in an order that the seed decides."""

    async def at_once(work: Callable[..., T], *args: Any, **options: Any) -> T:
        await trio.lowlevel.checkpoint()
        return work(*args)

    @asynccontextmanager
    async def untold(*args: Any) -> AsyncIterator[None]:
        """Nobody asks for the status."""
        yield

    async def unlisted(*args: Any) -> None:
        """Nobody reads the list of peers."""

    # trio has no public way to say in which order tasks run; pytest-trio does the same for hypothesis.
    turns = (("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True), ("trio._core._run._r", Random(seed)))
    with ExitStack() as stack:
        for name, stand_in in (
            *turns,
            ("trio.to_thread.run_sync", at_once),
            ("trio.from_thread.check_cancelled", lambda: None),
            ("ethsync.sync.snap.open_summary", untold),
            ("ethsync.sync.snap.run_roster", unlisted),
        ):
            stack.enter_context(mock.patch(name, stand_in))
        yield


@contextmanager
def all_is_small() -> Iterator[None]:
    """Pages and bundles are small, so that states of a few accounts have several of each kind, quickly looked at."""
    with ExitStack() as stack:
        for name, size in (
            ("ethsync.sync.verifier.SPANS", 1),
            ("ethsync.sync.fingerprints.BUCKETS", 1),
            ("ethsync.state.pages.TARGET_LEAVES", 2),
            *((f"{name}.SMALL_TRIE", 8) for name in BUNDLED_BY),
            ("tests.faults.changing_states.LARGE", 24),
            ("tests.faults.changing_states.GROWN", 20),
        ):
            stack.enter_context(mock.patch(name, size))
        yield


async def bring_to(view: StateView, datadir: Datadir, most_bytes: int = 1 << 20) -> ServedConnection:
    """Sync this state into databases, from whatever they hold. Returns what was asked of the peer."""
    return (await bring_along([(0, view)], datadir, most_bytes))[0]


async def bring_along(
    moves: Sequence[tuple[int, StateView]], datadir: Datadir, most_bytes: int = 1 << 20
) -> tuple[ServedConnection, StateView]:
    """Sync states into databases, from whatever they hold: the pivot moves to each after so many answers more.

    Returns what was asked of the peer, and the state of the last pivot: a sync may be at its end before all moves.
    """
    connection, reached = ServedConnection(most_bytes=most_bytes), [moves[0][1]]
    connection.serve(moves[0][1])

    async def run_finding(
        pool: PeerPool, finding: Finding, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        peer = Peer(pool.next_number(), ENODE, cast("Connection", connection))
        with pool.connected(peer):
            task_status.started()
            await run_peer(peer)

    @contextmanager
    def open_datadir(path: Path, create: Format, *, followed: bool) -> Iterator[Datadir]:
        datadir.lay_over()
        yield datadir

    async def move(pivot: Pivot) -> None:
        for answers, view in moves[1:]:
            await connection.answers(answers)
            async with pivot.lock:
                if pivot.is_whole:
                    return
                connection.serve(view)
                reached.append(view)
                move_pivot(datadir, view.header)
                pivot.move(view.header)

    @asynccontextmanager
    async def open_moving_chain(*args: Any, **options: Any) -> AsyncIterator[Chain]:
        async with open_chain(*args, **options) as chain, trio.open_nursery() as nursery:
            nursery.start_soon(move, chain.pivot)
            yield chain
            nursery.cancel_scope.cancel()

    options = SnapOptions(NETWORK, [], only_block(moves[0][1].header.hash), datadir.path, 0, PATIENCE)
    with (
        mock.patch("ethsync.sync.snap.run_finding", run_finding),
        mock.patch("ethsync.sync.snap.open_datadir", open_datadir),
        mock.patch("ethsync.sync.snap.open_chain", open_moving_chain),
    ):
        await run_snap(options, Progress(trio.current_time()))
    return connection, reached[-1]
