"""Patience: what it is used up by, and what it is not."""

from __future__ import annotations

import math

import pytest

from ethsync.sync.patience import Patience


def test_it_runs_out_when_nothing_useful_comes() -> None:
    patience = Patience(60.0, 1000.0)
    assert patience.look(1000.0, excused=False) == 1060.0
    assert patience.look(1070.0, excused=False) == 1060.0


def test_anything_useful_renews_it() -> None:
    patience = Patience(60.0, 1000.0)
    patience.renew(1050.0)
    assert patience.look(1055.0, excused=False) == 1110.0


def test_time_that_is_excused_does_not_count() -> None:
    patience = Patience(60.0, 1000.0)
    # Given 20 s without anything useful, and then nobody to ask for 30 s
    assert patience.look(1020.0, excused=True) == math.inf
    assert patience.look(1035.0, excused=True) == math.inf
    # Then 40 s are left when somebody comes.
    assert patience.look(1050.0, excused=False) == 1090.0
    # Peers that come and go and give nothing use it up all the same.
    assert patience.look(1070.0, excused=True) == math.inf
    assert patience.look(1100.0, excused=False) == 1120.0


@pytest.mark.parametrize("looked", [(), (2000.0, 3000.0)])
def test_after_a_long_absence_all_of_it_is_left(looked: tuple[float, ...]) -> None:
    patience = Patience(60.0, 1000.0)
    patience.look(1059.0, excused=True)
    for now in looked:
        patience.look(now, excused=True)
    assert patience.look(4659.0, excused=False) == 4719.0


def test_what_comes_while_it_is_excused_renews_it_too() -> None:
    patience = Patience(60.0, 1000.0)
    patience.look(1020.0, excused=True)
    patience.renew(1030.0)  # a late reply that was still being proven
    assert patience.look(1040.0, excused=False) == 1100.0
