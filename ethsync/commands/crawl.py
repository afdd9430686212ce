"""`ethsync crawl`: look at every node that can be found, and write down what it is."""

from __future__ import annotations

import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import coincurve
import trio

from ethsync.commands.finding import make_finding, parse_protocols
from ethsync.crawl.crawl import Crawl, run_crawl
from ethsync.crawl.sinks import open_sink
from ethsync.discovery.start import open_discovery
from ethsync.errors import ConfigError
from ethsync.fork_overrides import with_overrides
from ethsync.networks import BUILT_IN, load_network
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView
from ethsync.ui.numbers import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethsync.crawl.sinks import Sink
    from ethsync.discovery.candidate import Source
    from ethsync.discovery.node import Node
    from ethsync.networks import Network
    from ethsync.peers.finding import Finding

REPORT_INTERVAL = 10.0
"""Seconds between two lines about how far it is."""


def run(
    network: str, minutes: float, output: Path, protocols: str, listen: Sequence[str], boot_nodes: Sequence[str],
    forks: Sequence[str] = (),
) -> int:  # fmt: skip
    """Crawl for so long; 0. Raises ConfigError."""
    ours = with_overrides(load_network(network), forks)
    known = [ours, *(load_network(name) for name in BUILT_IN if name != ours.name)]
    wanted = parse_protocols(protocols)
    if not wanted:
        raise ConfigError("a crawl needs a discovery protocol", hint="--discovery v5,v4,dns")
    with open_sink(output) as sink, tempfile.TemporaryDirectory(prefix="ethsync-crawl-") as directory:
        finding = make_finding(
            ours, Path(directory), protocols=wanted, max_peers=0, listen=listen, announce=None,
            more_boot_nodes=boot_nodes,
        )  # fmt: skip
        trio.run(_crawl, ours, known, sink, finding, 60 * minutes)
    return 0


async def _crawl(network: Network, known: list[Network], sink: Sink, finding: Finding, seconds: float) -> None:
    view = ChainView(network, LATER_THAN_ANY_FORK, int(time.time()))
    crawl = Crawl(coincurve.PrivateKey(), known, view, sink)

    def found(source: Source, node: Node) -> None:
        crawl.offer(node, source.name.lower())

    with trio.move_on_after(seconds):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(open_discovery(finding.discovery, time.time(), found))
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(run_crawl, crawl)
            while True:
                await trio.sleep(REPORT_INTERVAL)
                click.echo(line(crawl), err=True)
    click.echo(line(crawl), err=True)


def line(crawl: Crawl) -> str:
    """How far a crawl is."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(crawl.counts.items()))
    found = several(crawl.found, "node", "nodes")
    return f"{found} found, {crawl.counts.total()} looked at{': ' + counts if counts else ''}"
