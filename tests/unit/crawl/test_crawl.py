"""A crawl over real sockets into both kinds of files; each node once, whatever it does."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import coincurve
import pytest
import trio
import trio.testing

from ethsync.crawl.crawl import Crawl, run_crawl
from ethsync.crawl.sinks import COLUMNS, open_sink
from ethsync.discovery.node import Endpoint, Node, node_of_enode
from ethsync.errors import ConfigError
from ethsync.peers.greeting import ChainView
from ethsync.serve.demo import demo_network
from ethsync.serve.profiles import PROFILES
from ethsync.serve.server import ServerOptions, open_server
from ethsync.state.view import StateView
from ethsync.wire import keys

NETWORK = demo_network()
KEY = coincurve.PrivateKey(b"\1" * 32)


def nobody(number: int, port: int) -> Node:
    identity = keys.identity(coincurve.PrivateKey(bytes([number]) * 32).public_key)
    return Node(keys.node_id(identity), identity, Endpoint(IPv4Address("127.0.0.1"), 30303), port)


async def crawl_three(view: StateView, path: Path) -> Crawl:
    """Given a node that serves, one that only claims to, and one that is not there; each found twice."""
    with open_sink(path) as sink, trio.socket.socket() as held:
        await held.bind(("127.0.0.1", 0))
        crawl = Crawl(KEY, [NETWORK], ChainView(NETWORK, 0, 0), sink)
        async with (
            open_server(view, network=NETWORK) as good,
            open_server(view, network=NETWORK, options=ServerOptions(profile=PROFILES["besu"])) as useless,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(run_crawl, crawl)
            found = [node_of_enode(good.enode), node_of_enode(useless.enode), nobody(7, held.getsockname()[1])]
            for node in [*found, *found, nobody(8, 0)]:
                assert node is not None
                crawl.offer(node, "discv5")
            with trio.fail_after(30):
                while crawl.counts.total() < 3:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    return crawl


def check(crawl: Crawl, rows: list[dict[str, Any]]) -> None:
    assert crawl.found == 3
    assert crawl.counts == {"serves snap": 1, "offers snap, does not serve": 1, "unreachable": 1}
    by_snap = {(row["reached"], row["snap"]) for row in rows}
    assert by_snap == {(1, "serves"), (1, "empty"), (0, "not offered")}
    assert all(row["source"] == "discv5" for row in rows)


async def test_nodes_as_json_lines(view: StateView, tmp_path: Path) -> None:
    path = tmp_path / "nodes.jsonl"
    crawl = await crawl_three(view, path)
    check(crawl, [json.loads(line) for line in path.read_text().splitlines()])


async def test_nodes_as_a_table(view: StateView, tmp_path: Path) -> None:
    path = tmp_path / "nodes.sqlite"
    crawl = await crawl_three(view, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM nodes")]
    assert list(rows[0]) == list(COLUMNS)
    check(crawl, rows)


def test_a_node_seen_again_replaces_its_row(tmp_path: Path) -> None:
    path = tmp_path / "nodes.sqlite"
    for snap in ("empty", "serves"):
        with open_sink(path) as sink:
            sink.write({"node_id": "0x01", "snap": snap, "capabilities": ["eth/69", "snap/1"]})
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT snap, capabilities FROM nodes").fetchall() == [("serves", "eth/69, snap/1")]


@pytest.mark.parametrize(
    ("name", "complaint"), [("nodes.csv", "says nothing"), ("no/such/nodes.jsonl", "cannot write")]
)
def test_an_output_that_cannot_be(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint), open_sink(tmp_path / name):
        pass
