"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethsync.ui import numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (812, "812"),
        (999.4, "999"),
        (999.6, "1.00 k"),
        (52_100, "52.1 k"),
        (131_000, "131 k"),
        (999_600, "1.00 M"),
        (1_416_438_531, "1.42 G"),
        (5e12, "5.00 T"),
        (5e15, "5000 T"),
    ],
)
def test_scaled_numbers_have_three_digits(number: float, text: str) -> None:
    assert numbers.scaled(number) == text


def test_sizes_and_rates_carry_their_units() -> None:
    assert [numbers.size(812), numbers.size(41_000_000)] == ["812 B", "41.0 MB"]
    assert [numbers.rate(52_100.0), numbers.rate(3.0), numbers.rate(None)] == ["52.1 k/s", "3/s", "-"]
    assert numbers.count(1_234_567) == "1,234,567"


def test_one_thing_is_not_many() -> None:
    assert [numbers.several(n, "batch", "batches") for n in (0, 1, 1_200)] == ["0 batches", "1 batch", "1,200 batches"]


def test_times() -> None:
    assert [numbers.clock(s) for s in (0, 59.9, 3_723, 360_000, -5)] == [
        "0:00:00",
        "0:00:59",
        "1:02:03",
        "100:00:00",
        "0:00:00",
    ]
    assert [numbers.duration(s) for s in (4.21, 100, 11_520, -1)] == ["4.2 s", "1 min 40 s", "3 h 12 min", "0.0 s"]
    assert [numbers.duration(s) for s in (863_999, 864_000, 85_265_981)] == ["239 h 59 min", "10 d 0 h", "986 d 20 h"]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.0, 0.2, "under 5 s"),
        (4.0, 12.0, "under 15 s"),
        (11.0, 24.0, "10 to 25 s"),
        (70.0, 130.0, "70 s to 3 min"),
        (190.0, 290.0, "3 to 5 min"),
        (2_500.0, 6_000.0, "41 min to 2 h"),
        (11_000.0, 18_100.0, "3 to 6 h"),
        (200_000.0, 900_000.0, "2 to 11 days"),
    ],
)
def test_ranges_of_time_are_rounded_outwards(low: float, high: float, text: str) -> None:
    assert numbers.span(low, high) == text


@given(st.floats(0, 1e8), st.floats(1e-3, 1e8))
def test_a_range_never_reads_as_a_point_or_as_negative(low: float, more: float) -> None:
    text = numbers.span(low, low + more + low * 0.1)
    assert "-" not in text
    bottom, _, top = text.partition(" to ")
    assert text.startswith("under ") or bottom != top.split()[0]


def test_hundred_percent_is_for_what_is_proven() -> None:
    assert numbers.percent(1.0, proven=False) == "99.9 %"
    assert numbers.percent(7.0, proven=False) == "99.9 %"
    assert numbers.percent(1.0, proven=True) == "100 %"
    assert [numbers.percent(s, proven=False) for s in (-0.1, 0.0, 0.4329)] == ["0.0 %", "0.0 %", "43.2 %"]


def test_hashes_are_shortened_in_the_middle() -> None:
    assert numbers.short_hash("0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544") == (
        "0xd7f8974f…580f0544"
    )
    assert numbers.short_hash("0x1234") == "0x1234"


def test_text_of_strangers_cannot_move_the_cursor() -> None:
    assert numbers.printable("evil\x1b[2J\r\nname\u202e") == "evil?[2J??name?"
    assert numbers.printable("x" * 50, 10) == "x" * 9 + "…"
