"""Replies about blocks as text: the roots on the screen are those in the header."""

from __future__ import annotations

import rlp as oracle

from ethsync.console.describe import describe, name_of
from ethsync.hashing import keccak256
from ethsync.rlpx.capabilities import negotiate
from ethsync.state.block_roots import receipts_root, transactions_root, withdrawals_root
from ethsync.wire import eth
from ethsync.wire.bodies import Body
from ethsync.wire.headers import TAIL_FIELDS, build_header
from ethsync.wire.p2p import Capability
from ethsync.wire.receipts import Receipt, encode_block_receipts

ETH = 0x10
TRANSACTIONS = (b"\x02typed", oracle.encode([b"legacy"]))
WITHDRAWALS = (oracle.encode([b"\x01", b"\x02"]),)
RECEIPTS = (Receipt(2, b"\x01", 21000, b"\xc0"), Receipt(0, b"", 42000, b"\xc0"))
ACCESS_LIST = oracle.encode([[b"a" * 20, [[b"\x01", [[b"\x01", b"\x02"]]]], [], [], [], []]])
HASHES = {"withdrawals_root": withdrawals_root(WITHDRAWALS), "block_access_list_hash": keccak256(ACCESS_LIST)}
HEADER = build_header(
    number=70,
    transactions_root=transactions_root(TRANSACTIONS),
    receipts_root=receipts_root(RECEIPTS),
    **{name: HASHES.get(name, 0 if field.integer else bytes(32)) for name, field in TAIL_FIELDS.items()},
)


def shown(reply: eth.EthReply, version: int = 71) -> str:
    offered = (Capability("eth", version), Capability("snap", 1))
    return "\n".join(describe(negotiate(offered, offered), ETH + reply.message, reply.encode()))


def test_a_body_shows_the_roots_of_its_header() -> None:
    screen = shown(eth.BlockHeaders(7, (HEADER.raw,)))
    assert screen.startswith(f"request_id: 7\nheaders: 1\n  70 0x{HEADER.hash.hex()} time 0")
    body = shown(eth.BlockBodies(7, (Body(TRANSACTIONS, withdrawals=WITHDRAWALS).encode(),)))
    for root in (HEADER.transactions_root, HEADER.withdrawals_root):
        assert root is not None
        assert f"root 0x{root.hex()}" in body
        assert f"root 0x{root.hex()}" in screen
    assert "2 transactions" in body
    assert "1 withdrawals" in body


def test_receipts_show_the_root_of_their_header_in_every_version() -> None:
    for version in eth.VERSIONS:
        reply = eth.RECEIPT_REPLIES[version](7, (encode_block_receipts(version, RECEIPTS),))
        screen = shown(reply, version)
        assert f"2 receipts, 1 of failed transactions, root 0x{HEADER.receipts_root.hex()}" in screen
        assert ("incomplete: False" in screen) == (version >= 70)


def test_access_lists_show_their_hash() -> None:
    screen = shown(eth.BlockAccessLists(7, (ACCESS_LIST, eth.UNAVAILABLE)))
    assert f"1 accounts, 1 slots changed, hash 0x{keccak256(ACCESS_LIST).hex()}" in screen
    assert "not held" in screen


def test_of_many_blocks_the_first_are_shown() -> None:
    lines = shown(eth.BlockAccessLists(7, (eth.UNAVAILABLE,) * 20)).splitlines()
    assert lines[1] == "access_lists: 20"
    assert len(lines) == 11
    assert lines[-1] == "  … 12 more"


def test_what_does_not_decode_is_said() -> None:
    assert "! does not decode: block body has 1 parts" in shown(eth.BlockBodies(7, (oracle.encode([b""]),)))


def test_messages_of_eth_71_have_names() -> None:
    offered = (Capability("eth", 71), Capability("snap", 1))
    shared = negotiate(offered, offered)
    assert name_of(shared, ETH + 0x12) == "eth/71 GET_BLOCK_ACCESS_LISTS (0x22)"
    assert name_of(shared, ETH + 0x14) == "snap/1 GET_ACCOUNT_RANGE (0x24)"
