"""Statistics against published cases: MRMCaov's Van Dyke study, pROC's aSAH patients, textbook tests."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from cxr_experiments.evidence import stats

ORACLES = Path(__file__).resolve().parents[2] / "shared" / "oracles"
TEN_SPLITS = [0.010, 0.022, -0.004, 0.015, 0.008, 0.019, 0.001, 0.012, 0.006, 0.011]


def oracle(name: str) -> list[dict[str, str]]:
    """The rows of a published table; it lies beside the checkout, not in it."""
    if not (ORACLES / name).is_file():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{ORACLES / name} is missing")
        pytest.skip(f"{ORACLES / name} is not there")
    with open(ORACLES / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_obuchowski_rockette_on_van_dyke() -> None:
    rows = oracle("VanDyke.csv")
    cases = sorted({row["case"] for row in rows}, key=int)
    truth = {row["case"]: int(row["truth"]) for row in rows}
    rating = {(row["treatment"], row["reader"], row["case"]): float(row["rating"]) for row in rows}
    readers = sorted({row["reader"] for row in rows})
    scores = [[[rating[arm, reader, case] for case in cases] for reader in readers] for arm in ("1", "2")]
    found = stats.obuchowski_rockette([truth[case] for case in cases], scores)
    assert found.difference == pytest.approx(-0.0438003221, abs=5e-11)
    assert found.standard_error == pytest.approx(0.0207486184, abs=5e-11)
    assert found.f == pytest.approx(4.45631869, abs=5e-9)
    assert found.degrees_of_freedom == pytest.approx(15.2596746, abs=5e-8)
    assert found.p_value == pytest.approx(0.0516656858, abs=5e-11)
    assert (found.low, found.high) == pytest.approx((-0.0879594986, 0.0003588544), abs=5e-11)


def test_delong_on_asah() -> None:
    rows = oracle("aSAH.csv")
    labels = [int(row["outcome"] == "Poor") for row in rows]
    wfns, s100b = ([float(row[name]) for row in rows] for name in ("wfns", "s100b"))
    found = stats.delong_test(labels, wfns, s100b)
    assert found.auroc_a == pytest.approx(0.823678861788618, abs=1e-14)
    assert found.auroc_b == pytest.approx(0.731368563686, abs=1e-12)
    assert found.z == pytest.approx(2.20898359144091, abs=1e-12)
    assert found.p_value == pytest.approx(0.0271757822291882, abs=1e-13)
    assert (found.low, found.high) == pytest.approx((0.0104061769564846, 0.174214419249478), abs=1e-13)
    same = stats.delong_test(labels, wfns, wfns)
    assert (same.z, same.p_value) == (0.0, 1.0)


@pytest.mark.parametrize(("b", "c", "p"), [(121, 59, 4.43445e-6), (70, 59, 0.37868766), (10, 10, 1.0), (0, 0, 1.0)])
def test_exact_mcnemar(b: int, c: int, p: float) -> None:
    assert stats.mcnemar_exact(b, c) == pytest.approx(p, rel=2e-6)


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_nadeau_bengio_on_ten_splits() -> None:
    found = stats.corrected_resampled_interval(TEN_SPLITS, 4708, 524)
    assert stats.corrected_resampled_t(TEN_SPLITS, 4708, 524) == found.p_value
    assert found.t == pytest.approx(2.77780691464, abs=1e-11)
    assert found.p_value == pytest.approx(0.021477626399, abs=1e-12)


def test_exact_sign_flip_on_ten_splits() -> None:
    assert stats.sign_flip(TEN_SPLITS) == 6 / 1024


def test_paired_bootstrap_has_the_published_standard_error() -> None:
    gains = np.zeros(624)
    gains[:25], gains[25:37] = 1, -1
    drawn = np.concatenate([w @ gains / 624 for w in stats.patient_weights([""] * 624, num_draws=20_000, seed=1)])
    assert drawn.std(ddof=1) == pytest.approx(0.0097123, rel=0.02)


def test_doubling_each_patients_rows_shrinks_no_clustered_interval() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 150)
    scores, patients = labels + rng.normal(0, 1, 150), np.array([f"p{row}" for row in range(150)])
    twice = [np.repeat(values, 2) for values in (labels, scores, patients)]
    once, doubled = stats.auroc_interval(labels, scores, patients), stats.auroc_interval(*twice)
    assert doubled.high - doubled.low >= (once.high - once.low) * (1 - 1e-9)
    hits = scores > 0.5
    once_share, doubled_share = (
        stats.proportion_interval(hits, patients),
        stats.proportion_interval(np.repeat(hits, 2), twice[2]),
    )
    assert doubled_share.high - doubled_share.low >= (once_share.high - once_share.low) * (1 - 1e-9)
    arms = np.stack([[scores + rng.normal(0, 0.3, 150) for _ in range(3)] for _ in range(2)])
    single = stats.obuchowski_rockette(labels, arms, patients=patients)
    double = stats.obuchowski_rockette(twice[0], np.repeat(arms, 2, axis=2), patients=twice[2])
    assert double.standard_error == pytest.approx(single.standard_error, rel=1e-9)


def test_one_image_per_patient_gives_delongs_variance() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 80)
    scores = np.round(labels + rng.normal(0, 1, 80), 1)  # ties
    found = stats.auroc_interval(labels, scores, [""] * 80)
    m, n = int(labels.sum()), int((1 - labels).sum())
    wins = (np.sign(scores[labels == 1][:, None] - scores[labels == 0][None, :]) + 1) / 2
    variance = wins.mean(axis=1).var(ddof=1) / m + wins.mean(axis=0).var(ddof=1) / n
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert found.method.startswith("DeLong")
