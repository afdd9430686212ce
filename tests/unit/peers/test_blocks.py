"""Asking a peer for parts of blocks: whole answers, short ones, too long ones, and lists that come in pieces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import rlp as oracle
import trio
from trio.testing import wait_all_tasks_blocked

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.peers.blocks import request_access_lists, request_bodies, request_headers, request_receipts
from ethsync.peers.peer import Peer, run_peer
from ethsync.rlpx.capabilities import negotiate
from ethsync.serve.blocks import BlockData, HeaderChain, select_partial_receipts
from ethsync.serve.eth import EthService
from ethsync.wire import eth, rlp
from ethsync.wire.bodies import Body
from ethsync.wire.headers import Header, build_header
from ethsync.wire.p2p import Capability
from ethsync.wire.receipts import Receipt, encode_block_receipts
from tests.unit.peers.stubs import NETWORK, StubConnection, stub_peer

LOGS = oracle.encode([[b"a" * 20, [b"t" * 32], b"d" * 100]])
HEADERS = [build_header(number=number, gas_used=1_000_000) for number in range(5)]
HASHES = tuple(header.hash for header in HEADERS)
BODY = Body((b"\x02typed", oracle.encode([b"legacy"])))
ACCESS_LIST = oracle.encode([[b"a" * 20, [], [], [], [], []]])


def receipts(count: int) -> tuple[Receipt, ...]:
    return tuple(Receipt(2, b"\x01", 21000 * (index + 1), LOGS) for index in range(count))


RECEIPTS = {block_hash: receipts(index + 3) for index, block_hash in enumerate(HASHES)}

Answer = Callable[[Any], Any]


def peer_of(version: int, answer: Answer) -> tuple[Peer, StubConnection]:
    """A peer that speaks a version of eth, and gives the answers of a function."""
    peer, connection = stub_peer()
    offered = (Capability("eth", version), Capability("snap", 1))
    connection.capabilities = negotiate(offered, offered)

    async def send(capability: str, code: int, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        request = eth.decode(version, code, payload)
        reply = answer(request)
        if reply is not None:
            connection.arrive("eth", reply.message, reply.encode())

    connection.send = send  # type: ignore[method-assign]
    return peer, connection


async def outcome(version: int, answer: Answer, ask: Callable[[Peer], Awaitable[Any]]) -> Any:
    peer, _ = peer_of(version, answer)
    found: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_peer, peer)
        with trio.fail_after(5):
            found.append(await ask(peer))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return found[0]


def server(version: int, **held: Any) -> Answer:
    service = EthService(NETWORK, HeaderChain(HEADERS, HEADERS[-1]), BlockData(**held))
    return lambda request: service.answer(version, request)


@pytest.mark.parametrize("version", eth.VERSIONS)
async def test_headers_and_bodies_come_decoded(version: int) -> None:
    answer = server(version, bodies={each: BODY.encode() for each in HASHES[:3]})
    headers = await outcome(version, answer, lambda peer: request_headers(peer, HASHES[4], 3, reverse=True))
    assert headers == (HEADERS[4], HEADERS[3], HEADERS[2])
    assert await outcome(version, answer, lambda peer: request_headers(peer, 1, 2, skip=1)) == (HEADERS[1], HEADERS[3])
    # Bodies end at the first that is not held.
    assert await outcome(version, answer, lambda peer: request_bodies(peer, HASHES)) == (BODY,) * 3


@pytest.mark.parametrize("version", eth.VERSIONS)
async def test_receipts_are_the_same_over_every_version(version: int) -> None:
    answer = server(version, receipts={each: RECEIPTS[each] for each in HASHES[:4]})
    found = await outcome(version, answer, lambda peer: request_receipts(peer, HEADERS))
    assert found == tuple(RECEIPTS[each] for each in HASHES[:4])


@pytest.mark.parametrize("limit", [400, 700, 1000, 5000])
async def test_lists_in_pieces_are_put_together(limit: int) -> None:
    # Given a server whose messages hold a few receipts only, so that lists break anywhere
    asked = []

    def answer(request: eth.GetPartialReceipts) -> eth.PartialReceipts:
        asked.append((len(request.hashes), request.first_index))
        lists, incomplete = select_partial_receipts(RECEIPTS, 70, request.hashes, request.first_index, limit)
        return eth.PartialReceipts(request.request_id, lists, incomplete)

    # When the receipts of one block after another are asked for
    found: list[Any] = []
    while len(found) < len(HEADERS):
        wanted = HEADERS[len(found) :]
        found += await outcome(70, answer, partial(request_receipts, headers=wanted))
    # Then all are complete, and where a list broke, its rest was asked for.
    assert found == list(RECEIPTS.values())
    assert (max(first for _, first in asked) > 0) == (limit < 5000)


async def test_access_lists_that_are_not_held_are_none() -> None:
    answer = server(71, access_lists={HASHES[0]: ACCESS_LIST, HASHES[2]: b"\xc0"})
    found = await outcome(71, answer, lambda peer: request_access_lists(peer, HASHES[:4]))
    assert found == (ACCESS_LIST, None, b"\xc0", None)
    with pytest.raises(LocalProtocolError, match="no block access lists in eth/70"):
        await request_access_lists(peer_of(70, answer)[0], HASHES)


async def refused(version: int, answer: Answer, ask: Callable[[Peer], Awaitable[Any]], complaint: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(MalformedMessage, match=complaint)):
        await outcome(version, answer, ask)


async def test_more_than_was_asked_for_is_refused() -> None:
    raw = HEADERS[0].raw
    await refused(
        69, lambda r: eth.BlockHeaders(r.request_id, (raw,) * 3), lambda p: request_headers(p, 0, 2), "3 headers"
    )
    empty = Body(()).encode()
    await refused(
        69, lambda r: eth.BlockBodies(r.request_id, (empty,) * 6), lambda p: request_bodies(p, HASHES), "6 bodies"
    )
    lists = encode_block_receipts(69, receipts(1))
    await refused(
        69, lambda r: eth.Receipts(r.request_id, (lists,) * 6), lambda p: request_receipts(p, HEADERS), "6 blocks"
    )
    await refused(
        71,
        lambda r: eth.BlockAccessLists(r.request_id, (b"\x80",) * 6),
        lambda p: request_access_lists(p, HASHES),
        "6 access lists",
    )


def unfinished(*items: Receipt) -> Answer:
    return lambda request: eth.PartialReceipts(request.request_id, (encode_block_receipts(70, items),), True)


@pytest.mark.parametrize(
    ("header", "answer", "complaint"),
    [
        (HEADERS[0], unfinished(), "without a receipt"),
        # Given a server that never ends, then the gas that the block used says when it is enough
        (HEADERS[0], unfinished(*[Receipt(0, b"", 1, b"\xc0")] * 20), "60 receipts of block 0"),
        (HEADERS[0], unfinished(*receipts(1)), r"48 receipts of block 0"),
        (
            HEADERS[0],
            unfinished(Receipt(0, b"", 1, rlp.encode([[b"a" * 20, [], bytes(50_000)]]))),
            r"150\d\d\d bytes of logs of block 0",
        ),
    ],
)
async def test_a_list_that_never_ends_is_refused(header: Header, answer: Answer, complaint: str) -> None:
    await refused(70, answer, lambda peer: request_receipts(peer, [header]), complaint)


async def test_a_peer_that_lost_the_rest_of_a_list_gives_none_of_it() -> None:
    answers: list[Answer] = [unfinished(*receipts(2)), lambda request: eth.PartialReceipts(request.request_id)]
    found = await outcome(70, lambda request: answers.pop(0)(request), lambda p: request_receipts(p, HEADERS))
    assert found == ()


@pytest.mark.parametrize("count", [0, 129])
async def test_we_do_not_ask_for_more_than_servers_give(count: int) -> None:
    peer, _ = peer_of(71, lambda request: None)
    with pytest.raises(LocalProtocolError, match=f"{count} bodies in one request"):
        await request_bodies(peer, [bytes(32)] * count)
