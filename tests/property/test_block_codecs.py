"""Bodies, receipts and access lists: round trips, the execution specification's receipts, hostile bytes and memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st
from trie import HexaryTrie

from ethsync.errors import MalformedMessage
from ethsync.state.block_roots import receipts_root
from ethsync.wire import eth, rlp
from ethsync.wire.access_lists import AccountChanges, decode_access_list
from ethsync.wire.bodies import Body, decode_body
from ethsync.wire.receipts import RECEIPT_ENCODINGS, Receipt, decode_block_receipts, encode_block_receipts
from tests.oracles.receipts import LogFields, consensus_form

UINT64 = st.integers(0, 2**64 - 1)
WORD = st.integers(0, 2**256 - 1)
INDEX = st.integers(0, 2**32 - 1)
HASH = st.binary(min_size=32, max_size=32)
ADDRESS = st.binary(min_size=20, max_size=20)
LOGS = st.lists(st.tuples(ADDRESS, st.lists(HASH, max_size=4).map(tuple), st.binary(max_size=80)), max_size=3)
TYPED = st.builds(lambda kind, data: bytes((kind,)) + data, st.integers(0, 0x7F), st.binary(min_size=1, max_size=300))
LISTS = st.lists(st.binary(max_size=60), max_size=4).map(oracle.encode)
BODIES = st.builds(
    Body,
    st.lists(TYPED | LISTS, max_size=5).map(tuple),
    st.lists(LISTS, max_size=2).map(rlp.encode_list),
    st.none() | st.lists(LISTS, max_size=5).map(tuple),
)
NESTED: st.SearchStrategy[Any] = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5))


def changes(value: st.SearchStrategy[Any], smallest: int = 0) -> st.SearchStrategy[Any]:
    return st.dictionaries(INDEX, value, min_size=smallest, max_size=3).map(lambda found: tuple(sorted(found.items())))


@st.composite
def access_lists(draw: st.DrawFn) -> tuple[AccountChanges, ...]:
    accounts = []
    for address in sorted(draw(st.sets(ADDRESS, max_size=4))):
        slots = sorted(draw(st.sets(WORD, max_size=5)))
        written = [slot for slot in slots if draw(st.booleans())]
        accounts.append(
            AccountChanges(
                address,
                tuple((slot, draw(changes(WORD, 1))) for slot in written),
                tuple(slot for slot in slots if slot not in written),
                draw(changes(WORD)),
                draw(changes(UINT64)),
                draw(changes(st.binary(max_size=40))),
            )
        )
    return tuple(accounts)


def encoded(accounts: tuple[AccountChanges, ...]) -> bytes:
    fields: list[Any] = [
        [each.address, each.storage, each.reads, each.balances, each.nonces, each.codes] for each in accounts
    ]
    return rlp.encode(fields)


@given(BODIES)
def test_bodies_come_back(body: Body) -> None:
    raw = body.encode()
    assert decode_body(raw) == body
    assert len(oracle.decode(raw)) == (2 if body.withdrawals is None else 3)


@given(access_lists())
def test_access_lists_come_back(accounts: tuple[AccountChanges, ...]) -> None:
    raw = encoded(accounts)
    assert decode_access_list(raw) == accounts
    assert oracle.encode(oracle.decode(raw)) == raw


@given(st.lists(st.tuples(st.integers(0, 0x7F), st.booleans(), UINT64, LOGS), min_size=1, max_size=6))
def test_receipts_are_those_of_the_execution_specification(
    fields: list[tuple[int, bool, int, list[LogFields]]],
) -> None:
    # Given receipts as the specification encodes them for the trie
    expected = [consensus_form(*each) for each in fields]
    trie = HexaryTrie({})
    for index, item in enumerate(expected):
        trie[oracle.encode(index)] = item
    # When ours come in any version's form
    receipts = tuple(
        Receipt(tx_type, b"\x01" if good else b"", gas, rlp.encode([list(log) for log in logs]))
        for tx_type, good, gas, logs in fields
    )
    for version in RECEIPT_ENCODINGS:
        assert decode_block_receipts(version, encode_block_receipts(version, receipts)) == receipts
    # Then they are the same bytes, with the same root.
    assert [receipt.consensus() for receipt in receipts] == expected
    assert receipts_root(receipts) == bytes(trie.root_hash)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "body": decode_body,
    "access list": decode_access_list,
    **{f"receipts of eth/{version}": partial(decode_block_receipts, version) for version in (68, 69)},
}
RECEIPTS = st.builds(
    Receipt, st.integers(0, 4), st.sampled_from([b"", b"\x01"]), UINT64, LOGS.map(lambda logs: rlp.encode(logs))
)
TEMPLATES = st.one_of(
    BODIES.map(Body.encode),
    access_lists().map(encoded),
    st.lists(RECEIPTS, max_size=3).map(partial(encode_block_receipts, 69)),
    st.lists(RECEIPTS, max_size=3).map(partial(encode_block_receipts, 68)),
    NESTED.map(oracle.encode),
    st.binary(max_size=100),
)


@given(TEMPLATES, st.data())
def test_hostile_bytes_are_malformed_or_a_value(payload: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        position = data.draw(st.integers(0, len(payload)))
        end = data.draw(st.integers(position, min(len(payload), position + 4)))
        payload = payload[:position] + data.draw(st.binary(max_size=4)) + payload[end:]
    for decode in DECODERS.values():
        with suppress(MalformedMessage):
            decode(payload)


def repeated(*items: Any, count: int) -> bytes:
    """A list of many small items: what costs most memory for each byte."""
    return rlp.encode_list(b"".join(map(oracle.encode, items)) for _ in range(count))


SMALL = 5_000
HUGE: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "headers": (eth.decode_block_headers, rlp.encode_list((b"\x01", repeated([], count=SMALL)))),
    "hashes": (eth.decode_get_block_bodies, rlp.encode_list((b"\x01", repeated(b"h" * 32, count=SMALL)))),
    "two bytes": (eth.decode_block_bodies, rlp.encode_list((b"\x01", repeated(b"\x80", count=SMALL)))),
    "bodies": (decode_body, rlp.encode_list((repeated([b"a"], count=SMALL), b"\xc0", repeated([b""], count=SMALL)))),
    "typed": (decode_body, rlp.encode_list((repeated(b"\x01\x02", count=SMALL), b"\xc0"))),
    "receipts": (partial(decode_block_receipts, 69), repeated([b"", b"", b"", []], count=SMALL)),
    "gas": (partial(decode_block_receipts, 69), repeated([b"", b"", b"\x04\x00", []], count=SMALL)),
    "balances": (
        decode_access_list,
        rlp.encode([[b"a" * 20, [], [], [(index, 300) for index in range(SMALL)], [], []]]),
    ),
    "accounts": (
        decode_access_list,
        rlp.encode([[index.to_bytes(20, "big"), [], [], [], [], []] for index in range(SMALL)]),
    ),
    "reads": (decode_access_list, rlp.encode([[b"a" * 20, [], list(range(SMALL)), [], [], []]])),
    "slots": (decode_access_list, rlp.encode([[b"a" * 20, [(n, [(0, 1)]) for n in range(SMALL)], [], [], [], []]])),
}
MOST_PER_BYTE = 100


@pytest.mark.parametrize("name", HUGE)
def test_decoding_takes_no_more_memory_than_a_hundred_bytes_for_each_byte(name: str) -> None:
    decode, payload = HUGE[name]
    tracemalloc.start()
    value = decode(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value is not None
    assert peak <= MOST_PER_BYTE * len(payload)
