"""Lines of the console as messages: each command, what it refers to, and what is wrong with a line."""

from __future__ import annotations

import pytest

from ethsync.console.language import COMMANDS, Known, Quit, Send, Show, parse_line
from ethsync.errors import ConfigError
from ethsync.rlpx.capabilities import negotiate
from ethsync.wire import eth, rlp
from ethsync.wire.forkid import ForkId
from ethsync.wire.p2p import Capability
from ethsync.wire.snap import REQUEST_DECODERS, SnapMessage, SnapRequest
from ethsync.wire.status import Status

BOTH = (Capability("eth", 69), Capability("snap", 1))
ROOT, HASH = b"\xaa" * 32, b"\xbb" * 32
ETH, SNAP = 0x10, 0x22


def known() -> Known:
    status = Status(69, 1, bytes(32), ForkId(b"abcd", 0), HASH, earliest=0, latest=9)
    return Known(negotiate(BOTH, BOTH), status, ROOT)


def sent(line: str) -> Send:
    action = parse_line(line, known())
    assert isinstance(action, Send)
    return action


def snap_request(line: str, code: SnapMessage) -> SnapRequest:
    action = sent(line)
    assert action.message_id == SNAP + code
    return REQUEST_DECODERS[code](action.payload)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("headers head", eth.GetBlockHeaders(1, HASH, 1)),
        ("headers", eth.GetBlockHeaders(1, HASH, 1)),
        ("headers 1000 5", eth.GetBlockHeaders(1, 1000, 5)),
        (f"headers 0x{ROOT.hex()} 0x10 2 reverse", eth.GetBlockHeaders(1, ROOT, 16, 2, True)),
        (f"bodies 0x{HASH.hex()} {ROOT.hex()}", eth.GetBlockBodies(1, (HASH, ROOT))),
        (f"receipts 0x{HASH.hex()}", eth.GetReceipts(1, (HASH,))),
        (f"transactions 0x{HASH.hex()}", eth.GetPooledTransactions(1, (HASH,))),
    ],
)
def test_requests_of_eth(line: str, request_: eth.EthPacket) -> None:
    action = sent(line)
    assert eth.decode(69, action.message_id - ETH, action.payload) == request_


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (f"receipts {HASH.hex()}", eth.GetPartialReceipts(1, (HASH,))),
        (f"receipts {HASH.hex()} index=300", eth.GetPartialReceipts(1, (HASH,), 300)),
        (f"accesslists {HASH.hex()} {ROOT.hex()}", eth.GetBlockAccessLists(1, (HASH, ROOT))),
        (f"range 5 1000 {HASH.hex()}", eth.BlockRangeUpdate(5, 1000, HASH)),
    ],
)
def test_requests_of_eth_71(line: str, request_: eth.EthPacket) -> None:
    newest = (Capability("eth", 71), Capability("snap", 1))
    action = parse_line(line, Known(negotiate(newest, newest)))
    assert isinstance(action, Send)
    assert eth.decode(71, action.message_id - ETH, action.payload) == request_


def test_requests_of_snap_know_the_last_headers_state_root() -> None:
    whole = snap_request("accounts bytes=300", SnapMessage.GET_ACCOUNT_RANGE)
    assert (whole.root, whole.origin, whole.limit, whole.response_bytes) == (ROOT, bytes(32), b"\xff" * 32, 300)  # type: ignore[union-attr]
    # A short hash is a prefix of the key space.
    part = snap_request(f"accounts 0x{HASH.hex()} origin=0x40 limit=0x80", SnapMessage.GET_ACCOUNT_RANGE)
    assert (part.root, part.origin[:2], part.limit[:2]) == (HASH, b"\x40\0", b"\x80\0")  # type: ignore[union-attr]
    storage = snap_request(f"storage {HASH.hex()} origin=0x01", SnapMessage.GET_STORAGE_RANGES)
    assert (storage.accounts, storage.origin[:1], storage.limit) == ((HASH,), b"\1", b"")  # type: ignore[union-attr]
    codes = snap_request(f"codes {HASH.hex()}", SnapMessage.GET_BYTE_CODES)
    assert codes.hashes == (HASH,)  # type: ignore[union-attr]
    nodes = snap_request(f"nodes 0x00 {HASH.hex()}/11", SnapMessage.GET_TRIE_NODES)
    assert nodes.paths == ((b"\0",), (HASH, b"\x11"))  # type: ignore[union-attr]


def test_any_message_can_be_sent() -> None:
    assert sent("ping") == Send(0x02, b"\xc0")
    assert sent("disconnect 3") == Send(0x01, rlp.encode([3]))
    assert sent("raw 0x7f c102") == Send(0x7F, b"\xc1\x02")
    value = sent("send eth 0x03 '[7, [\"0x64\", 1, 0, 0]]'")
    assert value == Send(ETH + 3, rlp.encode([7, [b"\x64", 1, 0, 0]]))


def test_other_lines() -> None:
    assert parse_line("   # a remark", known()) is None
    assert isinstance(parse_line("quit", known()), Quit)
    listed = parse_line("help", known())
    assert isinstance(listed, Show)
    assert all(command.usage in listed.text for command in COMMANDS.values())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("frobnicate", "no command"),
        ("headers x", "not a number"),
        ("headers 0xzz", "not hexadecimal"),
        (f"headers 0x{'11' * 33}", "a hash has 32"),
        ("codes", "needs a hash"),
        ("storage", "needs an account hash"),
        ("accounts frob=1", "no option 'frob'"),
        ("send eth", "which message"),
        ("send eth 0x99 []", "no message 0x99"),
        ("send les 0 []", "does not share les"),
        ("send eth 0 {}", "no RLP form"),
        ("send eth 0 [1.5]", "no RLP form"),
        ("send eth 0 [-1]", "no RLP form"),
        ("send eth 0 [", "not JSON"),
        ("raw", "which message id"),
        (f"receipts {HASH.hex()} index=3", "exist from eth/70 on"),
        (f"accesslists {HASH.hex()}", "eth/69 has no message 0x12"),
        ("range 5 6", "which blocks"),
        ("headers 'x", "cannot read that"),
    ],
)
def test_a_wrong_line_is_explained(line: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_line(line, known())


def test_what_is_not_known_yet_cannot_be_referred_to() -> None:
    fresh = Known(negotiate(BOTH, BOTH))
    with pytest.raises(ConfigError, match="no state root is known"):
        parse_line("accounts", fresh)
    with pytest.raises(ConfigError, match="no Status has come"):
        parse_line("headers head", fresh)
