"""Bodies, receipts and access lists are proven by their header, and nothing else passes for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import rlp as oracle

from ethsync.errors import Disproved
from ethsync.hashing import EMPTY_TRIE_ROOT, keccak256
from ethsync.state.block_roots import (
    check_access_list,
    check_body,
    check_receipts,
    receipts_root,
    transactions_root,
    withdrawals_root,
)
from ethsync.wire import rlp
from ethsync.wire.bodies import Body, decode_body
from ethsync.wire.headers import TAIL_FIELDS, Header, build_header, decode_header
from ethsync.wire.receipts import Receipt, decode_block_receipts
from tests.oracles.amsterdam import blocks_around_amsterdam

CHAIN = Path(__file__).parents[2] / "vectors" / "ethtest" / "chain.rlp"


def blocks() -> list[tuple[Header, bytes]]:
    """Header, and body as it travels, of the 600 blocks of go-ethereum's test chain."""
    data, found, position = CHAIN.read_bytes(), [], 0
    while position < len(data):
        _, _, end = rlp.item_bounds(data, position, len(data))
        header, *parts = rlp.split_list(data[position:end])
        found.append((decode_header(header), rlp.encode_list(parts)))
        position = end
    return found


def test_all_bodies_of_a_real_chain_are_proven_by_their_headers() -> None:
    # Given geth's chain, with legacy and typed transactions, and withdrawals
    kinds = set()
    for header, raw in blocks():
        body = decode_body(raw)
        # Then each body is its header's, and is written as it came.
        check_body(header, body)
        assert body.encode() == raw
        kinds |= {transaction[0] if transaction[0] < 0x80 else 0 for transaction in body.transactions}
    assert kinds >= {0, 1, 2, 3, 4}


def test_a_body_that_lacks_or_changes_anything_is_disproved() -> None:
    header, raw = next((header, raw) for header, raw in blocks() if len(decode_body(raw).transactions) > 1)
    body = decode_body(raw)
    transactions = body.transactions
    ommer = oracle.encode([oracle.decode(header.raw)])
    for broken, what in [
        (replace(body, transactions=transactions[:-1]), "transactions root"),
        (replace(body, transactions=transactions[::-1]), "transactions root"),
        (replace(body, ommers=ommer), "ommers hash"),
        (replace(body, withdrawals=None), "withdrawals root none instead of 0x"),
        (replace(body, withdrawals=(*(body.withdrawals or ()), b"\xc0")), "withdrawals root"),
    ]:
        with pytest.raises(Disproved, match=what):
            check_body(header, broken)


def test_a_block_from_before_shanghai_has_no_withdrawals() -> None:
    header = build_header(number=5, base_fee=7)
    check_body(header, decode_body(b"\xc2\xc0\xc0"))
    with pytest.raises(Disproved, match="instead of none in block 5"):
        check_body(header, decode_body(b"\xc3\xc0\xc0\xc0"))


def test_receipts_are_proven_by_their_root() -> None:
    log = oracle.encode([[b"a" * 20, [b"t" * 32], b"data"]])
    receipts = [Receipt(0, b"\x01", 21000, b"\xc0"), Receipt(2, b"", 60000, log)]
    header = build_header(receipts_root=receipts_root(receipts))
    check_receipts(header, receipts)
    for broken in (receipts[:1], receipts[::-1], [receipts[0], replace(receipts[1], tx_type=1)]):
        with pytest.raises(Disproved, match="receipts root"):
            check_receipts(header, broken)


def test_an_access_list_is_proven_by_the_hash_of_its_bytes() -> None:
    raw = oracle.encode([[b"a" * 20, [], [], [], [], []]])
    fields: dict[str, bytes | int | None] = {
        name: 0 if field.integer else bytes(32) for name, field in TAIL_FIELDS.items()
    }
    header = build_header(**{**fields, "block_access_list_hash": keccak256(raw)})
    check_access_list(header, raw)
    with pytest.raises(Disproved, match="block access list hash"):
        check_access_list(header, b"\xc0")
    # A block from before Amsterdam has none.
    with pytest.raises(Disproved, match="instead of none"):
        check_access_list(build_header(), raw)


def test_blocks_around_amsterdam_are_proven_by_their_headers() -> None:
    # Given blocks that geth served over eth/71: one before the fork, two after it
    for block in blocks_around_amsterdam():
        header = decode_header(block.header)
        # Then the header, of 21 or 23 fields, has the hash that geth says,
        assert (header.number, header.hash) == (block.number, block.hash)
        assert (header.slot_number is None) == (block.access_list is None) == (block.number < 6)
        # and proves the body, the receipts, with their blooms computed anew, and the access list.
        check_body(header, decode_body(block.body))
        check_receipts(header, decode_block_receipts(71, block.receipts))
        if block.access_list is not None:
            check_access_list(header, block.access_list)


def test_the_empty_lists_have_the_root_of_the_empty_trie() -> None:
    assert transactions_root([]) == withdrawals_root([]) == receipts_root([]) == EMPTY_TRIE_ROOT
    assert Body(()).encode() == b"\xc2\xc0\xc0"
