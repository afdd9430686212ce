"""Snap replies as the `rlp` package writes and reads them (devp2p caps/snap.md), and RLP that breaks its own rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import rlp
from rlp.codec import consume_length_prefix, encode_raw
from rlp.exceptions import DecodingError

from tests.oracles.accounts import scalar

Pair = tuple[bytes, bytes]


def account_range(request_id: int, accounts: Sequence[Pair], proof: Sequence[bytes] = ()) -> bytes:
    """`accounts` are (hash, slim account as RLP)."""
    pairs = [[key, rlp.decode(slim)] for key, slim in accounts]
    return bytes(encode_raw([scalar(request_id), pairs, list(proof)]))


def storage_ranges(request_id: int, sets: Sequence[Sequence[Pair]], proof: Sequence[bytes] = ()) -> bytes:
    """`sets` are lists of (hash, value as the trie holds it: RLP of the number)."""
    return bytes(encode_raw([scalar(request_id), [[list(pair) for pair in pairs] for pairs in sets], list(proof)]))


def blobs(request_id: int, items: Sequence[bytes]) -> bytes:
    return bytes(encode_raw([scalar(request_id), list(items)]))


# Reading: one level at a time, because scanners do not look into accounts.


class Refused(Exception):
    """The message is not what it should be."""


def _items(data: bytes) -> Iterator[tuple[bool, bytes, bytes]]:
    """The RLP items of which data consists: (is a list, payload, the whole item). Raises Refused."""
    at = 0
    while at < len(data):
        try:
            _, kind, size, start = consume_length_prefix(data, at)
        except (DecodingError, IndexError) as error:
            raise Refused from error
        if start + size > len(data):
            raise Refused
        yield kind is list, data[start : start + size], data[at : start + size]
        at = start + size


def _list(item: tuple[bool, bytes, bytes]) -> bytes:
    if not item[0]:
        raise Refused
    return item[1]


def _string(item: tuple[bool, bytes, bytes]) -> bytes:
    if item[0]:
        raise Refused
    return item[1]


def _fields(data: bytes, count: int) -> list[tuple[bool, bytes, bytes]]:
    fields = list(_items(data))
    if len(fields) != count:
        raise Refused
    return fields


def _open(message: bytes, count: int) -> tuple[int, list[tuple[bool, bytes, bytes]]]:
    (outer,) = _fields(message, 1)
    first, *rest = _fields(_list(outer), count)
    number = _string(first)
    if len(number) > 8 or number[:1] == b"\0":
        raise Refused
    return int.from_bytes(number, "big"), rest


def _strings(item: tuple[bool, bytes, bytes], most: int) -> list[bytes]:
    found = [_string(inner) for inner in _items(_list(item))]
    if len(found) > most:
        raise Refused
    return found


def _pair(item: tuple[bool, bytes, bytes]) -> tuple[bytes, tuple[bool, bytes, bytes]]:
    key, value = _fields(_list(item), 2)
    if len(_string(key)) != 32:
        raise Refused
    return key[1], value


def _is_slot_value(value: bytes) -> bool:
    """Whether a trie value is the canonical RLP of a number from 1 to 2^256 - 1."""
    try:
        number = rlp.decode(value)
    except (DecodingError, IndexError):
        return False
    return isinstance(number, bytes) and 0 < len(number) <= 32 and number[0] != 0


def read_account_range(message: bytes) -> tuple[int, list[Pair], list[bytes]]:
    """Raises Refused. Accounts shorter than the shortest slim account (5 bytes) are refused."""
    number, (accounts, proof) = _open(message, 3)
    pairs = []
    for item in _items(_list(accounts)):
        key, value = _pair(item)
        _list(value)
        pairs.append((key, value[2]))
    return number, pairs, _strings(proof, 128)


def read_storage_ranges(message: bytes, most: int) -> tuple[int, list[list[Pair]], list[bytes]]:
    """Raises Refused."""
    number, (outer, proof) = _open(message, 3)
    sets = []
    for item in _items(_list(outer)):
        pairs = [(key, _string(value)) for key, value in map(_pair, _items(_list(item)))]
        if not all(_is_slot_value(value) for _, value in pairs):
            raise Refused
        sets.append(pairs)
    if len(sets) > most:
        raise Refused
    return number, sets, _strings(proof, 128)


def read_blobs(message: bytes, most: int) -> tuple[int, list[bytes]]:
    """Raises Refused."""
    number, (items,) = _open(message, 2)
    return number, _strings(items, most)


# Writing what must not be written.


class Defect(Enum):
    """Ways to break the header of an RLP item."""

    LONG_FORM = "a length byte for a payload under 56 bytes"
    PADDED_LENGTH = "a length that begins with a zero byte"
    TOO_LONG = "a payload that reaches beyond what is left"
    HUGE = "a length of eight bytes"
    OTHER_KIND = "a list instead of a string, a string instead of a list"


def _header(size: int, base: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    length = scalar(size)
    return bytes([base + 55 + len(length)]) + length


def _broken_header(size: int, base: int, defect: Defect) -> bytes:
    length = scalar(size) or b"\0"
    match defect:
        case Defect.LONG_FORM:
            return bytes([base + 55 + len(length)]) + length
        case Defect.PADDED_LENGTH:
            return bytes([base + 55 + len(length) + 1]) + b"\0" + length
        case Defect.TOO_LONG:
            return bytes([base + 56, 250])
        case Defect.HUGE:
            return bytes([base + 63]) + b"\xff" * 7 + bytes([size & 255])
        case Defect.OTHER_KIND:
            return _header(size, 0xC0 if base == 0x80 else 0x80)


def broken(tree: Any, defects: Mapping[tuple[int, ...], Defect], at: tuple[int, ...] = ()) -> bytes:
    """Encode nested lists of bytes; the items at the given places (indices from the outside in) get a bad header."""
    is_list = isinstance(tree, list)
    payload = b"".join(broken(item, defects, (*at, i)) for i, item in enumerate(tree)) if is_list else bytes(tree)
    base = 0xC0 if is_list else 0x80
    if at in defects:
        return _broken_header(len(payload), base, defects[at]) + payload
    if not is_list and len(payload) == 1 and payload[0] < 0x80:
        return payload
    return _header(len(payload), base) + payload
