"""A server that holds blocks: geth's soft limits, marks for what is missing, lists cut where they must be."""

from __future__ import annotations

import pytest
import rlp as oracle

from ethsync.serve.blocks import (
    REPLY_LIMIT,
    BlockData,
    HeaderChain,
    select_access_lists,
    select_bodies,
    select_partial_receipts,
    select_receipts,
)
from ethsync.serve.demo import demo_network, head_header
from ethsync.serve.eth import EthService
from ethsync.wire import eth
from ethsync.wire.receipts import Receipt, decode_block_receipts, encode_block_receipts

MIB = 1 << 20
HASHES = tuple(bytes((n >> 8, n & 0xFF)) + bytes(30) for n in range(1100))


def blob(size: int) -> bytes:
    return bytes(oracle.encode([bytes(size)]))


def test_bodies_end_at_the_first_that_is_not_held() -> None:
    held = {HASHES[0]: blob(1), HASHES[1]: blob(2), HASHES[3]: blob(3)}
    assert select_bodies(held, HASHES[:4]) == (blob(1), blob(2))
    assert select_bodies(held, (HASHES[2], HASHES[0])) == ()


def test_bodies_end_after_two_mebibytes() -> None:
    held = dict.fromkeys(HASHES, blob(MIB))
    assert len(select_bodies(held, HASHES)) == 2  # each has a few bytes more than 1 MiB
    held[HASHES[0]] = blob(5 * MIB)
    assert len(select_bodies(held, HASHES)) == 1


def test_no_more_than_1024_items_are_sent() -> None:
    held = dict.fromkeys(HASHES, b"\xc0")
    assert len(select_bodies(held, HASHES)) == 1024
    assert len(select_access_lists(held, HASHES)) == 1024
    receipts: dict[bytes, list[Receipt]] = {each: [] for each in HASHES}
    assert len(select_receipts(receipts, 69, HASHES)) == 1024
    assert len(select_partial_receipts(receipts, 70, HASHES, 0)[0]) == 1024


def test_an_access_list_that_is_not_held_is_marked_in_its_place() -> None:
    held = {HASHES[0]: blob(1), HASHES[2]: b"\xc0"}
    assert select_access_lists(held, HASHES[:4]) == (blob(1), b"\x80", b"\xc0", b"\x80")
    assert len(select_access_lists(dict.fromkeys(HASHES, blob(MIB)), HASHES)) == 2


def receipt(size: int) -> Receipt:
    return Receipt(2, b"\x01", 1, oracle.encode([[bytes(20), [], bytes(size)]]))


def test_receipts_end_after_two_mebibytes_or_at_the_first_block_that_is_not_held() -> None:
    held = {each: [receipt(MIB)] for each in HASHES[:5]}
    assert len(select_receipts(held, 69, HASHES)) == 2
    assert len(select_receipts(held, 68, HASHES[4:])) == 1
    assert select_partial_receipts(held, 70, HASHES[4:], 0)[1] is False


def test_a_block_whose_receipts_overflow_a_message_is_cut() -> None:
    # Given a block with 25 MiB of receipts
    block = [receipt(MIB) for _ in range(25)]
    held = {HASHES[0]: block, HASHES[1]: [receipt(1)]}
    found: list[Receipt] = []
    flags = []
    while len(found) < len(block):
        # When they are asked for from where the last answer ended
        lists, incomplete = select_partial_receipts(held, 70, HASHES[:2], len(found))
        message = eth.PartialReceipts(2**64 - 1, lists, incomplete).encode()
        # Then each message fits, and says whether the last list lacks its end.
        assert len(message) <= eth.MAX_MESSAGE_SIZE
        found += decode_block_receipts(70, lists[0])
        flags.append((len(lists), incomplete))
    assert found == block
    assert flags == [(1, True), (1, True), (1, False)]


def test_a_list_that_just_fits_is_not_cut() -> None:
    item = receipt(1000)
    whole = encode_block_receipts(70, [item, item])
    held = {HASHES[0]: [item, item]}
    assert select_partial_receipts(held, 70, HASHES[:1], 0, limit=len(whole) + 1) == ((whole,), False)
    half = encode_block_receipts(70, [item])
    assert select_partial_receipts(held, 70, HASHES[:1], 0, limit=len(whole) - 10) == ((half,), True)
    # One that does not fit at all is left out rather than cut to nothing.
    assert select_partial_receipts(held, 70, HASHES[:1], 0, limit=len(half) - 10) == ((), False)


def test_an_index_past_the_end_gives_an_empty_list() -> None:
    held = {HASHES[0]: [receipt(1)], HASHES[1]: [receipt(2)]}
    lists, incomplete = select_partial_receipts(held, 70, HASHES[:2], 9)
    assert (decode_block_receipts(70, lists[0]), incomplete) == ((), False)
    assert decode_block_receipts(70, lists[1]) == (receipt(2),)
    assert REPLY_LIMIT < eth.MAX_MESSAGE_SIZE


@pytest.mark.parametrize("version", eth.VERSIONS)
def test_a_server_says_from_which_block_on_it_holds_bodies(version: int) -> None:
    head = head_header(b"\x01" * 32, 900)
    network = demo_network()
    bare, full = (EthService(network, HeaderChain([], head), data) for data in (None, BlockData(earliest=7)))
    ranges = [(status.earliest, status.latest) for status in (bare.status(version), full.status(version))]
    assert ranges == [(head.number, head.number), (7, head.number)]
