"""Scores: one method each, wide enough for patients, the threshold's own uncertainty, calibration side by side."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from cxr_experiments.errors import LeakageError
from cxr_experiments.evidence import metrics
from cxr_experiments.evidence.calibration import Threshold, choose_threshold
from cxr_experiments.evidence.evaluation import (
    Predictions,
    Score,
    Stressed,
    calibration_scores,
    score,
    stress_scores,
)
from cxr_experiments.evidence.evaluation.estimates import PROPORTIONS, STATED_PREVALENCE
from cxr_experiments.evidence.evaluation.scores import redrawn_thresholds
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.evidence.recalibration import calibration_intercept, calibration_slope
from cxr_experiments.evidence.stats import auroc_interval, patient_weights, proportion_interval

FIXED = Threshold(value=0.3, rule="fixed", target=0.3, num_images=0)


def simulated(num_images: int, *, split: str = "val", seed: int = 0, too_sure: float = 1.0) -> Predictions:
    """Two images a patient; labels are drawn with the log-odds logit / too_sure."""
    rng = np.random.default_rng(seed)
    honest = 1.0 + np.repeat(rng.normal(0, 2.0, (num_images + 1) // 2), 2)[:num_images] + rng.normal(0, 1.0, num_images)
    label = (rng.random(num_images) < sigmoid(honest)).astype(np.int8)
    label[:2] = (0, 1)
    logit = too_sure * honest
    return Predictions(
        image_id=np.array([f"{split}/{number:04d}" for number in range(num_images)]),
        patient=np.array([f"{split} {number // 2}" for number in range(num_images)]),
        split=split,
        label=label,
        logit=logit,
        probability=sigmoid(logit),
        run_id="0123456789ab",
        dataset_digest="d" * 64,
    )


def taken(rows: Predictions, which: np.ndarray) -> Predictions:
    arrays = ("image_id", "patient", "label", "logit", "probability")
    return dataclasses.replace(rows, **{name: getattr(rows, name)[which] for name in arrays})


def frozen_on(validation: Predictions, rule: str = "sensitivity_at") -> Threshold:
    return choose_threshold(validation.label, validation.probability, rule=rule, value=0.9, split="val")


def by_name(scores: tuple[Score, ...]) -> dict[str, Score]:
    return {one.name.partition("_")[2]: one for one in scores}


def assert_same(found: tuple[Score, ...], wanted: tuple[Score, ...]) -> None:
    assert [one.name for one in found] == [one.name for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        numbers = (one.value, one.low, one.high)
        assert numbers == pytest.approx((other.value, other.low, other.high), abs=1e-8, nan_ok=True), one.name


def test_every_score_states_the_one_method_of_its_kind() -> None:
    validation, test = simulated(200), simulated(300, split="test", seed=1)
    scores = by_name(score(test, frozen_on(validation), patients_verifiable=True, validation=validation))
    for name, one in scores.items():
        metric = name.removesuffix("_at_half").removesuffix("_at_frozen")
        wanted = "bootstrap over patients, 2,000 draws"
        if metric == "auroc":
            wanted = "Obuchowski 1997 over patients, logit scale"
        elif metric in PROPORTIONS:
            wanted = "Wilson at the effective number of images (Rao and Scott 1992) over patients"
        elif metric == "ece":
            wanted = "none, biased upwards by chance"
        elif name.endswith("_at_redrawn"):
            wanted = "bootstrap over patients of test and val, 2,000 draws"
        assert one.method == wanted, name
    over_images = by_name(score(test, FIXED, patients_verifiable=False))
    assert over_images["auroc"].method == "DeLong 1988, logit scale"
    assert over_images["brier"].method == "bootstrap over images, 2,000 draws"
    assert over_images["ppv_at_half"].method.endswith("over images")


def test_intervals_in_closed_form_are_those_of_stats() -> None:
    rows = simulated(300)
    scores = by_name(score(rows, FIXED, patients_verifiable=True))
    auroc = auroc_interval(rows.label, rows.probability, rows.patient)
    assert (scores["auroc"].value, scores["auroc"].low, scores["auroc"].high) == (auroc.value, auroc.low, auroc.high)
    called, positive = rows.probability >= 0.3, rows.label == 1
    for name, hits, among in (
        ("accuracy", called == positive, called | True),
        ("sensitivity", called, positive),
        ("specificity", ~called, ~positive),
        ("ppv", positive, called),
        ("npv", ~positive, ~called),
    ):
        wanted = proportion_interval(hits[among], rows.patient[among])
        one = scores[f"{name}_at_frozen"]
        assert (one.value, one.low, one.high) == (hits[among].mean(), wanted.low, wanted.high)
        assert f"{np.sum(hits & among)} of {np.sum(among)} " in one.note


def test_duplicates_of_each_patients_rows_shrink_no_interval() -> None:
    validation, test = simulated(120), simulated(160, split="test", seed=1)
    threshold = frozen_on(validation)
    thrice = [taken(rows, np.repeat(np.arange(len(rows.label)), 3)) for rows in (validation, test)]
    once = score(test, threshold, patients_verifiable=True, validation=validation)
    assert_same(score(thrice[1], threshold, patients_verifiable=True, validation=thrice[0]), once)
    once = calibration_scores(test, validation, patients_verifiable=True)
    assert_same(calibration_scores(thrice[1], thrice[0], patients_verifiable=True), once)


def test_predictive_values_are_given_at_the_stated_prevalence_too() -> None:
    rows = simulated(300)
    scores = by_name(score(rows, FIXED, patients_verifiable=True))
    hit, right = scores["sensitivity_at_frozen"].value, scores["specificity_at_frozen"].value
    wanted = hit * STATED_PREVALENCE / (hit * STATED_PREVALENCE + (1 - right) * (1 - STATED_PREVALENCE))
    one = scores["ppv_stated_prevalence_at_frozen"]
    assert one.value == pytest.approx(wanted)
    assert f"at a prevalence of {STATED_PREVALENCE:g}" in one.note
    assert one.value < scores["ppv_at_frozen"].value


@pytest.mark.parametrize("rule", ["sensitivity_at", "youden"])
def test_second_interval_draws_validation_and_sets_the_threshold_anew(rule: str) -> None:
    validation, test = simulated(80), simulated(90, split="test", seed=1)
    threshold = frozen_on(validation, rule)
    scores = by_name(score(test, threshold, patients_verifiable=True, validation=validation, seed=5))
    slow: dict[str, list[float]] = {"sensitivity": [], "specificity": [], "balanced_accuracy": [], "accuracy": []}
    pairs = zip(
        np.concatenate(list(patient_weights(validation.patient, seed=6))),
        np.concatenate(list(patient_weights(test.patient, seed=5))),
        strict=True,
    )
    for of_validation, of_test in pairs:
        drawn = taken(validation, np.repeat(np.arange(80), of_validation.astype(int)))
        judged = taken(test, np.repeat(np.arange(90), of_test.astype(int)))
        again = frozen_on(drawn, rule).value
        for name, values in slow.items():
            values.append(getattr(metrics, name)(judged.label, judged.probability, threshold=again))
    for name, values in slow.items():
        one, conditional = scores[f"{name}_at_redrawn"], scores[f"{name}_at_frozen"]
        assert one.value == pytest.approx(conditional.value)
        assert (one.low, one.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)
        assert "interval conditional on it" in conditional.note
        assert "val drawn and the threshold set anew" in one.note
    width = {name: one.high - one.low for name, one in scores.items()}
    assert width["specificity_at_redrawn"] > 1.2 * width["specificity_at_frozen"]


def test_threshold_that_was_given_has_no_uncertainty_to_draw() -> None:
    validation, test = simulated(60), simulated(60, split="test", seed=1)
    scores = by_name(score(test, FIXED, patients_verifiable=True, validation=validation))
    assert not [name for name in scores if name.endswith("_at_redrawn")]
    assert "threshold given" in scores["accuracy_at_frozen"].note


def test_what_fits_anything_refuses_test_rows() -> None:
    test = simulated(60, split="test")
    with pytest.raises(LeakageError, match="fit it on validation rows"):
        score(test, frozen_on(simulated(60)), patients_verifiable=True, validation=test)
    with pytest.raises(LeakageError, match="fit it on validation rows"):
        redrawn_thresholds(test, FIXED, test.patient, seed=0)
    with pytest.raises(LeakageError, match="fit it on validation rows"):
        calibration_scores(test, test, patients_verifiable=True)


def test_draws_of_validation_without_the_class_that_the_rule_needs_are_left_out() -> None:
    validation = taken(simulated(60), np.array([0, 1, 4, 5]))
    validation = dataclasses.replace(validation, label=np.array([0, 0, 1, 1], dtype=np.int8))
    found = redrawn_thresholds(validation, frozen_on(validation), validation.patient, seed=0, num_draws=400)
    assert np.isnan(found).mean() == pytest.approx(0.25, abs=0.08), "both patients drawn are negative"


def test_calibration_stands_side_by_side_as_trained_tempered_and_corrected() -> None:
    validation, test = simulated(800, too_sure=2.5), simulated(800, split="test", seed=1, too_sure=2.5)
    scores = by_name(calibration_scores(test, validation, patients_verifiable=True))
    label, logit = test.label, test.logit
    stated = "stated_prevalence"
    assert scores["log_loss_as_trained"].value == pytest.approx(metrics.log_loss(label, test.probability))
    assert scores["log_loss_tempered"].value < scores["log_loss_as_trained"].value - 0.02
    assert scores["ece_tempered"].value < scores["ece_as_trained"].value
    assert scores["calibration_slope_as_trained"].value == pytest.approx(calibration_slope(label, logit))
    assert scores["calibration_slope_as_trained"].high < 0.6
    assert scores["calibration_slope_tempered"].value == pytest.approx(1.0, abs=0.25)
    tempered, corrected = (scores[f"calibration_intercept_{name}_{stated}"] for name in ("tempered", "prior_corrected"))
    assert tempered.high < -1.5, "too much pneumonia promised where it is rare"
    assert abs(corrected.value) < 0.4
    assert scores[f"log_loss_prior_corrected_{stated}"].value < scores[f"log_loss_tempered_{stated}"].value
    assert "temperature 2." in scores["brier_tempered"].note
    assert "fitted on 800 val images" in scores["brier_tempered"].note


def test_measures_at_the_stated_prevalence_weigh_the_classes() -> None:
    validation, test = simulated(300), simulated(200, split="test", seed=1)
    scores = by_name(calibration_scores(test, validation, patients_verifiable=True))
    parts = [float(np.mean((test.probability - test.label)[test.label == label] ** 2)) for label in (0, 1)]
    wanted = (1 - STATED_PREVALENCE) * parts[0] + STATED_PREVALENCE * parts[1]
    assert scores["brier_as_trained_stated_prevalence"].value == pytest.approx(wanted)
    shares = {label: np.mean(test.label == label) for label in (0, 1)}
    weights = np.where(test.label == 1, STATED_PREVALENCE / shares[1], (1 - STATED_PREVALENCE) / shares[0])
    for name, metric in (("slope", calibration_slope), ("intercept", calibration_intercept)):
        one = scores[f"calibration_{name}_as_trained_stated_prevalence"]
        assert one.value == pytest.approx(metric(test.label, test.logit, weights=weights))


def test_slopes_of_the_tempered_are_those_of_their_own_logits() -> None:
    validation, test = simulated(200, too_sure=2.0), simulated(150, split="test", seed=1, too_sure=2.0)
    scores = by_name(calibration_scores(test, validation, patients_verifiable=True))
    own = dataclasses.replace(test, logit=test.logit / float(scores["brier_tempered"].note.split()[1].rstrip(",")))
    again = by_name(calibration_scores(own, validation, patients_verifiable=True))["calibration_slope_as_trained"]
    one = scores["calibration_slope_tempered"]
    assert (one.value, one.low, one.high) == pytest.approx((again.value, again.low, again.high), rel=1e-3)


def edge(case: str) -> Predictions:
    rows = simulated(40)
    if case == "one class":
        return dataclasses.replace(rows, label=np.ones(40, dtype=np.int8))
    if case == "apart":
        logit = np.where(rows.label == 1, 40.0, -40.0)
        return dataclasses.replace(rows, logit=logit, probability=sigmoid(logit))
    if case == "no logits":
        return dataclasses.replace(rows, logit=np.full(40, np.nan))
    if case == "constant":
        return dataclasses.replace(rows, logit=np.zeros(40), probability=np.full(40, 0.5))
    return taken(rows, np.arange(int(case)))


@pytest.mark.parametrize("case", ["one class", "apart", "no logits", "constant", "1", "2", "4"])
def test_what_is_not_defined_is_told_and_no_stand_in(case: str) -> None:
    rows = edge(case)
    for one in (
        *score(rows, FIXED, patients_verifiable=True),
        *calibration_scores(rows, rows, patients_verifiable=True),
    ):
        assert "val images" not in one.note, "rows that the temperature was fitted on are called these"
        if math.isnan(one.value):
            assert math.isnan(one.low)
        if math.isnan(one.low) and "ece" not in one.name:
            assert one.note, one
    scores = by_name(score(rows, FIXED, patients_verifiable=True))
    assert math.isnan(scores["calibration_slope"].value) == (case != "4")
    calibration = by_name(calibration_scores(rows, rows, patients_verifiable=True))
    if case == "apart":
        assert "classes that do not overlap" in scores["calibration_slope"].note
        assert "every image lies on its own side" in calibration["brier_tempered"].note
        assert calibration["brier_as_trained"].value == pytest.approx(0.0, abs=1e-12)


def test_one_patient_in_a_class_leaves_auroc_without_interval() -> None:
    rows = dataclasses.replace(simulated(40), label=np.r_[1, np.zeros(39)].astype(np.int8))
    one = by_name(score(rows, FIXED, patients_verifiable=True))["auroc"]
    assert 0 < one.value < 1
    assert math.isnan(one.low)
    assert one.note == "too few patients in a class: no standard error"


def test_each_auroc_under_stress_has_the_interval_of_any_auroc() -> None:
    validation = simulated(120)
    rng = np.random.default_rng(3)
    stressed = Stressed(
        validation.image_id, {name: validation.logit + rng.normal(0, 1, 120) for name in ("blur", "noise")}
    )
    scores = {one.name: one for one in stress_scores(validation, stressed, simulated(80), patients_verifiable=True)}
    for name, logits in stressed.logits.items():
        wanted = auroc_interval(validation.label, logits, validation.patient)
        one = scores[f"stress_auroc_{name}"]
        assert (one.value, one.low, one.high, one.method) == (wanted.value, wanted.low, wanted.high, wanted.method)
    for name in ("stress_auroc_mean", "stress_auroc_worst", "gap_train_val"):
        assert scores[name].method == "bootstrap over patients, 1,000 draws"
        assert scores[name].low <= scores[name].value <= scores[name].high
