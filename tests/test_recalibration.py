"""Calibration slope, intercept and expected error: by hand, against scikit-learn, at the edges where they end."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cxr_experiments.evidence import recalibration
from cxr_experiments.evidence.calibration import reliability
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.evidence.recalibration import (
    calibration_intercept,
    calibration_slope,
    expected_calibration_error,
)
from cxr_experiments.evidence.stats import patient_weights


def simulated(num_images: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with the log-odds intercept + slope * logit."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.5, 2.0, num_images)
    return (rng.random(num_images) < sigmoid(intercept + slope * logit)).astype(int), logit


def by_scikit_learn(label: np.ndarray, logit: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Slope, and intercept of the same fit, of an unpenalised logistic regression."""
    fit = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(logit[:, None], label, weights)
    return float(fit.coef_[0, 0]), float(fit.intercept_[0])


def test_examples_in_the_docstrings_hold() -> None:
    found = doctest.testmod(recalibration)
    assert (found.attempted >= 5, found.failed) == (True, 0)


@pytest.mark.parametrize("seed", range(5))
def test_slope_is_that_of_an_unpenalised_logistic_regression(seed: int) -> None:
    label, logit = simulated(200, 0.6, -0.3, seed)
    assert calibration_slope(label, logit) == pytest.approx(by_scikit_learn(label, logit)[0], rel=1e-6)


def test_slope_and_intercept_of_two_kinds_of_films_are_differences_of_log_odds() -> None:
    # 1 of 5 positive at logit -1, 3 of 4 at logit 1: the line through both log-odds
    label, logit = np.array([1, 0, 0, 0, 0, 1, 1, 1, 0]), np.array([-1.0] * 5 + [1.0] * 4)
    wanted = (math.log(3 / 1) - math.log(1 / 4)) / 2
    assert calibration_slope(label, logit) == pytest.approx(wanted, rel=1e-9)
    assert calibration_intercept(label, np.zeros(9)) == pytest.approx(math.log(4 / 5), rel=1e-9)
    assert calibration_intercept(label, np.full(9, 2.5)) == pytest.approx(math.log(4 / 5) - 2.5, rel=1e-9)


def test_intercept_makes_the_mean_probability_the_share_of_positives() -> None:
    label, logit = simulated(300, 1.4, 0.8)
    moved = sigmoid(logit + calibration_intercept(label, logit))
    assert moved.mean() == pytest.approx(label.mean(), abs=1e-9)


def test_well_calibrated_probabilities_have_slope_1_and_intercept_0() -> None:
    label, logit = simulated(200_000, 1.0, 0.0)
    assert calibration_slope(label, logit) == pytest.approx(1.0, abs=0.02)
    assert calibration_intercept(label, logit) == pytest.approx(0.0, abs=0.02)
    assert expected_calibration_error(label, sigmoid(logit)) < 0.005


def test_overconfident_probabilities_have_a_slope_below_1() -> None:
    label, logit = simulated(5000, 1.0, 0.0)
    assert calibration_slope(label, 4 * logit) == pytest.approx(calibration_slope(label, logit) / 4, rel=1e-7)


def test_weights_of_many_draws_give_what_each_written_out_draw_gives() -> None:
    label, logit = simulated(120, 0.8, 0.4)
    patients = np.array([f"p{number // 3}" for number in range(120)])
    (weights,) = patient_weights(patients, num_draws=40, seed=1)
    slopes, intercepts = (
        metric(label, logit, weights=weights) for metric in (calibration_slope, calibration_intercept)
    )
    errors = expected_calibration_error(label, sigmoid(logit), weights=weights)
    for draw in range(40):
        rows = np.repeat(np.arange(120), weights[draw].astype(int))
        assert slopes[draw] == pytest.approx(by_scikit_learn(label[rows], logit[rows])[0], rel=1e-5)
        assert intercepts[draw] == pytest.approx(calibration_intercept(label[rows], logit[rows]), abs=1e-8)
        assert errors[draw] == pytest.approx(expected_calibration_error(label[rows], sigmoid(logit[rows])), abs=1e-12)
    assert calibration_slope(label, logit, weights=weights[0]) == pytest.approx(slopes[0], rel=1e-9)


@pytest.mark.parametrize(
    ("label", "logit"),
    [
        ([0, 0, 1, 1], [-2.0, -1.0, 1.0, 2.0]),  # apart
        ([1, 1, 0, 0], [-2.0, -1.0, 1.0, 2.0]),  # apart, the wrong way round
        ([0, 0, 1, 1], [-2.0, 0.0, 0.0, 2.0]),  # apart but for a tie
        ([0, 1, 0, 1], [1.0, 1.0, 1.0, 1.0]),  # all the same
        ([1, 1, 1, 1], [-2.0, -1.0, 1.0, 2.0]),  # one class
    ],
)
def test_slope_of_classes_that_do_not_overlap_is_not_defined(label: list[int], logit: list[float]) -> None:
    assert math.isnan(calibration_slope(label, logit))
    weights = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 1.0, 0.0]])
    assert np.isnan(calibration_slope(label, logit, weights=weights)).all()


def test_draws_apart_are_undefined_beside_draws_that_overlap() -> None:
    label, logit = np.array([0, 0, 1, 0, 1, 1]), np.array([-2.0, -1.0, -1.0, 1.0, 1.0, 2.0])
    weights = np.array([[1.0] * 6, [1, 1, 0, 0, 1, 1], [0] * 6, [1, 1, 0, 1, 0, 0]])
    found = calibration_slope(label, logit, weights=weights)
    assert np.isfinite(found).tolist() == [True, False, False, False]
    assert np.isfinite(calibration_intercept(label, logit, weights=weights)).tolist() == [True, True, False, False]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 60.0, 1e4])
def test_fit_settles_whatever_the_size_of_the_logits(scale: float) -> None:
    label, logit = simulated(400, 1.5, -0.5)
    wanted = by_scikit_learn(label, logit)[0]
    assert calibration_slope(label, scale * logit) == pytest.approx(wanted / scale, rel=1e-5)


def test_one_image_far_on_the_wrong_side_is_fitted_all_the_same() -> None:
    label, logit = np.r_[np.zeros(50), np.ones(50)], np.r_[np.full(50, -9.0), np.full(49, 9.0), -30.0]
    logit[0] = -8.0
    assert calibration_slope(label, logit) == pytest.approx(by_scikit_learn(label, logit)[0], rel=1e-5)
    moved = sigmoid(logit + calibration_intercept(label, logit))
    assert moved.mean() == pytest.approx(0.5, abs=1e-8)


@pytest.mark.parametrize("gap", [0.1, 1e-3, 1e-6])
def test_classes_that_hardly_overlap_still_have_a_slope(gap: float) -> None:
    logit = np.r_[np.linspace(-6, -1, 30), gap, -gap, np.linspace(1, 6, 30)]
    label = np.r_[np.zeros(31), np.ones(31)]
    assert calibration_slope(label, logit) == pytest.approx(by_scikit_learn(label, logit)[0], rel=1e-4)


def test_probabilities_that_are_all_0_or_1_give_no_intercept_and_no_warning() -> None:
    label, logit = np.r_[np.zeros(5), np.ones(7)], np.r_[np.full(5, 1e4), np.full(7, -1e4)]
    assert math.isnan(calibration_intercept(label, logit))
    assert np.isnan(calibration_intercept(label, logit, weights=np.ones((3, 12)))).all()


def test_expected_error_is_the_weighted_gap_of_the_reliability_bins() -> None:
    label, logit = simulated(500, 0.5, 0.7)
    bins = [one for one in reliability(label, sigmoid(logit)) if one.num_images]
    slow = sum(one.num_images * abs(one.mean_probability - one.observed) for one in bins) / 500
    assert expected_calibration_error(label, sigmoid(logit)) == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize(
    ("label", "logit", "weights"),
    [([0, 1], [0.0], None), ([0, 2], [0.0, 1.0], None), ([0, 1], [0.0, np.inf], None), ([0, 1], [0.0, 1.0], [1.0])],
)
def test_rows_that_do_not_fit_are_refused(label: list[int], logit: list[float], weights: list[float] | None) -> None:
    for metric in (calibration_slope, calibration_intercept, expected_calibration_error):
        with pytest.raises(ValueError, match="expected"):
            metric(label, logit, weights=weights)
