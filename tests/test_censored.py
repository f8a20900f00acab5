"""Ratio of medians of paired, partly censored times: hand-made cases, a slow second way, and how often it is right."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_experiments.evidence.stats.censored import MedianRatio, WaitedTime, ratio_of_medians


def found(slow: list[float], fast: list[float | None], ends: dict[int, float] | None = None) -> MedianRatio:
    """None is a compared run that did not reach; `ends` are seeds whose reference did not, with its end."""
    reference = [WaitedTime((ends or {}).get(n, s), reached=n not in (ends or {})) for n, s in enumerate(slow)]
    return ratio_of_medians(reference, [WaitedTime(s or 1.0, reached=s is not None) for s in fast])


def test_medians_are_taken_before_the_ratio_and_not_of_the_paired_ratios() -> None:
    assert found([100, 200, 300], [90, 20, 40]).ratio == pytest.approx(40 / 200)


def test_interval_is_that_of_every_ordered_sample_drawn_one_by_one() -> None:
    slow, fast = [310.0, 250.0, 420.0, 505.0], [100.0, 90.0, 91.0, 160.0]
    drawn = sorted(
        float(np.median([fast[n] for n in sample]) / np.median([slow[n] for n in sample]))
        for sample in itertools.product(range(4), repeat=4)
    )
    one = found(slow, list(fast))
    assert (one.low, one.high) == pytest.approx((drawn[math.ceil(0.025 * 256) - 1], drawn[math.ceil(0.975 * 256) - 1]))


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=5, max_size=5))
def test_interval_of_five_pairs_is_the_range_of_the_paired_ratios(pairs: list[tuple[float, float]]) -> None:
    one = found([slow for slow, _ in pairs], [fast for _, fast in pairs])
    ratios = [fast / slow for slow, fast in pairs]
    assert (one.low, one.high) == (min(ratios), max(ratios))
    assert one.is_range
    assert one.exact_level == 0.9375
    assert one.low <= one.ratio * (1 + 1e-12)
    assert one.ratio <= one.high * (1 + 1e-12)


def test_interval_of_nine_pairs_is_narrower_than_their_range() -> None:
    one = found([100.0] * 9, [20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 90.0])
    assert not one.is_range
    assert (one.ratio, one.low, one.high) == pytest.approx((0.24, 0.21, 0.27))


def test_run_that_never_reached_counts_as_infinite_and_leaves_the_median_alone() -> None:
    one = found([100.0] * 5, [20.0, 22.0, 24.0, 26.0, None])
    assert one.ratio == pytest.approx(0.24)
    assert (one.low, one.high) == (0.2, math.inf)
    assert one.num_censored_compared == 1
    assert (one.geometric_mean, one.geometric_high) == (math.inf, math.inf)
    assert math.isnan(one.geometric_low)


def test_ratio_is_infinite_when_most_runs_never_reached() -> None:
    assert found([100.0] * 5, [20.0, 22.0, None, None, None]).ratio == math.inf
    assert found([100.0] * 2, [20.0, None]).ratio == math.inf, "the mean of a time and of none is none"


@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=3, max_size=6),
    st.floats(1.0, 10.0),
    st.integers(0, 2),
)
def test_reference_cut_short_only_moves_ratio_and_interval_up(
    pairs: list[tuple[float, float]], longer: float, which: int
) -> None:
    """Had it been waited for the reference longer, the ratio would be smaller: what is told is a bound."""
    slow, fast = [slow for slow, _ in pairs], [fast for _, fast in pairs]
    told = found(slow, list(fast), ends={which: slow[which]})
    later = [slow_s * (longer if n == which else 1.0) for n, slow_s in enumerate(slow)]
    truth = found(later, list(fast))
    assert told.num_censored_reference == 1
    for name in ("ratio", "low", "high", "geometric_mean"):
        assert getattr(truth, name) <= getattr(told, name) * (1 + 1e-9)


def test_geometric_mean_has_the_interval_of_a_t_test_on_logarithms() -> None:
    one = found([1.0, 1.0, 1.0], [math.exp(-1), math.exp(-2), math.exp(-3)])
    half = 4.302652729911275 / math.sqrt(3)  # t(0.975; 2), standard deviation 1
    assert (one.geometric_mean, one.geometric_low, one.geometric_high) == pytest.approx(
        (math.exp(-2), math.exp(-2 - half), math.exp(-2 + half))
    )


def test_one_pair_has_a_ratio_and_no_interval() -> None:
    one = found([100.0], [25.0])
    assert (one.ratio, one.geometric_mean) == pytest.approx((0.25, 0.25))
    assert all(math.isnan(value) for value in (one.low, one.high, one.geometric_low, one.geometric_high))


@pytest.mark.parametrize(
    ("slow", "fast", "told"),
    [
        ([1.0, 2.0], [1.0], "2 times of reference and 1 to compare"),
        ([], [], "1 to 9"),
        ([1.0] * 10, [1.0] * 10, "10 times of reference"),
        ([0.0], [1.0], r"0\.0 is no time"),
        ([1.0], [math.inf], "inf is no time"),
    ],
)
def test_what_cannot_be_compared_is_refused(slow: list[float], fast: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ratio_of_medians([WaitedTime(s) for s in slow], [WaitedTime(s) for s in fast])


def test_five_seeds_enclose_the_true_ratio_as_often_as_they_say() -> None:
    """Log-normal times, correlation one half, a true ratio of one quarter: 93.75 % and 95 % of 600 studies."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(0, 0.2, (600, 5, 1)), rng.normal(0, 0.2, (600, 5, 2))
    times = np.exp(shared + own) * (400.0, 100.0)
    studies = [found(study[:, 0].tolist(), study[:, 1].tolist()) for study in times]
    assert np.mean([one.low <= 0.25 <= one.high for one in studies]) == pytest.approx(0.9375, abs=0.03)
    assert np.mean([one.geometric_low <= 0.25 <= one.geometric_high for one in studies]) == pytest.approx(
        0.95, abs=0.03
    )
