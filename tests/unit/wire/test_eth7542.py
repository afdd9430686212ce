"""EIP-7542: Status with a nested block range, and two messages that have no request id."""

from __future__ import annotations

from contextlib import suppress

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import eth, eth7542
from ethsync.wire.block_range import BlockRange
from ethsync.wire.forkid import ForkId
from ethsync.wire.status import Status

STATUS = Status(70, 7, b"g" * 32, ForkId(b"fork", 9), b"h" * 32, earliest=5, latest=1000)


def test_status_is_laid_out_as_the_eip_says() -> None:
    payload = eth7542.encode_status(STATUS)
    assert payload == oracle.encode([70, 7, b"h" * 32, b"g" * 32, [b"fork", 9], [5, 1000]])
    assert eth7542.decode_status(payload) == STATUS


def test_a_status_without_a_block_range_is_our_own_mistake() -> None:
    with pytest.raises(LocalProtocolError, match="needs a block range"):
        eth7542.encode_status(Status(68, 7, b"g" * 32, ForkId(b"fork", 9), b"h" * 32, total_difficulty=0))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_block_ranges_come_back(one: int, other: int) -> None:
    held = BlockRange(min(one, other), max(one, other))
    payload = eth7542.encode_block_range(held)
    assert payload == oracle.encode([held.earliest, held.latest])
    assert eth7542.heard_range(0x0C, payload) == held


def test_a_request_says_nothing_of_the_peer() -> None:
    assert eth7542.heard_range(0x0B, eth7542.REQUEST) is None
    assert eth7542.heard_range(0x00, eth7542.encode_status(STATUS)) == BlockRange(5, 1000, b"h" * 32)


@pytest.mark.parametrize(
    ("code", "item"), [(0x0C, [6, 5]), (0x0C, [6]), (0x0C, b""), (0x00, [70, 7]), (0x0D, []), (0x03, []), (0x10, [])]
)
def test_what_is_not_of_the_eip_is_malformed(code: int, item: object) -> None:
    with pytest.raises(MalformedMessage):
        eth7542.heard_range(code, oracle.encode(item))


@given(st.integers(0, 16), st.binary(max_size=200))
def test_hostile_bytes(code: int, payload: bytes) -> None:
    with suppress(MalformedMessage):
        eth7542.heard_range(code, payload)


@pytest.mark.parametrize("version", eth.VERSIONS)
@pytest.mark.parametrize("code", [0x0B, 0x0C])
def test_its_messages_do_not_exist_in_eth(version: int, code: int) -> None:
    with pytest.raises(MalformedMessage, match="does not exist"):
        eth.decode(version, code, b"\xc0")
