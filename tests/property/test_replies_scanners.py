"""The scanners against a slow reader made of the `rlp` package, on valid, mutated and random messages.

All messages stand in memory with guarded ends: a scanner that reads outside the message ends the test run.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, cast

import pytest
import rlp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ethsync.errors import MalformedMessage
from ethsync.state.columns import Leaves
from ethsync.state.replies import scan_account_range, scan_blobs, scan_storage_ranges
from tests.oracles import messages
from tests.oracles.accounts import random_account, scalar
from tests.oracles.buffers import GuardedMemory
from tests.oracles.messages import Refused

MEMORY = GuardedMemory(1 << 18)
MOST = 4
MOST_BLOBS = 100
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=400)


def pairs(leaves: Leaves) -> list[tuple[bytes, bytes]]:
    return [(leaves.key(row), leaves.value(row)) for row in range(len(leaves))]


def nodes(reply: Any) -> list[bytes]:
    places = zip(reply.proof.offsets.tolist(), reply.proof.lengths.tolist(), strict=True)
    return [reply.proof.buf[at : at + size].tobytes() for at, size in places]


def accounts(payload: bytes) -> object:
    reply = scan_account_range(payload)
    return reply.request_id, pairs(reply.leaves), nodes(reply)


def slots(payload: bytes) -> object:
    reply = scan_storage_ranges(payload, MOST)
    sets = [pairs(reply.leaves[reply.starts[k] : reply.starts[k + 1]]) for k in range(len(reply))]
    return reply.request_id, sets, nodes(reply)


def codes(payload: bytes) -> object:
    reply = scan_blobs(payload, MOST_BLOBS)
    return reply.request_id, [reply.blob(index) for index in range(len(reply))]


PAIRS: list[tuple[Callable[[bytes], object], Callable[[bytes], object]]] = [
    (accounts, messages.read_account_range),
    (slots, lambda payload: messages.read_storage_ranges(payload, MOST)),
    (codes, lambda payload: messages.read_blobs(payload, MOST_BLOBS)),
]


def check(payload: bytes) -> int:
    """Scan as each of the messages; all must say what the oracle says. Returns how many accepted it."""
    valid = 0
    for scan, read in PAIRS:
        try:
            expected = read(payload)
        except Refused:
            expected = None
        for at_end in (True, False):
            held = cast("bytes", MEMORY.hold(payload, at_end=at_end).data)
            try:
                found = scan(held)
            except MalformedMessage:
                assert expected is None or has_impossible_account(expected)
                continue
            assert found == expected
            valid += at_end
    return valid


def has_impossible_account(expected: Any) -> bool:
    """Whether a message read by the oracle has an account under 5 bytes, for which the scanner may lack room."""
    return len(expected) == 3 and any(isinstance(pair, tuple) and len(pair[1]) < 5 for pair in expected[1])


def random_message(rng: Random) -> bytes:
    """A valid reply of any kind, small enough to make every byte matter."""
    request_id = rng.getrandbits(rng.choice((0, 7, 8, 63, 64)))
    proof = [rng.randbytes(rng.choice((0, 1, 32, 56, 70))) for _ in range(rng.randrange(4))]
    number = rng.randrange(3)
    if number == 0:
        held = [(rng.randbytes(32), random_account(rng).slim) for _ in range(rng.randrange(5))]
        return messages.account_range(request_id, held, proof)
    if number == 1:
        values = [rlp.encode(scalar(rng.getrandbits(rng.choice((3, 8, 250))) + 1)) for _ in range(6)]
        sets = [
            [(rng.randbytes(32), rng.choice(values)) for _ in range(rng.randrange(4))] for _ in range(rng.randrange(4))
        ]
        return messages.storage_ranges(request_id, sets, proof)
    return messages.blobs(request_id, proof)


@pytest.mark.parametrize("seed", range(10))
def test_valid_messages_are_read_as_the_oracle_reads_them(seed: int) -> None:
    rng = Random(seed)
    for _ in range(30):
        assert check(random_message(rng)) >= 1


@pytest.mark.parametrize("seed", range(30))
def test_mutated_messages(seed: int) -> None:
    # Given valid messages with a few bytes changed, dropped, doubled or moved to interesting values
    rng = Random(seed)
    for _ in range(40):
        payload = bytearray(random_message(rng))
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(payload))
            change = rng.randrange(5)
            if change == 0:
                payload[at] ^= 1 << rng.randrange(8)
            elif change == 1:
                payload[at] = rng.choice((0, 0x7F, 0x80, 0x81, 0xA0, 0xB7, 0xB8, 0xBF, 0xC0, 0xF7, 0xF8, 0xFB, 0xFF))
            elif change == 2:
                del payload[at : at + rng.choice((1, 2, 33))]
            elif change == 3:
                payload[at:at] = payload[at : at + rng.choice((1, 2, 33))]
            else:
                payload[at:at] = rng.randbytes(1)
            if not payload:
                break
        check(bytes(payload))


def test_every_byte_of_a_message_at_interesting_values() -> None:
    rng = Random(77)
    for _ in range(3):
        payload = random_message(rng)
        for at in range(min(len(payload), 150)):
            for value in (0, 0x80, 0x81, 0xA0, 0xB8, 0xBB, 0xBF, 0xC0, 0xF8, 0xFB, 0xFF, payload[at] ^ 1):
                check(payload[:at] + bytes([value]) + payload[at + 1 :])


@DETERMINISTIC
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff" + b"\xff" * 8)
@example(b"\xfb\xff\xff\xff\xff")
@example(b"\xbf" + b"\xff" * 8)
def test_random_bytes(payload: bytes) -> None:
    check(payload)


TREES = st.recursive(
    st.binary(max_size=40) | st.binary(min_size=32, max_size=32),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=30,
)


@DETERMINISTIC
@given(TREES)
def test_any_rlp(tree: object) -> None:
    check(bytes(rlp.encode(tree)))


KEY = st.binary(min_size=32, max_size=32)
PROOF = st.lists(st.binary(max_size=60), max_size=3)


@DETERMINISTIC
@given(st.integers(0, 2**64 + 5), st.lists(st.tuples(KEY, TREES), max_size=3), PROOF)
def test_pairs_of_anything(number: int, held: list[tuple[bytes, object]], proof: list[bytes]) -> None:
    for inside in ([list(pair) for pair in held], [[list(pair) for pair in held]]):
        check(bytes(rlp.encode([scalar(number), inside, proof])))


def test_lengths_that_claim_gigabytes_are_refused_at_once() -> None:
    # Given headers of 4 GiB, 2^56 and 2^64 - 1 bytes in front of a few bytes
    for base in (0xB7, 0xF7):
        for width in range(3, 9):
            header = bytes([base + width]) + b"\xff" * width
            for payload in (header, header + b"\x05" * 40, b"\xf8\x40" + header + b"\x05" * 64):
                assert check(payload) == 0
