"""Metrics against scikit-learn, against slow definitions, and by hand."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from cxr_experiments.evidence import metrics

THRESHOLDED = ("sensitivity", "specificity", "balanced_accuracy", "f1", "accuracy")
ALL = ("auroc", "average_precision", "brier", "log_loss", *THRESHOLDED)


def tied_rows(seed: int, num_rows: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with many ties, and weights with zeros."""
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, num_rows - 2)]
    scores = np.clip(np.round(0.3 * labels + rng.random(num_rows) * 0.7, 1), 0.05, 0.95)
    weights = np.r_[1.0, 2.0, rng.integers(0, 4, num_rows - 2)]
    return labels, scores, weights


def auroc_by_pairs(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """The definition: over every pair of a positive and a negative, 1 for the right order, one half for a tie."""
    wins = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            pair = weights[i] * weights[j]
            wins += pair * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
            total += pair
    return wins / total


def reference_values(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Each metric as scikit-learn computes it, thresholds at 0.5."""
    called = scores >= 0.5
    weighted = {"sample_weight": weights}
    return {
        "auroc": reference.roc_auc_score(labels, scores, **weighted),
        "average_precision": reference.average_precision_score(labels, scores, **weighted),
        "brier": reference.brier_score_loss(labels, scores, **weighted),
        "log_loss": reference.log_loss(labels, scores, **weighted),
        "sensitivity": reference.recall_score(labels, called, **weighted),
        "specificity": reference.recall_score(labels, called, pos_label=0, **weighted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, called, **weighted),
        "f1": reference.f1_score(labels, called, **weighted),
        "accuracy": reference.accuracy_score(labels, called, **weighted),
    }


def test_examples_in_the_docstrings_hold() -> None:
    found = doctest.testmod(metrics)
    assert found.attempted >= 10
    assert found.failed == 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metric_agrees_with_scikit_learn_under_ties_and_weights(name: str, seed: int) -> None:
    labels, scores, weights = tied_rows(seed)
    metric = getattr(metrics, name)
    assert metric(labels, scores, weights=weights) == pytest.approx(
        reference_values(labels, scores, weights)[name], abs=1e-12
    )
    plain = np.ones(len(labels))
    assert metric(labels, scores) == pytest.approx(reference_values(labels, scores, plain)[name], abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_many_draws_at_once_equal_one_draw_at_a_time(name: str) -> None:
    labels, scores, _ = tied_rows(3)
    weights = np.random.default_rng(0).integers(0, 3, (7, len(labels)))
    metric = getattr(metrics, name)
    together = metric(labels, scores, weights=weights)
    assert together.shape == (7,)
    one_by_one = [metric(labels, scores, weights=row) for row in weights]
    assert all(isinstance(value, float) for value in one_by_one)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-13)


@pytest.mark.parametrize("name", ALL)
def test_a_weight_of_k_equals_the_row_written_k_times(name: str) -> None:
    labels, scores, weights = tied_rows(4)
    counts = weights.astype(int)
    metric = getattr(metrics, name)
    repeated = metric(np.repeat(labels, counts), np.repeat(scores, counts))
    assert metric(labels, scores, weights=counts) == pytest.approx(repeated, abs=1e-12)


rows_of_both_classes = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=30
).filter(lambda rows: {label for label, _, weight in rows if weight} == {0, 1})


@settings(max_examples=150, deadline=None)
@given(rows_of_both_classes)
def test_auroc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[int, int, int]]) -> None:
    labels, scores, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = metrics.auroc(labels, scores, weights=weights)
    assert found == pytest.approx(auroc_by_pairs(labels, scores, weights), abs=1e-12)
    assert metrics.auroc(1 - labels, scores, weights=weights) == pytest.approx(1 - found, abs=1e-12)
    assert metrics.auroc(labels, np.exp(scores), weights=weights) == pytest.approx(found, abs=1e-12)


def test_hand_computed_ties() -> None:
    # positives 0.8, 0.5, 0.5; negatives 0.5, 0.2: pairs 1, 1, 1/2, 1, 1/2, 1 of 6
    labels, scores = [1, 1, 1, 0, 0], [0.8, 0.5, 0.5, 0.5, 0.2]
    assert metrics.auroc(labels, scores) == pytest.approx(5 / 6)
    # at 0.8: precision 1, gain 1/3; at 0.5: precision 3/4, gain 2/3
    assert metrics.average_precision(labels, scores) == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
    assert metrics.auroc(labels, [0.4] * 5) == 0.5


def test_score_equal_to_the_threshold_is_called_positive() -> None:
    assert metrics.sensitivity([1, 0], [0.3, 0.3], threshold=0.3) == 1.0
    assert metrics.specificity([1, 0], [0.3, 0.3], threshold=0.3) == 0.0


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        (0, {"auroc", "average_precision", "sensitivity", "balanced_accuracy"}),
        (1, {"auroc", "average_precision", "specificity", "balanced_accuracy"}),
    ],
)
def test_single_class_is_nan_where_undefined_and_never_a_stand_in(label: int, undefined: set[str]) -> None:
    values = {name: getattr(metrics, name)([label] * 3, [0.2, 0.6, 0.9]) for name in ALL}
    assert {name for name, value in values.items() if math.isnan(value)} == undefined


def test_f1_is_nan_only_when_nothing_is_positive() -> None:
    assert math.isnan(metrics.f1([0, 0], [0.1, 0.2]))
    assert metrics.f1([0, 0], [0.1, 0.9]) == 0.0


def test_draw_without_weight_is_nan_and_spares_the_other_draws() -> None:
    weights = [[0, 0], [1, 1]]
    for name in ALL:
        empty, full = getattr(metrics, name)([0, 1], [0.2, 0.9], weights=weights)
        assert math.isnan(empty)
        assert math.isfinite(full)


def test_log_loss_of_a_saturated_probability_is_finite() -> None:
    assert metrics.log_loss([1], [0.0]) == pytest.approx(-math.log(np.finfo(float).eps))
    assert metrics.log_loss([1], [1.0]) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "text"),
    [
        ([0, 2], [0.1, 0.2], None, "labels 0 and 1"),
        ([0, 1], [0.1, math.nan], None, "finite scores"),
        ([0, 1], [0.1], None, "one shape"),
        ([], [], None, "n >= 1"),
        ([0, 1], [0.1, 0.2], [1.0, -1.0], "at least 0"),
        ([0, 1], [0.1, 0.2], [1.0], "expected \\(2,\\)"),
    ],
)
def test_odd_input_is_refused_by_name(labels: list, scores: list, weights: list | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        metrics.auroc(labels, scores, weights=weights)


def test_brier_refuses_what_is_not_a_probability() -> None:
    with pytest.raises(ValueError, match="probabilities in"):
        metrics.brier([0, 1], [-0.1, 0.5])


def test_operating_curve_agrees_with_scikit_learn() -> None:
    labels, scores, weights = tied_rows(5)
    curve = metrics.operating_curve(labels, scores, weights=weights)
    alarms, hits, thresholds = reference.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose(curve.threshold, thresholds)
    np.testing.assert_allclose(curve.sensitivity, hits)
    np.testing.assert_allclose(curve.false_positive_rate, alarms)
    precision, recall, _ = reference.precision_recall_curve(labels, scores, sample_weight=weights)
    np.testing.assert_allclose(curve.precision[1:], precision[-2::-1])
    np.testing.assert_allclose(curve.sensitivity[1:], recall[-2::-1])


def test_area_under_the_operating_curve_is_the_auroc_in_every_draw() -> None:
    labels, scores, _ = tied_rows(6)
    weights = np.random.default_rng(1).integers(0, 3, (5, len(labels)))
    curve = metrics.operating_curve(labels, scores, weights=weights)
    areas = np.trapezoid(curve.sensitivity, curve.false_positive_rate, axis=1)
    np.testing.assert_allclose(areas, metrics.auroc(labels, scores, weights=weights))


def test_sigmoid_neither_overflows_nor_loses_small_probabilities() -> None:
    with np.errstate(over="raise", invalid="raise"):
        found = metrics.sigmoid([-700.0, -20.0, 0.0, 20.0, 1e6])
    np.testing.assert_allclose(found, [math.exp(-700), 1 / (1 + math.exp(20)), 0.5, 1 / (1 + math.exp(-20)), 1.0])
