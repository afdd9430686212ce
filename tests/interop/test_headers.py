"""The chain of headers from EthereumJS, back to the genesis, while its head moves on."""

from __future__ import annotations

from pathlib import Path

import coincurve
import trio

from ethsync.networks import load_network
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView, dial_peer
from ethsync.peers.peer import run_peer
from ethsync.peers.track import RequestKind
from ethsync.store.datadir import open_datadir
from ethsync.store.headers import HeaderStore
from ethsync.sync.heads import check_header
from ethsync.wire.enode import parse_enode
from ethsync.wire.eth import GetBlockHeaders
from ethsync.wire.headers import Header
from tests.faults.header_runs import downloading, format_of
from tests.interop.peers import JsPeer, open_js_peer

BLOCKS = 2_110
"""Two pages and some: the first page is asked for by number."""


async def header_of(remote: JsPeer) -> Header:
    """The header of a peer's head, from the peer."""
    view = ChainView(load_network(remote.genesis_path), LATER_THAN_ANY_FORK, 2**33)
    block_hash = remote.head.hash
    async with (
        dial_peer(1, parse_enode(remote.enode), coincurve.PrivateKey(), view) as peer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(run_peer, peer)
        payload = await peer.request(RequestKind.HEADERS, lambda number: GetBlockHeaders(number, block_hash, 1))
        nursery.cancel_scope.cancel()
    header = check_header(block_hash, payload)
    assert header is not None
    return header


async def test_headers_of_ethereumjs_are_proven_back_to_the_genesis_while_its_head_moves(tmp_path: Path) -> None:
    async with open_js_peer(tmp_path, accounts=20, contracts=2, blocks=BLOCKS, withdrawals=0) as remote:
        await remote.command(f"head {BLOCKS - 40}")
        network = load_network(remote.genesis_path)
        with open_datadir(tmp_path / "d", format_of(network)) as datadir:
            head = await header_of(remote)
            async with downloading(datadir, [parse_enode(remote.enode)], head, network=network) as download:
                await remote.command(f"head {BLOCKS}")
                head = await header_of(remote)
                download.chain.follow(head)
                download.changes.ring()
                with trio.fail_after(30):
                    await download.finished.wait()
                    while not download.chain.done:
                        await download.changes.next().wait()
            store = HeaderStore(datadir.headers)
    assert store.top is not None
    assert (store.low, store.top.number, store.top.hash) == (0, BLOCKS, remote.head.hash)
