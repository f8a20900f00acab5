"""Temperature and prior shift: by hand, against a search, where none is best, and never from test rows."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cxr_experiments.errors import ConfigError, LeakageError
from cxr_experiments.evidence import temperature
from cxr_experiments.evidence.metrics import auroc, log_loss, sigmoid
from cxr_experiments.evidence.temperature import fit_temperature, prior_shift


def simulated(num_images: int, too_sure: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with the log-odds logit / too_sure."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0.5, 2.0, num_images)
    return (rng.random(num_images) < sigmoid(honest)).astype(int), too_sure * honest


def test_examples_in_the_docstrings_hold() -> None:
    found = doctest.testmod(temperature)
    assert (found.attempted >= 3, found.failed) == (True, 0)


@pytest.mark.parametrize("too_sure", [0.4, 1.0, 3.0])
def test_temperature_is_where_a_search_finds_the_lowest_log_loss(too_sure: float) -> None:
    label, logit = simulated(400, too_sure)
    found = fit_temperature(label, logit, split="val")
    slow = minimize_scalar(
        lambda value: log_loss(label, sigmoid(logit / value)),
        bounds=(0.05, 20),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found.value == pytest.approx(slow.x, rel=1e-4)
    assert found.value == pytest.approx(too_sure, rel=0.25)
    assert (found.num_images, found.set_on, found.remark) == (400, "val", "")
    assert log_loss(label, sigmoid(logit / found.value)) <= log_loss(label, sigmoid(logit))
    assert auroc(label, logit / found.value) == auroc(label, logit)


def test_what_fits_anything_refuses_test_rows() -> None:
    label, logit = simulated(50, 1.0)
    with pytest.raises(LeakageError, match="fit it on validation rows"):
        fit_temperature(label, logit, split="test")
    with pytest.raises(LeakageError, match="fit it on validation rows"):
        prior_shift(label, prevalence=0.1, split="test")


@pytest.mark.parametrize(
    ("label", "logit", "remark"),
    [
        ([0, 1, 1], [-1.0, 2.0, 0.5], "every image lies on its own side of logit 0"),
        ([0, 1, 1], [1.0, -2.0, 0.5], "no better than none"),
        ([0, 1], [0.0, 0.0], "no better than none"),
        ([0, 1], [math.nan, math.nan], "not known"),
    ],
)
def test_where_no_temperature_is_best_there_is_none_and_the_reason(
    label: list[int], logit: list[float], remark: str
) -> None:
    found = fit_temperature(label, logit, split="val")
    assert math.isnan(found.value)
    assert remark in found.remark


def test_shift_is_bayes_rule_for_another_mixture() -> None:
    label = np.repeat([0, 1], [30, 70])
    shift = prior_shift(label, prevalence=0.1, split="val")
    probability = 0.8
    moved = float(sigmoid(math.log(probability / (1 - probability)) + shift))
    positive, negative = probability / 0.7 * 0.1, (1 - probability) / 0.3 * 0.9
    assert moved == pytest.approx(positive / (positive + negative), rel=1e-12)
    assert prior_shift(label, prevalence=0.7, split="val") == pytest.approx(0.0, abs=1e-12)


def test_shift_of_one_class_is_not_defined_and_odd_prevalences_are_refused() -> None:
    assert math.isnan(prior_shift([1, 1], prevalence=0.1, split="val"))
    with pytest.raises(ConfigError, match=r"prevalence 1: expected a number in \(0, 1\)"):
        prior_shift([0, 1], prevalence=1, split="val")
