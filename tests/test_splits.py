"""No patient and no copy of a film stands on two sides, shares are those asked for, and only the seed moves them."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError, LeakageError
from cxr_experiments.images.manifest import ImageRow, Manifest, read_manifest
from cxr_experiments.images.splits import (
    Split,
    group_names,
    leaking_sentence,
    leaks_of,
    make_split,
    prove_disjoint,
    read_split,
    write_split,
)

FOLDER = DataConfig(source="folder", root="anywhere")
KAGGLE = DataConfig(source="kaggle")


def row(name: str, label: int, *, patient: str = "", loose: str = "", content: str = "", split: str = "") -> ImageRow:
    return ImageRow(
        image_id=name,
        path=f"/films/{name}",
        label=label,
        patient=patient,
        loose_key=loose,
        split=split,
        width=64,
        height=64,
        mode="L",
        num_bytes=100,
        sha256=content or f"sha of {name}",
    )


def manifest_of(rows: list[ImageRow], source: str = "folder") -> Manifest:
    return Manifest(
        source=source,
        rows=tuple(rows),
        classes=("NORMAL", "PNEUMONIA"),
        patients_verifiable=True,
        synthetic=False,
        root="/films",
    )


def clinic(num_patients: int, seed: int = 0, split: str = "") -> list[ImageRow]:
    """Patients with one to four films, three in four of them with pneumonia."""
    draw = random.Random(seed)
    rows = []
    for number in range(num_patients):
        label = int(draw.random() < 0.75)
        for film in range(draw.randint(1, 4)):
            rows.append(row(f"{split}{number:04d}-{film}.png", label, patient=f"{split}p{number}", split=split))
    return rows


def ids(manifest: Manifest, part: np.ndarray) -> list[str]:
    return [manifest.rows[i].image_id for i in part]


@st.composite
def patient_graphs(draw: st.DrawFn) -> list[ImageRow]:
    """Films whose patients, bare numbers and contents collide at random, labels mixed within patients too."""
    num_images = draw(st.integers(0, 60))
    few = st.integers(0, draw(st.integers(1, 40)))
    rows = []
    for number in range(num_images):
        patient, loose, content = draw(few), draw(few), draw(st.integers(0, 200))
        rows.append(
            row(
                f"{number:03d}.png",
                draw(st.integers(0, 1)),
                patient=f"p{patient}" if patient else "",
                loose=f"n{loose}" if loose else "",
                content=f"c{content}",
            )
        )
    return rows


def slow_groups(rows: list[ImageRow]) -> set[frozenset[str]]:
    """The same definition, by merging sets until nothing changes."""
    sets: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for one in rows:
        for kind, value in (("id", one.image_id), ("p", one.patient), ("n", one.loose_key), ("c", one.sha256)):
            if value:
                sets[kind, value].add(one.image_id)
    merged = [set(members) for members in sets.values()]
    changed = True
    while changed:
        changed = False
        for i, one_set in enumerate(merged):
            for j in range(len(merged) - 1, i, -1):
                if one_set & merged[j]:
                    one_set |= merged.pop(j)
                    changed = True
    return {frozenset(members) for members in merged}


@given(patient_graphs())
@settings(max_examples=60, deadline=None)
def test_groups_are_the_connected_components(rows: list[ImageRow]) -> None:
    members: defaultdict[str, set[str]] = defaultdict(set)
    for image_id, name in group_names(rows).items():
        members[name].add(image_id)
    assert {frozenset(group) for group in members.values()} == slow_groups(rows)
    assert all(name == min(group) for name, group in members.items())


@given(rows=patient_graphs(), seed=st.integers(0, 2**31 - 1), fraction=st.sampled_from([0.01, 0.15, 0.5]))
@settings(max_examples=150, deadline=None)
def test_no_group_ever_stands_on_two_sides(rows: list[ImageRow], seed: int, fraction: float) -> None:
    manifest = manifest_of(rows)
    data = replace(FOLDER, val_fraction=fraction, test_fraction=fraction)
    try:
        split = make_split(manifest, data, seed=seed)
    except DataError as error:
        assert not isinstance(error, LeakageError)  # noqa: PT017
        return
    sides = {image_id: name for name in ("train", "val", "test") for image_id in ids(manifest, getattr(split, name))}
    assert sorted(sides) == sorted(one.image_id for one in rows)
    assert all(len({sides[image_id] for image_id in group}) == 1 for group in slow_groups(rows))
    for part in (split.train, split.val, split.test):
        assert set(manifest.labels[part]) == {0, 1}
        assert all(first < second for first, second in pairwise(part))


@given(num_patients=st.integers(6, 40), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_three_patients_of_each_class_are_enough(num_patients: int, seed: int) -> None:
    rows = [row(f"{i}.png", i % 2, patient=f"p{i}") for i in range(num_patients)]
    split = make_split(manifest_of(rows), FOLDER, seed=seed)
    assert min(len(split.train), len(split.val), len(split.test)) >= 2


@given(seed=st.integers(0, 2**31 - 1), clinic_seed=st.integers(0, 100), fraction=st.floats(0.05, 0.5))
@settings(max_examples=60, deadline=None)
def test_each_class_gives_the_share_that_was_asked(seed: int, clinic_seed: int, fraction: float) -> None:
    manifest = manifest_of(clinic(120, clinic_seed) + clinic(30, clinic_seed, split="test"), "kaggle")
    manifest = replace(manifest, rows=tuple(replace(one, split=one.split or "train") for one in manifest.rows))
    split = make_split(manifest, replace(KAGGLE, val_fraction=fraction), seed=seed)
    for label in (0, 1):
        num_val = int((manifest.labels[split.val] == label).sum())
        num_train = int((manifest.labels[split.train] == label).sum())
        assert abs(num_val - fraction * (num_val + num_train)) <= 2, "off by more than half of the largest patient"


def test_default_fractions_of_a_clinic_are_15_percent() -> None:
    manifest = manifest_of(clinic(400))
    split = make_split(manifest, FOLDER, seed=0)
    assert abs(len(split.test) / len(manifest.rows) - 0.15) < 0.01
    assert abs(len(split.val) / (len(split.val) + len(split.train)) - 0.15) < 0.01
    rates = [manifest.labels[part].mean() for part in (split.train, split.val, split.test)]
    assert max(rates) - min(rates) < 0.01


@given(order=st.randoms(use_true_random=False), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_neither_row_order_nor_root_moves_the_split(order: random.Random, seed: int) -> None:
    rows = clinic(40)
    first = make_split(manifest_of(rows), FOLDER, seed=seed)
    order.shuffle(rows)
    moved = [replace(one, path=f"/elsewhere/{one.image_id}") for one in rows]
    again = make_split(replace(manifest_of(moved), root="/elsewhere"), FOLDER, seed=seed)
    assert (again.digest, again.test_digest) == (first.digest, first.test_digest)
    assert np.array_equal(again.val, first.val)


def test_the_seed_moves_validation_and_never_a_drawn_test_split() -> None:
    manifest = manifest_of(clinic(100))
    splits = [make_split(manifest, FOLDER, seed=seed) for seed in range(5)]
    assert len({split.test_digest for split in splits}) == 1
    assert len({split.digest for split in splits}) == 5
    other = make_split(manifest, replace(FOLDER, test_seed=1), seed=0)
    assert other.test_digest != splits[0].test_digest


def test_validation_does_not_move_when_its_share_of_test_does_not() -> None:
    manifest = manifest_of(clinic(100))
    wider = make_split(manifest, replace(FOLDER, val_fraction=0.3), seed=0)
    narrow = make_split(manifest, FOLDER, seed=0)
    assert wider.test_digest == narrow.test_digest
    shared = set(ids(manifest, narrow.val)) & set(ids(manifest, wider.val))
    assert len(shared) >= len(narrow.val) - 4, "a smaller validation set is drawn from the front of the same order"


def test_the_draw_is_the_same_for_ever() -> None:
    rows = [row(f"{i:02d}.png", int(i % 4 > 0), patient=f"p{i // 2}") for i in range(60)]
    split = make_split(manifest_of(rows), FOLDER, seed=0)
    assert split.digest[:12] == "b7f4d0ab5f54", "every stored run's split would change"


def test_the_official_test_split_is_taken_as_it_is_and_val_is_pooled() -> None:
    rows = clinic(60, 1, split="train") + clinic(4, 2, split="val") + clinic(20, 3, split="test")
    manifest = manifest_of(rows, "kaggle")
    split = make_split(manifest, KAGGLE, seed=0)
    assert ids(manifest, split.test) == sorted(one.image_id for one in rows if one.split == "test")
    official_val = {one.image_id for one in rows if one.split == "val"}
    assert official_val & set(ids(manifest, split.train)), "16 images are no validation set"


def test_an_official_leak_stops_by_the_rule_that_is_asked() -> None:
    rows = clinic(30, 1, split="train") + clinic(20, 3, split="test")
    train, test = rows[0], rows[-1]
    same_patient = manifest_of([*rows[:-1], replace(test, patient=train.patient)], "kaggle")
    same_number = manifest_of([replace(train, loose_key="n1"), *rows[1:-1], replace(test, loose_key="n1")], "kaggle")
    same_file = manifest_of([*rows[:-1], replace(test, sha256=train.sha256)], "kaggle")
    refusals = {
        "strict": {"share a patient": same_patient, "share a file content": same_file},
        "loose": {"share a bare patient number": same_number, "share a patient": same_patient},
        "none": {"share a file content": same_file},
    }
    for rule, cases in refusals.items():
        for told, manifest in cases.items():
            with pytest.raises(LeakageError, match=told) as refused:
                make_split(manifest, replace(KAGGLE, patient_rule=rule), seed=0)
            assert train.image_id in str(refused.value)
            assert test.image_id in str(refused.value)
    assert make_split(same_number, KAGGLE, seed=0)
    assert make_split(same_patient, replace(KAGGLE, patient_rule="none"), seed=0)


def test_a_wrong_split_does_not_pass_the_proof() -> None:
    rows = [row(f"{i}", i % 2, patient=f"p{i // 4}") for i in range(12)]
    manifest = manifest_of(rows)

    def of(train: list[int], val: list[int], test: list[int]) -> Split:
        return Split(*(np.array(part, dtype=np.int64) for part in (train, val, test)), digest="", test_digest="")

    names = [one.image_id for one in manifest.rows]
    patients = [[names.index(str(4 * p + k)) for k in range(4)] for p in range(3)]
    prove_disjoint(manifest, of(*patients), patient_rule="strict")
    moved = [patients[0] + patients[1][:1], patients[1][1:], patients[2]]
    with pytest.raises(LeakageError, match="train and val share a patient"):
        prove_disjoint(manifest, of(*moved), patient_rule="none")
    with pytest.raises(LeakageError, match="twice or not at all"):
        prove_disjoint(manifest, of(patients[0], patients[1], patients[1]), patient_rule="none")
    with pytest.raises(LeakageError, match="the training images and test share a patient"):
        prove_disjoint(manifest, of(moved[0], patients[2], moved[1]), patient_rule="strict")


@pytest.mark.parametrize("rows", [[], [row("a", 0)], [row(str(i), i % 2, patient="the only one") for i in range(20)]])
def test_too_few_patients_are_refused_with_the_number_needed(rows: list[ImageRow]) -> None:
    with pytest.raises(DataError, match="each class needs images of at least 2 patients"):
        make_split(manifest_of(rows), FOLDER, seed=0)


def test_phantoms_are_split_by_patient() -> None:
    manifest = read_manifest(DataConfig(num_patients=60))
    split = make_split(manifest, DataConfig(num_patients=60), seed=0)
    patients = [{manifest.rows[i].patient for i in part} for part in (split.train, split.val, split.test)]
    assert all(patients)
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_a_written_split_reads_back_and_names_its_groups(tmp_path: Path) -> None:
    rows = [*clinic(30), row('odd, "name"\udce9.png', 1, patient="p0")]
    manifest = manifest_of(rows)
    split = make_split(manifest, FOLDER, seed=0)
    path = tmp_path / "split.csv"
    write_split(path, manifest, split)
    assert [file.name for file in tmp_path.iterdir()] == ["split.csv"]
    lines = path.read_text(errors="surrogateescape").splitlines()
    assert lines[0] == "image_id,split,patient,group,label"
    assert lines[1].split(",")[3:] == ["0000-0.png", str(manifest.rows[0].label)]
    again = read_split(path, manifest)
    for part in ("train", "val", "test", "digest", "test_digest"):
        assert np.array_equal(getattr(again, part), getattr(split, part))


def test_a_strange_split_file_is_refused_by_line(tmp_path: Path) -> None:
    manifest = manifest_of(clinic(30))
    path = tmp_path / "split.csv"
    write_split(path, manifest, make_split(manifest, FOLDER, seed=0))
    lines = path.read_text().splitlines(keepends=True)
    wrong = {
        "line 1: expected the columns": ["id,split\n", *lines[1:]],
        "line 3: expected a new image": [*lines[:2], lines[1], *lines[2:]],
        "line 2: expected a new image": [lines[0], lines[1].replace(",", ",hold,", 1), *lines[2:]],
        "made from other images: 1 stand": lines[:-1],
        "line 1": [],
    }
    for told, content in wrong.items():
        path.write_text("".join(content))
        with pytest.raises(DataError, match=told):
            read_split(path, manifest)
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "gone.csv", manifest)


def test_the_parts_are_read_only() -> None:
    split = make_split(manifest_of(clinic(30)), FOLDER, seed=0)
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 0


def test_patient_grouped_divides_official_images_anew_and_by_patient() -> None:
    manifest = manifest_of([*clinic(60, split="train"), *clinic(20, seed=1, split="test")], source="kaggle")
    official = make_split(manifest, KAGGLE, seed=0)
    anew = make_split(manifest, KAGGLE, seed=0, kind="patient_grouped")
    assert {manifest.rows[i].split for i in official.test} == {"test"}
    assert {manifest.rows[i].split for i in anew.test} == {"train", "test"}
    assert anew.test_digest != official.test_digest
    assert leaks_of(manifest, anew)[0].num_of_patients == leaks_of(manifest, anew)[1].num_of_patients == 0


def test_official_without_test_rows_is_patient_grouped() -> None:
    """A list that names train and validation alone has no official test: one is drawn."""
    manifest = manifest_of([*clinic(60, split="train"), *clinic(20, seed=1, split="val")], source="csv")
    drawn, grouped = (make_split(manifest, KAGGLE, seed=0, kind=kind) for kind in ("official", "patient_grouped"))
    assert len(drawn.test)
    assert (drawn.digest, drawn.test_digest) == (grouped.digest, grouped.test_digest)


def test_image_level_leaks_and_says_by_how_much() -> None:
    manifest = manifest_of(clinic(80))
    split = make_split(manifest, FOLDER, seed=0, kind="image_level")
    with pytest.raises(LeakageError, match=r"train and val share a patient in \d+ case\(s\): p\d+ in "):
        prove_disjoint(manifest, split, patient_rule="strict")
    validation, test = leaks_of(manifest, split)
    learnt_from = {manifest.rows[i].patient for i in split.train}
    met = [i for i in split.val if manifest.rows[i].patient in learnt_from]
    assert (validation.num_of_patients, validation.num_images) == (len(met), len(split.val))
    assert validation.share > 0.3
    told = leaking_sentence((validation, test), "image_level")
    assert f"{len(met)} of {len(split.val)} validation images ({validation.share:.0%}".replace("%", " %") in told
    assert told.startswith("LEAKING (split=image_level): ")


def test_a_leak_counts_copies_and_admits_unknown_patients() -> None:
    rows = [row(f"{number}.png", number % 2, content=f"c{number // 2}") for number in range(8)]
    manifest = replace(manifest_of(rows), patients_verifiable=False)
    even, odd, none = np.array([0, 2, 4, 6]), np.array([1, 3]), np.array([5, 7])
    validation, test = leaks_of(manifest, Split(train=even, val=odd, test=none, digest="", test_digest=""))
    assert (validation.num_of_patients, validation.num_copies, test.num_copies) == (None, 2, 2)
    assert str(validation) == (
        "of 2 validation images 2 are copies of training images; patients are not known, so the rest is not either"
    )


@given(rows=patient_graphs(), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_image_level_places_every_image_once_and_depends_on_the_seed_alone(rows: list[ImageRow], seed: int) -> None:
    manifest = manifest_of(rows)
    try:
        split = make_split(manifest, FOLDER, seed=seed, kind="image_level")
    except DataError:
        return  # too few images of a class
    placed = sorted([*split.train.tolist(), *split.val.tolist(), *split.test.tolist()])
    assert placed == list(range(len(manifest.rows)))
    again = make_split(manifest_of(rows[::-1]), FOLDER, seed=seed, kind="image_level")
    assert again.digest == split.digest
