"""What one part of a download has done so far: it counts, and the display and the report read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """`items` and `bytes` are proven and handed to the writer, in this run and before it."""

    items: int = 0
    bytes: int = 0
    kept_items: int = 0
    """Of `items`, those that an earlier run had stored."""
    kept_bytes: int = 0
    """Of `bytes`, those that an earlier run had stored."""
    owed: int = 0
    """Things known to be missing and asked for: contracts without storage, codes, headers."""
    in_flight: int = 0
    started: float | None = None
    ended: float | None = None
