"""The kernel that reads headers against `decode_header`, the `rlp` package and EELS, on valid and hostile bytes.

All messages stand in memory with guarded ends: a kernel that reads outside the message ends the test run.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import rlp as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from ethsync.errors import MalformedMessage
from ethsync.hashing import keccak256
from ethsync.headers.segment import segment_of
from ethsync.kernels import headers as kernel
from ethsync.kernels.rlp import MALFORMED, TOO_MANY
from ethsync.wire.headers import BASE_FIELDS, build_header, decode_header
from tests.oracles.buffers import GuardedMemory
from tests.oracles.headers import AMSTERDAM, TAILS, chain_headers, eels_hash, eels_header, random_header, reply

MEMORY = GuardedMemory(1 << 18)
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=400)

TAIL_NUMBERS = list(AMSTERDAM)


def scan(message: bytes, room: int = 8) -> tuple[int, list[list[int]]]:
    rows, counts = np.zeros((room, kernel.COLUMNS), np.int64), np.zeros(2, np.int64)
    code = int(kernel.scan_headers(MEMORY.hold(message), rows, counts))
    return code, rows[: int(counts[1])].tolist() if code == 0 else []


def expected(raw: bytes, message: bytes) -> list[int]:
    """The row of a header, from the decoder for single ones."""
    header = decode_header(raw)
    at = message.index(raw)
    fields = oracle.decode(raw)
    return [
        at,
        len(raw),
        at + raw.index(header.parent_hash),
        header.number,
        header.timestamp,
        min(3, header.difficulty),
        len(fields) - len(BASE_FIELDS),
        len(header.extra_data),
        int(header.ommers_hash == keccak256(b"\xc0") and header.nonce == bytes(8)),
        header.gas_limit,
        header.gas_used,
    ]


@pytest.mark.parametrize("fork", TAILS)
def test_headers_of_every_fork_are_read_and_hashed_as_eels_does(fork: str) -> None:
    rng = Random(1)
    for number in (0, 1, 127, 128, 2**32):
        raw = random_header(rng, number, **TAILS[fork])
        theirs = eels_header(fork, raw)
        segment = segment_of(raw)
        assert (segment.first, segment.top.time) == (int(theirs.number), int(theirs.timestamp))
        assert segment.parent == bytes(theirs.parent_hash)
        assert segment.hash == eels_hash(theirs)


def test_a_chain_that_geth_made_is_read() -> None:
    raws = chain_headers()
    message = reply(3, raws[:60])
    code, rows = scan(message, 60)
    assert code == 0
    assert rows == [expected(raw, message) for raw in raws[:60]]


@DETERMINISTIC
@given(st.integers(0, 2**63 - 1), st.integers(0, 8), st.binary(max_size=40), st.integers(0, 2**256 - 1))
def test_valid_headers_become_rows(number: int, tail: int, extra: bytes, difficulty: int) -> None:
    fields = {name: AMSTERDAM[name] for name in TAIL_NUMBERS[:tail]}
    raw = build_header(
        number=number, extra_data=extra, difficulty=difficulty, parent_hash=b"\x07" * 32, gas_limit=number, **fields
    ).raw
    message = reply(number % 5, [raw])
    assert scan(message) == (0, [expected(raw, message)])


def accepted(raw: bytes) -> bool:
    """Whether the decoder for single headers takes it."""
    try:
        decode_header(raw)
    except MalformedMessage:
        return False
    return True


@DETERMINISTIC
@given(st.data())
def test_what_the_single_decoder_refuses_the_kernel_refuses_and_nothing_else(data: st.DataObject) -> None:
    # Given a header with one field that has another size, another value, or is a list
    fields: list[object] = list(oracle.decode(build_header(number=5, timestamp=1000, **AMSTERDAM).raw))
    count = data.draw(st.integers(12, 25))
    fields = [*fields, b"x", [b"y"]][:count]
    place = data.draw(st.integers(0, count - 1))
    fields[place] = data.draw(
        st.one_of(st.binary(max_size=33), st.just([]), st.just(bytes(33)), st.binary(min_size=256, max_size=257))
    )
    raw = bytes(oracle.encode(fields))
    # Then both say the same of it.
    message = bytes(oracle.encode([b"\x01", [fields]]))
    code, rows = scan(message)
    assert (code == 0) == accepted(raw)
    assert not rows or rows == [expected_row(raw, message)]


def expected_row(raw: bytes, message: bytes) -> list[int]:
    row = expected(raw, message)
    most = 2**63 - 1
    return [min(value, most) for value in row]


@DETERMINISTIC
@given(st.integers(0, 2**32), st.integers(1, 40), st.booleans())
def test_damaged_messages_never_crash_the_kernel(seed: int, damage: int, cut: bool) -> None:
    rng = Random(seed)
    message = bytearray(reply(1, [random_header(rng, number, **AMSTERDAM) for number in range(3)]))
    for _ in range(damage):
        message[rng.randrange(min(len(message), 60 if rng.random() < 0.5 else len(message)))] = rng.randrange(256)
    if cut:
        del message[rng.randrange(len(message)) :]
    code, rows = scan(bytes(message))
    # Whatever it says, a header that it reports lies in the message and is one.
    assert code in (0, MALFORMED, TOO_MANY)
    for row in rows:
        raw = bytes(message[row[kernel.OFFSET] : row[kernel.OFFSET] + row[kernel.LENGTH]])
        assert decode_header(raw).number >= row[kernel.NUMBER]


def test_more_headers_than_rows_are_too_many() -> None:
    raws = [random_header(Random(1), number) for number in range(3)]
    assert scan(reply(1, raws), 2)[0] == TOO_MANY
    assert scan(reply(1, raws), 3)[0] == 0


def test_links_outside_the_message_are_an_error() -> None:
    buf, hashes = np.zeros(40, np.uint8), np.zeros((2, 32), np.uint8)
    for parents in ([0, 9], [-1, 0], [2**62, 0]):
        assert kernel.count_linked(buf, np.array(parents, np.int64), hashes, False) == MALFORMED
    assert kernel.count_linked(buf, np.array([0, 8], np.int64), hashes, False) == 2
    assert kernel.count_linked(buf, np.zeros(3, np.int64), hashes, False) == MALFORMED
