"""The patient bootstrap against slow resampling, theory and its own promises."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from cxr_experiments.evidence import stats
from cxr_experiments.evidence.metrics import accuracy, auroc, operating_curve


def patients_rows(num_patients: int, per_patient: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and patients; a patient's images are copies of each other."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, num_patients)
    scores = np.clip(0.5 + 0.25 * (labels - 0.5) + rng.normal(0, 0.2, num_patients), 0, 1)
    patients = np.array([f"p{number}" for number in range(num_patients)])
    return tuple(np.repeat(column, per_patient) for column in (labels, scores, patients))


def width(interval: stats.Interval) -> float:
    return interval.high - interval.low


def test_examples_in_the_docstrings_hold() -> None:
    modules = (stats.bootstrap, stats.auroc, stats.paired, stats.proportions)
    found = [doctest.testmod(module) for module in modules]
    assert sum(one.attempted for one in found) >= 9
    assert sum(one.failed for one in found) == 0


def test_training_does_without_scipys_half_second_of_distributions() -> None:
    program = "import sys, cxr_experiments.record.results; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_duplicating_every_row_of_each_patient_does_not_shrink_the_interval() -> None:
    once = stats.patient_bootstrap(auroc, *patients_rows(150, 1), seed=0)
    labels, scores, patients = patients_rows(150, 5)
    five_times = stats.patient_bootstrap(auroc, labels, scores, patients, seed=0)
    assert (five_times.low, five_times.high) == pytest.approx((once.low, once.high))
    over_images = stats.patient_bootstrap(auroc, labels, scores, np.full(len(labels), ""), seed=0)
    assert width(over_images) < 0.6 * width(five_times)


def test_images_of_a_patient_travel_together() -> None:
    patients = ["a", "b", "a", "", "c", ""]
    for weights in stats.patient_weights(patients, num_draws=200, seed=1):
        np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
        assert (weights[:, 3] != weights[:, 5]).any()
        assert ((weights[:, 0] + weights[:, [1, 3, 4, 5]].sum(axis=1)) == 5).all()


def test_bootstrap_equals_slow_resampling_of_written_out_rows() -> None:
    labels, scores, patients = patients_rows(40, 2)
    names = np.unique(patients)
    names = names[np.argsort([np.flatnonzero(patients == name)[0] for name in names])]
    rng = np.random.default_rng(7)
    slow = []
    for drawn in rng.integers(40, size=(300, 40)):
        rows = np.concatenate([np.flatnonzero(patients == names[number]) for number in drawn])
        slow.append(auroc(labels[rows], scores[rows]))
    found = stats.patient_bootstrap(auroc, labels, scores, patients, num_draws=300, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=1e-12)


def test_interval_of_a_proportion_has_the_width_that_theory_says() -> None:
    labels = np.ones(400, dtype=int)
    scores = np.where(np.arange(400) < 300, 0.9, 0.1)
    found = stats.patient_bootstrap(accuracy, labels, scores, np.full(400, ""), seed=0)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_draws_depend_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = patients_rows(60, 2)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first = stats.patient_bootstrap(auroc, *rows, seed=3)
    assert stats.patient_bootstrap(auroc, *rows, seed=3) == first
    assert stats.patient_bootstrap(auroc, *rows, seed=4) != first
    monkeypatch.setattr(stats.bootstrap, "CHUNK_CELLS", 997)
    assert stats.patient_bootstrap(auroc, *rows, seed=3) == first
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_undefined_draws_are_counted_warned_of_and_left_out() -> None:
    labels, scores = [0, 1, 1, 1], [0.1, 0.7, 0.8, 0.9]
    with pytest.warns(stats.UndefinedDrawsWarning, match="of 500 draws held one class only"):
        found = stats.patient_bootstrap(auroc, labels, scores, ["a", "b", "c", "d"], num_draws=500, seed=0)
    # the only negative is missed with probability (3/4)^4, and drawn alone with (1/4)^4
    assert found.num_undefined / 500 == pytest.approx(0.75**4 + 0.25**4, abs=0.06)
    assert (found.low, found.high) == (1.0, 1.0)  # a stand-in of 0.5 would pull the lower end down


def test_interval_without_any_defined_draw_is_nan() -> None:
    with pytest.warns(stats.UndefinedDrawsWarning):
        found = stats.patient_bootstrap(auroc, [1, 1], [0.1, 0.9], ["a", "b"], num_draws=20, seed=0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.num_undefined == found.num_draws == 20


def test_defined_draws_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stats.patient_bootstrap(accuracy, [1, 1], [0.1, 0.9], ["a", "b"], seed=0).num_undefined == 0


def test_several_metrics_share_their_draws() -> None:
    rows = patients_rows(50, 2)
    both = stats.bootstrap_intervals({"auroc": auroc, "accuracy": accuracy}, *rows, seed=5)
    assert both["auroc"] == stats.patient_bootstrap(auroc, *rows, seed=5)
    assert both["accuracy"] == stats.patient_bootstrap(accuracy, *rows, seed=5)


def test_two_thousand_draws_of_auroc_over_800_images_take_under_a_second() -> None:
    labels, scores, patients = patients_rows(400, 2)
    start = time.perf_counter()
    found = stats.patient_bootstrap(auroc, labels, scores, patients, seed=0)
    assert time.perf_counter() - start < 1.0
    assert found.num_draws == 2000


def test_wilson_interval_agrees_with_a_published_example() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 857-872, Table I, method 3
    for num_hits, num_rows, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = stats.wilson_interval(num_hits, num_rows)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    assert math.isnan(stats.wilson_interval(0, 0).low)


@pytest.mark.parametrize("band_of", [stats.roc_band, stats.precision_recall_band])
def test_band_encloses_the_curve_and_stays_in_the_unit_interval(band_of) -> None:
    labels, scores, patients = patients_rows(300, 1, seed=2)
    band = band_of(labels, scores, patients, seed=0)
    assert (band.low <= band.high).all()
    assert band.low.min() >= 0
    assert band.high.max() <= 1
    curve = operating_curve(labels, scores)
    if band_of is stats.roc_band:
        value = curve.sensitivity[np.searchsorted(curve.false_positive_rate, band.at, side="right") - 1]
    else:
        value = curve.precision[np.searchsorted(curve.sensitivity, band.at, side="left")]
    assert np.mean((band.low <= value) & (value <= band.high)) > 0.97
    assert width_of_middle(band) > 0.02


def width_of_middle(band: stats.Band) -> float:
    middle = len(band.at) // 3
    return float(band.high[middle] - band.low[middle])


def test_band_of_a_single_class_is_nan() -> None:
    band = stats.roc_band([1, 1, 1], [0.1, 0.5, 0.9], ["", "", ""], seed=0)
    assert np.isnan(band.low).all()


def test_undefined_jackknife_leaves_the_interval_undefined() -> None:
    estimates, deviations = [[0.9, 0.8], [0.7, 0.9]], np.full((2, 2, 5), np.nan)
    assert np.isnan(stats.random_reader_contrast(estimates, deviations).low)
    assert np.isnan(stats.random_reader_mean(estimates[0], deviations[0]).low)
