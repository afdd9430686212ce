"""One reply of headers: what is proven, what is malformed, what is a lie, and what is the chain's own fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ethsync.errors import Disproved, MalformedMessage, VerificationFailed
from ethsync.genesis import network_from_genesis
from ethsync.hashing import keccak256
from ethsync.headers.rules import NEVER, ChainRules, chain_rules
from ethsync.headers.segment import HeaderQuery, are_family, check_family, read_headers, segment_of
from ethsync.store.header_pages import Edge
from ethsync.store.headers import Link
from ethsync.wire.eth import GetBlockHeaders
from ethsync.wire.headers import build_header, decode_header
from tests.oracles.headers import ETHTEST, chain_headers, demo_chain, demo_rules, relinked, reply

RAWS = demo_chain(40)
RULES = demo_rules()
TOP = 30
LIMIT = 10


def by_hash(raws: list[bytes] = RAWS) -> HeaderQuery:
    return HeaderQuery(TOP, LIMIT, keccak256(raws[TOP]))


BY_NUMBER = HeaderQuery(TOP, LIMIT)


def falling(raws: list[bytes], count: int = LIMIT) -> list[bytes]:
    return raws[TOP : TOP - count : -1]


def test_requests_go_down_from_a_hash_or_a_number() -> None:
    assert BY_NUMBER.make(7) == GetBlockHeaders(7, TOP, LIMIT, 0, True)
    assert by_hash().make(7) == GetBlockHeaders(7, keccak256(RAWS[TOP]), LIMIT, 0, True)


@pytest.mark.parametrize("query", [by_hash(), BY_NUMBER])
@pytest.mark.parametrize("count", [1, 2, LIMIT])
def test_headers_come_out_in_ascending_order(query: HeaderQuery, count: int) -> None:
    segment = read_headers(reply(1, falling(RAWS, count)), query, RULES)
    assert segment is not None
    assert (segment.first, segment.last, len(segment)) == (TOP - count + 1, TOP, count)
    assert [segment.raw(number) for number in range(segment.first, TOP + 1)] == RAWS[segment.first : TOP + 1]
    lowest, highest = decode_header(RAWS[segment.first]), decode_header(RAWS[TOP])
    assert (segment.hash, segment.parent) == (highest.hash, lowest.parent_hash)
    assert (segment.bottom.time, segment.top.time) == (lowest.timestamp, highest.timestamp)
    assert segment.nbytes == sum(map(len, falling(RAWS, count)))


def test_an_empty_reply_is_none() -> None:
    assert read_headers(reply(1, []), BY_NUMBER, RULES) is None


def test_a_chain_that_geth_made_passes() -> None:
    network = network_from_genesis(ETHTEST / "genesis.json")
    raws = [network.genesis_header_raw or b"", *chain_headers()]
    segment = read_headers(reply(1, raws[::-1]), HeaderQuery(600, 601, keccak256(raws[-1])), chain_rules(network))
    assert segment is not None
    assert (segment.first, segment.last) == (0, 600)


Change = Callable[[list[bytes]], list[bytes]]


@pytest.mark.parametrize(
    ("change", "by_number", "proven"),
    [
        pytest.param(lambda raws: raws[::-1], MalformedMessage, Disproved, id="upside down"),
        pytest.param(lambda raws: raws[:4] + raws[5:], MalformedMessage, Disproved, id="gap"),
        pytest.param(lambda raws: raws[1:], MalformedMessage, Disproved, id="begins too low"),
        pytest.param(lambda raws: [*raws, RAWS[TOP - LIMIT]], MalformedMessage, MalformedMessage, id="too many"),
        pytest.param(lambda raws: raws[:3] + raws[2:-1], MalformedMessage, Disproved, id="one twice"),
        pytest.param(lambda raws: [*raws[:5], tampered(raws[5]), *raws[6:]], Disproved, Disproved, id="changed"),
        pytest.param(lambda raws: [tampered(raws[0]), *raws[1:]], None, Disproved, id="changed at the top"),
        pytest.param(lambda raws: falling(demo_chain(40, seed=2)), None, Disproved, id="another chain"),
    ],
)
def test_what_an_honest_peer_never_sends(
    change: Change, by_number: type[Exception] | None, proven: type[Exception]
) -> None:
    payload = reply(1, change(falling(RAWS)))
    with pytest.raises(proven):
        read_headers(payload, by_hash(), RULES)
    if by_number is None:  # nothing shows it before the hash is known
        assert read_headers(payload, BY_NUMBER, RULES) is not None
        return
    with pytest.raises(by_number):
        read_headers(payload, BY_NUMBER, RULES)


def tampered(raw: bytes) -> bytes:
    header = decode_header(raw)
    at = raw.index(header.logs_bloom)
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\xc2\x01\x80", b"\x01", reply(1, RAWS[TOP:])[:-1]])
def test_bytes_that_are_no_reply_are_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_headers(payload, BY_NUMBER, RULES)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"requests_hash": bytes(32)}, "has not the fields of its fork"),
        ({"gas_used": 40_000_000}, "used more gas"),
        ({"nonce": b"\x01" * 8}, "after the merge"),
        ({"ommers_hash": b"\x01" * 32}, "after the merge"),
        ({"extra_data": bytes(33)}, "after the merge"),
        ({"timestamp": decode_header(RAWS[TOP - 6]).timestamp}, "is not later"),
        ({"timestamp": 5}, "is not later"),
        ({"difficulty": 3}, "has a difficulty"),
        ({"number": 24}, "has not the number"),
    ],
)
def test_a_chain_that_breaks_a_rule(fields: dict[str, bytes | int], sentence: str) -> None:
    # Given a chain whose hashes all fit, and one header that cannot be
    raws = relinked(RAWS, TOP - 5, **fields)
    payload = reply(1, falling(raws))
    # Then whoever sent it by number is at fault,
    with pytest.raises(MalformedMessage):
        read_headers(payload, BY_NUMBER, RULES)
    # and the trusted head itself if it is proven.
    with pytest.raises(VerificationFailed, match=sentence):
        read_headers(payload, by_hash(raws), RULES)


def test_a_chain_with_another_genesis() -> None:
    other = ChainRules(RULES.schedule, b"\x01" * 32)
    payload = reply(1, RAWS[4::-1])
    with pytest.raises(MalformedMessage):
        read_headers(payload, HeaderQuery(4, 5), other)
    with pytest.raises(VerificationFailed, match="not the genesis"):
        read_headers(payload, HeaderQuery(4, 5, keccak256(RAWS[4])), other)


def test_fields_of_forks_that_we_do_not_know_pass_after_the_last_that_we_know() -> None:
    schedule = np.array([0] * 5, np.int64)
    fields: dict[str, bytes | int] = {
        "base_fee": 1, "withdrawals_root": bytes(32), "blob_gas_used": 0, "excess_blob_gas": 0,
        "parent_beacon_root": bytes(32), "requests_hash": bytes(32), "block_access_list_hash": bytes(32),
    }  # fmt: skip
    complete = build_header(number=9, timestamp=9, slot_number=1, **fields)
    assert read_headers(reply(1, [complete.raw]), HeaderQuery(9, 1), ChainRules(schedule, b"")) is not None
    short = build_header(number=9, timestamp=9, **fields)
    with pytest.raises(MalformedMessage):
        read_headers(reply(1, [short.raw]), HeaderQuery(9, 1), ChainRules(schedule, b""))


def test_forks_begin_with_their_block_and_their_time() -> None:
    rules = ChainRules(np.array([10, 100, NEVER, NEVER, NEVER], np.int64), b"")

    def fits(number: int, timestamp: int, **tail: bytes | int) -> bool:
        raw = build_header(number=number, timestamp=timestamp, difficulty=5, **tail).raw
        try:
            return read_headers(reply(1, [raw]), HeaderQuery(number, 1), rules) is not None
        except MalformedMessage:
            return False

    assert fits(9, 50)
    assert not fits(10, 50)
    assert fits(10, 50, base_fee=1)
    assert not fits(9, 50, base_fee=1)
    assert fits(11, 100, base_fee=1, withdrawals_root=bytes(32))
    assert not fits(11, 99, base_fee=1, withdrawals_root=bytes(32))


POW, CLIQUE, POS = 3, 2, 0


@pytest.mark.parametrize(
    ("child", "parent", "fits"),
    [
        (Edge(11, POS), Edge(10, POS), True),
        (Edge(10, POS), Edge(10, POS), False),
        (Edge(11, POS), Edge(10, POW), True),  # the merge
        (Edge(11, POW), Edge(10, POS), False),  # and back
        (Edge(10, POW), Edge(10, POW), False),
        (Edge(10, CLIQUE), Edge(10, CLIQUE), True),  # clique without a period
        (Edge(9, CLIQUE), Edge(10, CLIQUE), False),
    ],
)
def test_parents_and_children(child: Edge, parent: Edge, fits: bool) -> None:
    link = Link(5, b"", child)
    assert are_family(link, parent) is fits
    if fits:
        check_family(link, parent)
    else:
        with pytest.raises(VerificationFailed, match="header 6"):
            check_family(link, parent)
    # The trusted head has no child to be compared with.
    check_family(Link(5, b""), parent)


def test_a_genesis_without_difficulty_may_have_children_with_one() -> None:
    assert are_family(Link(0, b"", Edge(1, POW)), Edge(0, 0))


def test_a_single_header_is_a_segment() -> None:
    segment = segment_of(RAWS[7])
    assert (segment.first, segment.last, segment.hash) == (7, 7, keccak256(RAWS[7]))
    with pytest.raises(MalformedMessage):
        segment_of(RAWS[7] + RAWS[8])
    with pytest.raises(MalformedMessage):
        segment_of(b"\x80")
