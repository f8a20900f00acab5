"""Phantoms: repeatable, anatomically sound, and with nothing but the lesion to tell the label by."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from cxr_experiments.images.phantom import PHANTOM_SIZE_PX, Phantom, PhantomRow, lung_mask, phantom_rows, render

SEED = 5
SHAPE = (PHANTOM_SIZE_PX, PHANTOM_SIZE_PX)


@cache
def films(num_patients: int = 130) -> tuple[tuple[PhantomRow, Phantom], ...]:
    return tuple((row, render(row, seed=SEED, difficulty=0.5)) for row in phantom_rows(num_patients, SEED))


def sick(num: int) -> list[tuple[PhantomRow, Phantom]]:
    return [(row, phantom) for row, phantom in films() if row.label == 1][:num]


def twin(row: PhantomRow, difficulty: float = 0.5) -> NDArray[np.float64]:
    """The same patient, pose, exposure and noise with the other label."""
    return render(replace(row, label=1 - row.label), seed=SEED, difficulty=difficulty).image.astype(float)


def digest(row: PhantomRow) -> str:
    phantom = render(row, seed=SEED, difficulty=0.5)
    return hashlib.sha256(phantom.image.tobytes() + phantom.lesion_mask.tobytes()).hexdigest()


def test_a_film_is_the_same_in_any_order() -> None:
    rows = phantom_rows(6, SEED)
    assert [digest(row) for row in rows] == [digest(row) for row in reversed(rows)][::-1]


def test_a_film_is_the_same_in_another_process() -> None:
    row = phantom_rows(6, SEED)[3]
    script = (
        "import hashlib\nfrom cxr_experiments.images.phantom import *\n"
        f"p = render(phantom_rows(6, {SEED})[3], seed={SEED}, difficulty=0.5)\n"
        "print(hashlib.sha256(p.image.tobytes() + p.lesion_mask.tobytes()).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == digest(row)


def test_seed_and_index_both_change_the_film() -> None:
    row = phantom_rows(6, SEED)[0]
    image = render(row, seed=SEED, difficulty=0.5).image
    assert np.abs(image - render(row, seed=SEED + 1, difficulty=0.5).image.astype(float)).mean() > 2
    assert np.abs(image - render(replace(row, index=999), seed=SEED, difficulty=0.5).image.astype(float)).mean() > 2


def test_a_film_is_gray_uint8_with_a_mask_of_its_size() -> None:
    for row, phantom in films()[:40]:
        assert phantom.image.shape == phantom.lesion_mask.shape == SHAPE
        assert phantom.image.dtype == np.uint8
        assert phantom.lesion_mask.dtype == np.bool_
        assert (phantom.label, phantom.patient) == (row.label, row.patient)
        assert phantom.image.std() > 25


def test_mask_and_pattern_agree_with_the_label() -> None:
    patterns = {phantom.pattern for _, phantom in films()}
    assert patterns == {"normal", "lobar", "patchy", "interstitial"}
    for _, phantom in films():
        assert phantom.lesion_mask.any() == (phantom.label == 1)
        assert (phantom.pattern == "normal") == (phantom.label == 0)
        assert phantom.label == 0 or phantom.lesion_mask.sum() >= 60


def test_lesions_lie_inside_the_lungs_even_when_large() -> None:
    for row, phantom in sick(40):
        largest = render(row, seed=SEED, difficulty=0.0)
        for mask in (phantom.lesion_mask, largest.lesion_mask):
            assert not (mask & ~lung_mask(row, seed=SEED)).any()


def test_a_lesion_brightens_its_mask_and_leaves_the_rest() -> None:
    for row, phantom in sick(25):
        gain = phantom.image - twin(row)
        # the reader unit's equalisation answers a lesion a little everywhere, as a real one does
        assert gain[phantom.lesion_mask].mean() > 3
        assert np.abs(gain[~phantom.lesion_mask]).mean() < 0.35 * np.abs(gain[phantom.lesion_mask]).mean()


def test_difficulty_lowers_the_contrast_of_lesions() -> None:
    contrast = []
    for difficulty in (0.0, 0.25, 0.5, 0.75, 1.0):
        pairs = [(render(row, seed=SEED, difficulty=difficulty), twin(row, difficulty)) for row, _ in sick(12)]
        contrast.append(np.mean([(film.image - healthy)[film.lesion_mask].mean() for film, healthy in pairs]))
    assert all(easier > 1.03 * harder for easier, harder in pairwise(contrast))


def test_difficulty_is_answered_by_size_and_noise_too() -> None:
    rows = [row for row, _ in sick(12)]
    easy, hard = ([render(row, seed=SEED, difficulty=d) for row in rows] for d in (0.0, 1.0))
    assert sum(film.lesion_mask.sum() for film in hard) < 0.7 * sum(film.lesion_mask.sum() for film in easy)
    grain = [
        np.mean([np.abs(np.diff(film.image[200:250, 100:150].astype(float))).mean() for film in s])
        for s in (easy, hard)
    ]
    assert grain[1] > 1.2 * grain[0]


def test_the_heart_lies_on_the_right_of_the_image_and_lungs_are_dark() -> None:
    rights, lefts, airs, bellies = [], [], [], []
    for row, phantom in [pair for pair in films() if pair[0].label == 0]:
        image = phantom.image.astype(float)
        columns = np.flatnonzero(lung_mask(row, seed=SEED).any(axis=0))
        middle = (columns[0] + columns[-1]) // 2
        rights.append(image[140:165, middle + 24 : middle + 50].mean())
        lefts.append(image[140:165, middle - 50 : middle - 24].mean())
        airs.append(image[80:120, middle - 60 : middle - 35].mean())
        bellies.append(image[225:240, middle - 25 : middle + 25].mean())
    assert np.mean(np.array(rights) > np.array(lefts)) > 0.85
    assert np.mean(rights) > np.mean(lefts) + 25
    assert np.mean(np.array(bellies) > np.array(airs) + 40) > 0.9


def test_films_of_one_patient_share_the_anatomy_and_differ_in_exposure() -> None:
    of_patient = defaultdict(list)
    for row, _ in films():
        of_patient[row.patient].append(lung_mask(row, seed=SEED).sum(axis=0).astype(float))
    spread = np.array([np.std([mask.sum() for mask in masks]) for masks in of_patient.values() if len(masks) >= 3])
    between = np.std([masks[0].sum() for masks in of_patient.values()])
    assert spread.mean() < between
    first, second = [pair for pair in films() if len(of_patient[pair[0].patient]) >= 2][:2]
    assert first[0].patient == second[0].patient
    assert (first[1].image != second[1].image).mean() > 0.5


@pytest.mark.parametrize(
    ("statistic", "tolerance"),
    [
        pytest.param(lambda image: image.mean(), 0.15, id="mean"),
        pytest.param(lambda image: image.std(), 0.15, id="standard deviation"),
        pytest.param(lambda image: np.median(image), 0.15, id="median"),
        pytest.param(lambda image: np.delete(image, np.s_[12:-12], axis=0).mean(), 0.10, id="upper and lower rim"),
        pytest.param(lambda image: np.delete(image, np.s_[12:-12], axis=1).mean(), 0.10, id="left and right rim"),
        pytest.param(lambda image: (image > 235).mean(), 0.15, id="marker and white"),
        pytest.param(lambda image: np.abs(np.diff(image[225:], axis=1)).mean(), 0.12, id="noise below the lungs"),
    ],
)
def test_no_trivial_statistic_tells_the_label(statistic: object, tolerance: float) -> None:
    labels = [row.label for row, _ in films()]
    scores = [statistic(phantom.image.astype(float)) for _, phantom in films()]  # type: ignore[operator]
    assert abs(roc_auc_score(labels, scores) - 0.5) < tolerance


def test_marker_framing_and_noise_are_those_of_the_healthy_twin() -> None:
    for row, phantom in sick(25):
        gain = np.abs(phantom.image - twin(row))
        assert gain[:10].max() <= 6
        assert gain[-10:].max() <= 6
        assert gain[:, :10].max() <= 6
        assert gain[:, -10:].max() <= 6


def test_patients_keep_one_label_and_one_split_and_have_one_to_four_films() -> None:
    rows = phantom_rows(300, SEED)
    assert [row.index for row in rows] == list(range(len(rows)))
    sides, counts = defaultdict(set), defaultdict(int)
    for row in rows:
        sides[row.patient].add((row.label, row.split))
        counts[row.patient] += 1
    assert len(sides) == 300
    assert all(len(side) == 1 for side in sides.values())
    assert set(counts.values()) == {1, 2, 3, 4}


def test_class_and_test_shares_are_those_of_the_official_split() -> None:
    rows = phantom_rows(400, SEED)
    for split, normal in (("train", 0.26), ("test", 0.375)):
        labels = np.array([row.label for row in rows if row.split == split])
        assert 1 - labels.mean() == pytest.approx(normal, abs=0.03)
    test_patients = {row.patient for row in rows if row.split == "test"}
    assert len(test_patients) == pytest.approx(0.12 * 400, abs=1)


def test_the_number_of_films_does_not_tell_the_label() -> None:
    rows = phantom_rows(3000, SEED)
    count, label = defaultdict(int), {}
    for row in rows:
        count[row.patient] += 1
        label[row.patient] = row.label
    assert abs(roc_auc_score(list(label.values()), [count[patient] for patient in label]) - 0.5) < 0.04


@pytest.mark.parametrize("num_patients", [1, 2, 8, 17, 25])
def test_small_sets_hold_both_labels_in_each_split_that_can(num_patients: int) -> None:
    rows = phantom_rows(num_patients, SEED)
    assert len({row.patient for row in rows}) == num_patients
    train = {row.label for row in rows if row.split == "train"}
    assert num_patients < 3 or train == {0, 1}
    assert num_patients < 17 or {row.label for row in rows if row.split == "test"} == {0, 1}


def test_rows_are_those_of_the_seed() -> None:
    assert phantom_rows(50, 1) == phantom_rows(50, 1)
    assert phantom_rows(50, 1) != phantom_rows(50, 2)
