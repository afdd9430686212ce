"""Every message that we can write, we and the `rlp` package can read; no bytes make a decoder do anything else than
return a value or raise an error of our own tree."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st

from ethsync.errors import ConfigError, EthsyncError, MalformedMessage, UselessPeer
from ethsync.wire import eth, p2p, rlp, snap
from ethsync.wire.enode import parse_enode
from ethsync.wire.forkid import ForkId, ForkSchedule, decode_fork_id
from ethsync.wire.headers import BASE_FIELDS, TAIL_FIELDS, build_header, decode_header

if TYPE_CHECKING:
    from collections.abc import Callable

HASH = st.binary(min_size=32, max_size=32)
UINT64 = st.integers(0, 2**64 - 1)
NESTED: st.SearchStrategy[Any] = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5))
HASHES = st.lists(HASH, max_size=5).map(tuple)
RAW_ITEMS = st.lists(NESTED.map(oracle.encode), max_size=4).map(tuple)

SNAP_REQUESTS: st.SearchStrategy[snap.SnapRequest] = st.one_of(
    st.builds(snap.GetAccountRange, UINT64, HASH, HASH, HASH, UINT64),
    st.builds(snap.GetStorageRanges, UINT64, HASH, HASHES, st.just(b"") | HASH, st.just(b"") | HASH, UINT64),
    st.builds(snap.GetByteCodes, UINT64, HASHES, UINT64),
    st.builds(
        snap.GetTrieNodes,
        UINT64,
        HASH,
        st.lists(st.lists(st.binary(max_size=70), min_size=1, max_size=4).map(tuple), max_size=5).map(tuple),
        UINT64,
    ),
)
ETH_MESSAGES: st.SearchStrategy[Any] = st.one_of(
    st.builds(eth.GetBlockHeaders, UINT64, HASH | UINT64, UINT64, UINT64, st.booleans()),
    st.builds(eth.GetBlockBodies, UINT64, HASHES),
    st.builds(eth.GetReceipts, UINT64, HASHES),
    st.builds(eth.GetPartialReceipts, UINT64, HASHES, UINT64),
    st.builds(eth.GetPooledTransactions, UINT64, HASHES),
    st.builds(eth.GetBlockAccessLists, UINT64, HASHES),
    st.builds(eth.BlockHeaders, UINT64, RAW_ITEMS),
    st.builds(eth.BlockBodies, UINT64, RAW_ITEMS),
    st.builds(eth.Receipts, UINT64, RAW_ITEMS),
    st.builds(eth.PartialReceipts, UINT64, RAW_ITEMS),
    st.builds(eth.PartialReceipts, UINT64, RAW_ITEMS.filter(len), st.just(True)),
    st.builds(eth.PooledTransactions, UINT64, RAW_ITEMS),
    st.builds(eth.BlockAccessLists, UINT64, RAW_ITEMS),
)
FORK_IDS = st.builds(ForkId, st.binary(min_size=4, max_size=4), UINT64)


@given(NESTED)
def test_rlp_agrees_with_the_rlp_package(item: Any) -> None:
    encoded = oracle.encode(item)
    assert rlp.encode(item) == encoded
    assert rlp.decode(encoded) == item
    if isinstance(item, list):
        assert rlp.split_list(encoded) == [oracle.encode(each) for each in item]


@given(st.binary(max_size=60) | NESTED.map(oracle.encode), st.data())
def test_rlp_accepts_exactly_what_the_rlp_package_accepts(encoded: bytes, data: st.DataObject) -> None:
    if encoded and data.draw(st.booleans()):
        position = data.draw(st.integers(0, len(encoded) - 1))
        encoded = encoded[:position] + data.draw(st.binary(max_size=2)) + encoded[position + 1 :]
    try:
        expected = oracle.decode(encoded)
    except oracle.exceptions.DecodingError:
        with pytest.raises(MalformedMessage):
            rlp.decode(encoded)
    else:
        assert rlp.decode(encoded) == expected


@given(SNAP_REQUESTS)
def test_snap_requests_come_back(message: snap.SnapRequest) -> None:
    payload = message.encode()
    assert snap.decode(message.message, payload) == message
    assert snap.peek_request_id(payload) == message.request_id
    assert oracle.encode(oracle.decode(payload)) == payload


def versions_of(message: Any) -> list[int]:
    """The versions of eth in which a message is written like this."""
    receipts = {eth.GetReceipts, eth.Receipts, eth.GetPartialReceipts, eth.PartialReceipts}
    return [
        number
        for number, version in eth.VERSIONS.items()
        if message.message in version.messages
        and (
            type(message) not in receipts
            or type(message) in (eth.RECEIPT_REQUESTS[number], eth.RECEIPT_REPLIES[number])
        )
    ]


@given(ETH_MESSAGES)
def test_eth_messages_come_back(message: Any) -> None:
    payload = message.encode()
    versions = versions_of(message)
    assert versions
    for version in versions:
        assert eth.decode(version, message.message, payload) == message
    assert oracle.encode(oracle.decode(payload)) == payload


@given(st.data())
def test_status_comes_back(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from(sorted(eth.VERSIONS)))
    extra = {"total_difficulty": data.draw(st.integers(0, 2**256 - 1))} if version == 68 else {}
    bounds = {"earliest": data.draw(UINT64), "latest": data.draw(UINT64)} if version >= 69 else {}
    status = eth.Status(
        version, data.draw(UINT64), data.draw(HASH), data.draw(FORK_IDS), data.draw(HASH), **extra, **bounds
    )
    assert eth.decode_status(version, eth.encode_status(status)) == status


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=40),
    st.lists(st.builds(p2p.Capability, st.text("abcdefgh", min_size=1, max_size=8), UINT64), max_size=8).map(tuple),
    st.binary(min_size=64, max_size=64).filter(any),
    UINT64,
    UINT64,
)
def test_hello_comes_back(
    client_id: str, capabilities: tuple[p2p.Capability, ...], node_id: bytes, version: int, port: int
) -> None:
    hello = p2p.Hello(client_id, capabilities, node_id, version, port)
    assert p2p.decode_hello(p2p.encode_hello(hello)) == hello


@given(st.data(), st.integers(0, len(TAIL_FIELDS)))
def test_headers_come_back(data: st.DataObject, tail: int) -> None:
    fields: dict[str, bytes | int | None] = {}
    for name, field in [*BASE_FIELDS.items(), *list(TAIL_FIELDS.items())[:tail]]:
        if field.integer is not None:
            fields[name] = data.draw(st.integers(0, 256**field.integer - 1))
        else:
            width = field.width if field.width is not None else data.draw(st.integers(0, 40))
            fields[name] = data.draw(st.binary(min_size=width, max_size=width))
    header = build_header(**fields)
    assert {name: getattr(header, name) for name in fields} == fields
    assert decode_header(header.raw) == header
    assert oracle.encode(list(oracle.decode(header.raw))) == header.raw


DECODERS: dict[str, Callable[[bytes], object]] = {
    "rlp.decode": rlp.decode,
    "rlp.split_list": rlp.split_list,
    "rlp.integer": rlp.integer,
    "rlp.strings": rlp.strings,
    "hello": p2p.decode_hello,
    "disconnect": p2p.decode_disconnect,
    "fork id": decode_fork_id,
    "header": decode_header,
    "peek": snap.peek_request_id,
    **{f"snap {message.name}": decoder for message, decoder in snap.DECODERS.items()},
    **{f"eth/{version} {code}": partial(eth.decode, version, code) for version in eth.VERSIONS for code in range(32)},
}

TEMPLATES = st.one_of(
    SNAP_REQUESTS.map(lambda message: message.encode()),
    ETH_MESSAGES.map(lambda message: message.encode()),
    NESTED.map(oracle.encode),
    st.builds(build_header, number=UINT64, extra_data=st.binary(max_size=40)).map(lambda header: header.raw),
    st.tuples(UINT64, st.lists(st.tuples(HASH, st.tuples(UINT64, UINT64, HASH, HASH)), max_size=3), st.just([])).map(
        oracle.encode
    ),
    st.tuples(UINT64, st.lists(st.lists(st.tuples(HASH, st.binary(max_size=33)), max_size=3)), st.just([])).map(
        oracle.encode
    ),
    st.tuples(UINT64, UINT64, HASH, st.tuples(st.binary(min_size=4, max_size=4), UINT64), UINT64, UINT64, HASH).map(
        oracle.encode
    ),
)


@given(st.data())
def test_hostile_bytes_end_in_a_value_or_in_an_error_of_our_tree(data: st.DataObject) -> None:
    payload = data.draw(st.binary(max_size=300) | TEMPLATES)
    for _ in range(data.draw(st.integers(0, 3))):
        position = data.draw(st.integers(0, len(payload)))
        end = data.draw(st.integers(position, min(len(payload), position + 4)))
        payload = payload[:position] + data.draw(st.binary(max_size=4)) + payload[end:]
    for decode in DECODERS.values():
        with suppress(EthsyncError):
            decode(payload)


@given(st.text(max_size=200) | st.text("enod:/@[]?=0123456789abcdefx.", max_size=200).map("enode://".__add__))
def test_hostile_node_addresses_are_configuration_errors(text: str) -> None:
    with suppress(ConfigError):
        parse_enode(text)


@given(
    HASH,
    st.lists(st.integers(0, 100), max_size=6).map(tuple),
    st.lists(st.integers(10**9, 10**9 + 100), max_size=6).map(tuple),
    st.integers(0, 120),
    st.integers(0, 120),
)
def test_nodes_of_one_chain_accept_each_other_at_any_height(
    genesis: bytes, blocks: tuple[int, ...], times: tuple[int, ...], ours: int, theirs: int
) -> None:
    schedule = ForkSchedule(genesis, 0, blocks, times)
    # Heads of one chain: 10 blocks a second, the last block fork passed before the first time fork.
    heads = [(min(height, 100), 10**9 - 100 + height if height > 100 else 0) for height in (ours * 2, theirs * 2)]
    (our_number, our_time), (their_number, their_time) = heads
    schedule.validate(schedule.fork_id(their_number, their_time), our_number, our_time)


@given(HASH, FORK_IDS)
def test_a_random_fork_id_is_useless_or_accepted(genesis: bytes, remote: ForkId) -> None:
    schedule = ForkSchedule(genesis, 0, (10, 20), (10**9,))
    with suppress(UselessPeer):
        schedule.validate(remote, 15, 0)
