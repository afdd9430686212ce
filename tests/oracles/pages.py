"""Leaf pages read and written the slow way, from the description of the layout."""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEADER = struct.Struct("<BBHII")


def page_of(keys: Sequence[bytes], values: Sequence[bytes], nibbles: int) -> bytes:
    """Version 1, path nibbles, zeros, leaf count, bytes of all values; key suffixes; end offsets; values."""
    ends = [sum(map(len, values[: row + 1])) for row in range(len(values))]
    return (
        HEADER.pack(1, nibbles, 0, len(keys), sum(map(len, values)))
        + b"".join(key[nibbles // 2 :] for key in keys)
        + struct.pack(f"<{len(ends)}I", *ends)
        + b"".join(values)
    )
