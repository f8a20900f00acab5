"""Patient keys in official file names, and what is known about the real set."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError, LeakageError
from cxr_experiments.images.decode import decode_file
from cxr_experiments.images.duplicates import exact_duplicates
from cxr_experiments.images.manifest import KermanyKeys, Manifest, kermany_keys, read_manifest
from cxr_experiments.images.manifest.kermany import read_kermany
from cxr_experiments.images.splits import group_names, leaks_of, make_split, read_split, write_split
from cxr_experiments.images.store import open_store

numbers = st.integers(0, 10**7)


@given(number=numbers, image=numbers, family=st.sampled_from(["bacteria", "virus"]), more=st.sampled_from(["", "_1"]))
def test_sick_patients_are_numbered_within_their_family(number: int, image: int, family: str, more: str) -> None:
    keys = kermany_keys(f"person{number}_{family}_{image}{more}.jpeg")
    assert keys == KermanyKeys(strict=f"{family}:{number}", loose=f"person:{number}")


@given(number=numbers, image=numbers, family=st.sampled_from(["IM", "NORMAL2-IM"]), more=st.sampled_from(["", "-0002"]))
def test_healthy_patients_are_numbered_within_their_family(number: int, image: int, family: str, more: str) -> None:
    keys = kermany_keys(f"{family}-{number:04d}-{image:04d}{more}.jpeg")
    assert keys == KermanyKeys(strict=f"{family}:{number}", loose=f"IM-number:{number}")


@given(st.text(max_size=30))
def test_any_other_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(DataError, match="tells no patient"):
        kermany_keys(name)


@pytest.mark.parametrize(
    "name",
    ["person_bacteria_1.jpeg", "person1_fungus_1.jpeg", "xIM-1-1.jpeg", "IM-1.jpeg", "IM-1-1.jpeg.bak", "IM-٣-1.jpeg"],
)
def test_a_nearly_official_name_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"data=folder with data\.patient_regex"):
        kermany_keys(name)


def plant(root: Path) -> Path:
    """The official layout with one film per folder."""
    for split, label, name in [
        ("train", "NORMAL", "IM-0115-0001.jpeg"),
        ("train", "PNEUMONIA", "person1_bacteria_1.jpeg"),
        ("test", "NORMAL", "IM-0001-0001.jpeg"),
        ("test", "PNEUMONIA", "person100_bacteria_475.jpeg"),
    ]:
        (root / split / label).mkdir(parents=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (24, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(root / split / label / name)
    return root


@pytest.mark.parametrize("inside", [".", "chest_xray"])
def test_without_a_root_the_downloaded_set_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    data = DataConfig(source="kaggle")
    with pytest.raises(DataError, match=r"python -m cxr_experiments\.download data=kaggle, or by hand from Kaggle"):
        read_kermany(data, {})
    downloaded = plant(tmp_path / "datasets" / "kaggle" / inside)
    assert read_kermany(data, {}).root == str(downloaded)
    named = plant(tmp_path / "named")
    assert read_kermany(data, {"CXR_DATA": str(named)}).root == str(named), "CXR_DATA comes first"
    assert read_kermany(replace(data, root=str(downloaded)), {"CXR_DATA": str(named)}).root == str(downloaded)
    with pytest.raises(DataError, match=r"gone \(from CXR_DATA\), which is no folder"):
        read_kermany(data, {"CXR_DATA": str(tmp_path / "gone")})


def test_every_column_of_the_manifest_is_filled_and_the_digest_follows_content_alone(tmp_path: Path) -> None:
    first = read_kermany(DataConfig(source="kaggle", root=str(plant(tmp_path / "here"))))
    other = read_kermany(DataConfig(source="kaggle", root=str(plant(tmp_path / "there"))))
    assert first.digest == other.digest == replace(first, rows=first.rows[::-1]).digest
    row = first.rows[0]
    assert (row.image_id, row.label, row.patient, row.split) == ("test/NORMAL/IM-0001-0001.jpeg", 0, "IM:1", "test")
    assert row.path == str(tmp_path / "here" / row.image_id)
    assert (row.width, row.height, row.mode, row.num_bytes) == (20, 24, "L", Path(row.path).stat().st_size)
    assert row.sha256 == hashlib.sha256(Path(row.path).read_bytes()).hexdigest()


def test_a_root_full_of_other_folders_is_told_in_part(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"folder {number:02d}").mkdir()
    with pytest.raises(DataError, match=r"folder 07 and 22 more instead of train and test"):
        read_kermany(DataConfig(source="kaggle", root=str(tmp_path)), {})


@pytest.fixture(scope="module")
def kermany(real_data: Path) -> Manifest:
    return read_manifest(DataConfig(source="kaggle", root=str(real_data)))


def keys_by_split(manifest: Manifest, kind: str) -> dict[str, set[str]]:
    return {
        split: {getattr(row, kind) for row in manifest.rows if row.split == split} for split in ("train", "val", "test")
    }


@pytest.mark.real_data
def test_the_official_set_has_its_published_counts(kermany: Manifest) -> None:
    counts = Counter((row.split, row.label) for row in kermany.rows)
    official = {
        ("train", 0): 1341,
        ("train", 1): 3875,
        ("val", 0): 8,
        ("val", 1): 8,
        ("test", 0): 234,
        ("test", 1): 390,
    }
    assert counts == official
    assert len(kermany.rows) == 5856


@pytest.mark.real_data
def test_official_train_and_test_share_no_strict_key_but_170_bare_numbers(kermany: Manifest) -> None:
    strict = keys_by_split(kermany, "patient")
    assert (len(strict["train"]), len(strict["test"])) == (3654, 428)
    assert not strict["train"] & strict["test"]
    assert not strict["val"] & (strict["train"] | strict["test"])
    loose = keys_by_split(kermany, "loose_key")
    collisions = Counter(key.split(":")[0] for key in loose["train"] & loose["test"])
    assert collisions == {"person": 170, "IM-number": 94}


@pytest.mark.real_data
def test_62_files_are_copies_in_30_groups_within_official_splits(kermany: Manifest) -> None:
    rows = {row.image_id: row for row in kermany.rows}
    groups = exact_duplicates(kermany)
    assert (len(groups), sum(map(len, groups))) == (30, 62)
    assert all(len({rows[image_id].split for image_id in group}) == 1 for group in groups)
    patients = [{rows[image_id].patient for image_id in group} for group in groups]
    assert [keys for keys in patients if len(keys) > 1] == [{"NORMAL2-IM:95", "NORMAL2-IM:96"}]


@pytest.mark.real_data
def test_one_copied_file_joins_two_patient_numbers_to_one_group(kermany: Manifest) -> None:
    test = [row for row in kermany.rows if row.split == "test"]
    groups = group_names(test)
    pair = {groups[row.image_id] for row in test if row.patient in ("NORMAL2-IM:95", "NORMAL2-IM:96")}
    assert len(pair) == 1


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [0, 1])
def test_the_real_split_is_85_15_by_patient_with_the_official_test_untouched(
    kermany: Manifest, seed: int, tmp_path: Path
) -> None:
    split = make_split(kermany, DataConfig(source="kaggle"), seed=seed)
    test = {row.image_id for row in kermany.rows if row.split == "test"}
    assert {kermany.rows[i].image_id for i in split.test} == test
    for label, num_images in ((0, 1349), (1, 3883)):
        assert abs((kermany.labels[split.val] == label).sum() / num_images - 0.15) < 0.003
    train, val = ([kermany.rows[i] for i in part] for part in (split.train, split.val))
    for key in ("patient", "loose_key", "sha256"):
        assert not {getattr(row, key) for row in train} & {getattr(row, key) for row in val}
    write_split(tmp_path / "split.csv", kermany, split)
    again = read_split(tmp_path / "split.csv", kermany)
    assert (again.digest, again.test_digest) == (split.digest, split.test_digest)


@pytest.mark.real_data
def test_an_image_level_split_of_the_real_set_leaks_four_in_ten(kermany: Manifest) -> None:
    """41 % at nine to one over all images; training, validation and test of 85/15 twice leave a little less."""
    split = make_split(kermany, DataConfig(source="kaggle", val_fraction=0.1), seed=0, kind="image_level")
    validation, test = leaks_of(kermany, split)
    assert 0.35 < validation.share < 0.45
    assert 0.35 < test.share < 0.45


@pytest.mark.real_data
def test_the_loose_rule_reports_the_false_collisions(kermany: Manifest) -> None:
    with pytest.raises(
        LeakageError, match=r"share a bare patient number in 264 case\(s\): IM-number:117 in train/NORMAL/IM-0117"
    ):
        make_split(kermany, DataConfig(source="kaggle", patient_rule="loose"), seed=0)


@pytest.mark.real_data
def test_a_subset_of_the_real_films_becomes_a_store(kermany: Manifest, real_data: Path, tmp_path: Path) -> None:
    data = DataConfig(source="kaggle", root=str(real_data))
    subset = replace(kermany, rows=kermany.rows[::60])
    store = open_store(subset, data, folder=tmp_path)
    assert (store.images.shape, store.bad_files) == ((98, 200, 200, 1), ())
    spread = store.images.std(axis=(1, 2, 3))
    assert (spread > 15).all(), "a film that is nearly one gray was not decoded"
    row = store.manifest.rows[-1]
    shrunk = Image.open(row.path).convert("L").resize((200, 200), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(shrunk, dtype=int) - store.images[-1, :, :, 0]).max() <= 2


@pytest.mark.real_data
def test_original_films_of_every_shape_decode_and_prepare(real_data: Path, tmp_path: Path) -> None:
    originals = real_data.parent / "full_resolution_sample"
    if not originals.is_dir():
        pytest.skip(f"no folder {originals}")
    data = DataConfig(
        source="folder", root=str(originals), patient_regex="(person[0-9]+_[a-z]+|(?:NORMAL2-)?IM-[0-9]+)"
    )
    manifest = read_manifest(data)
    sample = replace(manifest, rows=manifest.rows[::3])
    store = open_store(sample, data, folder=tmp_path)
    assert (len(store.images), store.bad_files) == (len(sample.rows), ())
    shapes = set()
    for row in sample.rows[::4]:
        with Image.open(row.path) as image:
            shown = np.asarray(image.convert("L"), dtype=int)
        decoded = decode_file(Path(row.path))
        assert np.abs(decoded - shown).max() <= 2
        shapes.add(decoded.shape)
    assert len(shapes) > 5
