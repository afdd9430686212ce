"""Downloads of headers in one process: `run_headers` against servers of chosen profiles, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from ethsync.counters import Counters
from ethsync.headers.service import HeaderDownload, open_header_chain, run_headers
from ethsync.networks import Network
from ethsync.peers.changes import Changes
from ethsync.peers.finding import named_only, run_finding
from ethsync.peers.greeting import ChainView
from ethsync.peers.pool import PeerPool
from ethsync.serve.demo import demo_network
from ethsync.store.datadir import Datadir, open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.store.schema import FORMAT_VERSION, Format
from ethsync.store.writer import Write, Writer, run_writer
from ethsync.wire.enode import Enode
from ethsync.wire.headers import Header

TIME_LIMIT = 30.0
"""Seconds on the test's clock for one download: some ten times what it takes."""


def format_of(network: Network) -> Format:
    return Format(FORMAT_VERSION, network.name, network.chain_id, f"0x{network.genesis_hash.hex()}")


class Stopped(BaseException):
    """The process is meant to have been killed here."""


class MortalWriter(Writer):
    """A writer in whose process nothing happens any more after so many batches."""

    left = -1

    async def write(self, batch: Write) -> None:
        """Hand over a batch, unless the end has come."""
        if self.left == 0:
            raise Stopped
        self.left -= 1
        await super().write(batch)


@asynccontextmanager
async def downloading(
    datadir: Datadir, peers: Sequence[Enode], head: Header, *, floor: int = 0, writes: int = -1,
    network: Network | None = None,
) -> AsyncIterator[HeaderDownload]:  # fmt: skip
    """A download of headers from these peers to a data directory, under way for as long as the block lasts."""
    network = network or demo_network()
    changes = Changes()
    pool = PeerPool(changes.ring, ChainView(network, head.number, head.timestamp))
    finding = replace(named_only(datadir.path, pool.view.fork_id), static=peers)
    async with trio.open_nursery() as nursery:
        writer: Writer = await nursery.start(partial(run_writer, datadir, floor=0))
        writer.__class__ = MortalWriter
        assert isinstance(writer, MortalWriter)
        writer.left = writes
        await nursery.start(run_finding, pool, finding)
        chain = open_header_chain(datadir, network, Counters(), floor)
        chain.follow(head)
        download = HeaderDownload(chain, datadir, writer, pool, changes, trio.CapacityLimiter(2))
        await nursery.start(run_headers, download)
        yield download
        nursery.cancel_scope.cancel()


async def download_all(
    path: Path, peers: Sequence[Enode], head: Header, *, floor: int = 0, network: Network | None = None
) -> HeaderDownload:
    """Download until everything from the head down to the floor is stored."""
    with open_datadir(path, format_of(network or demo_network())) as datadir:
        async with downloading(datadir, peers, head, floor=floor, network=network) as download:
            with trio.fail_after(TIME_LIMIT):
                await download.finished.wait()
    return download


async def killed_after(path: Path, peers: Sequence[Enode], head: Header, writes: int) -> bool:
    """Download until so many batches were handed to the disk; whether it came to that before all was done."""
    stopped = False
    with open_datadir(path, format_of(demo_network())) as datadir:
        try:
            async with downloading(datadir, peers, head, writes=writes) as download:
                with trio.fail_after(TIME_LIMIT):
                    await download.finished.wait()
        except* Stopped:
            stopped = True
    return stopped


def stored(path: Path) -> list[bytes | None]:
    """All headers that a new process finds proven, by number."""
    with open_datadir(path) as datadir:
        store = HeaderStore(datadir.headers)
        assert store.top is not None
        return [store.raw(number) for number in range(store.low, store.top.number + 1)]
