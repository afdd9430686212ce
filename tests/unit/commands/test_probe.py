"""`ethsync probe` and the progress line of `ethsync crawl`, for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import coincurve
import pytest

from ethsync.commands import crawl, probe
from ethsync.commands.crawl import line
from ethsync.commands.probe import lines
from ethsync.crawl.crawl import Crawl
from ethsync.crawl.facts import probe_facts
from ethsync.crawl.probe import Probe, Snap
from ethsync.errors import ConfigError
from ethsync.networks import load_network
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView
from ethsync.serve.demo import demo_network, head_header
from ethsync.wire import keys
from ethsync.wire.enode import Enode
from ethsync.wire.status import Status

NOW = 1_800_000_000
KEY = coincurve.PrivateKey(b"\1" * 32)
DEMO = demo_network()
HEAD = head_header(b"\x11" * 32, 1000)
STATUS = Status(
    69,
    DEMO.network_id,
    DEMO.genesis_hash,
    DEMO.forks.fork_id(1000, HEAD.timestamp),
    HEAD.hash,
    0,
    earliest=7,
    latest=1000,
)
FOUND = Probe(
    Enode(keys.identity(KEY.public_key), "127.0.0.1", 30303, 30303), connect=0.0012, client="Geth/v1\x1b[2J",
    capabilities=("eth/69", "snap/1"), status=STATUS, head=HEAD, latency=0.25, snap=Snap.SERVES, accounts=31,
)  # fmt: skip


def rows(found: Probe) -> dict[str, str]:
    shown = lines(found, probe_facts(found, [DEMO], HEAD.timestamp + 20 * 86_400))
    return {text[:13].strip(): text[14:] for text in shown}


def test_all_that_was_found_out_is_said() -> None:
    assert rows(FOUND) == {
        "client": "Geth/v1?[2J",
        "speaks": "eth/69, snap/1",
        "connected in": "1.2 ms",
        "network": f"{DEMO.name} (network id {DEMO.network_id})",
        "fork id": f"{STATUS.fork_id} (compatible)",
        "blocks": "7 to 1,000",
        "head": f"0x{HEAD.hash.hex()}, 20 d 0 h old",
        "answers in": "250.0 ms",
        "snap": "really served for its head, and proven (31 accounts)",
    }


def test_a_node_that_only_says_that_it_serves_is_told_from_one_that_does() -> None:
    assert rows(replace(FOUND, snap=Snap.EMPTY, accounts=0))["snap"] == (
        "offered, but it answered empty for its own head"
    )


def test_a_node_of_an_unknown_chain_is_named_by_its_genesis() -> None:
    stranger = replace(FOUND, status=replace(STATUS, genesis_hash=b"\x77" * 32))
    assert rows(stranger)["network"] == f"unknown, genesis 0x{'77' * 32} (network id {DEMO.network_id})"


def test_a_node_out_of_reach_is_one_line_with_the_reason() -> None:
    gone = Probe(FOUND.enode, error="no TCP connection: Connection refused")
    assert lines(gone, probe_facts(gone, [DEMO], NOW)) == [
        "127.0.0.1:30303 cannot be reached: no TCP connection: Connection refused"
    ]


def test_both_take_forks_that_are_elsewhere(tmp_path: Path) -> None:
    """A wrong one is refused before anybody is dialled."""
    for wrong in ("Amsterdm=5", "Amsterdam=5"):
        with pytest.raises(ConfigError, match="Amsterdam"):
            probe.run(str(FOUND.enode), "mainnet", as_json=False, forks=[wrong])
        with pytest.raises(ConfigError, match="Amsterdam"):
            crawl.run("mainnet", 0.0, tmp_path / "n.jsonl", "v5", ["127.0.0.1:0"], [], [wrong])
    assert not (tmp_path / "n.jsonl").exists()


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, facts: object) -> None:
        """Nothing."""


def test_a_crawl_says_what_came_of_its_looks() -> None:
    begun = Crawl(KEY, [], ChainView(load_network("mainnet"), LATER_THAN_ANY_FORK, NOW), Nowhere())
    begun.found = 1
    assert line(begun) == "1 node found, 0 looked at"
    begun.found = 1234
    begun.counts.update({"serves snap": 3, "no Hello": 1})
    assert line(begun) == "1,234 nodes found, 4 looked at: 1 no Hello, 3 serves snap"
