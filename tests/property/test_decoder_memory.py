"""What decoding costs in memory: a stated multiple of the input, whatever its shape."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from ethsync.errors import EthsyncError
from ethsync.state import replies
from ethsync.wire import eth, p2p, rlp, snap
from ethsync.wire.headers import decode_header

MULTIPLE = 72
"""Bytes of memory for each byte of a message at the most: an empty list is one byte on the wire; in Python an object of
56 to 64 bytes and a place of 8 in the list around it. Scanners need much less."""

CONSTANT = 20_000
"""Bytes besides: whatever is made once."""

SIZE = 6_000


def listed(payload: bytes) -> bytes:
    """RLP of a list with this payload."""
    size = len(payload)
    if size <= 55:
        return bytes([0xC0 + size]) + payload
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0xF7 + len(length)]) + length + payload


def keyed(values: bytes, size: int) -> bytes:
    """Pairs of ascending keys with the same value."""
    pair = listed(bytes([0xA0]) + bytes(32) + values)
    return b"".join(listed(b"\xa0" + k.to_bytes(32, "big") + values) for k in range(1, size // len(pair)))


def nested(depth: int) -> bytes:
    found = b""
    for _ in range(depth):
        found = listed(found)
    return found


SHAPES: dict[str, bytes] = {
    "empty strings": listed(b"\x80" * SIZE),
    "empty lists": listed(b"\xc0" * SIZE),
    "single bytes": listed(b"\x01" * SIZE),
    "a list of empty strings": listed(b"\x01" + listed(b"\x80" * SIZE)),
    "a list of empty lists": listed(b"\x01" + listed(b"\xc0" * SIZE) + b"\xc0"),
    "a list of small lists": listed(b"\x01" + listed(b"\xc1\x80" * (SIZE // 2)) + b"\xc0"),
    "a list of single bytes": listed(b"\x01" + listed(b"\x01" * SIZE)),
    "lists in lists": nested(SIZE // 4),
    "accounts": listed(b"\x01" + listed(keyed(listed(b"\x80" * 4), SIZE)) + b"\xc0"),
    "slots": listed(b"\x01" + listed(listed(keyed(b"\x01", SIZE))) + b"\xc0"),
    "proof nodes": listed(b"\x01\xc0" + listed(b"\x80" * SIZE)),
    "one long string": listed(b"\xb9" + SIZE.to_bytes(2, "big") + bytes(SIZE)),
    "a string that claims 4 GiB": b"\xbb\xff\xff\xff\xff" + bytes(SIZE),
    "a list that claims 4 GiB": b"\xfb\xff\xff\xff\xff" + bytes(SIZE),
}

DECODERS: dict[str, Callable[[bytes], object]] = {
    "rlp": rlp.decode,
    "hello": p2p.decode_hello,
    "disconnect": p2p.decode_disconnect,
    "header": decode_header,
    **{f"snap {message.name}": decoder for message, decoder in snap.DECODERS.items()},
    **{f"eth {code}": partial(eth.decode, 69, code) for code in (0, 1, 3, 4, 5, 9, 15, 17)},
    "scan of accounts": replies.scan_account_range,
    "scan of slots": partial(replies.scan_storage_ranges, accounts=1024),
    "scan of blobs": partial(replies.scan_blobs, most=1024),
}


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_a_decoder_takes_no_more_than_a_multiple_of_its_input(decode: Callable[[bytes], object]) -> None:
    for payload in SHAPES.values():
        tracemalloc.start()
        try:
            with suppress(EthsyncError):
                decode(payload)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= MULTIPLE * len(payload) + CONSTANT
