"""Headers, bodies and receipts of blocks that EthereumJS made and executed, over eth/68, proven by their headers."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import coincurve
import trio

from ethsync.networks import load_network
from ethsync.peers.blocks import request_bodies, request_headers, request_receipts
from ethsync.peers.greeting import LATER_THAN_ANY_FORK, ChainView, dial_peer
from ethsync.peers.peer import run_peer
from ethsync.state.block_roots import check_body, check_receipts
from ethsync.wire.enode import parse_enode
from tests.interop.peers import open_js_peer


async def test_a_chain_of_ethereumjs_is_proven_block_by_block(tmp_path: Path) -> None:
    # Given ten blocks with transactions of its EVM, and genesis
    async with open_js_peer(tmp_path, accounts=50, contracts=4, blocks=10, transactions=True) as remote:
        view = ChainView(load_network(remote.genesis_path), LATER_THAN_ANY_FORK, int(time.time()))
        async with (
            dial_peer(1, parse_enode(remote.enode), coincurve.PrivateKey(), view) as peer,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(run_peer, peer)
            # When they are fetched backwards from the head
            headers = await request_headers(peer, remote.head.hash, 20, reverse=True)
            bodies = await request_bodies(peer, [header.hash for header in headers])
            receipts = await request_receipts(peer, headers)
            nursery.cancel_scope.cancel()
    # Then they are one chain, and every part is its header's.
    assert (peer.eth_version, peer.block_range) == (68, None)
    assert [header.number for header in headers] == list(range(10, -1, -1))
    assert all(child.parent_hash == parent.hash for child, parent in itertools.pairwise(headers))
    assert len(bodies) == len(receipts) == 11
    for header, body, block_receipts in zip(headers, bodies, receipts, strict=True):
        check_body(header, body)
        check_receipts(header, block_receipts)
        assert len(body.transactions) == len(block_receipts)
    assert sum(map(len, receipts)) >= 10
