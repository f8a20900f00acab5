"""Folders and phantoms become rows, the digest names the data and nothing else, and every wrong layout is told."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import BadImageError, ConfigError, DataError
from cxr_experiments.images.decode import decode_file
from cxr_experiments.images.manifest import Manifest, load_pixels, read_manifest, source_digest
from cxr_experiments.images.manifest.kermany import read_kermany

OFFICIAL = [
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/NORMAL/NORMAL2-IM-0115-0001-0002.jpeg",
    "train/PNEUMONIA/person1_bacteria_1.jpeg",
    "train/PNEUMONIA/person1_virus_7_1.jpeg",
    "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
    "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
    "test/NORMAL/IM-0001-0001.jpeg",
    "test/PNEUMONIA/person100_bacteria_475.jpeg",
]


def plant(root: Path, *names: str) -> Path:
    """Write one small film per name, each with other pixels."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        seed = sum(name.encode())
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def kaggle(root: Path) -> DataConfig:
    return DataConfig(source="kaggle", root=str(root))


def folder(root: Path, **options: object) -> DataConfig:
    return replace(DataConfig(source="folder", root=str(root)), **options)  # type: ignore[arg-type]


def ids(manifest: Manifest) -> list[str]:
    return [row.image_id for row in manifest.rows]


def test_official_folders_become_rows_with_label_patient_and_split(tmp_path: Path) -> None:
    manifest = read_manifest(kaggle(plant(tmp_path, *OFFICIAL)))
    assert ids(manifest) == sorted(OFFICIAL)
    row = {row.image_id: row for row in manifest.rows}["train/PNEUMONIA/person1_virus_7_1.jpeg"]
    assert (row.label, row.patient, row.loose_key, row.split) == (1, "virus:1", "person:1", "train")
    assert Path(row.path).read_bytes()
    assert row.num_bytes == Path(row.path).stat().st_size
    assert manifest.labels.tolist() == [int("PNEUMONIA" in name) for name in sorted(OFFICIAL)]
    assert (manifest.patients_verifiable, manifest.synthetic, manifest.root) == (True, False, str(tmp_path))


def test_the_digest_follows_the_data_and_not_the_place(tmp_path: Path) -> None:
    first = read_manifest(kaggle(plant(tmp_path / "here", *OFFICIAL)))
    assert read_manifest(kaggle(plant(tmp_path / "there", *OFFICIAL))).digest == first.digest
    assert replace(first, rows=first.rows[::-1]).digest == first.digest
    assert len(first.digest) == 64
    row = first.rows[0]
    changed = [
        replace(row, label=1 - row.label),
        replace(row, patient="x"),
        replace(row, split=""),
        replace(row, sha256=""),
    ]
    digests = {replace(first, rows=(other, *first.rows[1:])).digest for other in changed}
    assert len(digests | {first.digest}) == 1 + len(changed)


def test_a_changed_file_changes_the_digest_whatever_its_date_says(tmp_path: Path) -> None:
    first = read_manifest(kaggle(plant(tmp_path, *OFFICIAL)))
    path = tmp_path / OFFICIAL[0]
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_manifest(kaggle(tmp_path)).digest != first.digest


def test_without_drops_rows_and_nothing_else(tmp_path: Path) -> None:
    manifest = read_manifest(kaggle(plant(tmp_path, *OFFICIAL)))
    assert ids(manifest.without([OFFICIAL[0], "unknown"])) == [name for name in sorted(OFFICIAL) if name != OFFICIAL[0]]
    assert manifest.without([]) == manifest


def test_the_archive_of_kaggle_is_read_as_it_unpacks(tmp_path: Path) -> None:
    plant(tmp_path / "chest_xray", *OFFICIAL)
    plant(tmp_path / "__MACOSX", "chest_xray/train/NORMAL/strewn.png")
    for strewn in (".DS_Store", "Thumbs.db", "desktop.ini", "._IM-0115-0001.jpeg"):
        (tmp_path / "chest_xray" / "train" / "NORMAL" / strewn).write_text("strewn")
    (tmp_path / "chest_xray" / "train" / ".ipynb_checkpoints").mkdir()
    assert ids(read_manifest(kaggle(tmp_path))) == sorted(OFFICIAL)


def test_the_official_validation_folder_may_be_absent(tmp_path: Path) -> None:
    plant(tmp_path, *OFFICIAL)
    shutil.rmtree(tmp_path / "val")
    assert {row.split for row in read_manifest(kaggle(tmp_path)).rows} == {"train", "test"}


def test_the_root_may_stand_in_the_environment(tmp_path: Path) -> None:
    plant(tmp_path, *OFFICIAL)
    data = DataConfig(source="kaggle")
    assert len(read_kermany(data, {"CXR_DATA": str(tmp_path)}).rows) == len(OFFICIAL)
    elsewhere = replace(data, root=str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="elsewhere"):
        read_kermany(elsewhere, {"CXR_DATA": str(tmp_path)})


def test_a_missing_root_is_told_in_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))  # a checkout may hold what `download` left
    (tmp_path / "empty").mkdir()
    cases = {
        "no folder was named: give data.root=DIR, or set CXR_DATA": (DataConfig(source="kaggle"), {"CXR_DATA": ""}),
        f"{tmp_path}/gone (from data.root), which is no folder": (kaggle(tmp_path / "gone"), {}),
        f"{tmp_path}/gone (from CXR_DATA)": (DataConfig(source="kaggle"), {"CXR_DATA": str(tmp_path / "gone")}),
        "which holds no folders instead of train and test": (kaggle(tmp_path / "empty"), {}),
    }
    for told, (data, environment) in cases.items():
        with pytest.raises(DataError) as refused:
            read_kermany(data, environment)
        where_from, where_looked, otherwise = str(refused.value).splitlines()
        assert "Kaggle" in where_from
        assert "10.17632/rscbjbr9sj" in where_from
        assert told in where_looked
        assert "data=phantom" in otherwise


def test_wrong_class_folders_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "Healthy/a.png", "PNEUMONIA/b.png")
    with pytest.raises(DataError, match=r"holds Healthy, PNEUMONIA; expected exactly the class folders NORMAL"):
        read_manifest(folder(tmp_path))
    assert len(read_manifest(folder(tmp_path, classes=("Healthy", "PNEUMONIA"))).rows) == 2
    plant(tmp_path, "COVID/c.png")
    with pytest.raises(DataError, match="COVID, Healthy, PNEUMONIA"):
        read_manifest(folder(tmp_path, classes=("Healthy", "PNEUMONIA")))


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "PNEUMONIA/b.png")
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL" / ".DS_Store").touch()
    with pytest.raises(DataError, match=r"NORMAL holds no files"):
        read_manifest(folder(tmp_path))


def test_class_order_decides_the_label(tmp_path: Path) -> None:
    plant(tmp_path, "a_sick/1.png", "b_well/2.png")
    manifest = read_manifest(folder(tmp_path, classes=("b_well", "a_sick")))
    assert {row.image_id: row.label for row in manifest.rows} == {"a_sick/1.png": 1, "b_well/2.png": 0}


def test_a_folder_tree_is_read_to_its_depth_and_round_its_links(tmp_path: Path) -> None:
    plant(
        tmp_path, "elsewhere/7/late é,1.png", "images/NORMAL/p1/a.png", "images/NORMAL/b.JPG", "images/PNEUMONIA/c.png"
    )
    (tmp_path / "images/PNEUMONIA/linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for circle in ("circle", "again"):
        (tmp_path / "images/PNEUMONIA" / circle).symlink_to(tmp_path / "images/PNEUMONIA", target_is_directory=True)
    manifest = read_manifest(folder(tmp_path / "images"))
    assert ids(manifest) == ["NORMAL/b.JPG", "NORMAL/p1/a.png", "PNEUMONIA/c.png", "PNEUMONIA/linked/7/late é,1.png"]
    assert (manifest.patients_verifiable, {row.patient for row in manifest.rows}) == (False, {""})


def test_patients_come_from_the_first_group_of_the_expression(tmp_path: Path) -> None:
    plant(tmp_path, "NORMAL/p1/a.png", "NORMAL/p2/b.png", "PNEUMONIA/p1/c.png")
    manifest = read_manifest(folder(tmp_path, patient_regex="/(p[0-9]+)/"))
    assert [row.patient for row in manifest.rows] == ["p1", "p2", "p1"]
    assert manifest.patients_verifiable


def test_an_expression_that_tells_no_patient_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "NORMAL/p1_a.png", "PNEUMONIA/unnamed.png")
    with pytest.raises(DataError, match=r"finds no patient in PNEUMONIA/unnamed\.png"):
        read_manifest(folder(tmp_path, patient_regex="(p[0-9]+)_"))
    with pytest.raises(DataError, match="has no group"):
        read_manifest(folder(tmp_path, patient_regex="p[0-9]+_"))
    with pytest.raises(ConfigError, match="is not a regular expression"):
        read_manifest(folder(tmp_path, patient_regex="(p[0-9+_"))


def test_a_folder_without_root_or_with_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs data\.root=DIR"):
        read_manifest(DataConfig(source="folder"))
    with pytest.raises(DataError, match=r"gone is no folder"):
        read_manifest(folder(tmp_path / "gone"))
    with pytest.raises(DataError, match="data=kaggle a divided one"):
        read_manifest(folder(plant(tmp_path, *OFFICIAL)))


def test_files_that_are_no_images_are_listed_for_the_store_to_refuse(tmp_path: Path) -> None:
    plant(tmp_path, *OFFICIAL)
    (tmp_path / "train/NORMAL/notes.txt").write_text("notes")
    (tmp_path / "train/NORMAL/IM-0117-0001.jpeg").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "train/NORMAL/IM-0119-0001.jpeg")
    data = kaggle(tmp_path)
    manifest = read_manifest(data)
    rows = {Path(row.path).name: row for row in manifest.rows}
    reasons = {
        "notes.txt": "suffix '.txt' is none of .jpeg, .jpg, .png, .dcm, .dicom",
        "IM-0117-0001.jpeg": "No such file",
        "IM-0119-0001.jpeg": "not a regular file",
    }
    for name, reason in reasons.items():
        with pytest.raises(BadImageError, match=reason):
            load_pixels(rows[name], manifest, data)


def test_pixels_are_those_of_the_listed_file(tmp_path: Path) -> None:
    data = kaggle(plant(tmp_path, *OFFICIAL))
    manifest = read_manifest(data)
    row = manifest.rows[0]
    assert np.array_equal(load_pixels(row, manifest, data), decode_file(Path(row.path)))
    shutil.copy(manifest.rows[1].path, row.path)
    with pytest.raises(DataError, match="changed after it was listed"):
        load_pixels(row, manifest, data)


def test_phantoms_are_rows_without_files_and_render_alike() -> None:
    data = DataConfig(num_patients=20)
    manifest = read_manifest(data)
    assert (manifest.synthetic, manifest.patients_verifiable, manifest.root) == (True, True, "")
    assert {row.patient for row in manifest.rows} >= {"phantom-0000"}
    assert {row.split for row in manifest.rows} <= {"train", "val", "test"}
    assert set(manifest.labels) == {0, 1}
    pixels = load_pixels(manifest.rows[3], manifest, data)
    assert (pixels.shape, pixels.dtype) == ((256, 256), np.uint8)
    assert np.array_equal(pixels, load_pixels(manifest.rows[3], manifest, data))


def test_what_makes_a_phantom_is_its_content() -> None:
    data = DataConfig(num_patients=20)
    first = read_manifest(data)
    assert read_manifest(data) == first
    assert len({row.sha256 for row in first.rows}) == len(first.rows)
    for other in (replace(data, phantom_seed=1), replace(data, difficulty=0.25), replace(data, num_patients=21)):
        assert read_manifest(other).digest != first.digest


def test_the_source_digest_follows_single_files_and_folders() -> None:
    digests = {source_digest("decode"), source_digest("prepare"), source_digest("decode", "prepare")}
    digests |= {source_digest("phantom"), source_digest("manifest")}
    assert len(digests) == 5
