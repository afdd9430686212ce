"""How many headers per second are downloaded, proven and stored, from a server in another process."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from ethsync.commands.child import open_serving_process
from ethsync.commands.places import synthetic_datadir
from ethsync.counters import Counters
from ethsync.headers.service import HeaderDownload, open_header_chain, run_headers
from ethsync.networks import load_network
from ethsync.peers.changes import Changes
from ethsync.peers.finding import named_only, run_finding
from ethsync.peers.greeting import ChainView
from ethsync.peers.pool import PeerPool
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.store.datadir import open_datadir
from ethsync.store.schema import Format
from ethsync.store.writer import run_writer
from ethsync.sync.heads import fetch_header, parse_head
from ethsync.wire.enode import parse_enode

SPEC = SyntheticSpec(accounts=1, headers=100_000)
"""A chain that takes a second or two."""

PATIENCE = 30.0
"""Seconds for the first header."""


def measure_headers() -> int:
    """Return headers per second, from the first request until all are on the disk. Raises EthsyncError."""
    state = synthetic_datadir(SPEC)
    state.parent.mkdir(parents=True, exist_ok=True)
    create_synthetic(SPEC, state)
    with tempfile.TemporaryDirectory(prefix="ethsync-bench-") as place:
        return round(SPEC.headers / trio.run(_download, state, Path(place) / "headers"))


async def _download(state: Path, target: Path) -> float:
    """Seconds that a download takes."""
    async with open_serving_process("--synthetic", str(SPEC), "--datadir", str(state)) as server:
        network = load_network(server.genesis)
        form = Format.of(network.name, network.chain_id, network.genesis_hash)
        changes = Changes()
        pool = PeerPool(changes.ring, ChainView(network, SPEC.headers, int(time.time())))
        finding = replace(named_only(target, pool.view.fork_id), static=[parse_enode(server.enode)])
        with open_datadir(target, form) as datadir:
            async with trio.open_nursery() as nursery:
                writer = await nursery.start(partial(run_writer, datadir, floor=0))
                await nursery.start(run_finding, pool, finding)
                head = await fetch_header(pool, changes, parse_head(server.head), PATIENCE)
                chain = open_header_chain(datadir, network, Counters())
                chain.follow(head)
                download = HeaderDownload(chain, datadir, writer, pool, changes, trio.CapacityLimiter(2))
                began = trio.current_time()
                await nursery.start(run_headers, download)
                await download.finished.wait()
                seconds = trio.current_time() - began
                nursery.cancel_scope.cancel()
    return seconds
