"""Strict RLP (Yellow Paper, appendix B) for messages that are few or small.

The encoders take and give `bytes`; lists are built from items that are encoded already. The decoders accept only the
canonical form and raise `MalformedMessage` on everything else. Bulk replies are scanned by `ethsync.kernels` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from ethsync.errors import MalformedMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RLPItem: TypeAlias = "bytes | list[RLPItem]"
"""A decoded item: a byte string, or a list of items."""

Encodable: TypeAlias = "bytes | int | Sequence[Encodable]"
"""What `encode` takes: byte strings, non-negative integers, and sequences of them."""

Buffer: TypeAlias = "bytes | bytearray | memoryview"

MAX_DEPTH = 24
"""Nesting that `decode` follows. The deepest Ethereum message (eth/69 Receipts with log topics) has 7 levels."""

MAX_ITEMS = 1 << 16
"""Items that one call makes: bounds its memory (about 100 bytes each) and its time (about 50 ms) on hostile input.

64 times what any server answers in one reply (geth: 1,024 headers, hashes or trie nodes)."""

_SHORT = 55  # longest payload whose length fits the prefix byte (Yellow Paper, appendix B)
_STRING_PREFIXES = tuple(bytes((0x80 + length,)) for length in range(_SHORT + 1))
_LIST_PREFIXES = tuple(bytes((0xC0 + length,)) for length in range(_SHORT + 1))


def _long_prefix(length: int, offset: int) -> bytes:
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((offset + _SHORT + len(size),)) + size


def list_prefix(length: int) -> bytes:
    """Return the prefix of a list whose encoded items take `length` bytes in all."""
    return _LIST_PREFIXES[length] if length <= _SHORT else _long_prefix(length, 0xC0)


def string_prefix(length: int) -> bytes:
    """Return the prefix of a byte string of `length` bytes, which must not be a single byte under 0x80."""
    return _STRING_PREFIXES[length] if length <= _SHORT else _long_prefix(length, 0x80)


def encode_bytes(data: bytes) -> bytes:
    """Encode one byte string."""
    if len(data) == 1 and data[0] < 0x80:
        return data
    return string_prefix(len(data)) + data


def encode_int(number: int) -> bytes:
    """Encode a non-negative integer as its shortest big-endian bytes; zero is the empty string."""
    if 0 < number < 0x80:
        return bytes((number,))
    return encode_bytes(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def encode_list(items: Iterable[bytes]) -> bytes:
    """Encode a list of items that are encoded already."""
    payload = b"".join(items)
    return list_prefix(len(payload)) + payload


def encode(value: Encodable) -> bytes:
    """Encode byte strings, integers and sequences of them, nested as needed."""
    if isinstance(value, bytes):
        return encode_bytes(value)
    if isinstance(value, int):
        return encode_int(value)
    return encode_list(encode(item) for item in value)


def item_bounds(data: Buffer, position: int, end: int) -> tuple[bool, int, int]:
    """Read one item's prefix at `position`; return (is a list, start of its payload, end of its payload).

    Nothing outside `data[position:end]` is looked at. Raises `MalformedMessage` if the prefix is cut off or not
    canonical, or if the payload would reach past `end`.
    """
    if position >= end:
        raise MalformedMessage("RLP ends where an item should begin")
    first = data[position]
    if first < 0x80:
        return False, position, position + 1
    is_list = first >= 0xC0
    length = first - (0xC0 if is_list else 0x80)
    start = position + 1
    if length > _SHORT:
        start, length = _long_length(data, start, end, length - _SHORT)
    elif length == 1 and not is_list and start < end and data[start] < 0x80:
        raise MalformedMessage("RLP wraps a single small byte in a prefix")
    if length > end - start:
        raise MalformedMessage(f"RLP item claims {length} bytes where {end - start} are left")
    return is_list, start, start + length


def _long_length(data: Buffer, position: int, end: int, width: int) -> tuple[int, int]:
    start = position + width
    if start > end:
        raise MalformedMessage("RLP ends inside a length")
    if data[position] == 0:
        raise MalformedMessage("RLP length has a leading zero")
    length = int.from_bytes(data[position:start], "big")
    if length <= _SHORT:
        raise MalformedMessage("RLP length should be part of the prefix")
    return start, length


def decode(data: Buffer) -> RLPItem:
    """Decode exactly one item, nested lists included. Raises `MalformedMessage`, also on bytes after the item."""
    item, end = decode_first(data)
    if end != len(data):
        raise MalformedMessage(f"{len(data) - end} bytes after the RLP item")
    return item


def decode_first(data: Buffer) -> tuple[RLPItem, int]:
    """Decode the item at the start of `data`; return it and where it ends. Later bytes are not looked at (EIP-8)."""
    is_list, start, end = item_bounds(data, 0, len(data))
    if not is_list:
        return bytes(data[start:end]), end
    items, _ = _decode_list(data, start, end, MAX_DEPTH, MAX_ITEMS)
    return items, end


def _decode_list(data: Buffer, position: int, end: int, depth: int, budget: int) -> tuple[list[RLPItem], int]:
    if depth == 0:
        raise MalformedMessage(f"RLP lists nested deeper than {MAX_DEPTH}")
    items: list[RLPItem] = []
    while position < end:
        if budget == 0:
            raise MalformedMessage(f"RLP with more than {MAX_ITEMS} items")
        budget -= 1
        is_list, start, position = item_bounds(data, position, end)
        if is_list:
            nested, budget = _decode_list(data, start, position, depth - 1, budget)
            items.append(nested)
        else:
            items.append(bytes(data[start:position]))
    return items, budget


def split_list(data: Buffer, max_items: int = MAX_ITEMS) -> list[bytes]:
    """Return the items of the one list in `data`, each still encoded.

    The list itself must be canonical and complete; an inner list is only checked to lie within it. Raises
    `MalformedMessage`, also if there are more than `max_items`.
    """
    is_list, position, end = item_bounds(data, 0, len(data))
    if not is_list:
        raise MalformedMessage("expected an RLP list, found a byte string")
    if end != len(data):
        raise MalformedMessage(f"{len(data) - end} bytes after the RLP list")
    items: list[bytes] = []
    while position < end:
        if len(items) == max_items:
            raise MalformedMessage(f"RLP list with more than {max_items} items")
        _, _, after = item_bounds(data, position, end)
        items.append(bytes(data[position:after]))
        position = after
    return items


def split_fields(data: Buffer, count: int, what: str) -> list[bytes]:
    """Split the list in `data` into exactly `count` encoded fields; `what` names the message in the error."""
    fields = split_list(data)
    if len(fields) != count:
        raise MalformedMessage(f"{what} has {len(fields)} fields instead of {count}")
    return fields


def string(encoded: Buffer) -> bytes:
    """Return the byte string that `encoded` holds. Raises `MalformedMessage` on a list or on later bytes."""
    is_list, start, end = item_bounds(encoded, 0, len(encoded))
    if is_list:
        raise MalformedMessage("expected an RLP byte string, found a list")
    if end != len(encoded):
        raise MalformedMessage(f"{len(encoded) - end} bytes after the RLP byte string")
    return bytes(encoded[start:end])


def fixed_string(encoded: Buffer, width: int, what: str) -> bytes:
    """Return the byte string that `encoded` holds, which must have `width` bytes."""
    data = string(encoded)
    if len(data) != width:
        raise MalformedMessage(f"{what} has {len(data)} bytes instead of {width}")
    return data


def strings(encoded: Buffer) -> tuple[bytes, ...]:
    """Return the byte strings of the one list in `encoded`."""
    return tuple(string(item) for item in split_list(encoded))


def integer(encoded: Buffer, max_bytes: int = 8) -> int:
    """Return the integer that `encoded` holds, of at most `max_bytes` bytes and without leading zeros."""
    return to_int(string(encoded), max_bytes)


def to_int(item: RLPItem, max_bytes: int = 8) -> int:
    """Turn a decoded byte string into an integer; see `integer`. Raises `MalformedMessage`."""
    if isinstance(item, list):
        raise MalformedMessage("expected an RLP integer, found a list")
    if len(item) > max_bytes:
        raise MalformedMessage(f"RLP integer of {len(item)} bytes, more than {max_bytes}")
    if item[:1] == b"\0":
        raise MalformedMessage("RLP integer with a leading zero")
    return int.from_bytes(item, "big")
