"""Syncs whose head a consensus client names: over its REST API, or by calls of the Engine API. Over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio

from ethsync.counters import Counters
from ethsync.discovery.node import Endpoint
from ethsync.headers.service import open_header_chain
from ethsync.heads.head import HeadFeed
from ethsync.heads.source import BeaconNodes, EngineApi
from ethsync.serve.demo import demo_network
from ethsync.serve.server import Server, open_server
from ethsync.serve.spec import SyntheticSpec
from ethsync.serve.synthetic import create_synthetic
from ethsync.state.view import StateView
from ethsync.store.datadir import open_datadir
from ethsync.sync.chain import ALL, ChainOptions
from ethsync.sync.pivots import PivotRules
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, Verified, run_snap
from tests.oracles.beacon_node import (
    LOOPBACK,
    FakeBeaconNode,
    block_reply,
    checkpoints,
    follows_chain,
    hex32,
    open_beacon_node,
    syncing,
)
from tests.oracles.engine_client import SECRET, EngineClient, token

SPEC = SyntheticSpec(accounts=400, contracts=20, slots=300, codes=10, seed=4, code_bytes=60, headers=2500)
AT_THE_HEAD = PivotRules(distance=0)
"""The served state is that of the head: nothing is built behind it."""


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateView]:
    path = tmp_path_factory.mktemp("served") / "state"
    create_synthetic(SPEC, path)
    with open_datadir(path) as datadir:
        yield StateView(datadir)


def names(head: bytes, number: int) -> FakeBeaconNode:
    """A beacon node whose head has this execution block."""
    node = FakeBeaconNode()
    payload = {"block_hash": f"0x{head.hex()}", "parent_hash": hex32(1), "block_number": str(number)}
    node.replies = follows_chain(demo_network().chain_id, 200) | {
        "/eth/v1/node/syncing": syncing(),
        "/eth/v1/beacon/states/head/finality_checkpoints": checkpoints(0),
        "/eth/v1/beacon/blinded_blocks/head": block_reply({"execution_payload_header": payload}, 300, "fulu"),
    }
    return node


async def synced(server: Server, chain: ChainOptions, datadir: Path) -> tuple[Verified, Progress]:
    progress = Progress(trio.current_time())
    options = SnapOptions(server.network, [server.enode], chain, datadir, space_floor=0)
    with trio.fail_after(60):
        return await run_snap(options, progress), progress


def headers_held(datadir: Path) -> tuple[int, int]:
    """The lowest and the highest proven header on the disk."""
    with open_datadir(datadir) as opened:
        store = open_header_chain(opened, demo_network(), Counters()).store
        assert store.top is not None
        return store.low, store.top.number


async def test_a_beacon_node_names_the_head(view: StateView, tmp_path: Path) -> None:
    # Given a peer, and a beacon node that names a block whose state it serves
    beacon = names(view.header.hash, view.header.number)
    async with open_server(view, network=demo_network()) as server, open_beacon_node(beacon) as node:
        # When it is synced from that head
        chain = ChainOptions(BeaconNodes((node.url,)), ALL, AT_THE_HEAD)
        verified, progress = await synced(server, chain, tmp_path / "d")
    # Then it ends with that state, and with the headers behind it.
    assert verified.state_root == f"0x{view.state_root.hex()}"
    assert verified.accounts == SPEC.accounts
    assert headers_held(tmp_path / "d") == (0, SPEC.headers)
    assert progress.pivot_moves == 0


def free_port() -> int:
    """A port on loopback that nobody used a moment ago."""
    with socket.create_server((LOOPBACK, 0)) as server:
        return int(server.getsockname()[1])


async def test_a_consensus_client_drives_us(view: StateView, tmp_path: Path) -> None:
    # Given a sync that waits for a consensus client
    address = Endpoint(IPv4Address(LOOPBACK), free_port())
    chain = ChainOptions(EngineApi(address, SECRET), ALL, AT_THE_HEAD)
    client = EngineClient(address, HeadFeed(0.0))
    found: list[Verified] = []
    async with open_server(view, network=demo_network()) as server:

        async def sync() -> None:
            found.append((await synced(server, chain, tmp_path / "d"))[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sync)
            # When the client says which block is the head
            head = f"0x{server.head.hash.hex()}"
            status = await first_answer(client, head)
    # Then it is told that we are syncing, and the sync ends with that block's state.
    client.close()
    assert status == "SYNCING"
    assert found[0].block_hash == head


async def first_answer(client: EngineClient, head: str) -> str:
    """Name a head as soon as somebody listens; the status that is answered."""
    state = {"headBlockHash": head, "safeBlockHash": hex32(0), "finalizedBlockHash": hex32(0)}
    call = {"jsonrpc": "2.0", "id": 1, "method": "engine_forkchoiceUpdatedV3", "params": [state, None]}
    while True:
        try:
            _, body = await client.post(json.dumps(call).encode(), f"Bearer {token(issued=time.time())}")
        except ConnectionRefusedError:
            client.close()
            await trio.sleep(0.05)  # the process under test has not opened its socket yet
            continue
        return str(json.loads(body)["result"]["payloadStatus"]["status"])
