"""Verdicts: the rule as a table, who may be compared, a slow second implementation, and planted truths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as distributions
from simulated_arms import make_arms, with_rows, write_arm

from cxr_experiments.errors import ComparisonError
from cxr_experiments.evidence.comparison import (
    MEASURES,
    Arm,
    Cell,
    Comparison,
    Overlap,
    Rows,
    compare_arms,
    noise_floor,
    read_arm,
    sentence,
    verdict,
)
from cxr_experiments.evidence.comparison.resolution import Design, assumed_noise, can_decide, resolution, seeds_needed
from cxr_experiments.evidence.comparison.verdicts import number

NAN = math.nan


@pytest.fixture(scope="module")
def arms() -> list[Arm]:
    """A baseline, a truly worse arm and one that is no different, on 160 patients and 6 seeds."""
    return make_arms((-1.2, 0.0), num_seeds=6, num_patients=160, seed=3)


@pytest.fixture(scope="module")
def compared(arms: list[Arm]) -> Comparison:
    return compare_arms(arms[0], arms[1:], metric="auroc", margin=0.02, overlap=Overlap(800, 160))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.011, 0.03, "better"),
        (0.01, 0.03, "better, relevance unresolved"),
        (0.001, 0.0101, "better, relevance unresolved"),
        (0.001, 0.01, "better but within the margin"),
        (0.001, 0.009, "better but within the margin"),
        (0.0, 0.009, "equivalent"),
        (-0.0099, 0.0099, "equivalent"),
        (0.0, 0.0, "equivalent"),
        (0.0, 0.01, "not resolved"),
        (-0.01, 0.005, "not resolved"),
        (-0.02, 0.02, "not resolved"),
        (NAN, NAN, "not resolved"),
        (-0.001, NAN, "not resolved"),
        (0.02, math.inf, "better"),
    ],
)
def test_interval_and_margin_give_one_word_and_its_mirror_image(low: float, high: float, word: str) -> None:
    assert verdict(low, high, 0.01) == word
    assert verdict(-high, -low, 0.01) == word.replace("better", "worse")


@pytest.mark.parametrize(
    ("word", "interval", "margin", "told"),
    [
        ("better", (0.02, 0.011, 0.029), 0.01, "x: better by .020 [.011, .029] (b)"),
        ("worse, relevance unresolved", (-0.02, -0.039, -0.001), 0.01, "x: worse by .020 [.001, .039], relevance unr"),
        ("worse", (0.02, 0.011, 0.029), 0.01, "x: worse by .020 [.011, .029] (b)"),
        ("better but within the margin", (0.004, 0.0002, 0.008), 0.01, "x: better by .0040 [.0002, .0080] but within"),
        ("equivalent", (0.0, -0.003, 0.003), 0.005, "x: equivalent, difference .000 [-.003, .003] against a margin"),
        ("not resolved", (1.2, -0.1, 2.5), 0.5, "x: not resolved, difference 1.200 [-.100, 2.500] against a margin of"),
        ("not resolved", (0.1, NAN, NAN), 0.5, "x: not resolved (b)"),
        (
            "equivalent",
            (-0.0006, -0.0025, 0.0012),
            0.01,
            "x: equivalent, difference -.0006 [-.0025, .0012] against a margin of .010 (b)",
        ),
        (
            "equivalent",
            (0.0, -0.009, 0.009),
            0.0148,
            "x: equivalent, difference .000 [-.009, .009] against a margin of .0148 (b)",
        ),
    ],
)
def test_sentence_reads_the_verdict_out(
    word: str, interval: tuple[float, float, float], margin: float, told: str
) -> None:
    assert sentence("x", word, interval, margin, "b").startswith(told)


def test_shown_limits_stay_on_their_side_of_zero_and_of_the_margin() -> None:
    for low, high in ((0.0004, 0.03), (-0.0103, 0.00996), (0.010004, 0.02)):
        told = sentence("x", verdict(low, high, 0.01), ((low + high) / 2, low, high), 0.01, "b")
        shown = [float(text) for text in told[told.index("[") + 1 : told.index("]")].split(", ")]
        assert verdict(shown[0], shown[1], 0.01) == verdict(low, high, 0.01), told


def test_numbers_lose_the_zero_before_their_point_alone() -> None:
    assert [number(value) for value in (0.0214, -0.004, -0.0001, 1.0, 10.25, -20.5, NAN)] == [
        *(".021", "-.004", ".000", "1.000", "10.250", "-20.500", "-"),
    ]


def test_planted_effect_and_planted_null_are_told_apart(compared: Comparison) -> None:
    worse, same = compared.differences
    assert worse.verdict == "worse"
    assert worse.difference.high < -0.02
    assert same.verdict in ("equivalent", "not resolved")
    assert same.difference.low <= 0 <= same.difference.high
    assert worse.sentence.endswith("(AUROC on test, 6 seeds, 160 patient keys)")


def test_planted_effect_is_found_in_files_as_in_memory(arms: list[Arm], compared: Comparison, tmp_path: Path) -> None:
    read = [read_arm(arm.name, write_arm(tmp_path / str(place), arm)) for place, arm in enumerate(arms)]
    found = compare_arms(read[0], read[1:], metric="auroc", margin=0.02)
    for one, other in zip(found.differences, compared.differences, strict=True):
        assert one.verdict == other.verdict
        assert one.difference.low == pytest.approx(other.difference.low, abs=1e-12)
        assert one.run_ids_option == other.run_ids_option
    assert found.split == "test"


@pytest.mark.parametrize("metric", ["brier", "log_loss"])
def test_lower_is_better_metrics_are_mirrored(arms: list[Arm], metric: str) -> None:
    (worse,) = compare_arms(arms[0], arms[1:2], metric=metric, margin=0.005, thorough=False).differences
    assert worse.difference.low > 0.005
    assert worse.verdict == "worse"
    assert f": worse by {number(worse.difference.value)} [{number(worse.difference.low)}, " in worse.sentence
    (better,) = compare_arms(arms[1], arms[:1], metric=metric, margin=0.005, thorough=False).differences
    assert better.verdict == "better"
    assert f": better by {number(worse.difference.value)} [{number(worse.difference.low)}, " in better.sentence


def test_open_verdict_has_one_sign_in_sentence_and_table(arms: list[Arm]) -> None:
    """Option less baseline in either, also where lower is better."""
    pair = make_arms((0.0,), num_seeds=6, num_patients=160, seed=8)
    (same,) = compare_arms(pair[0], pair[1:], metric="brier", margin=0.05, thorough=False).differences
    assert same.verdict == "equivalent"
    assert abs(same.difference.value) > 0.0005
    assert f"difference {number(same.difference.value)} [{number(same.difference.low)}, " in same.sentence


def test_family_of_several_has_wider_intervals_and_larger_p(arms: list[Arm], compared: Comparison) -> None:
    for option, within in zip(arms[1:], compared.differences, strict=True):
        (alone,) = compare_arms(arms[0], [option], metric="auroc", margin=0.02, thorough=False).differences
        assert alone.difference == alone.pointwise
        assert alone.p_value == alone.adjusted_p_value == within.p_value
        assert within.pointwise == alone.pointwise
        assert within.difference.high - within.difference.low > alone.difference.high - alone.difference.low
        assert within.adjusted_p_value > alone.p_value or within.adjusted_p_value < 1e-4
        assert within.standard_error == alone.standard_error


def test_simultaneous_interval_and_adjusted_p_agree(compared: Comparison) -> None:
    for one in compared.differences:
        excludes_zero = one.difference.low > 0 or one.difference.high < 0
        assert excludes_zero == (one.adjusted_p_value < 0.05)


@pytest.mark.parametrize("metric", [name for name, measure in MEASURES.items() if not measure.validation_only])
def test_identical_arms_are_equivalent_and_the_width_is_explained(arms: list[Arm], metric: str) -> None:
    twin = replace(arms[0], name="twin")
    found = compare_arms(arms[0], [twin, arms[1]], metric=metric, margin=0.01, thorough=False)
    same, worse = found.differences
    assert (same.verdict, same.difference.value) == ("equivalent", 0.0)
    assert same.p_value == pytest.approx(1.0)
    assert worse.verdict.startswith(("worse", "not"))
    assert any(note.startswith("twin: no seed and no patient moves the difference") for note in found.notes)


@pytest.mark.parametrize("metric", ["auroc", "brier", "balanced_accuracy"])
def test_order_of_images_changes_nothing(arms: list[Arm], metric: str) -> None:
    order = np.random.default_rng(0).permutation(len(arms[0].cells[0].rows.label))
    before = compare_arms(arms[0], arms[1:], metric=metric, margin=0.01)
    after = compare_arms(arms[0], [with_rows(arms[1], order), arms[2]], metric=metric, margin=0.01)
    for one, other in zip(before.differences, after.differences, strict=True):
        assert one.difference.low == pytest.approx(other.difference.low, abs=1e-12)
        assert one.verdict == other.verdict
        for check, again in zip(one.checks, other.checks, strict=True):
            assert check.low == pytest.approx(again.low, abs=1e-6, nan_ok=True)
            assert check.p_value == pytest.approx(again.p_value, nan_ok=True)


def test_row_order_does_not_tell_patients_apart_in_the_bootstrap(arms: list[Arm]) -> None:
    order = np.random.default_rng(1).permutation(160)

    def nameless(arm: Arm) -> Arm:
        cells = [replace(cell, rows=replace(cell.rows, patient=np.full(160, ""))) for cell in arm.cells]
        return replace(arm, cells=tuple(cells))

    plain = [nameless(arm) for arm in arms[:2]]
    mixed = [replace(arm, cells=(arm.cells[0], *with_rows(arm, order).cells[1:])) for arm in plain]
    widths = []
    for pair in (plain, mixed):
        (found,) = compare_arms(pair[0], [pair[1]], metric="auroc", margin=0.01).differences
        widths.append(found.checks[0].high - found.checks[0].low)
        assert found.num_patients == 0
        assert found.sentence.endswith("160 images, patients not verifiable)")
    assert widths[0] == pytest.approx(widths[1], rel=0.15)


@pytest.mark.parametrize("metric", ["auroc", "brier", "sensitivity"])
def test_doubled_rows_of_each_patient_do_not_shrink_the_deciding_interval(arms: list[Arm], metric: str) -> None:
    def doubled(arm: Arm) -> Arm:
        twice = with_rows(arm, np.repeat(np.arange(160), 2))
        names = np.array([f"{image}#{place % 2}" for place, image in enumerate(twice.cells[0].rows.image_id)])
        cells = [replace(cell, rows=replace(cell.rows, image_id=names)) for cell in twice.cells]
        return replace(arm, cells=tuple(cells))

    (once,) = compare_arms(arms[0], arms[1:2], metric=metric, margin=0.01, thorough=False).differences
    (twice,) = compare_arms(doubled(arms[0]), [doubled(arms[1])], metric=metric, margin=0.01).differences
    assert (once.num_images, twice.num_images, twice.num_patients) == (160, 320, 160)
    assert twice.standard_error >= once.standard_error * (1 - 1e-9)
    assert twice.difference.high - twice.difference.low >= (once.difference.high - once.difference.low) * (1 - 1e-9)


def pair_auroc(label: NDArray[np.int8], score: NDArray[np.float64]) -> float:
    wins = [(p > n) + 0.5 * (p == n) for p in score[label == 1] for n in score[label == 0]]
    return float(np.mean(wins))


def share_right_of_both(label: NDArray[np.int8], score: NDArray[np.float64]) -> float:
    return float((np.mean(score[label == 1] >= 0.5) + np.mean(score[label == 0] < 0.5)) / 2)


def squared_error(label: NDArray[np.int8], score: NDArray[np.float64]) -> float:
    return float(np.mean((score - label) ** 2))


@pytest.mark.parametrize(
    ("metric", "slow"),
    [("auroc", pair_auroc), ("balanced_accuracy", share_right_of_both), ("brier", squared_error)],
)
def test_deciding_interval_agrees_with_a_slow_second_implementation(metric: str, slow: Callable[..., float]) -> None:
    """Obuchowski and Rockette by loops over runs and left-out patients, ties and several images a patient."""
    arms = make_arms((-0.8,), num_seeds=3, num_patients=24, per_patient=2, seed=7)
    for arm in arms:
        for cell in arm.cells:
            cell.rows.probability[:] = np.round(cell.rows.probability, 2)
            cell.rows.logit[:] = np.nan
    rows = arms[0].cells[0].rows
    keys = sorted(set(rows.patient.tolist()))
    runs = [(arm, seed) for arm in range(2) for seed in range(3)]

    def value(run: tuple[int, int], left_out: str | None) -> float:
        kept = rows.patient != left_out
        return slow(rows.label[kept], arms[run[0]].cells[run[1]].rows.probability[kept])

    whole = {run: value(run, None) for run in runs}
    left = {run: np.array([value(run, key) for key in keys]) for run in runs}

    def covariance(one: tuple[int, int], other: tuple[int, int]) -> float:
        products = (left[one] - left[one].mean()) * (left[other] - left[other].mean())
        return float((len(keys) - 1) / len(keys) * products.sum())

    def mean_covariance(kind: Callable[[bool, bool], bool]) -> float:
        fits = [(a, b) for a, b in itertools.product(runs, runs) if kind(a[0] == b[0], a[1] == b[1])]
        return float(np.mean([covariance(a, b) for a, b in fits]))

    cov2, cov3 = (
        mean_covariance(lambda arm, seed: arm and not seed),
        mean_covariance(lambda arm, seed: not (arm or seed)),
    )
    per_seed = [whole[1, seed] - whole[0, seed] for seed in range(3)]
    arm_by_seed = float(np.var(per_seed, ddof=1)) / 2
    denominator = arm_by_seed + max(0.0, 3 * (cov2 - cov3))
    error, degrees = math.sqrt(2 * denominator / 3), denominator**2 / (arm_by_seed**2 / 2)
    half = distributions.t.ppf(0.975, degrees) * error

    (found,) = compare_arms(arms[0], arms[1:], metric=metric, margin=0.01).differences
    assert found.per_seed == pytest.approx(per_seed, abs=1e-11)
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(degrees, rel=1e-9)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        (np.mean(per_seed) - half, np.mean(per_seed) + half), rel=1e-9
    )
    assert found.training_error**2 + found.patient_error**2 == pytest.approx(error**2)


def test_means_of_arms_have_intervals_that_end_where_the_measure_ends(arms: list[Arm]) -> None:
    good = make_arms((4.0,), num_seeds=4, num_patients=60)
    found = compare_arms(good[0], good[1:], metric="auroc", margin=0.01, thorough=False)
    for _, estimate in found.arms:
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_training_noise_and_patient_noise_are_told_apart() -> None:
    noisy = make_arms((0.0,), num_seeds=8, seed_sd=0.8, num_patients=400, seed=1)
    steady = make_arms((0.0,), num_seeds=8, seed_sd=0.0, num_patients=60, seed=1)
    by_training, by_patients = (
        compare_arms(pair[0], pair[1:], metric="auroc", margin=0.01, thorough=False).differences[0]
        for pair in (noisy, steady)
    )
    assert by_training.training_error > by_training.patient_error
    assert by_patients.patient_error > by_patients.training_error
    assert by_training.seed_sd > by_patients.seed_sd
    assert 0 < by_patients.correlation < 1


def test_checks_hold_every_promised_test_and_change_no_verdict(arms: list[Arm], compared: Comparison) -> None:
    plain = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.02, thorough=False)
    for bare, one in zip(plain.differences, compared.differences, strict=True):
        assert (bare.verdict, bare.difference, bare.sentence) == (one.verdict, one.difference, one.sentence)
        assert (bare.checks, bare.subgroups) == ((), ())
        names = [check.name for check in one.checks]
        assert names[:3] == ["two-level bootstrap", "exact sign flip over seeds", "corrected resampled t"]
        assert [name for name in names if name.startswith("DeLong")] == [f"DeLong, seed {seed}" for seed in range(6)]
        assert sum(name.startswith("exact McNemar") for name in names) == 6
        assert one.checks[0].low < one.difference.value < one.checks[0].high
        assert one.checks[1].p_value >= 2 / 2**6
        assert "800 trained on, 160 judged" in one.checks[2].note


def test_mcnemar_counts_at_each_runs_frozen_threshold(arms: list[Arm]) -> None:
    cells = tuple(replace(cell, threshold=0.99999) for cell in arms[1].cells)
    (found,) = compare_arms(arms[0], [replace(arms[1], cells=cells)], metric="auroc", margin=0.01).differences
    gained, lost = 0, 0
    one, other = arms[0].cells[0].rows, cells[0].rows
    for label, before, after in zip(one.label, one.probability, other.probability, strict=True):
        right, right_now = (before >= 0.5) == (label == 1), (after >= 0.99999) == (label == 1)
        gained, lost = gained + (right_now and not right), lost + (right and not right_now)
    check = next(check for check in found.checks if check.name == "exact McNemar, seed 0")
    assert f"{gained} gained, {lost} lost" in check.note
    assert check.estimate == pytest.approx((gained - lost) / 160)


def test_bootstrap_of_very_many_pairs_is_left_out_in_words(arms: list[Arm], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxr_experiments.evidence.comparison.checks.MAX_PAIRS", 100)
    (found,) = compare_arms(arms[0], arms[1:2], metric="auroc", margin=0.01).differences
    assert math.isnan(found.checks[0].low)
    assert found.checks[0].note == "left out: 6,400 pairs of images a seed, at most 100"


def test_subgroups_are_parts_of_one_class_against_all_of_the_other(arms: list[Arm], compared: Comparison) -> None:
    parts = compared.differences[0].subgroups
    assert [part.name for part in parts] == [
        *("bacterial pneumonia", "viral pneumonia", "NORMAL (IM)", "NORMAL (NORMAL2)"),
    ]
    assert [(part.num_images, part.num_patients) for part in parts] == [(40, 40)] * 4
    rows = arms[0].cells[0].rows
    chosen = np.array([key.startswith(("bacteria", "IM", "NORMAL2")) for key in rows.patient])
    by_hand = [pair_auroc(rows.label[chosen], cell.rows.logit[chosen]) for cell in arms[0].cells]
    assert parts[0].baseline == pytest.approx(np.mean(by_hand))
    assert all(part.low < part.difference < part.high for part in parts)
    # both classes' parts average to the whole
    assert (parts[0].baseline + parts[1].baseline) / 2 == pytest.approx(compared.arms[0][1].value)


def test_subgroup_that_a_repetition_lacks_is_not_shown(arms: list[Arm]) -> None:
    keep = np.array([not key.startswith("virus") for key in arms[0].cells[0].rows.patient])

    def without_virus(arm: Arm) -> Arm:
        return replace(arm, cells=(replace(arm.cells[0], rows=arm.cells[0].rows.only(keep)), *arm.cells[1:]))

    cut = [without_virus(arm) for arm in arms[:2]]
    found = compare_arms(cut[0], cut[1:], metric="auroc", margin=0.01)
    assert "viral pneumonia" not in [part.name for part in found.differences[0].subgroups]
    assert "each seed is judged on images of its own; arms are paired within a seed" in found.notes


def changed(arm: Arm, **values: object) -> Arm:
    """The arm with its second run changed."""
    return replace(arm, cells=(arm.cells[0], replace(arm.cells[1], **values), *arm.cells[2:]))


def rows_with(rows: Rows, **values: object) -> Rows:
    return replace(rows, **values)


def flipped(rows: Rows) -> Rows:
    label = rows.label.copy()
    label[3] = 1 - label[3]
    return rows_with(rows, label=label)


def other_patient(rows: Rows) -> Rows:
    patient = rows.patient.copy()
    patient[3] = "x"
    return rows_with(rows, patient=patient)


def renamed(rows: Rows) -> Rows:
    image_id = rows.image_id.astype("U99")
    image_id[3] = "zz.png"
    return rows_with(rows, image_id=image_id)


def second(arm: Arm) -> Rows:
    return arm.cells[1].rows


REFUSALS: dict[str, tuple[Callable[[Arm, Arm], tuple[Arm, list[Arm]]], str]] = {
    "no options": (lambda a, b: (a, []), "give at least one option"),
    "one name": (lambda a, b: (a, [replace(b, name="baseline")]), "two arms have one name: baseline, baseline"),
    "no runs": (lambda a, b: (replace(a, cells=()), [replace(b, cells=())]), "no runs in baseline, option 1"),
    "other images": (
        lambda a, b: (a, [changed(b, rows=renamed(second(b)))]),
        "runs 01abcdef01 and 11abcdef11 were judged on different images: 2 stand in one alone, as test/virus:0-3.jpeg",
    ),
    "fewer images": (
        lambda a, b: (a, [changed(b, rows=second(b).only(np.arange(160) > 0))]),
        "different images: 1 stand in one alone, as test/IM:0-0.jpeg",
    ),
    "labels": (
        lambda a, b: (a, [changed(b, rows=flipped(second(b)))]),
        "runs 01abcdef01 and 11abcdef11 disagree on the label of test/virus:0-3.jpeg",
    ),
    "patients": (
        lambda a, b: (a, [changed(b, rows=other_patient(second(b)))]),
        "disagree on the patient of test/virus:0-3.jpeg",
    ),
    "digests": (
        lambda a, b: (a, [changed(b, dataset_digest="e" * 64)]),
        "different data sets, by digest: dddddddddddd (run 00abcdef00) and eeeeeeeeeeee (run 11abcdef11)",
    ),
    "phantoms beside films": (
        lambda a, b: (a, [changed(b, synthetic=True)]),
        "different kinds of images: real (run 00abcdef00) and synthetic (run 11abcdef11)",
    ),
    "phantoms beside films under one name": (
        lambda a, b: (
            a,
            [
                replace(
                    b,
                    cells=tuple(
                        replace(two, run_id=one.run_id, synthetic=True)
                        for one, two in zip(a.cells, b.cells, strict=True)
                    ),
                )
            ],
        ),
        "different kinds of images: real (run 00abcdef00) and synthetic (run 00abcdef00)",
    ),
    "splits": (lambda a, b: (a, [changed(b, split="val")]), "different splits: test (run 00abcdef00) and val (run 11"),
    "seed twice": (
        lambda a, b: (a, [changed(b, seed=0)]),
        "option 1 has seed 0 more than once (runs 10abcdef10, 11abcdef11)",
    ),
    "a seed missing": (
        lambda a, b: (a, [replace(b, cells=b.cells[:-1])]),
        "baseline and option 1 are not paired by seed: seed 5 in one of the two only (6 and 5 runs)",
    ),
    "an empty arm": (
        lambda a, b: (a, [replace(b, cells=())]),
        "seeds 0, 1, 2, 3, 4, 5 in one of the two only (6 and 0",
    ),
    "another order": (
        lambda a, b: (a, [replace(b, cells=b.cells[::-1])]),
        "their seeds come in another order: [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses_what_may_not_be_compared_and_says_why(arms: list[Arm], case: str) -> None:
    change, told = REFUSALS[case]
    baseline, options = change(arms[0], arms[1])
    with pytest.raises(ComparisonError) as error:
        compare_arms(baseline, options, metric="auroc", margin=0.01)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def configured(arm: Arm, config: dict[str, object]) -> Arm:
    return replace(arm, cells=tuple(replace(cell, config={**config, "seeds.init": cell.seed}) for cell in arm.cells))


def test_refuses_runs_that_differ_in_more_than_the_factor(arms: list[Arm]) -> None:
    plain = {"key": "a", "training.epochs": 8, "optimizer.kind": "adam"}
    baseline = configured(arms[0], plain)
    option = configured(arms[1], {**plain, "key": "b"})
    assert compare_arms(baseline, [option], metric="auroc", margin=0.01, thorough=False)
    more = configured(arms[1], {**plain, "key": "b", "training.epochs": 9, "optimizer.kind": "sgd"})
    with pytest.raises(ComparisonError) as error:
        compare_arms(baseline, [more], metric="auroc", margin=0.01)
    assert str(error.value) == (
        "runs 00abcdef00 and 10abcdef10 differ in more than the factor factor 1: "
        "optimizer.kind (adam and sgd), training.epochs (8 and 9)"
    )


def test_refuses_an_arm_of_two_settings(arms: list[Arm]) -> None:
    pair = [configured(arm, {"key": "a"}) for arm in arms[:2]]
    cells = [arm.cells for arm in pair]
    both = [
        replace(arm, cells=(*own[:-1], replace(own[-1], config={**own[-1].config, "data.fold": 2, "lr": 3})))
        for arm, own in zip(pair, cells, strict=True)
    ]
    with pytest.raises(
        ComparisonError, match=r"runs 00abcdef00 and 05abcdef05 of baseline are not of one setting: lr \(None and 3\)"
    ):
        compare_arms(both[0], both[1:], metric="auroc", margin=0.01)


def test_other_seeds_of_the_run_are_more_than_the_factor(arms: list[Arm]) -> None:
    baseline, option = (configured(arm, {"key": "a"}) for arm in arms[:2])
    moved = changed(option, config={"key": "a", "seeds.init": 99})
    with pytest.raises(ComparisonError, match=r"seeds.init \(1 and 99\)"):
        compare_arms(baseline, [moved], metric="auroc", margin=0.01)


@pytest.mark.parametrize(
    ("metric", "margin", "told"),
    [
        ("aurok", 0.01, r"metric=aurok: no such measure; did you mean auroc\?"),
        ("auroc", 0.0, r"margin=0.0: expected a difference above 0, in units of auroc"),
        ("auroc", math.nan, "margin=nan: expected"),
        ("stress_auroc_mean", 0.01, "stress_auroc_mean is measured on validation images alone, and run 00abcdef00"),
        ("gap_train_val", 0.01, "gap_train_val is measured on validation images alone"),
    ],
)
def test_refuses_an_unknown_measure_and_an_odd_margin(arms: list[Arm], metric: str, margin: float, told: str) -> None:
    with pytest.raises(ComparisonError, match=told):
        compare_arms(arms[0], arms[1:], metric=metric, margin=margin)


def test_images_of_one_class_have_no_auroc(arms: list[Arm]) -> None:
    keep = np.flatnonzero(arms[0].cells[0].rows.label == 1)
    positives = [with_rows(arm, keep) for arm in arms]
    with pytest.raises(ComparisonError, match="run 00abcdef00: its test images are of one class, auroc is not defined"):
        compare_arms(positives[0], positives[1:], metric="auroc", margin=0.01)


def test_one_seed_is_not_resolved_whatever_the_difference() -> None:
    arms = make_arms((-2.5,), num_seeds=1)
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01)
    (one,) = found.differences
    assert one.verdict == "not resolved"
    assert "one seed: how much training alone moves AUROC is not known" in one.sentence
    for value in (one.difference.low, one.standard_error, one.p_value, one.adjusted_p_value, one.seed_sd):
        assert math.isnan(value)
    assert one.difference.value < -0.1
    assert math.isnan(found.arms[0][1].low)
    assert [check.name for check in one.checks] == ["DeLong, seed 0", "exact McNemar, seed 0"]
    assert all(math.isnan(part.low) for part in one.subgroups)


def test_a_class_of_one_patient_is_not_resolved_and_says_so(arms: list[Arm]) -> None:
    """Left out, the class is gone: how far patients move the measure cannot be told, and no noise is not the answer."""
    label = arms[0].cells[0].rows.label
    keep = np.concatenate([np.flatnonzero(label == 1), np.flatnonzero(label == 0)[:1]])
    few = [with_rows(arm, keep) for arm in arms]
    found = compare_arms(few[0], few[1:], metric="auroc", margin=0.01)
    for one in found.differences:
        assert one.verdict == "not resolved"
        assert "AUROC is not defined in every run, or not without one of its patients" in one.sentence


def test_an_arm_without_interval_leaves_the_others_theirs(arms: list[Arm]) -> None:
    def calls_nothing(cell: Cell) -> Cell:
        return replace(cell, threshold=1.0)

    silent = replace(arms[1], cells=tuple(map(calls_nothing, arms[1].cells)))
    found = compare_arms(arms[0], [silent, arms[2]], metric="mcc", margin=0.01)
    assert math.isnan(found.differences[0].difference.value)
    assert "MCC is not defined in every run" in found.differences[0].sentence
    assert all(check.name.startswith("exact McNemar") for check in found.differences[0].checks)
    assert math.isfinite(found.differences[1].difference.low)
    assert math.isfinite(found.differences[1].adjusted_p_value)


def test_stress_measures_come_from_the_stressed_logits() -> None:
    arms = make_arms((-0.8,), num_seeds=3, split="val")

    def stressed(cell: Cell) -> Cell:
        rng = np.random.default_rng(cell.seed)
        noisy = {name: cell.rows.logit + rng.normal(0, sd, len(cell.rows.logit)) for name, sd in (("a", 0.5), ("b", 3))}
        return replace(cell, stress=noisy, train=replace(cell.rows, logit=cell.rows.logit + cell.rows.label))

    ready = [replace(arm, cells=tuple(map(stressed, arm.cells))) for arm in arms]
    cells = ready[0].cells
    by_change = [[pair_auroc(cell.rows.label, logits) for logits in cell.stress.values()] for cell in cells]
    plain = [pair_auroc(cell.rows.label, cell.rows.logit) for cell in cells]
    gaps = [pair_auroc(cell.train.label, cell.train.logit) for cell in cells if cell.train is not None]
    wanted = {
        "stress_auroc_mean": np.mean(by_change),
        "stress_auroc_worst": np.mean(np.min(by_change, axis=1)),
        "gap_train_val": np.mean(np.array(gaps) - plain),
    }
    for metric, value in wanted.items():
        found = compare_arms(ready[0], ready[1:], metric=metric, margin=0.01)
        assert found.arms[0][1].value == pytest.approx(value)
        assert found.differences[0].subgroups == ()
    assert not found.higher_is_better


def test_comparison_is_synthetic_when_any_run_says_so() -> None:
    arms = make_arms(num_seeds=2)
    told = changed(arms[1], synthetic=True)
    quiet = replace(arms[0], cells=tuple(replace(cell, synthetic=None) for cell in arms[0].cells))
    told = replace(told, cells=(replace(told.cells[0], synthetic=None), told.cells[1]))
    assert compare_arms(quiet, [told], metric="auroc", margin=0.01, thorough=False).synthetic


def test_noise_floor_is_welchs_interval() -> None:
    arms = make_arms((0.0,), num_seeds=5, seed_sd=0.4, split="val")
    floor = noise_floor(arms[0], replace(arms[1], cells=arms[1].cells[:3]), "auroc")
    before, after = (
        [pair_auroc(cell.rows.label, cell.rows.logit) for cell in cells] for cells in (arms[0].cells, arms[1].cells[:3])
    )
    wanted = distributions.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    assert (floor.low, floor.high) == pytest.approx((wanted.low, wanted.high))
    assert floor.difference == pytest.approx(np.mean(after) - np.mean(before))
    assert "3 other seeds and splits: AUROC on validation differs by" in floor.sentence


def test_noise_floor_of_runs_that_never_differ_is_zero() -> None:
    arms = make_arms(num_seeds=1)
    cell = arms[0].cells[0]
    still = replace(arms[0], cells=tuple(replace(cell, seed=seed) for seed in range(3)))
    floor = noise_floor(still, still, "auroc")
    assert (floor.difference, floor.low, floor.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_resolution_grows_with_images_and_seeds_and_shrinks_with_comparisons() -> None:
    plain = Design(234, 390, 8, 1, 1.0)
    noise = assumed_noise(plain)
    half = resolution(plain, noise).half_width
    assert resolution(replace(plain, num_seeds=16), noise).half_width < half
    assert resolution(replace(plain, num_comparisons=4), noise).half_width > half
    assert resolution(replace(plain, shared=0.0), noise).half_width < half
    assert resolution(plain, replace(noise, training_sd=3 * noise.training_sd)).half_width > half
    assert can_decide(resolution(plain, noise), 0.02)
    assert not can_decide(resolution(plain, noise), 0.001)
    needed = seeds_needed(replace(plain, shared=0.1), noise, 0.01)
    assert needed is not None
    assert not can_decide(resolution(replace(plain, shared=0.1, num_seeds=needed - 1), noise), 0.01) or needed == 2
    assert seeds_needed(plain, noise, 0.001) is None


def test_resolution_foresees_the_width_of_real_comparisons() -> None:
    """From the noise that 40 simulated studies show, the half width that they have."""
    found = []
    for study in range(40):
        arms = make_arms((0.0,), num_seeds=6, num_patients=200, seed_sd=0.3, seed=100 + study)
        found.append(compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01, thorough=False).differences[0])
    patients = math.sqrt(np.mean([one.patient_error**2 for one in found]))
    training = math.sqrt(6 * np.mean([one.training_error**2 for one in found]))
    noise = replace(assumed_noise(Design(100, 100, 6, 1, 1.0)), patient_sd=patients, training_sd=training)
    foreseen = resolution(Design(100, 100, 6, 1, 1.0), noise).half_width
    seen = np.mean([one.difference.high - one.difference.value for one in found])
    assert foreseen == pytest.approx(seen, rel=0.15)
