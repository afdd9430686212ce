"""snap/1: all eight messages against the `rlp` package as an independent encoder."""

from __future__ import annotations

import pytest
import rlp as oracle

from ethsync.errors import LocalProtocolError, MalformedMessage
from ethsync.wire import snap
from ethsync.wire.snap import SnapMessage

ROOT, LOW, HIGH = b"r" * 32, bytes(32), b"\xff" * 32
HASHES = tuple(bytes([index]) * 32 for index in range(3))
MANY = tuple(b"%032d" % index for index in range(1024))
PROOF = (b"\xf8" + b"p" * 60, b"q" * 40)
SLIM = [1, 10**18, b"", b""]


@pytest.mark.parametrize(
    ("request_message", "item"),
    [
        (snap.GetAccountRange(1, ROOT, LOW, HIGH, 2**21), [1, ROOT, LOW, HIGH, 2**21]),
        (snap.GetStorageRanges(2**64 - 1, ROOT, HASHES, b"", b"", 500), [2**64 - 1, ROOT, HASHES, b"", b"", 500]),
        (snap.GetStorageRanges(0, ROOT, HASHES[:1], LOW, HIGH, 0), [0, ROOT, HASHES[:1], LOW, HIGH, 0]),
        (snap.GetByteCodes(7, HASHES, 127), [7, HASHES, 127]),
        (snap.GetByteCodes(7, (), 128), [7, [], 128]),
        (
            snap.GetByteCodes(7, tuple(b"%032d" % n for n in range(1024)), 1),
            [7, [b"%032d" % n for n in range(1024)], 1],
        ),
        (
            snap.GetTrieNodes(9, ROOT, ((b"\0",), (b"\x11\x22",), (HASHES[0], b"\0", b"\x20" * 33), (b"\x81",)), 9),
            [9, ROOT, [[b"\0"], [b"\x11\x22"], [HASHES[0], b"\0", b"\x20" * 33], [b"\x81"]], 9],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_requests_are_encoded_as_the_specification_says(request_message: snap.SnapRequest, item: object) -> None:
    payload = request_message.encode()
    assert payload == oracle.encode(item)
    assert snap.decode(request_message.message, payload) == request_message
    assert snap.peek_request_id(payload) == request_message.request_id


def test_account_range_wraps_what_a_kernel_encoded() -> None:
    accounts = b"".join(oracle.encode([key, SLIM]) for key in HASHES)
    payload = snap.encode_account_range(5, accounts, PROOF)
    assert payload == oracle.encode([5, [[key, SLIM] for key in HASHES], PROOF])
    decoded = snap.decode_account_range(payload)
    assert decoded == snap.AccountRange(5, tuple((key, oracle.encode(SLIM)) for key in HASHES), PROOF)


def test_storage_ranges_wraps_what_a_kernel_encoded() -> None:
    sets = [[[key, b"\x82\x12\x34"] for key in HASHES], [[HASHES[0], b"\x01"]], []]
    payload = snap.encode_storage_ranges(6, b"".join(map(oracle.encode, sets)), PROOF)
    assert payload == oracle.encode([6, sets, PROOF])
    decoded = snap.decode_storage_ranges(payload)
    assert decoded.slots == (tuple((key, b"\x82\x12\x34") for key in HASHES), ((HASHES[0], b"\x01"),), ())
    assert decoded.proof == PROOF


@pytest.mark.parametrize("blobs", [(), (b"",), (b"\x60",), (b"a" * 55, b"b" * 56, b"", b"c" * 24_576)])
def test_codes_and_nodes_are_lists_of_byte_strings(blobs: tuple[bytes, ...]) -> None:
    assert snap.encode_byte_codes(1, blobs) == snap.encode_trie_nodes(1, blobs) == oracle.encode([1, blobs])
    assert snap.decode_byte_codes(oracle.encode([1, blobs])) == snap.ByteCodes(1, blobs)
    assert snap.decode_trie_nodes(oracle.encode([1, blobs])) == snap.TrieNodes(1, blobs)


def test_a_reply_without_anything_is_legal() -> None:
    assert snap.encode_account_range(3, b"", []) == oracle.encode([3, [], []])
    assert snap.decode_account_range(oracle.encode([3, [], []])) == snap.AccountRange(3, (), ())


def test_a_storage_bound_shorter_than_a_hash_is_padded_on_the_left() -> None:
    """geth reads bounds with common.BytesToHash."""
    decoded = snap.decode_get_storage_ranges(oracle.encode([1, ROOT, [], b"\x12", b"", 5]))
    assert decoded.origin == bytes(31) + b"\x12"
    assert decoded.limit == b""


@pytest.mark.parametrize(
    ("code", "item"),
    [
        (SnapMessage.GET_ACCOUNT_RANGE, [1, ROOT, LOW, HIGH]),
        (SnapMessage.GET_ACCOUNT_RANGE, [1, ROOT, b"", HIGH, 5]),
        (SnapMessage.GET_ACCOUNT_RANGE, [b"\xff" * 9, ROOT, LOW, HIGH, 5]),
        (SnapMessage.GET_STORAGE_RANGES, [1, ROOT, [b"short"], b"", b"", 5]),
        (SnapMessage.GET_STORAGE_RANGES, [1, ROOT, [], b"x" * 33, b"", 5]),
        (SnapMessage.GET_BYTE_CODES, [1, [bytes(31)], 5]),
        (SnapMessage.GET_TRIE_NODES, [1, ROOT, [[]], 5]),
        (SnapMessage.GET_TRIE_NODES, [1, ROOT, [b"path"], 5]),
        (SnapMessage.GET_TRIE_NODES, [1, ROOT, [[[b"path"]]], 5]),
        (SnapMessage.ACCOUNT_RANGE, [1, []]),
        (SnapMessage.ACCOUNT_RANGE, [1, [[ROOT, b"slim account as bytes"]], []]),
        (SnapMessage.ACCOUNT_RANGE, [1, [[ROOT, [1, 2, b""]]], []]),
        (SnapMessage.ACCOUNT_RANGE, [1, [[b"short", SLIM]], []]),
        (SnapMessage.ACCOUNT_RANGE, [1, [], [b"node"] * 129]),
        (SnapMessage.STORAGE_RANGES, [1, [[[ROOT]]], []]),
        (SnapMessage.STORAGE_RANGES, [1, [[[ROOT, []]]], []]),
        (SnapMessage.BYTE_CODES, [1, [[]]]),
        (SnapMessage.TRIE_NODES, [1, b"node"]),
        (8, [1, []]),
    ],
)
def test_broken_messages_are_malformed(code: int, item: object) -> None:
    with pytest.raises(MalformedMessage):
        snap.decode(code, oracle.encode(item))


@pytest.mark.parametrize(
    "request_message",
    [
        snap.GetAccountRange(1, ROOT[1:], LOW, HIGH, 5),
        snap.GetAccountRange(1, ROOT, b"", HIGH, 5),
        snap.GetStorageRanges(1, ROOT, HASHES, b"x", b"", 5),
        snap.GetByteCodes(1, (*HASHES, b"short"), 5),
        snap.GetTrieNodes(1, ROOT, ((b"\0",), ()), 5),
    ],
)
def test_a_request_that_peers_would_punish_is_never_sent(request_message: snap.SnapRequest) -> None:
    with pytest.raises(LocalProtocolError):
        request_message.encode()


@pytest.mark.parametrize("request_id", [0, 1, 127, 128, 2**32, 2**64 - 1])
def test_peeking_reads_the_request_id_only(request_id: int) -> None:
    assert snap.peek_request_id(snap.encode_byte_codes(request_id, [b"x" * 100_000])) == request_id
    garbage = oracle.encode(request_id) + b"\xff\xff"
    assert snap.peek_request_id(bytes([0xC0 + len(garbage)]) + garbage) == request_id


@pytest.mark.parametrize(
    "payload", ["", "80", "c0", "c1", "c1c0", "c101ff", "ca89ffffffffffffffffff", "c100", "f90001"]
)
def test_peeking_at_garbage_is_malformed(payload: str) -> None:
    with pytest.raises(MalformedMessage):
        snap.peek_request_id(bytes.fromhex(payload))


def test_message_ids_fill_the_length() -> None:
    assert [int(message) for message in SnapMessage] == list(range(snap.LENGTH))
    assert set(snap.DECODERS) == set(SnapMessage)
