"""Each alarm of the shortcut gate rings when its shortcut is planted, and is silent without; intervals are honest."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scipy import stats as distributions

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import RunError
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.evidence.shortcuts import (
    Association,
    Swapped,
    at_levels,
    available,
    border_swap,
    judge_swap,
    probes,
    read_associations,
    read_swapped,
    split_shift,
    thumbnails_of,
    used,
    visible,
    write_associations,
    write_swapped,
)
from cxr_experiments.evidence.shortcuts.association import measure, newcombe_interval, oriented
from cxr_experiments.evidence.shortcuts.properties import is_high
from cxr_experiments.evidence.shortcuts.ridge import PENALTY, cross_scores, draw_folds
from cxr_experiments.evidence.shortcuts.swap import border_mask, draw_partners, with_border_of
from cxr_experiments.images.manifest import ImageRow, Manifest, read_manifest

CLASSES = ("NORMAL", "PNEUMONIA")
Films = np.ndarray


def rows_of(labels: np.ndarray, patients: np.ndarray, **told: np.ndarray) -> list[ImageRow]:
    """Image rows with 1000 x 800 px, mode L and 400,000 bytes unless told otherwise."""
    found = []
    for place, (label, patient) in enumerate(zip(labels, patients, strict=True)):
        row = ImageRow(f"{place:05d}", "", int(label), f"p{patient}", "", "", 1000, 800, "L", 400_000, f"{place:064d}")
        found.append(replace(row, **{name: values[place].item() for name, values in told.items()}))
    return found


def manifest_of(rows: list[ImageRow]) -> Manifest:
    return Manifest("folder", tuple(rows), CLASSES, patients_verifiable=True, synthetic=False, root="")


def predictions_of(manifest: Manifest, logit: np.ndarray) -> Predictions:
    return Predictions(
        image_id=np.array([row.image_id for row in manifest.rows]),
        patient=np.array([row.patient for row in manifest.rows]),
        split="test",
        label=manifest.labels,
        logit=logit.astype(np.float64),
        probability=sigmoid(logit),
        run_id="run",
        dataset_digest="digest",
    )


def drawn(seed: int, num_patients: int = 120) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """A generator, patients of 1 to 3 images, and their labels."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), rng.integers(1, 4, num_patients))
    return rng, patients, rng.permutation(np.arange(num_patients) % 2)[patients]


def named(lines: tuple[Association, ...]) -> dict[str, Association]:
    return {one.label: one for one in lines}


# ---- intervals


@pytest.mark.parametrize(("auroc", "low", "high"), [(1.0, 20, 20), (0.9, 30, 12), (0.5, 8, 9), (0.0, 15, 40)])
def test_newcombe_interval_holds_the_values_that_are_not_too_far(auroc: float, low: int, high: int) -> None:
    theta = np.linspace(1e-6, 1 - 1e-6, 200_001)
    others = (low + high) / 2 - 1
    variance = theta * (1 - theta) * (1 + others * (1 - theta) / (2 - theta) + others * theta / (1 + theta))
    kept = theta[np.abs(auroc - theta) <= 1.959964 * np.sqrt(variance / (low * high))]
    assert newcombe_interval(auroc, low, high) == pytest.approx((kept.min(), kept.max()), abs=1e-4)


def test_perfect_separation_has_an_interval_that_narrows_with_patients() -> None:
    lows = []
    for count in (5, 20, 80):
        labels = np.repeat([0, 1], count)
        found = measure(labels, labels, np.arange(2 * count), verifiable=True, family=1)
        assert (found.auroc, found.high) == (1.0, 1.0)
        lows.append(found.low)
    assert 0.5 < lows[0] < lows[1] < lows[2] < 1.0


def test_more_siblings_and_fewer_patients_widen_an_interval() -> None:
    rng, patients, labels = drawn(0)
    score = labels + rng.normal(size=len(labels))
    alone = measure(labels, score, patients, verifiable=True, family=1)
    assert measure(labels, score, patients, verifiable=True, family=12).low < alone.low
    twice = (np.repeat(part, 2) for part in (labels, score, patients))
    doubled = measure(*twice, verifiable=True, family=1)
    assert doubled.low == pytest.approx(alone.low, abs=1e-3), "a copy of each image adds no evidence"
    assert (doubled.num_images, doubled.num_patients) == (2 * len(labels), alone.num_patients)


def test_one_patient_in_a_group_gives_no_interval_and_an_empty_group_no_number() -> None:
    one = measure([0, 0, 1, 1], [1, 2, 3, 4], ["a", "b", "c", "c"], verifiable=True, family=1)
    assert one.auroc == 1.0
    assert math.isnan(one.low)
    assert math.isnan(measure([0, 0], [1, 2], ["a", "b"], verifiable=True, family=1).auroc)


def test_turning_round_finds_no_more_by_chance_than_it_may() -> None:
    excluded = 0
    for seed in range(400):
        rng, patients, labels = drawn(seed, 60)
        value = rng.normal(size=60)[patients] + 0.3 * rng.normal(size=len(patients))
        found = oriented(measure(labels, value, patients, verifiable=True, family=1))
        assert found.low <= found.auroc <= found.high
        assert found.auroc >= 0.5
        excluded += found.low > 0.5
    assert excluded <= 400 * 0.08, "two-sided 5 %, and three standard errors"


# ---- available


def write_films(folder: Path, encode: Callable[[Path, Image.Image, int], None]) -> Manifest:
    """Two classes of the same kind of film, 30 each."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            side = int(rng.integers(40, 60))
            film = Image.fromarray(rng.integers(0, 255, (side, side), dtype=np.uint8))
            encode(folder / name / f"p{label}{number}.jpeg", film, label)
    return read_manifest(DataConfig(source="folder", root=str(folder), patient_regex="(p[0-9]+)"))


def test_two_encoders_by_class_ring_and_one_for_both_does_not(tmp_path: Path) -> None:
    by_class = write_films(tmp_path / "two", lambda path, film, label: film.save(path, quality=60 if label else 90))
    alike = write_films(tmp_path / "one", lambda path, film, label: film.save(path, quality=75))
    ringing = {one.name for one in available(by_class, level=0.6) if one.rings}
    assert ringing == {"bytes", "bytes per pixel", "all together"}
    assert not any(one.rings for one in available(alike, level=0.6))


def test_constant_properties_say_so_and_have_no_number() -> None:
    _, patients, labels = drawn(1)
    lines = named(available(manifest_of(rows_of(labels, patients)), level=0.6))
    assert {one.note for one in lines.values()} == {
        *("constant: 4e+05", "constant: 0.5", "constant: 1000", "constant: 800", "constant: 1.25", "constant: L"),
    }
    assert all(math.isnan(one.auroc) and not one.rings for one in lines.values())


def test_direction_is_told_and_mode_is_a_property() -> None:
    rng, patients, labels = drawn(2)
    mode = np.where((labels == 1) & (rng.random(len(labels)) < 0.6), "RGB", "L")
    height = 800 - 100 * labels + rng.integers(0, 80, len(labels))
    lines = named(available(manifest_of(rows_of(labels, patients, mode=mode, height=height)), level=0.6))
    assert lines["available: height"].note == "smaller in PNEUMONIA"
    assert lines["available: mode"].note == "other modes oftener in PNEUMONIA"
    assert lines["available: height"].auroc == 1.0
    assert all(lines[f"available: {name}"].rings for name in ("height", "mode", "aspect ratio", "all together"))


def test_no_single_property_tells_but_all_together_do() -> None:
    rng, patients, labels = drawn(3, 300)
    width = np.exp(rng.normal(7, 0.3, len(labels)))
    height = width * np.exp(0.02 * (labels - 0.5) + rng.normal(0, 0.01, len(labels)))
    size = np.full(len(labels), 400_000) + rng.integers(0, 9, len(labels))
    told = {"width": width.round().astype(int), "height": height.round().astype(int), "num_bytes": size}
    lines = named(available(manifest_of(rows_of(labels, patients, **told)), level=0.6))
    assert not any(lines[f"available: {name}"].rings for name in ("width", "height", "bytes"))
    assert lines["available: all together"].low > 0.8


def test_labels_of_the_sources_own_test_split_are_not_read() -> None:
    rng, patients, labels = drawn(4)
    height = 700 + 100 * labels + rng.integers(0, 80, len(labels))
    split = np.where(patients % 3 == 0, "test", "train")
    told = {"height": height, "split": split}
    kept = manifest_of(rows_of(labels, patients, **told))
    turned = manifest_of(rows_of(np.where(split == "test", 1 - labels, labels), patients, **told))
    assert available(kept, level=0.6) == available(turned, level=0.6)
    assert named(available(kept, level=0.6))["available: height"].num_images == int((split == "train").sum())


# ---- visible and shift


def films_of(rng: np.random.Generator, count: int) -> Films:
    """(count, 32, 32) uint8 of smooth noise."""
    coarse = rng.integers(60, 190, (count, 8, 8))
    return np.kron(coarse, np.ones((1, 4, 4))).astype(np.uint8)


def test_what_the_pixels_show_of_a_property_rings_and_what_they_do_not_is_silent() -> None:
    rng, patients, labels = drawn(5, 240)
    height, width = rng.integers(600, 900, len(labels)), rng.integers(600, 900, len(labels))
    films = films_of(rng, len(labels))
    films[:, :4] = np.where(is_high(height.astype(float)), 200, 60)[:, None, None]
    films[:, 8:16, 8:16] += (60 * labels)[:, None, None].astype(np.uint8)
    lines = named(visible(films, manifest_of(rows_of(labels, patients, height=height, width=width)), level=0.6))
    assert all(lines[f"visible: height in {name}"].rings for name in CLASSES)
    assert not any(lines[f"visible: width in {name}"].rings for name in CLASSES)


def test_a_property_that_only_goes_with_the_label_is_not_visible() -> None:
    rng, patients, labels = drawn(6, 240)
    height = 600 + 400 * labels + rng.integers(0, 90, len(labels))
    films = films_of(rng, len(labels))
    films[labels == 1, 8:24, 8:24] = 220
    manifest = manifest_of(rows_of(labels, patients, height=height))
    assert named(available(manifest, level=0.6))["available: height"].rings
    assert not any(one.rings for one in visible(films, manifest, level=0.6))


def test_shift_is_told_per_class_and_is_no_alarm() -> None:
    rng, patients, labels = drawn(7, 240)
    split = np.where(patients % 3 == 0, "test", "train")
    films = films_of(rng, len(labels))
    films[(split == "test") & (labels == 0), :, 28:] = 250
    shift = named(split_shift(films, manifest_of(rows_of(labels, patients, split=split))))
    assert shift["shift: train or test in NORMAL"].low > 0.8
    assert shift["shift: train or test in PNEUMONIA"].low < 0.6
    assert not any(one.rings for one in shift.values())
    assert split_shift(films, manifest_of(rows_of(labels, patients))) == ()


@pytest.mark.parametrize("num_features", [5, 90])
def test_folds_keep_groups_together_and_scores_are_those_of_a_plain_ridge(num_features: int) -> None:
    rng = np.random.default_rng(8)
    features, targets = rng.normal(size=(60, num_features)) + 3, (rng.random((60, 2)) < 0.4).astype(float)
    groups = [f"g{number // 3}" for number in range(60)]
    fold = draw_folds(targets[:, 0].astype(np.int8), groups, seed=0)
    assert all(len({fold[place] for place in range(60) if groups[place] == name}) == 1 for name in set(groups))
    scores = cross_scores(features, targets, fold)
    for number in range(5):
        seen = features[fold != number]
        centred, moved = seen - seen.mean(axis=0), targets[fold != number] - targets[fold != number].mean(axis=0)
        penalty = PENALTY * (centred**2).sum() / num_features
        weights = np.linalg.solve(centred.T @ centred + penalty * np.eye(num_features), centred.T @ moved)
        assert np.allclose(scores[fold == number], (features[fold == number] - seen.mean(axis=0)) @ weights)


@pytest.mark.parametrize("num_features", [2, 90])
def test_one_group_alone_leaves_nothing_to_fit_on_and_tells_nothing(num_features: int) -> None:
    rng = np.random.default_rng(17)
    features, targets = rng.normal(size=(12, num_features)), np.eye(2)[np.arange(12) % 2]
    fold = draw_folds(targets[:, 0].astype(np.int8), ["one"] * 12, seed=0)
    assert not cross_scores(features, targets, fold).any()


def test_a_set_of_one_patient_is_told_and_not_judged() -> None:
    rng, _, labels = drawn(18)
    one = np.zeros(len(labels), dtype=np.int64)
    lines = available(manifest_of(rows_of(labels, one, height=rng.integers(600, 900, len(labels)))), level=0.6)
    assert all(math.isnan(line.low) for line in lines)
    assert named(lines)["available: all together"].auroc == 0.5


def test_thumbnails_are_means_over_areas() -> None:
    rng = np.random.default_rng(9)
    films = rng.integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    blocks = films[..., 0].reshape(3, 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.abs(thumbnails_of(films, np.arange(3)) - blocks).max() <= 0.5
    uneven = rng.integers(0, 256, (1, 50, 50, 1), dtype=np.uint8)
    assert thumbnails_of(uneven, np.array([0])).mean() == pytest.approx(uneven.mean(), abs=0.5)
    assert np.array_equal(thumbnails_of(films, np.array([2])), thumbnails_of(films, np.arange(3))[2:])


# ---- used


def test_a_score_that_follows_a_property_within_a_class_rings_and_one_that_follows_the_label_does_not() -> None:
    rng, patients, labels = drawn(10, 240)
    height = 600 + 400 * labels + rng.integers(0, 200, len(labels))
    manifest = manifest_of(rows_of(labels, patients, height=height))
    honest = predictions_of(manifest, 3 * labels + rng.normal(size=len(labels)))
    assert not any(one.rings for one in used(honest, manifest, level=0.6))
    led = predictions_of(manifest, -height / 50 + rng.normal(size=len(labels)))
    lines = named(used(led, manifest, level=0.6))
    assert all(lines[f"used: height in {name}"].rings for name in CLASSES)
    assert lines["used: height in NORMAL"].note == "falls as it rises"
    assert math.isnan(lines["used: width in NORMAL"].auroc)


def swap_films(labels: np.ndarray, border: np.ndarray, centre: np.ndarray) -> Films:
    """(n, 32, 32, 1) uint8 with one gray of the border and one of the rest."""
    films = np.empty((len(labels), 32, 32, 1), dtype=np.uint8)
    films[:] = np.clip(128 + 20 * border, 0, 255).astype(np.uint8)[:, None, None, None]
    films[:, 4:28, 4:28] = np.clip(128 + 20 * centre, 0, 255).astype(np.uint8)[:, None, None, None]
    return films


def border_of(films: Films) -> np.ndarray:
    return films[:, 0, 0, 0] / 20.0


def centre_of(films: Films) -> np.ndarray:
    return films[:, 16, 16, 0] / 20.0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_model_that_reads_the_border_is_found_out_also_where_the_border_speaks_against_the_label(sign: int) -> None:
    rng, patients, labels = drawn(11)
    films = swap_films(labels, sign * 2 * labels + rng.normal(size=len(labels)), labels + rng.normal(size=len(labels)))
    manifest = manifest_of(rows_of(labels, patients))

    def model(some: Films) -> np.ndarray:
        return border_of(some) + centre_of(some)

    plain = predictions_of(manifest, model(films))
    swapped = border_swap(model, films, np.arange(len(labels)), plain)
    line = judge_swap(swapped, plain, level=0.02, verifiable=True)
    assert line.rings
    assert line.low > 0.1
    assert ("turned round" in line.note) == (sign == -1)


def test_a_model_that_reads_the_centre_minds_no_border() -> None:
    rng, patients, labels = drawn(12)
    films = swap_films(labels, 2 * labels + rng.normal(size=len(labels)), labels + rng.normal(size=len(labels)))
    plain = predictions_of(manifest_of(rows_of(labels, patients)), centre_of(films))
    swapped = border_swap(centre_of, films, np.arange(len(labels)), plain)
    assert np.allclose(swapped.same_logit, plain.logit)
    line = judge_swap(swapped, plain, level=0.02, verifiable=True)
    assert (line.auroc, line.low, line.high, line.rings) == (0.0, 0.0, 0.0, False)


def test_a_border_that_means_nothing_is_minded_no_more_often_than_chance_allows() -> None:
    excluded = []
    for seed in range(150):
        rng, patients, labels = drawn(seed, 60)
        border = rng.normal(size=60)[patients] + 0.5 * rng.normal(size=len(patients))
        films = swap_films(labels, border, 1.5 * labels + rng.normal(size=len(labels)))

        def model(some: Films) -> np.ndarray:
            return border_of(some) + centre_of(some)

        plain = predictions_of(manifest_of(rows_of(labels, patients)), model(films))
        line = judge_swap(
            border_swap(model, films, np.arange(len(labels)), plain, seed=seed), plain, level=0.02, verifiable=True
        )
        excluded.append(line.low > 0)
    assert sum(excluded) <= distributions.binom.isf(0.002, 150, 0.05), "5 % of sets"


def test_every_image_meets_another_patient_and_the_same_frame() -> None:
    _, patients, labels = drawn(13)
    plain = predictions_of(manifest_of(rows_of(labels, patients)), np.zeros(len(labels)))
    for other in (False, True):
        partner = draw_partners(plain, other_class=other, seed=0)
        assert np.all(partner >= 0)
        assert np.all(patients[partner] != patients)
        assert np.all((labels[partner] != labels) == other)
        assert np.array_equal(partner, draw_partners(plain, other_class=other, seed=0))
        assert not np.array_equal(partner, draw_partners(plain, other_class=other, seed=1))
        lent = np.bincount(partner, minlength=len(labels))
        assert all(np.ptp(lent[labels == label]) <= 1 for label in (0, 1)), "no lender again and again"
    black, white = (np.full((2, 64, 64, 1), gray, dtype=np.uint8) for gray in (0, 255))
    mixed = with_border_of(black, white)[..., 0] == 255
    assert np.array_equal(mixed[0], border_mask(64))
    assert np.array_equal(mixed[0], mixed[1])
    assert np.all(border_mask(64)[:8])
    assert not border_mask(64)[8:56, 8:56].any()


def test_a_class_of_one_patient_cannot_be_swapped_and_says_so() -> None:
    labels, patients = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3])
    films = swap_films(labels, labels, labels)
    plain = predictions_of(manifest_of(rows_of(labels, patients)), centre_of(films))
    swapped = border_swap(centre_of, films, np.arange(5), plain)
    assert swapped.same_id.tolist()[:2] == ["", ""]
    line = judge_swap(swapped, plain, level=0.02, verifiable=True)
    assert math.isnan(line.auroc)
    assert line.note == "needs two patients with a partner in each class"


def test_interval_of_the_swap_stays_among_differences_of_two_aurocs() -> None:
    labels, patients = np.repeat([0, 1], 4), np.repeat([0, 1, 2, 3], 2)
    plain = predictions_of(manifest_of(rows_of(labels, patients)), np.zeros(8))
    ids = plain.image_id
    swapped = Swapped(ids, ids[[2, 3, 0, 1, 6, 7, 4, 5]], ids[::-1], *(np.array(one) for one in LOGITS_OF_EIGHT))
    line = judge_swap(swapped, plain, level=0.02, verifiable=True)
    assert (line.low, line.high) == (-1.0, 1.0), "two patients a class tell nothing"
    assert not line.rings


# same and other borders: neither AUROC is 0 or 1, so that the interval is that of a t with one degree of freedom
LOGITS_OF_EIGHT = ([0.0, 3.0, 1.0, 2.0, 4.0, 1.5, 5.0, 2.5], [3.0, 0.0, 2.0, 4.0, 1.0, 5.0, 2.5, 0.5])


def test_a_logit_that_is_not_finite_names_the_image() -> None:
    _, patients, labels = drawn(14, 10)
    films = swap_films(labels, labels, labels)
    plain = predictions_of(manifest_of(rows_of(labels, patients)), np.zeros(len(labels)))
    with pytest.raises(RunError, match="gives no finite logit for 00000 with another image's border"):
        border_swap(lambda some: np.full(len(some), np.inf), films, np.arange(len(labels)), plain)


# ---- probes


def test_the_border_probe_rings_when_the_border_tells_the_label_and_the_model_stands_beside() -> None:
    rng, patients, labels = drawn(15, 200)
    fitted, asked = films_of(rng, len(labels)), films_of(rng, len(labels))
    plain = predictions_of(manifest_of(rows_of(labels, patients)), labels + rng.normal(size=len(labels)))
    silent = named(probes(fitted, labels, asked, plain, level=0.6, verifiable=True))
    assert not silent["probe: border alone"].rings
    for films, sign in ((fitted, labels), (asked, 1 - labels)):
        films[sign == 1, 28:, 28:] = 255
    found = named(probes(fitted, labels, asked, plain, level=0.6, verifiable=True))
    assert found["probe: border alone"].rings
    assert "turned round" in found["probe: border alone"].note
    assert list(found) == [
        f"probe: {name}" for name in ("border alone", "centre alone", "16 x 16 thumbnail", "the model")
    ]
    assert found["probe: centre alone"].auroc == pytest.approx(silent["probe: centre alone"].auroc)
    assert found["probe: the model"].auroc == pytest.approx(0.76, abs=0.1)
    assert [one.name for one in found.values() if one.level is not None] == ["border alone"]


# ---- levels and files


def test_levels_are_read_from_the_config_and_change_no_number() -> None:
    lines = (
        Association("available", "bytes", "", 0.9, 0.85, 0.95, 100, 50, 0.6, ""),
        Association("used", "border swap", "", 0.1, 0.05, 0.15, 100, 50, 0.02, ""),
        Association("probe", "the model", "", 0.9, 0.85, 0.95, 100, 50, None, ""),
    )
    strict = at_levels(lines, ShortcutsConfig(available_auroc=0.86, swap_auroc=0.06))
    assert [one.rings for one in lines] == [True, True, False]
    assert [one.rings for one in strict] == [False, False, False]
    assert at_levels(strict, ShortcutsConfig()) == lines


def test_files_are_read_back_as_written_and_odd_ones_refused(tmp_path: Path) -> None:
    rng, patients, labels = drawn(16, 30)
    films = swap_films(labels, rng.normal(size=len(labels)), labels)
    manifest = manifest_of(rows_of(labels, patients, height=rng.integers(600, 900, len(labels))))
    plain = predictions_of(manifest, centre_of(films))
    swapped = border_swap(border_of, films, np.arange(len(labels)), plain)
    write_swapped(tmp_path / "swap.csv", swapped)
    again = read_swapped(tmp_path / "swap.csv")
    assert judge_swap(again, plain, level=0.02, verifiable=True) == judge_swap(
        swapped, plain, level=0.02, verifiable=True
    )
    lines = [one for one in available(manifest, level=0.6) if not math.isnan(one.auroc)]
    lines.append(Association("probe", "the model", "", 0.9, 0.8, 0.95, 100, 0, None, 'a note, "quoted"'))
    write_associations(tmp_path / "gate.csv", lines)
    assert list(read_associations(tmp_path / "gate.csv")) == lines
    (tmp_path / "gate.csv").write_text((tmp_path / "gate.csv").read_text().replace("0.6,", "high,"))
    with pytest.raises(RunError, match=r"gate\.csv, line 2: found 'high'; expected a level or nothing"):
        read_associations(tmp_path / "gate.csv")


# ---- how often it rings for nothing


@pytest.fixture(scope="module")
def alarms() -> ModuleType:
    """benchmarks/shortcut_alarms.py."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "shortcut_alarms.py"
    spec = importlib.util.spec_from_file_location("shortcut_alarms", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["shortcut_alarms"] = module
    spec.loader.exec_module(module)
    return module


def test_clean_sets_seldom_ring_any_alarm_and_planted_ones_do(alarms: ModuleType) -> None:
    pool = alarms.make_pool(220)
    clean = alarms.judge_sets(pool, 60, alarms.Planted(), num_patients=90)
    assert clean["any"] <= distributions.binom.isf(0.002, 60, 0.05), "5 % of 60 sets, and chance once in 500"
    planted = alarms.judge_sets(pool, 12, alarms.PLANTED["border"], num_patients=180)
    assert planted["used: border swap"] >= 9
    assert planted["probe: border alone"] >= 9


@pytest.mark.real_data
def test_originals_ring_for_file_size_height_and_aspect_ratio(real_data: Path) -> None:
    originals = real_data.parent / "full_resolution_sample"
    if not originals.is_dir():
        pytest.skip(f"no {originals}")
    lines = named(available(read_manifest(DataConfig(source="folder", root=str(originals))), level=0.6))
    for name in ("bytes", "bytes per pixel", "height", "aspect ratio"):
        assert lines[f"available: {name}"].rings
    assert lines["available: bytes"].auroc > 0.99
    assert lines["available: bytes"].num_patients == 0, "no expression tells the patients"
