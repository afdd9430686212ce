"""A server tells its peers which blocks it has: in Status, when that has changed, and over EIP-7542 when asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ethsync.rlpx.connection import Connection
from ethsync.serve.blocks import HeaderChain
from ethsync.serve.demo import demo_network
from ethsync.serve.eth import RANGE_STEP, is_due
from ethsync.serve.server import Server, ServerOptions, open_server
from ethsync.state.view import StateView
from ethsync.wire import eth, eth7542
from ethsync.wire.block_range import BlockRange, BlockRangeUpdate
from ethsync.wire.eth import EthMessage, GetBlockHeaders
from ethsync.wire.eth7542 import Message7542
from ethsync.wire.headers import Header, build_header
from ethsync.wire.p2p import Capability
from tests.unit.serve.dialling import client


@pytest.fixture
async def server(view: StateView) -> AsyncIterator[Server]:
    async with open_server(view, network=demo_network()) as opened:
        yield opened


PRIVATE = Capability(eth7542.NAME, eth7542.VERSION)


def after(server: Server, blocks: int) -> Header:
    """Another head, so many blocks from the first one."""
    return build_header(number=server.head.number + blocks, timestamp=server.head.timestamp + blocks, base_fee=7)


async def ranges_until_answer(connection: Connection, version: int) -> list[BlockRangeUpdate]:
    """Ask for a header; the ranges that were told before its answer."""
    await connection.send("eth", EthMessage.GET_BLOCK_HEADERS, GetBlockHeaders(1, 0, 1).encode())
    told = []
    while (message := await connection.receive()).code != EthMessage.BLOCK_HEADERS:
        packet = eth.decode(version, message.code, message.payload)
        assert isinstance(packet, BlockRangeUpdate)
        told.append(packet)
    return told


@pytest.mark.parametrize(
    ("told", "held", "due"),
    [(100, 100, False), (100, 131, False), (100, 132, True), (100, 99, True), (100, 500, True)],
)
def test_peers_are_told_at_geths_pace(told: int, held: int, due: bool) -> None:
    assert is_due(BlockRangeUpdate(0, told, b"a" * 32), BlockRangeUpdate(0, held, b"b" * 32)) == due


@pytest.mark.parametrize("version", eth.VERSIONS)
async def test_a_head_that_moves_is_told_every_32_blocks_and_when_it_goes_back(server: Server, version: int) -> None:
    async with client(server, version) as connection:
        told: list[BlockRangeUpdate] = []
        heads = [after(server, blocks) for blocks in (RANGE_STEP - 1, RANGE_STEP, RANGE_STEP + 1, RANGE_STEP - 5)]
        for head in heads:
            server.service.chain = HeaderChain([], head)
            told += await ranges_until_answer(connection, version)
            told += await ranges_until_answer(connection, version)
    # eth/68 has no such message.
    wanted = [BlockRangeUpdate(head.number, head.number, head.hash) for head in (heads[1], heads[3])]
    assert told == ([] if version == 68 else wanted)


async def test_over_eip_7542_the_range_comes_when_asked_for(view: StateView) -> None:
    async with (
        open_server(view, network=demo_network(), options=ServerOptions(eip7542=True)) as server,
        client(server, 68, PRIVATE) as connection,
    ):
        held = BlockRange(server.head.number, server.head.number)
        # Its Status says the range,
        first = await connection.receive()
        assert (first.capability, first.code) == (eth7542.NAME, Message7542.STATUS)
        said = eth7542.decode_status(first.payload).block_range
        assert said is not None
        assert replace(said, latest_hash=None) == held
        # and so does an answer.
        await connection.send(eth7542.NAME, Message7542.REQUEST_BLOCK_RANGE, eth7542.REQUEST)
        answer = await connection.receive()
        assert (answer.capability, answer.code) == (eth7542.NAME, Message7542.SEND_BLOCK_RANGE)
        assert eth7542.decode_block_range(answer.payload) == held


async def test_eip_7542_is_not_offered_unless_wanted(server: Server) -> None:
    async with client(server, 68, PRIVATE) as connection:
        assert eth7542.NAME not in connection.capabilities
