"""Networks of discovery nodes that are not ours, on loopback: we find them all, they find us, and others through us.

discv4 is EthereumJS's, discv5 that of @chainsafe/discv5. Node k knows node k - 1 only, and we know the first one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import trio

from ethsync.discovery.candidate import Source
from ethsync.discovery.finder import Finder
from ethsync.discovery.forks import check_fork_entry, presumed_head
from ethsync.discovery.identity import open_identity
from ethsync.discovery.local_record import Announcement
from ethsync.discovery.node import Endpoint, Node
from ethsync.discovery.options import DiscoveryOptions, boot_nodes
from ethsync.discovery.start import open_discovery
from ethsync.networks import Network
from ethsync.serve.demo import demo_network
from ethsync.wire.enode import Enode
from ethsync.wire.enr import NodeRecord, parse_record
from tests.interop.peers import Lines, open_programs

COUNT = 8
LOOPBACK = IPv4Address("127.0.0.1")
OUR_TCP_PORT = 40_404
"""Nobody listens there: only that it is told and not confused with the UDP port is tested."""

PATIENCE = 20.0
"""Real seconds for everybody to be found; measured: 1 to 5."""

NOW = 1_770_000_000.0


@dataclass(slots=True)
class OtherNodes:
    """A running network of nodes of one kind."""

    urls: list[str]
    _lines: Lines

    @property
    def nodes(self) -> list[Node]:
        return list(boot_nodes(self.urls))

    async def tables(self) -> list[list[str]]:
        """Whom each of them knows, as URLs."""
        reply = await self._lines.command("tables")
        tables: list[list[str]] = reply["tables"]
        return tables

    async def newcomer(self, url: str) -> list[str]:
        """Whom a node finds that began with the one at `url`."""
        reply = await self._lines.command(f"newcomer {url}")
        known: list[str] = reply["known"]
        return known


@asynccontextmanager
async def open_network(version: str, *arguments: str) -> AsyncIterator[OtherNodes]:
    async with open_networks([version, str(COUNT), *arguments]) as (network,):
        yield network


@asynccontextmanager
async def open_networks(*networks: Sequence[str]) -> AsyncIterator[list[OtherNodes]]:
    """Networks of these protocols, with so many nodes each."""
    async with open_programs(*(["disc_network.mjs", *arguments] for arguments in networks)) as programs:
        yield [OtherNodes(ready["nodes"], lines) for ready, lines in programs]


class Ours:
    """Our own node, and what it has found."""

    def __init__(self) -> None:
        self.found: dict[Source, dict[bytes, Node]] = {source: {} for source in Source}
        self._more = trio.Event()

    def note(self, source: Source, node: Node) -> None:
        self.found[source][node.node_id] = node
        self._more.set()

    def begin(self, finder: Finder, record: NodeRecord) -> None:
        self.finder, self.record = finder, record

    @property
    def enode(self) -> str:
        assert self.record.udp != OUR_TCP_PORT
        return str(Enode(self.record.public_key, str(LOOPBACK), OUR_TCP_PORT, self.record.udp))

    async def finds(self, source: Source, nodes: Iterable[Node]) -> None:
        wanted = {node.node_id for node in nodes}
        with trio.move_on_after(PATIENCE):
            while not self.found[source].keys() >= wanted:
                self._more = trio.Event()
                await self._more.wait()
        missing = wanted - self.found[source].keys()
        assert not missing, self.finder.statistics()


@asynccontextmanager
async def open_ours(directory: Path, protocols: Iterable[str], boot: list[str]) -> AsyncIterator[Ours]:
    network = demo_network()
    fork_id = network.forks.fork_id(*presumed_head(network.forks, NOW))
    options = DiscoveryOptions(
        frozenset(protocols), boot, (), [Endpoint(LOOPBACK, 0)], directory, fork_id, Announcement(tcp=OUR_TCP_PORT)
    )
    ours = Ours()
    async with open_discovery(options, NOW, ours.note) as discovery:
        record = open_identity(directory).record
        assert record is not None
        ours.begin(discovery.finder, record)
        yield ours


async def hold_us(network: OtherNodes, url: str) -> None:
    """Wait until every one of them has us in its table."""
    tables: list[list[str]] = [[]]
    with trio.move_on_after(PATIENCE):
        while not all(url in table for table in tables):
            await trio.sleep(0.1)
            tables = await network.tables()
    assert all(url in table for table in tables)


def fork_hash(network: Network) -> str:
    return network.forks.fork_id(*presumed_head(network.forks, NOW)).hash.hex()


async def test_a_chain_of_discv4_nodes(tmp_path: Path) -> None:
    async with open_network("v4") as network, open_ours(tmp_path, ["v4"], network.urls[:1]) as ours:
        # We find all of them from the first one, with their addresses.
        await ours.finds(Source.DISCV4, network.nodes)
        for node in network.nodes:
            assert ours.found[Source.DISCV4][node.node_id] == node
        # They have no ENRRequest: that was tried, and they are handed on without a record.
        assert ours.finder.lanes["discv4"].counts["records fetched"] == 0
        assert ours.finder.lanes["discv4"].counts["unanswered: no answer"] >= COUNT
        # All of them know us, at our UDP and at our TCP port;
        await hold_us(network, ours.enode)
        # and a node that knows nobody but us gets to know all.
        known = await network.newcomer(ours.enode)
        assert set(known) == {*network.urls, ours.enode}


async def test_a_chain_of_discv5_nodes(tmp_path: Path) -> None:
    chain = demo_network()
    async with (
        open_network("v5", "--fork-id", fork_hash(chain)) as network,
        open_ours(tmp_path, ["v5"], network.urls[:1]) as ours,
    ):
        # We find all of them from the first one, with their records.
        await ours.finds(Source.DISCV5, network.nodes)
        for url, node in zip(network.urls, network.nodes, strict=True):
            assert ours.found[Source.DISCV5][node.node_id] == node
            assert node.record == parse_record(url)
        # Half of the records have an `eth` entry: of these nodes we know that they are on our chain, of the others that
        # they need not be dialled.
        whys = [
            check_fork_entry(parse_record(url), chain.forks, *presumed_head(chain.forks, NOW)) for url in network.urls
        ]
        assert whys[1::2] == [None] * (COUNT // 2)
        assert all(why is not None and "no eth entry" in why for why in whys[0::2])
        # All of them have our record, whose `eth` entry is a list;
        await hold_us(network, str(ours.record))
        # and a node that knows nobody but us gets to know all.
        known = await network.newcomer(str(ours.record))
        assert set(known) == {*network.urls, str(ours.record)}


async def test_both_on_one_port(tmp_path: Path) -> None:
    async with (
        open_networks(["v4", "4"], ["v5", "4"]) as (four, five),
        open_ours(tmp_path, ["v4", "v5"], [four.urls[0], five.urls[0]]) as ours,
    ):
        await ours.finds(Source.DISCV4, four.nodes)
        await ours.finds(Source.DISCV5, five.nodes)
        await hold_us(four, ours.enode)
        await hold_us(five, str(ours.record))
        # Neither side sent anything that is neither.
        assert ours.finder.counts["of no protocol"] == 0
