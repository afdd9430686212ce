"""eth/68 to eth/71: the packets of EIP-2481, the layouts of EIP-7642, and geth's rules for Status."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import rlp as oracle

from ethsync.errors import DisconnectReason, HandshakeFailed, LocalProtocolError, MalformedMessage, UselessPeer
from ethsync.wire import eth
from ethsync.wire.eth import EthMessage
from ethsync.wire.forkid import ForkId, ForkSchedule
from ethsync.wire.headers import decode_header

EIP2481 = json.loads((Path(__file__).parents[2] / "vectors" / "eth" / "eip2481.json").read_text())
DEADC0DE = bytes(28) + bytes.fromhex("deadc0de")
FEEDBEEF = bytes(28) + bytes.fromhex("feedbeef")

GENESIS = b"g" * 32
SCHEDULE = ForkSchedule(GENESIS, 0, (100,), ())
STATUS_69 = eth.Status(69, 1, GENESIS, SCHEDULE.fork_id(100, 0), b"h" * 32, earliest=0, latest=100)
STATUS_68 = eth.Status(68, 1, GENESIS, SCHEDULE.fork_id(100, 0), b"h" * 32, total_difficulty=2**80)


def vector(name: str, index: int = 0) -> bytes:
    return bytes.fromhex(EIP2481[name][index])


@pytest.mark.parametrize("version", [68, 69])
@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (eth.GetBlockHeaders(1111, DEADC0DE, 5, 5), vector("GetBlockHeaders", 0)),
        (eth.GetBlockHeaders(1111, 9999, 5, 5), vector("GetBlockHeaders", 1)),
        (eth.GetBlockBodies(1111, (DEADC0DE, FEEDBEEF)), vector("GetBlockBodies")),
        (eth.GetReceipts(1111, (DEADC0DE, FEEDBEEF)), vector("GetReceipts")),
        (eth.GetPooledTransactions(1111, (DEADC0DE, FEEDBEEF)), vector("GetPooledTransactions")),
    ],
)
def test_requests_of_eip_2481(
    version: int,
    message: eth.GetBlockHeaders | eth.GetBlockBodies | eth.GetReceipts | eth.GetPooledTransactions,
    payload: bytes,
) -> None:
    assert message.encode() == payload
    assert eth.decode(version, message.message, payload) == message


@pytest.mark.parametrize("version", [68, 69])
@pytest.mark.parametrize(
    ("code", "name", "count"),
    [
        (EthMessage.BLOCK_HEADERS, "BlockHeaders", 1),
        (EthMessage.BLOCK_BODIES, "BlockBodies", 1),
        (EthMessage.RECEIPTS, "Receipts", 1),
        (EthMessage.POOLED_TRANSACTIONS, "PooledTransactions", 2),
    ],
)
def test_replies_of_eip_2481_keep_their_items_as_they_came(version: int, code: int, name: str, count: int) -> None:
    reply = eth.decode(version, code, vector(name))
    assert isinstance(reply, eth.BlockHeaders | eth.BlockBodies | eth.Receipts | eth.PooledTransactions)
    assert reply.request_id == 1111
    assert reply.encode() == vector(name)
    assert len(oracle.decode(vector(name))[1]) == count


def test_the_header_in_eip_2481_hashes_to_what_it_says() -> None:
    (raw,) = eth.decode_block_headers(vector("BlockHeaders")).headers
    assert decode_header(raw).hash.hex() == "8c2f2af15b7b563b6ab1e09bed0e9caade7ed730aec98b70a993597a797579a9"


def test_status_of_eth_68_is_laid_out_as_in_eip_2364() -> None:
    expected = oracle.encode([68, 1, 2**80, b"h" * 32, GENESIS, [STATUS_68.fork_id.hash, 0]])
    assert eth.encode_status(STATUS_68) == expected
    assert eth.decode(68, EthMessage.STATUS, expected) == STATUS_68


def test_status_of_eth_69_is_laid_out_as_in_eip_7642() -> None:
    expected = oracle.encode([69, 1, GENESIS, [STATUS_69.fork_id.hash, 0], 0, 100, b"h" * 32])
    assert eth.encode_status(STATUS_69) == expected
    assert eth.decode(69, EthMessage.STATUS, expected) == STATUS_69


def test_a_status_without_a_field_of_its_version_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="eth/68 Status needs total_difficulty"):
        eth.encode_status(replace(STATUS_68, total_difficulty=None))
    with pytest.raises(LocalProtocolError, match="eth/72 is not spoken"):
        eth.encode_status(replace(STATUS_69, version=72))
    with pytest.raises(LocalProtocolError, match="eth/72 is not spoken"):
        eth.decode(72, EthMessage.STATUS, b"\xc0")


def check(remote: eth.Status, version: int = 69) -> None:
    eth.check_status(remote, version=version, network_id=1, schedule=SCHEDULE, head_number=100, head_time=0)


def test_a_matching_status_passes() -> None:
    check(STATUS_69)
    check(STATUS_68, version=68)


def test_a_fresh_node_passes() -> None:
    check(replace(STATUS_69, fork_id=SCHEDULE.fork_id(0, 0), latest=0, head_hash=GENESIS))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"network_id": 5}, "network 5, not 1"),
        ({"genesis_hash": b"x" * 32}, "genesis block is 0x7878"),
        ({"fork_id": ForkId(b"none", 0)}, "another chain"),
    ],
)
def test_a_node_of_another_chain_is_useless(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(UselessPeer, match=complaint) as failure:
        check(replace(STATUS_69, **change))  # type: ignore[arg-type]
    assert failure.value.reason is DisconnectReason.USELESS_PEER


def test_a_status_of_another_version_is_incompatible() -> None:
    with pytest.raises(HandshakeFailed, match="announces eth/68 on an eth/69 connection") as failure:
        check(replace(STATUS_69, version=68))
    assert failure.value.reason is DisconnectReason.INCOMPATIBLE_VERSION


@pytest.mark.parametrize("change", [{"earliest": 101}, {"head_hash": bytes(32)}])
def test_an_impossible_range_breaks_the_protocol(change: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage, match="block range"):
        check(replace(STATUS_69, **change))  # type: ignore[arg-type]


def test_block_range_updates_are_read_and_checked() -> None:
    update = eth.BlockRangeUpdate(5, 10, b"h" * 32)
    assert update.encode() == oracle.encode([5, 10, b"h" * 32])
    assert eth.decode(69, EthMessage.BLOCK_RANGE_UPDATE, update.encode()) == update
    for broken in (replace(update, earliest=11), replace(update, latest_hash=bytes(32))):
        with pytest.raises(MalformedMessage, match="block range"):
            eth.decode(69, EthMessage.BLOCK_RANGE_UPDATE, broken.encode())


def test_versions_occupy_the_ids_of_the_specification() -> None:
    assert dict(eth.LENGTHS) == {68: 17, 69: 18, 70: 18, 71: 20}
    assert all(max(version.messages) == version.length - 1 for version in eth.VERSIONS.values())


@pytest.mark.parametrize(
    ("version", "code"),
    [(68, 0x0B), (68, 0x11), (69, 0x01), (69, 0x07), (69, 0x0D), (69, 0x12), (70, 0x07), (70, 0x13), (71, 0x0B),
     (71, 0x0C), (71, 0x14)],
)  # fmt: skip
def test_a_message_that_the_version_lacks_breaks_the_protocol(version: int, code: int) -> None:
    with pytest.raises(MalformedMessage, match=f"does not exist in eth/{version}"):
        eth.decode(version, code, b"\xc0")


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (68, EthMessage.NEW_BLOCK_HASHES),
        (68, EthMessage.NEW_BLOCK),
        (69, EthMessage.TRANSACTIONS),
        (69, EthMessage.NEW_POOLED_TRANSACTION_HASHES),
    ],
)
def test_announcements_are_legal_and_ignored(version: int, code: int) -> None:
    assert eth.decode(version, code, b"whatever") is None


@pytest.mark.parametrize(
    ("code", "item"),
    [
        (EthMessage.GET_BLOCK_HEADERS, [1, [5, 1, 0]]),
        (EthMessage.GET_BLOCK_HEADERS, [1, [5, 1, 0, 2]]),
        (EthMessage.GET_BLOCK_HEADERS, [1, [b"\xff" * 31, 1, 0, 0]]),
        (EthMessage.GET_BLOCK_HEADERS, [b"\xff" * 9, [5, 1, 0, 0]]),
        (EthMessage.GET_BLOCK_HEADERS, [1, 5]),
        (EthMessage.GET_BLOCK_BODIES, [1, [b"short"]]),
        (EthMessage.GET_RECEIPTS, [1, [[]]]),
        (EthMessage.BLOCK_HEADERS, [1]),
        (EthMessage.BLOCK_HEADERS, [1, b"headers"]),
        (EthMessage.BLOCK_HEADERS, [[], []]),
        (EthMessage.STATUS, [69, 1, GENESIS]),
        (EthMessage.STATUS, [69, 1, GENESIS[1:], [b"1234", 0], 0, 1, GENESIS]),
        (EthMessage.BLOCK_RANGE_UPDATE, [1, 2]),
    ],
)
def test_broken_messages_are_malformed(code: int, item: object) -> None:
    with pytest.raises(MalformedMessage):
        eth.decode(69, code, oracle.encode(item))


def test_a_request_for_half_a_hash_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="32 bytes, not 31"):
        eth.GetBlockHeaders(1, b"x" * 31, 1).encode()


def test_walking_back_from_a_hash_sets_the_direction() -> None:
    request = eth.GetBlockHeaders(7, DEADC0DE, 192, reverse=True)
    assert oracle.decode(request.encode()) == [b"\x07", [DEADC0DE, b"\xc0", b"", b"\x01"]]
    assert eth.decode(69, EthMessage.GET_BLOCK_HEADERS, request.encode()) == request
