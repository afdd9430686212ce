"""The three sources of heads behind one service."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address

import trio

from ethsync.discovery.node import Endpoint
from ethsync.heads.head import HeadFeed, HeadPhase, TrustedHead
from ethsync.heads.source import BeaconNodes, EngineApi, FixedHead, run_head_source
from ethsync.networks import load_network
from tests.oracles.beacon_node import BLINDED, blinded_block, follows_chain, open_beacon_node
from tests.oracles.engine_client import EngineClient

NETWORK = load_network("hoodi")


async def test_a_fixed_head_is_published_once_and_the_service_ends() -> None:
    feed = HeadFeed(0)
    with trio.fail_after(1):
        await run_head_source(FixedHead(bytes(32)), NETWORK, feed)
    assert (feed.head, feed.state.phase) == (TrustedHead(bytes(32)), HeadPhase.FIXED)


async def test_beacon_nodes_are_followed() -> None:
    feed = HeadFeed(trio.current_time())
    async with open_beacon_node() as node, trio.open_nursery() as nursery:
        node.replies |= {**follows_chain(NETWORK.chain_id), f"{BLINDED}head": blinded_block(5)}
        await nursery.start(run_head_source, BeaconNodes((node.url,)), NETWORK, feed)
        assert (await feed.newer_than(None)).number == 5
        nursery.cancel_scope.cancel()


async def test_the_engine_listens_once_it_is_started() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = Endpoint(IPv4Address("127.0.0.1"), free.getsockname()[1])
    feed = HeadFeed(trio.current_time())
    async with trio.open_nursery() as nursery:
        await nursery.start(run_head_source, EngineApi(address, bytes(32)), NETWORK, feed)
        client = EngineClient(address, feed)
        assert (await client.post(b"{}", None))[0] == 401
        client.close()
        nursery.cancel_scope.cancel()
