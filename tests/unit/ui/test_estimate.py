"""Rates over a window, and the time left as a range."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethsync.sync.progress import Phase, Progress
from ethsync.ui.estimate import CAUTION, HOPE, WINDOW_SECONDS, Estimate, Sample, Window, take_sample


def sample(at: float, key_space: float = 0.0, phase: Phase = Phase.DOWNLOADING, **counters: float) -> Sample:
    """A sample with all other counters at zero."""
    names = ("accounts", "contracts", "contracts_owed", "slots", "codes", "codes_owed", "codes_in_all", "wire_bytes")
    zero = dict.fromkeys((*names, "nodes", "headers", "headers_owed"), 0)
    values = {**zero, "leaves_verified": 0, "verified": 0.0, "healed": 0.0, **counters}
    return Sample(at=at, phase=phase, key_space=key_space, **values)  # type: ignore[arg-type]


def estimate(*samples: Sample) -> Estimate:
    window = Window()
    for one in samples:
        window.add(one)
    return window.estimate()


def test_nothing_is_known_from_one_look() -> None:
    assert estimate() == Estimate()
    assert estimate(sample(0.0, 0.5)) == Estimate()


def test_rates_are_means_of_the_last_ten_seconds() -> None:
    """Given 100 accounts/s for 20 s and then 300/s for 10 s, then 300/s are shown."""
    seconds = [sample(t, accounts=100 * t if t <= 20 else 2000 + 300 * (t - 20), wire_bytes=7 * t) for t in range(31)]
    found = estimate(*seconds)
    assert found.accounts == pytest.approx(300)
    assert found.wire_bytes == pytest.approx(7)
    assert found.leaves_verified is None


def test_what_earlier_runs_stored_is_no_speed() -> None:
    progress = Progress(started=0.0)
    progress.accounts.items = progress.accounts.kept_items = 1_000_000
    progress.accounts.items += 50
    assert take_sample(progress, 1.0).accounts == 50


def test_work_done_again_is_not_a_negative_rate() -> None:
    found = estimate(sample(0, 0.5, accounts=900), sample(5, 0.4, accounts=100))
    assert found.accounts == 0
    assert found.left is None


def test_a_steady_rate_gives_a_range_around_it() -> None:
    """Given 1 % of the key space per second and 60 % to go, then it takes about 60 s."""
    found = estimate(*(sample(t, t / 100) for t in range(41)))
    assert found.left is not None
    assert found.left.low == pytest.approx(60 * HOPE)
    assert found.left.high == pytest.approx(60 * CAUTION)


def test_changing_rates_widen_the_range() -> None:
    """Given a slow first half minute and a fast last ten seconds, then both ends are considered."""
    slow_then_fast = [sample(t, t / 1000) for t in range(31)] + [
        sample(t, 0.03 + (t - 30) / 100) for t in range(31, 41)
    ]
    found = estimate(*slow_then_fast).left
    assert found is not None
    assert found.low == pytest.approx(0.87 / 0.01 * HOPE)
    assert found.high == pytest.approx(0.87 / (0.13 / 40) * CAUTION)


def test_a_stall_makes_it_unknown() -> None:
    moving = [sample(t, t / 100) for t in range(20)]
    assert estimate(*moving).left is not None
    assert estimate(*moving, *(sample(t, 0.19) for t in range(20, 40))).left is None


def test_too_little_is_unknown() -> None:
    assert estimate(sample(0, 0.1), sample(2, 0.2)).left is None
    assert estimate(sample(0, 0.1), sample(3, 0.2)).left is not None


def test_storage_that_lags_behind_is_waited_for() -> None:
    """Given the accounts done and 1,000 contracts owed at 10/s, then it takes about 100 s."""
    found = estimate(*(sample(t, 1.0, contracts=10 * t, contracts_owed=1000 + 10 * (20 - t)) for t in range(21))).left
    assert found is not None
    assert found.low == pytest.approx(100 * HOPE)
    assert found.high == pytest.approx(100 * CAUTION)


def test_contracts_ahead_are_as_dense_as_those_behind() -> None:
    """Given half the key space with 2,000 contracts known, 500 stored, 10/s: at most 3,500 are to come."""
    looks = [sample(t, 0.3 + t / 100, contracts=300 + 10 * t, contracts_owed=1700 - 10 * t) for t in range(21)]
    found = estimate(*looks).left
    assert found is not None
    assert found.low == pytest.approx(1500 / 10 * HOPE)
    assert found.high == pytest.approx(3500 / 10 * CAUTION)


def test_a_stage_that_owes_nothing_adds_no_time() -> None:
    """Given that no new codes turn up any more, then that is no stall."""
    assert estimate(*(sample(t, t / 100, codes_in_all=5000) for t in range(21))).left is not None
    assert estimate(*(sample(t, t / 100, codes_in_all=5000, codes_owed=1) for t in range(21))).left is None


def test_verification_has_its_own_time() -> None:
    """Given a download that is over, then only the share that is verified counts, from the change of phase on."""
    before = [sample(t, t / 20) for t in range(21)]
    after = [sample(21 + t, 1.0, Phase.VERIFYING, verified=t / 10, leaves_verified=500 * t) for t in range(6)]
    found = estimate(*before, *after)
    assert found.leaves_verified == pytest.approx(500)
    assert found.accounts is None
    assert found.left is not None
    assert (found.left.low, found.left.high) == pytest.approx((5 * HOPE, 5 * CAUTION))


def test_healing_has_its_own_time() -> None:
    found = estimate(*(sample(t, 1.0, Phase.HEALING, healed=t / 10, nodes=90 * t, wire_bytes=7 * t) for t in range(6)))
    assert (found.nodes, found.wire_bytes) == pytest.approx((90, 7))
    assert found.accounts is None
    assert found.left is not None
    assert (found.left.low, found.left.high) == pytest.approx((5 * HOPE, 5 * CAUTION))


@pytest.mark.parametrize("phase", [Phase.DOWNLOADING, Phase.HEALING])
def test_headers_that_are_missing_are_waited_for(phase: Phase) -> None:
    """Given 1,000 headers/s and 60,000 to go when all else is nearly there, then it takes about a minute."""
    seconds = [sample(t, 0.5 + t / 100, phase, healed=0.5 + t / 100, headers=1000 * t) for t in range(41)]
    seconds[-1] = replace(seconds[-1], headers_owed=60_000)
    found = estimate(*seconds)
    assert found.headers == pytest.approx(1000)
    assert found.left is not None
    assert (found.left.low, found.left.high) == pytest.approx((60 * HOPE, 60 * CAUTION))


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.DONE])
def test_other_phases_have_none(phase: Phase) -> None:
    assert estimate(*(sample(t, t / 100, phase, verified=t / 100) for t in range(20))) == Estimate()


def test_nothing_left_is_unknown_rather_than_a_point() -> None:
    assert estimate(*(sample(t, 1.0) for t in range(20))).left is None


def test_the_window_stays_small() -> None:
    window = Window()
    for tick in range(10_000):
        window.add(sample(tick / 10, tick / 20_000))
    assert len(window._samples) <= WINDOW_SECONDS + 1


shares = st.floats(0, 1)
counts = st.integers(0, 10**10)


@given(st.lists(st.tuples(st.floats(0.01, 50), shares, counts, counts, counts, counts), min_size=2, max_size=40))
def test_a_range_is_never_negative_nor_a_point(looks: list[tuple[float, float, int, int, int, int]]) -> None:
    window = Window()
    at = 0.0
    for step, share, contracts, owed, codes, codes_owed in looks:
        at += step
        window.add(
            sample(at, share, contracts=contracts, contracts_owed=owed, codes_in_all=codes, codes_owed=codes_owed)
        )
        left = window.estimate().left
        assert left is None or 0 <= left.low < left.high
