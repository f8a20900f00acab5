"""Predictive values and Matthews' correlation: by hand, against scikit-learn, by Bayes' rule, where not defined."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_experiments.evidence import predictive
from cxr_experiments.evidence.predictive import mcc, npv, ppv
from cxr_experiments.evidence.stats import patient_weights


def simulated(num_images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = (rng.random(num_images) < 0.7).astype(int)
    return label, np.clip(0.5 + 0.3 * (label - 0.5) + rng.normal(0, 0.25, num_images), 0, 1)


def test_examples_in_the_docstrings_hold() -> None:
    found = doctest.testmod(predictive)
    assert (found.attempted >= 3, found.failed) == (True, 0)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_values_agree_with_scikit_learn(threshold: float) -> None:
    label, score = simulated(300)
    called = score >= threshold
    assert ppv(label, score, threshold=threshold) == pytest.approx(reference.precision_score(label, called))
    assert npv(label, score, threshold=threshold) == pytest.approx(reference.precision_score(1 - label, ~called))
    assert mcc(label, score, threshold=threshold) == pytest.approx(reference.matthews_corrcoef(label, called))


def test_stated_prevalence_is_bayes_rule_by_hand() -> None:
    # sensitivity 3/4, specificity 1/2
    label, score = [1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1, 0.6, 0.2]
    assert ppv(label, score, prevalence=0.2) == pytest.approx(0.75 * 0.2 / (0.75 * 0.2 + 0.5 * 0.8))
    assert npv(label, score, prevalence=0.2) == pytest.approx(0.5 * 0.8 / (0.5 * 0.8 + 0.25 * 0.2))
    assert ppv(label, score, prevalence=4 / 6) == pytest.approx(ppv(label, score))
    assert npv(label, score, prevalence=4 / 6) == pytest.approx(npv(label, score))


@pytest.mark.parametrize("metric", [ppv, npv, mcc])
def test_weights_of_many_draws_give_what_each_written_out_draw_gives(metric: Callable[..., np.ndarray]) -> None:
    label, score = simulated(90)
    (weights,) = patient_weights([f"p{number // 2}" for number in range(90)], num_draws=30, seed=0)
    found = metric(label, score, weights=weights)
    for draw in range(30):
        rows = np.repeat(np.arange(90), weights[draw].astype(int))
        assert found[draw] == pytest.approx(metric(label[rows], score[rows]))


def test_values_without_a_call_or_a_class_are_not_defined() -> None:
    assert math.isnan(ppv([0, 1], [0.1, 0.2]))
    assert math.isnan(npv([0, 1], [0.8, 0.9]))
    for label, score in (([0, 1], [0.1, 0.2]), ([1, 1], [0.1, 0.9]), ([0, 0], [0.1, 0.9])):
        assert math.isnan(mcc(label, score))
    assert math.isnan(ppv([1, 1], [0.1, 0.9], prevalence=0.1)), "no specificity without negatives"
