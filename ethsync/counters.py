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
    """When it first had work, and when it had none left; by trio's clock."""

    def keep_time(self, now: float, *, done: bool) -> None:
        """Note when there was work for the first time, and when it ran out for the last time. Called at each change."""
        if self.in_flight and self.started is None:
            self.started = now
        if not done:
            self.ended = None
        elif self.started is not None and self.ended is None:
            self.ended = now
