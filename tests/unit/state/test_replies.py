"""Snap replies: what honest peers send is read as it was meant, and RLP that breaks a rule is refused."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import rlp

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.kernels.trie import LEAF, SLIM_ACCOUNT
from ethsync.state.columns import Leaves
from ethsync.state.replies import ProofNodes, scan_account_range, scan_blobs, scan_storage_ranges
from tests.oracles import messages
from tests.oracles.accounts import Account, random_account, scalar
from tests.oracles.messages import Defect, Pair, broken

KEYS = [keccak256(bytes([number])) for number in range(40)]
IDS = [0, 1, 127, 128, 255, 256, 2**31, 2**63 - 1, 2**63, 2**64 - 1]
SLOT_NUMBERS = [1, 0x7F, 0x80, 0xFF, 0x1234, 2**248, 2**256 - 1]
SLOT_VALUES = [bytes(rlp.encode(scalar(number))) for number in SLOT_NUMBERS]

Scanner = Callable[[bytes], Any]


def scan_sets(payload: bytes) -> Any:
    return scan_storage_ranges(payload, 5)


def scan_codes(payload: bytes) -> Any:
    return scan_blobs(payload, 5)


def pairs(leaves: Leaves) -> list[Pair]:
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


def nodes(proof: ProofNodes) -> list[bytes]:
    return [
        proof.buf[at : at + size].tobytes()
        for at, size in zip(proof.offsets.tolist(), proof.lengths.tolist(), strict=True)
    ]


# Round trips.


@pytest.mark.parametrize("request_id", IDS)
def test_account_range(request_id: int) -> None:
    # Given accounts and proof nodes of many sizes, in the order in which a peer may send them: any
    rng = Random(1)
    accounts = [(key, random_account(rng).slim) for key in KEYS]
    proof = [rng.randbytes(size) for size in (0, 1, 32, 55, 56, 532)]
    # When
    reply = scan_account_range(messages.account_range(request_id, accounts, proof))
    # Then
    assert reply.request_id == request_id
    assert pairs(reply.leaves) == accounts
    assert reply.leaves.kind == SLIM_ACCOUNT
    assert nodes(reply.proof) == proof


@pytest.mark.parametrize("request_id", IDS)
def test_storage_ranges(request_id: int) -> None:
    # Given sets with slots, one without any in the middle and one at the end
    sets: list[list[Pair]] = [list(zip(KEYS, SLOT_VALUES, strict=False)), [], [(KEYS[0], SLOT_VALUES[0])], []]
    reply = scan_storage_ranges(messages.storage_ranges(request_id, sets, [b"a node"]), 5)
    assert reply.request_id == request_id
    assert len(reply) == 4
    assert reply.starts.tolist() == [0, 7, 7, 8, 8]
    assert [pairs(reply.leaves[reply.starts[k] : reply.starts[k + 1]]) for k in range(4)] == sets
    assert reply.leaves.kind == LEAF
    assert nodes(reply.proof) == [b"a node"]


@pytest.mark.parametrize("request_id", IDS)
def test_blobs(request_id: int) -> None:
    items = [b"", b"\x00", b"\x7f", b"\x80", b"x" * 55, b"x" * 56, b"x" * 24576]
    reply = scan_blobs(messages.blobs(request_id, items), 7)
    assert reply.request_id == request_id
    assert [reply.blob(index) for index in range(len(reply))] == items


def test_empty_replies() -> None:
    # "I do not have that": all lists empty (devp2p caps/snap.md).
    accounts = scan_account_range(messages.account_range(9, []))
    assert (len(accounts.leaves), len(accounts.proof)) == (0, 0)
    slots = scan_storage_ranges(messages.storage_ranges(9, []), 3)
    assert (len(slots), len(slots.leaves), len(slots.proof), slots.starts.tolist()) == (0, 0, 0, [0])
    assert len(scan_blobs(messages.blobs(9, []), 0)) == 0


def test_an_empty_tail_with_its_proof() -> None:
    reply = scan_storage_ranges(messages.storage_ranges(9, [], [b"n" * 40]), 1)
    assert (len(reply), len(reply.proof)) == (0, 1)


# Limits.


def test_a_proof_has_at_most_128_nodes() -> None:
    proof = [b"node"] * 128
    assert len(scan_account_range(messages.account_range(1, [], proof)).proof) == 128
    assert len(scan_sets(messages.storage_ranges(1, [], proof)).proof) == 128
    for payload, scan in (
        (messages.account_range(1, [], [*proof, b"node"]), scan_account_range),
        (messages.storage_ranges(1, [], [*proof, b"node"]), scan_sets),
    ):
        with pytest.raises(MalformedMessage, match="more than 128"):
            scan(payload)


def test_no_more_sets_and_blobs_than_were_asked_for() -> None:
    one_set = [(KEYS[0], b"\x01")]
    assert len(scan_sets(messages.storage_ranges(1, [one_set] * 5))) == 5
    assert len(scan_codes(messages.blobs(1, [b"code"] * 5))) == 5
    for scan, payload in (
        (scan_sets, messages.storage_ranges(1, [one_set] * 6)),
        (scan_sets, messages.storage_ranges(1, [[]] * 6)),
        (scan_codes, messages.blobs(1, [b"code"] * 6)),
    ):
        with pytest.raises(MalformedMessage):
            scan(payload)


@pytest.mark.parametrize(("size", "value"), [(1, b"\x05"), (5, Account().slim)])
def test_as_many_of_the_smallest_items_as_a_message_can_hold(size: int, value: bytes) -> None:
    keys = [number.to_bytes(32, "big") for number in range(3000)]
    if size == 1:
        reply: Any = scan_sets(messages.storage_ranges(1, [[(key, value) for key in keys]]))
    else:
        reply = scan_account_range(messages.account_range(1, [(key, value) for key in keys]))
    assert len(reply.leaves) == 3000


def test_accounts_too_small_to_be_accounts_are_refused_and_do_not_overflow_the_columns() -> None:
    with pytest.raises(MalformedMessage):
        scan_account_range(messages.account_range(1, [(key, b"\xc0") for key in KEYS]))


# Request ids.


@pytest.mark.parametrize(
    "number", [b"\x00", b"\x81\x05", b"\x82\x00\x05", b"\x89" + b"\x01" * 9, b"\xc0", b"\xc1\x05", b"\xb8\x01\x80"],
    ids=["zero byte", "header on 5", "leading zero", "nine bytes", "empty list", "list", "long form"],
)  # fmt: skip
def test_request_ids_that_are_no_64_bit_numbers(number: bytes) -> None:
    for rest, scan in ((b"\xc0\xc0", scan_account_range), (b"\xc0\xc0", scan_sets), (b"\xc0", scan_codes)):
        assert scan(bytes([0xC1 + len(rest)]) + b"\x05" + rest).request_id == 5
        with pytest.raises(MalformedMessage):
            scan(bytes([0xC0 + len(number + rest)]) + number + rest)


# Shapes.

SLIM: list[Any] = [b"\x05", b"\x06", b"", b""]
ACCOUNTS: list[Any] = [b"\x09", [[KEYS[0], SLIM], [KEYS[1], SLIM]], [b"n" * 40, b"m" * 60]]
SLOTS: list[Any] = [b"\x09", [[[KEYS[0], b"\x05"], [KEYS[1], b"\x82\x12\x34"]], [[KEYS[2], b"\x07"]]], [b"n" * 40]]
CODES: list[Any] = [b"\x09", [b"c" * 40, b"d" * 60]]


def changed(tree: Any, at: tuple[int, ...], change: Callable[[Any], Any]) -> Any:
    """A copy of nested lists with the item at a place changed."""
    if not at:
        return change(tree)
    return [changed(item, at[1:], change) if index == at[0] else item for index, item in enumerate(tree)]


def replacement(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def accepted(scan: Scanner, tree: Any) -> bool:
    try:
        scan(broken(tree, {}))
    except MalformedMessage:
        return False
    return True


@pytest.mark.parametrize(
    ("scan", "tree", "at", "change"),
    [
        (scan_account_range, ACCOUNTS, (), lambda fields: fields[:2]),
        (scan_account_range, ACCOUNTS, (), lambda fields: [*fields, b""]),
        (scan_account_range, ACCOUNTS, (), lambda fields: [*fields, []]),
        (scan_account_range, ACCOUNTS, (1, 0), lambda pair: pair[:1]),
        (scan_account_range, ACCOUNTS, (1, 0), lambda pair: [*pair, b""]),
        (scan_account_range, ACCOUNTS, (1, 0), lambda pair: []),
        (scan_account_range, ACCOUNTS, (1, 0, 0), lambda key: key[:31]),
        (scan_account_range, ACCOUNTS, (1, 0, 0), lambda key: key + b"\0"),
        (scan_account_range, ACCOUNTS, (1, 0, 1), lambda account: b"a string"),
        (scan_account_range, ACCOUNTS, (2, 0), lambda node: [node]),
        (scan_sets, SLOTS, (), lambda fields: fields[:2]),
        (scan_sets, SLOTS, (), lambda fields: [*fields, b""]),
        (scan_sets, SLOTS, (1, 0), lambda pairs: b"pairs"),
        (scan_sets, SLOTS, (1, 0, 0), lambda pair: pair[:1]),
        (scan_sets, SLOTS, (1, 0, 0), lambda pair: [*pair, b"\x01"]),
        (scan_sets, SLOTS, (1, 0, 0, 0), lambda key: key[:31]),
        (scan_sets, SLOTS, (1, 0, 0, 0), lambda key: key + b"\0"),
        (scan_sets, SLOTS, (2, 0), lambda node: [node]),
        (scan_codes, CODES, (), lambda fields: fields[:1]),
        (scan_codes, CODES, (), lambda fields: [*fields, []]),
        (scan_codes, CODES, (1, 0), lambda code: [code]),
    ],
)
def test_wrong_shapes(scan: Scanner, tree: Any, at: tuple[int, ...], change: Callable[[Any], Any]) -> None:
    assert accepted(scan, tree)
    assert not accepted(scan, changed(tree, at, change))


@pytest.mark.parametrize(
    "value",
    [b"", b"\x80", b"\x00", b"\x81\x05", b"\x82\x00\x05", b"\x82\x05", b"\x81\x80\x00", b"\xa1" + b"\x01" * 33,
     b"\xb8\x20" + b"\x01" * 32, b"\xc0", b"\xc1\x05", b"\x05\x05"],
    ids=["nothing", "zero", "zero byte", "header on 5", "leading zero", "cut off", "byte after it", "33 bytes",
         "long form", "empty list", "list", "two numbers"],
)  # fmt: skip
def test_slot_values_that_are_no_numbers(value: bytes) -> None:
    # A slot's value is the RLP of a number from 1 to 2^256 - 1 without leading zeros (Yellow Paper 4.1).
    for at in ((1, 0, 1, 1), (1, 1, 0, 1)):
        assert not accepted(scan_sets, changed(SLOTS, at, replacement(value)))


def test_slot_values_that_are_numbers() -> None:
    for value in SLOT_VALUES:
        assert accepted(scan_sets, changed(SLOTS, (1, 0, 1, 1), replacement(value)))


# Headers.

PLACES: list[tuple[str, Scanner, Any, tuple[int, ...]]] = [
    ("account range", scan_account_range, ACCOUNTS, ()),
    ("its id", scan_account_range, ACCOUNTS, (0,)),
    ("its accounts", scan_account_range, ACCOUNTS, (1,)),
    ("an account pair", scan_account_range, ACCOUNTS, (1, 1)),
    ("an account hash", scan_account_range, ACCOUNTS, (1, 0, 0)),
    ("an account", scan_account_range, ACCOUNTS, (1, 0, 1)),
    ("its proof", scan_account_range, ACCOUNTS, (2,)),
    ("a short proof node", scan_account_range, ACCOUNTS, (2, 0)),
    ("a long proof node", scan_account_range, ACCOUNTS, (2, 1)),
    ("storage ranges", scan_sets, SLOTS, ()),
    ("the sets", scan_sets, SLOTS, (1,)),
    ("a set", scan_sets, SLOTS, (1, 1)),
    ("a slot pair", scan_sets, SLOTS, (1, 0, 1)),
    ("a slot hash", scan_sets, SLOTS, (1, 0, 1, 0)),
    ("a slot value of a byte", scan_sets, SLOTS, (1, 0, 0, 1)),
    ("a slot value", scan_sets, SLOTS, (1, 0, 1, 1)),
    ("the slots' proof", scan_sets, SLOTS, (2,)),
    ("codes", scan_codes, CODES, ()),
    ("the list of codes", scan_codes, CODES, (1,)),
    ("a short code", scan_codes, CODES, (1, 0)),
    ("a long code", scan_codes, CODES, (1, 1)),
]
HEADER_CASES = [
    pytest.param(scan, broken(tree, {at: defect}), id=f"{name}: {defect.name.lower()}")
    for name, scan, tree, at in PLACES
    for defect in Defect
    if broken(tree, {at: defect}) != broken(tree, {})  # items of 56 bytes and more rightly have the long form
]


@pytest.mark.parametrize(("scan", "damaged"), HEADER_CASES)
def test_headers_that_are_not_canonical(scan: Scanner, damaged: bytes) -> None:
    with pytest.raises(MalformedMessage):
        scan(damaged)


@pytest.mark.parametrize(("scan", "tree"), [(scan_account_range, ACCOUNTS), (scan_sets, SLOTS), (scan_codes, CODES)])
def test_the_same_messages_with_canonical_headers(scan: Scanner, tree: Any) -> None:
    assert broken(tree, {}) == rlp.encode(tree)
    assert scan(broken(tree, {})).request_id == 9


@pytest.mark.parametrize(("scan", "tree"), [(scan_account_range, ACCOUNTS), (scan_sets, SLOTS), (scan_codes, CODES)])
def test_truncations_and_trailing_bytes(scan: Scanner, tree: Any) -> None:
    intact = broken(tree, {})
    for size in range(len(intact)):
        with pytest.raises(MalformedMessage):
            scan(intact[:size])
    for tail in (b"\0", b"\x80", b"\xc0", intact):
        with pytest.raises(MalformedMessage):
            scan(intact + tail)
