"""Syncs from EthereumJS peers whose chain goes on meanwhile, with a beacon node that names its head."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ethsync.heads.source import BeaconNodes
from ethsync.networks import load_network
from ethsync.store.datadir import open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.sync.chain import ChainOptions
from ethsync.sync.pivots import PivotRules
from ethsync.sync.progress import Progress
from ethsync.sync.snap import SnapOptions, run_snap
from ethsync.wire.enode import parse_enode
from tests.faults.syncing import findings
from tests.interop.genesis import Fork
from tests.interop.peers import JsPeer, open_js_peers
from tests.oracles.beacon_node import FakeBeaconNode, beacon_head, open_beacon_node

RULES = PivotRules(1, 2)
"""The pivot moves every two blocks: EthereumJS takes a second to execute fifty."""

FIRST, LAST = 3, 17
WINDOW = 7
"""Blocks whose states are served: the pivot's, and some more, as 128 are for a way of 120."""

ACCOUNTS = 3_000

DELAY = 10
"""Milliseconds that a reply waits: where a quick machine is not done before the pivot has moved."""


@pytest.fixture
def quicker_clock() -> trio.abc.Clock:
    """A second, in which the head moves, is a fifth of a real one."""
    return MockClock(rate=5)


async def move_heads(peers: Sequence[JsPeer], beacon: FakeBeaconNode) -> None:
    """A block every second, as long as there are some."""
    began = trio.current_time() - FIRST
    for number in range(FIRST + 1, LAST + 1):
        await trio.sleep_until(began + number)
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(peer.command, f"head {number}")
        beacon.replies |= beacon_head(peers[0].head.hash, number)


@pytest.mark.parametrize("fork", ["shanghai", pytest.param("cancun", marks=pytest.mark.slow)])
async def test_heads_that_move_every_second(fork: Fork, tmp_path: Path, quicker_clock: trio.abc.Clock) -> None:
    # Given two peers with more than 3,000 accounts, and blocks that change, clear and empty storage, create accounts
    # and contracts, and delete some (contracts only before Cancun)
    async with AsyncExitStack() as stack:
        opened = open_js_peers(
            tmp_path, b"\x46" * 32, b"\x47" * 32, accounts=ACCOUNTS, contracts=100, slots=8, fork=fork, changing=LAST,
            blocks=LAST, transactions=True, fast=True, window=WINDOW, max_bytes=500, delay=DELAY,
        )  # fmt: skip
        peers = await stack.enter_async_context(opened)
        for peer in peers:
            await peer.command(f"head {FIRST}")
        beacon = await stack.enter_async_context(open_beacon_node())
        beacon.replies = beacon_head(peers[0].head.hash, FIRST, chain_id=peers[0].chain_id)
        options = SnapOptions(
            load_network(peers[0].genesis_path),
            [parse_enode(peer.enode) for peer in peers],
            ChainOptions(BeaconNodes((beacon.url,)), rules=RULES),
            tmp_path / "d",
            space_floor=0,
        )
        # When their heads move every second while their state is synced
        progress = Progress(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(move_heads, peers, beacon)
            verified = await run_snap(options, progress)
            head = peers[0].head.number
            nursery.cancel_scope.cancel()
        await peers[0].command(f"head {verified.block_number}")
    # Then the pivot has moved with them, what changed was healed, and what is held is its state,
    assert progress.pivot_moves > 2
    assert progress.healing.items > 0
    assert head - verified.block_number <= RULES.longest_way + 1
    assert verified.block_hash == f"0x{peers[0].head.hash.hex()}"
    assert verified.state_root == f"0x{peers[0].head.state_root.hex()}"
    assert verified.accounts == peers[0].head.accounts > ACCOUNTS
    assert (await findings(tmp_path / "d")).problems == []
    # with all headers back to the genesis.
    with open_datadir(tmp_path / "d") as datadir:
        store = HeaderStore(datadir.headers)
        assert store.low == 0
        assert store.hash_of(verified.block_number) == peers[0].head.hash
