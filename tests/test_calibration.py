"""Thresholds against brute force and by hand; reliability bins."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.evidence import calibration
from cxr_experiments.evidence.calibration import choose_threshold, reliability
from cxr_experiments.evidence.metrics import sensitivity, specificity

rows_with_a_positive = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=40).filter(
    lambda rows: any(label for label, _ in rows)
)


def test_examples_in_the_docstrings_hold() -> None:
    found = doctest.testmod(calibration)
    assert found.attempted >= 2
    assert found.failed == 0


@settings(max_examples=200, deadline=None)
@given(rows_with_a_positive, st.integers(1, 100))
def test_sensitivity_at_is_the_largest_threshold_that_reaches_the_target(rows: list, percent: int) -> None:
    labels = np.array([label for label, _ in rows])
    scores = np.array([score / 20 for _, score in rows])
    target = percent / 100
    found = choose_threshold(labels, scores, rule="sensitivity_at", value=target, split="val").value
    assert sensitivity(labels, scores, threshold=found) >= target
    assert sensitivity(labels, scores, threshold=np.nextafter(found, 2)) < target


def test_sensitivity_at_counts_exactly_where_floats_would_ask_for_one_more() -> None:
    scores = np.arange(1, 21) / 20  # 0.55 * 20 is 11.000000000000002 in floats; 11 positives of 20 are enough
    found = choose_threshold(np.ones(20), scores, rule="sensitivity_at", value=0.55, split="val")
    assert sensitivity(np.ones(20), scores, threshold=found.value) == 11 / 20


def test_sensitivity_of_zero_still_names_a_score_of_the_rows() -> None:
    assert choose_threshold([0, 1, 1], [0.9, 0.3, 0.6], rule="sensitivity_at", value=0.0, split="val").value == 0.6


@settings(max_examples=200, deadline=None)
@given(rows_with_a_positive.filter(lambda rows: any(not label for label, _ in rows)))
def test_youden_is_the_best_sum_and_of_equals_the_smallest(rows: list) -> None:
    labels = np.array([label for label, _ in rows])
    scores = np.array([score / 20 for _, score in rows])

    def index(threshold: float) -> float:
        return sensitivity(labels, scores, threshold=threshold) + specificity(labels, scores, threshold=threshold)

    best = max(index(candidate) for candidate in scores)
    smallest = min(candidate for candidate in scores if index(candidate) > best - 1e-9)
    assert choose_threshold(labels, scores, rule="youden", value=0.0, split="val").value == smallest


def test_threshold_tells_where_it_came_from() -> None:
    found = choose_threshold([0, 1, 1], [0.2, 0.6, 0.8], rule="fixed", value=0.3, split="val")
    assert found == calibration.Threshold(value=0.3, rule="fixed", target=0.3, num_images=3, set_on="val")


def test_missing_class_is_told_with_what_to_do() -> None:
    with pytest.raises(DataError, match="no positive image; use threshold=fixed"):
        choose_threshold([0, 0], [0.2, 0.6], rule="sensitivity_at", value=0.95, split="val")
    with pytest.raises(DataError, match="one class only"):
        choose_threshold([1, 1], [0.2, 0.6], rule="youden", value=0.0, split="val")


def test_unknown_rule_and_value_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of sensitivity_at, youden, fixed"):
        choose_threshold([0, 1], [0.2, 0.6], rule="best", value=0.5, split="val")
    with pytest.raises(ConfigError, match="expected a number in"):
        choose_threshold([0, 1], [0.2, 0.6], rule="fixed", value=1.5, split="val")


def test_every_image_falls_into_one_bin_edges_included() -> None:
    scores = np.array([0.0, 0.05, 0.5, 0.95, 1.0])
    bins = reliability([0, 0, 1, 1, 0], scores)
    assert [one.num_images for one in bins] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert bins[0].mean_probability == pytest.approx(0.025)
    assert (bins[9].observed, bins[5].observed) == (0.5, 1.0)
    assert math.isnan(bins[1].observed)
    assert bins[9].observed_low < 0.5 < bins[9].observed_high
    assert [one.low for one in bins[1:]] == [one.high for one in bins[:-1]]
