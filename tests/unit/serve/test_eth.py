"""The eth side of the server: headers that are held, empty lists for what is not, and a Status that fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import rlp as oracle

from ethsync.errors import HandshakeFailed, UselessPeer
from ethsync.networks import Network
from ethsync.serve.blocks import HeaderChain
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.eth import EthService
from ethsync.wire import eth
from ethsync.wire.eth import (
    BlockAccessLists,
    BlockBodies,
    BlockHeaders,
    BlockRangeUpdate,
    GetBlockAccessLists,
    GetBlockBodies,
    GetBlockHeaders,
    GetPartialReceipts,
    GetPooledTransactions,
    GetReceipts,
    PartialReceipts,
    PooledTransactions,
    Receipts,
)
from ethsync.wire.headers import Header, build_header
from ethsync.wire.status import decode_status, encode_status


@pytest.fixture
def network() -> Network:
    return demo_network()


@pytest.fixture
def headers() -> list[Header]:
    """Numbers 0 to 4, then a gap, then 9."""
    return [build_header(number=number, extra_data=b"test") for number in (0, 1, 2, 3, 4, 9)]


@pytest.fixture
def service(network: Network, headers: list[Header]) -> EthService:
    return EthService(network, HeaderChain(headers, headers[-1]))


@pytest.mark.parametrize(
    ("origin", "limit", "skip", "reverse", "numbers"),
    [
        (0, 10, 0, False, [0, 1, 2, 3, 4]),  # up to the gap
        (0, 2, 0, False, [0, 1]),
        (1, 10, 1, False, [1, 3]),
        (4, 10, 4, False, [4, 9]),
        (9, 1, 0, False, [9]),
        (9, 10, 0, True, [9]),
        (4, 10, 0, True, [4, 3, 2, 1, 0]),
        (4, 10, 1, True, [4, 2, 0]),
        (9, 10, 4, True, [9, 4]),
        (5, 10, 0, False, []),
        (0, 0, 0, False, []),
        (0, 10, 2**64 - 1, False, [0]),
    ],
)
@pytest.mark.parametrize("by_hash", [False, True])
def test_headers_are_found_by_number_and_by_hash(
    service: EthService, headers: list[Header], origin: int, limit: int, skip: int, reverse: bool, numbers: list[int],
    by_hash: bool,
) -> None:  # fmt: skip
    by_number = {header.number: header for header in headers}
    start = (by_number[origin].hash if origin in by_number else b"\x01" * 32) if by_hash else origin
    answer = service.answer(69, GetBlockHeaders(7, start, limit, skip, reverse))
    assert answer == BlockHeaders(7, tuple(by_number[number].raw for number in numbers))


def test_at_most_1024_headers_are_sent(network: Network) -> None:
    headers = [build_header(number=number) for number in range(1100)]
    answer = EthService(network, HeaderChain(headers, headers[-1])).answer(69, GetBlockHeaders(1, 0, 5000))
    assert isinstance(answer, BlockHeaders)
    assert len(answer.headers) == 1024


def test_bodies_receipts_and_transactions_are_not_held(service: EthService) -> None:
    wanted = (b"\x01" * 32,)
    assert service.answer(69, GetBlockBodies(1, wanted)) == BlockBodies(1)
    assert service.answer(69, GetReceipts(2, wanted)) == Receipts(2)
    assert service.answer(69, GetPooledTransactions(3, wanted)) == PooledTransactions(3)
    assert service.answer(70, GetPartialReceipts(4, wanted)) == PartialReceipts(4)
    assert service.answer(71, GetBlockAccessLists(5, wanted)) == BlockAccessLists(5, (b"\x80",))


@pytest.mark.parametrize("version", eth.VERSIONS)
def test_every_request_of_a_version_has_an_answer_that_it_can_read(service: EthService, version: int) -> None:
    requests = [message for message in eth.VERSIONS[version].messages if message.name.startswith("GET_")]
    assert len(requests) == (5 if version == 71 else 4)
    for message in requests:
        body: list[object] = [0, 1, 0, 0] if message is eth.EthMessage.GET_BLOCK_HEADERS else [b"\x01" * 32]
        index = [0] if version >= 70 and message is eth.EthMessage.GET_RECEIPTS else []
        answer = service.answer(version, eth.decode(version, message, oracle.encode([9, *index, body])))
        assert answer is not None
        assert answer.message == message + 1
        assert eth.decode(version, answer.message, answer.encode()) == answer


def test_announcements_and_unasked_replies_get_no_answer(service: EthService) -> None:
    assert service.answer(69, None) is None
    assert service.answer(69, BlockRangeUpdate(0, 9, b"\x01" * 32)) is None
    assert service.answer(69, BlockHeaders(1)) is None


@pytest.mark.parametrize("version", eth.VERSIONS)
def test_our_own_status_is_acceptable(network: Network, version: int) -> None:
    head = head_header(b"\x01" * 32, 1)
    service = EthService(network, HeaderChain([], head))
    status = service.status(version)
    service.check(decode_status(version, encode_status(status)), version)
    assert (status.network_id, status.head_hash) == (network.network_id, head.hash)


def test_peers_of_other_chains_are_turned_away(network: Network, service: EthService) -> None:
    status = service.status(69)
    with pytest.raises(UselessPeer):
        service.check(replace(status, network_id=1), 69)
    with pytest.raises(UselessPeer):
        service.check(replace(status, genesis_hash=b"\x01" * 32), 69)
    with pytest.raises(HandshakeFailed):
        service.check(replace(status, version=68), 69)
