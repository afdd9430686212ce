"""Numbers as people read them: counts, sizes, rates, times and shares. Units are decimal (1 MB = 1,000,000 bytes)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS_STEP = 5
"""A range of seconds is rounded outwards to multiples of this: finer steps would change at every look."""

_UNITS = ((86_400, 2 * 86_400, "days"), (3_600, 5_400, "h"), (60, 90, "min"))
"""Seconds in a unit, from how many seconds on it is used, and its name."""


def count(number: int) -> str:
    """Return a whole number with thousands separated: `1,234,567`."""
    return f"{number:,}"


def several(number: int, one: str, many: str) -> str:
    """Return a count of things: `1 batch`, `1,234 batches`."""
    return f"{count(number)} {one if number == 1 else many}"


def scaled(number: float) -> str:
    """Return a number of three digits with k, M, G or T: `812`, `52.1 k`, `1.53 M`."""
    prefixes = iter(" kMGT")
    prefix = next(prefixes)
    while number >= 999.5 and prefix != "T":
        number /= 1000
        prefix = next(prefixes)
    if prefix == " ":
        return f"{number:.0f}"
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{decimals}f} {prefix}"


def size(number: float) -> str:
    """Return a number of bytes: `812 B`, `41.0 MB`."""
    text = scaled(number)
    return f"{text} B" if text[-1].isdigit() else f"{text}B"


def rate(per_second: float | None) -> str:
    """Return items per second, `52.1 k/s`, or `-` if it is not known."""
    return "-" if per_second is None else f"{scaled(per_second)}/s"


def clock(seconds: float) -> str:
    """Return a time that has passed as hours, minutes and seconds: `1:02:03`."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def duration(seconds: float) -> str:
    """Return how long something took: `4.2 s`, `1 min 40 s`, `3 h 12 min`, `12 d 3 h`."""
    seconds = max(0.0, seconds)
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 10 * 86400:
        return f"{whole // 3600} h {whole // 60 % 60} min"
    return f"{whole // 86400:,} d {whole // 3600 % 24} h"


def span(low: float, high: float) -> str:
    """Return a range of seconds, rounded outwards: `3 to 5 min`, `40 min to 2 h`, `under 5 s`. Needs low < high."""
    top, unit = _rounded(high, math.ceil)
    bottom, lower_unit = _rounded(low, math.floor)
    if bottom == 0:
        return f"under {top} {unit}"
    if lower_unit == unit:
        return f"{bottom} to {top} {unit}"
    return f"{bottom} {lower_unit} to {top} {unit}"


def _rounded(seconds: float, rounding: Callable[[float], int]) -> tuple[int, str]:
    for length, since, name in _UNITS:
        if seconds >= since:
            return int(rounding(seconds / length)), name
    return int(rounding(seconds / _SECONDS_STEP)) * _SECONDS_STEP, "s"


def percent(share: float, *, proven: bool) -> str:
    """Return a share as a percentage, rounded down; never `100 %` until the whole is proven."""
    if proven:
        return "100 %"
    return f"{min(999, max(0, math.floor(share * 1000))) / 10:.1f} %"


def short_hash(text: str) -> str:
    """Return a hash as its first and last eight digits."""
    return f"{text[:10]}…{text[-8:]}" if len(text) > 19 else text


def printable(text: str, most: int = 200) -> str:
    """Return text that came from elsewhere without anything that moves a cursor, and no longer than `most`."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"
