"""Lists of images, as RSNA, NIH, CheXpert and PadChest publish them, become rows; a wrong list is told by its line."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import set_pixel_data
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cxr_experiments.config.compose import CONF_DIR, from_mapping
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.config.together import check_data
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.manifest import Manifest, load_pixels, read_manifest
from cxr_experiments.images.manifest.csv_list.cells import label_of, label_rule
from cxr_experiments.images.manifest.salted import patient_key
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import open_store


def plant(root: Path, *names: str) -> Path:
    """Write one small film per name, each with other pixels."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (24, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def write(root: Path, *lines: str, name: str = "list.csv", encoding: str = "utf-8") -> DataConfig:
    """A list below the root, and the config that reads it with columns path and label."""
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return DataConfig(source="csv", root=str(root), csv_file=name)


def two(root: Path, **options: object) -> DataConfig:
    """One well and one sick film with patient and split, listed."""
    plant(root, "a.png", "b.png")
    data = write(root, "path,label,who,side", "a.png,0,007,train", "b.png,1,7,test")
    return replace(data, **options)  # type: ignore[arg-type]


def key(patient: str) -> str:
    """What a manifest calls a patient whom a list calls so."""
    return patient_key(bytes(4) + patient.encode())


@pytest.fixture(autouse=True, scope="module")
def _salt() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_PATIENT_SALT", "a secret of these tests")
        yield


def labels(manifest: Manifest) -> dict[str, int]:
    return {row.image_id: row.label for row in manifest.rows}


def refused(data: DataConfig) -> str:
    with pytest.raises((DataError, ConfigError)) as told:
        read_manifest(data)
    return str(told.value)


def test_listed_images_become_whole_rows(tmp_path: Path) -> None:
    manifest = read_manifest(two(tmp_path, csv_patient="who", csv_split="side"))
    sick = manifest.rows[1]
    assert (sick.image_id, sick.path, sick.label) == ("b.png", str(tmp_path / "b.png"), 1)
    assert (sick.patient, sick.loose_key, sick.split) == (key("7"), "", "test")
    assert (sick.width, sick.height, sick.mode) == (20, 24, "L")
    assert sick.num_bytes == os.path.getsize(sick.path)
    assert len(sick.sha256) == 64
    assert (manifest.source, manifest.patients_verifiable, manifest.synthetic) == ("csv", True, False)
    assert load_pixels(sick, manifest, DataConfig()).shape == (24, 20)


def test_patients_of_a_column_are_salted_hashes_of_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = two(tmp_path, csv_patient="who")
    first = read_manifest(data)
    assert [row.patient for row in first.rows] == [key("007"), key("7")]
    assert all(re.fullmatch("hmac:[0-9a-f]{24}", row.patient) for row in first.rows)
    assert len({row.patient for row in first.rows}) == 2
    monkeypatch.setenv("CXR_PATIENT_SALT", "another secret than before")
    second = read_manifest(data)
    assert {row.patient for row in second.rows}.isdisjoint(row.patient for row in first.rows)
    assert second.digest == first.digest, "a salt is no part of the data"


def test_no_message_of_contradictory_patients_names_them(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    lines = ["a.png,0,Ada Lovelace", "b.png,1,Grace Hopper", "a.png,0,Grace Hopper"]
    told = refused(replace(write(tmp_path, "path,label,who", *lines), csv_patient="who"))
    assert "list a.png with another patient each" in told
    assert "Ada" not in told
    assert "Grace" not in told


def test_a_patient_is_the_same_in_a_list_and_in_a_dicom_file(tmp_path: Path) -> None:
    for name, patient in (("a.dcm", "007"), ("b.dcm", "7")):
        write_dicom(tmp_path / name, patient)
    data = write(tmp_path, "path,label,who", "a.dcm,0,007", "b.dcm,1,7")
    from_files, from_list = read_manifest(data), read_manifest(replace(data, csv_patient="who"))
    assert [row.patient for row in from_files.rows] == [key("007"), key("7")]
    assert from_list.rows == from_files.rows
    assert from_files.patients_verifiable
    unknown = read_manifest(replace(data, csv_patient=""))
    assert (unknown.patients_verifiable, {row.patient for row in unknown.rows}) == (False, {""})
    plant(tmp_path, "c.png")
    mixed = read_manifest(write(tmp_path, "path,label", "a.dcm,0", "b.dcm,1", "c.png,1"))
    assert not mixed.patients_verifiable


def write_dicom(path: Path, patient: str) -> None:
    """A small film as a modality stores it, uncompressed."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = generate_uid()
    dataset.PatientID = patient
    pixels = np.random.default_rng(zlib.crc32(patient.encode())).integers(0, 4096, (24, 20), dtype=np.uint16)
    set_pixel_data(dataset, pixels, "MONOCHROME2", 12)
    dataset.save_as(path, enforce_file_format=True)


def test_without_a_patient_column_patients_are_not_verifiable(tmp_path: Path) -> None:
    for data in (two(tmp_path), two(tmp_path, csv_patient="")):
        manifest = read_manifest(data)
        assert (manifest.patients_verifiable, {row.patient for row in manifest.rows}) == (False, {""})


def test_the_digest_follows_the_data_and_neither_place_nor_order(tmp_path: Path) -> None:
    for root in (tmp_path / "here", tmp_path / "there"):
        plant(root, "x/a.png", "b.png")
    data = write(tmp_path / "here", "path,label", "x/a.png,0", "b.png,1")
    first = read_manifest(data)
    turned = write(tmp_path / "there", "more,label,path", "?,PNEUMONIA,b.png", "?,NORMAL,x/a.png", name="other.csv")
    second = read_manifest(turned)
    assert (second.digest, second.rows[0].path) != (second.digest, first.rows[0].path)
    assert second.digest == first.digest
    for changed in (["x/a.png,1", "b.png,0"], ["x/a.png,0", "a.png,1"]):
        plant(tmp_path / "here", "a.png")
        assert read_manifest(write(tmp_path / "here", "path,label", *changed)).digest != first.digest


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("1", 1),
        ("1.0", 1),
        ("01", 1),
        ("+1.00", 1),
        ("1.", 1),
        ("0.0", 0),
        ("-0.0", 0),
        ("pneumonia", 1),
        (" Normal ", 0),
    ],
)
def test_equal_labels_are_equal_however_they_are_written(value: str, label: int) -> None:
    assert label_of(value, label_rule(DataConfig())) == label


@pytest.mark.parametrize("value", ["", "-1", "-1.0", "1.5", "10", "0.01", "1e0", "yes", "pneumonia?", "\u0661", "nan"])
def test_other_labels_are_neither(value: str) -> None:
    assert label_of(value, label_rule(DataConfig())) is None


@pytest.mark.parametrize(
    ("cell", "separator", "label"),
    [
        ("Cardiomegaly|Pneumonia", "|", 1),
        ("No Finding", "|", 0),
        ("Effusion|Mass", "|", None),
        ("Pneumonia|No Finding", "|", 1),
        ("['infiltrates', ' pneumonia']", ",", 1),
        ('["no finding"]', ",", 0),
        ("[]", ",", None),
        ("['pneumonia'", ",", None),
        ("Pneumonia,", None, None),
    ],
)
def test_cells_of_several_labels_are_taken_apart(cell: str, separator: str | None, label: int | None) -> None:
    data = DataConfig(csv_positive=("Pneumonia",), csv_negative=("No Finding",), csv_separator=separator)
    assert label_of(cell, label_rule(data)) == label


def test_labels_in_neither_list_are_counted_and_refused_or_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant(tmp_path, "a.png", "b.png")
    data = write(tmp_path, "path,label", "a.png,0", "gone.png,-1.0", "lost.png,", "b.png,1", "far.png,-1.0")
    told = refused(data)
    assert "3 of 5 images have labels in neither data.csv_positive nor data.csv_negative: '-1.0' (2), '' (1)" in told
    assert "the first in line 3" in told
    with caplog.at_level(logging.WARNING):
        manifests = [read_manifest(replace(data, csv_unlisted="drop")) for _ in range(2)]
    assert [labels(manifest) for manifest in manifests] == [{"a.png": 0, "b.png": 1}] * 2
    assert len([record for record in caplog.records if "3 of 5 images" in record.message]) == 1, "said once"


def test_many_other_labels_are_named_in_part(tmp_path: Path) -> None:
    told = refused(write(tmp_path, "path,label", *(f"{i}.png,note {i}" for i in range(30))))
    assert "and 25 other value(s)" in told
    assert len(told) < 600


@pytest.mark.parametrize("alone", [0, 1])
def test_one_class_alone_is_refused(tmp_path: Path, alone: int) -> None:
    plant(tmp_path, "a.png", "b.png")
    told = refused(write(tmp_path, "path,label", f"a.png,{alone}", f"b.png,{alone}"))
    assert f"all 2 usable images are {('NORMAL', 'PNEUMONIA')[alone]}; both classes are needed" in told
    assert "no image is left" in refused(replace(write(tmp_path, "path,label", "a.png,x"), csv_unlisted="drop"))


def test_lists_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    assert "is empty; its first line must name the columns" in refused(write(tmp_path))
    assert "lists no image" in refused(write(tmp_path, "path,label"))
    assert "lists no image" in refused(write(tmp_path, "path,label", "", ""))


def test_a_wrong_column_is_named_with_the_nearest_and_all_there_are(tmp_path: Path) -> None:
    data = write(tmp_path, "Image Index,Finding Labels,Patient ID", "a.png,0,1")
    told = refused(replace(data, csv_path="Image Indx"))
    assert "data.csv_path=Image Indx" in told
    assert "no such column; did you mean Image Index? (columns: Image Index, Finding Labels, Patient ID)" in told
    assert "data.csv_label=label" in refused(replace(data, csv_path="Image Index"))
    named = replace(data, csv_path="Image Index", csv_label="Finding Labels")
    assert "data.csv_patient=who" in refused(replace(named, csv_patient="who"))
    assert "data.csv_split=side" in refused(replace(named, csv_split="side"))


def test_two_columns_of_one_name_are_refused_if_meant(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    data = write(tmp_path, "path,label,x,x,,", "a.png,0,1,2,,", "b.png,1,1,2,,")
    assert len(read_manifest(data).rows) == 2
    assert "has 2 columns called 'x'" in refused(replace(data, csv_patient="x"))


@pytest.mark.parametrize(
    ("joint", "told"), [(";", "';'; save it with commas"), ("\t", "tabs; give the file the suffix .tsv")]
)
def test_another_divider_is_recognised(tmp_path: Path, joint: str, told: str) -> None:
    assert told in refused(write(tmp_path, f"path{joint}label", f"a.png{joint}1"))


def test_tabs_are_read_by_suffix_and_byte_order_marks_passed_over(tmp_path: Path) -> None:
    plant(tmp_path, "a,1.png", "é.png")
    data = write(tmp_path, "path\tlabel", "a,1.png\t0", "é.png\t1", name="list.TSV", encoding="utf-8-sig")
    assert labels(read_manifest(data)) == {"a,1.png": 0, "é.png": 1}
    quoted = write(tmp_path, "path,label", '"a,1.png",0', '"é.png","1"', encoding="utf-8-sig")
    assert labels(read_manifest(quoted)) == {"a,1.png": 0, "é.png": 1}


def test_a_list_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path, "path,label", "a.png,0", "\xe9.png,1", encoding="latin-1")
    assert "is not UTF-8 (byte 0xe9" in refused(data)
    assert "save it as UTF-8" in refused(write(tmp_path, "path,label", "a.png,0", encoding="utf-16"))


@pytest.mark.parametrize("row", ["a.png", "a.png,0,left", "a.png,1,x,y"])
def test_a_row_of_another_length_is_refused_by_its_line(tmp_path: Path, row: str) -> None:
    plant(tmp_path, "a.png", "b.png")
    told = refused(write(tmp_path, "path,label", "b.png,1", "", row))
    assert f"line 4 has {row.count(',') + 1} cells, the header 2" in told


def test_several_columns_make_a_path(tmp_path: Path) -> None:
    plant(tmp_path, "p 1/x#1.png", "p 2/x#1.png")
    data = write(tmp_path, "Image [Folder],#,label", "p 1,1,0", "p 2,1,1")
    manifest = read_manifest(replace(data, csv_path="{Image [Folder]}/x#{#}.png"))
    assert labels(manifest) == {"p 1/x#1.png": 0, "p 2/x#1.png": 1}


@pytest.mark.parametrize("template", ["{path", "path}", "{}", "{{path}}", "a.png{", "{path}{"])
def test_a_damaged_template_is_refused(tmp_path: Path, template: str) -> None:
    assert "expected a column, or a template such as '{Folder}/{Id}.png'" in refused(two(tmp_path, csv_path=template))


@pytest.mark.parametrize("template", ["{path.__class__}", "{path!r}", "{path:>9}", "{0}", "{path[0]}"])
def test_a_template_names_columns_and_nothing_else(tmp_path: Path, template: str) -> None:
    assert "no such column" in refused(two(tmp_path, csv_path=template))


def test_what_a_cell_holds_is_not_read_as_a_template(tmp_path: Path) -> None:
    plant(tmp_path, "{label}.png", "b.png")
    data = write(tmp_path, "path,label", "{label},0", "b,1")
    assert labels(read_manifest(replace(data, csv_path="{path}.png"))) == {"{label}.png": 0, "b.png": 1}


def test_an_empty_path_is_refused_by_its_line(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    told = refused(write(tmp_path, "path,label", "a.png,0", " ,1"))
    assert "line 3: column 'path', part of the path, is empty" in told


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../b.png", "does not stay below data.root"),
        ("x/../../b.png", "does not stay below data.root"),
        ("..\\b.png", "does not stay below data.root"),
        (".", "does not stay below data.root"),
        ("b\0.png", "holds a control character"),
        ("b\x1b[2J.png", "holds a control character"),
        ("/etc/passwd", "is absolute"),
        ("\\\\server\\b.png", "is absolute"),
        ("C:\\films\\b.png", "is absolute"),
        ("c:b.png", "is absolute"),
    ],
)
def test_a_path_that_leads_out_of_the_root_is_refused_by_its_line(tmp_path: Path, path: str, reason: str) -> None:
    plant(tmp_path / "root", "a.png")
    plant(tmp_path, "b.png")
    told = refused(write(tmp_path / "root", "path,label", "a.png,0", f"{path},1"))
    assert "line 3: the path " in told
    assert reason in told


def test_a_link_that_leads_out_of_the_root_is_refused_by_its_line(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", "a.png", "inside/c.png")
    plant(tmp_path / "elsewhere", "b.png")
    (root / "link.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "near").symlink_to(root / "inside")
    for path in ("link.png", "folder/b.png"):
        told = refused(write(root, "path,label", "a.png,0", f"{path},1"))
        assert f"line 3: a link leads from {path} out of {root}" in told
    assert labels(read_manifest(write(root, "path,label", "a.png,0", "near/c.png,1"))) == {"a.png": 0, "near/c.png": 1}


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    two(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    data = DataConfig(source="csv", root=str(tmp_path / "link"), csv_file="list.csv")
    assert read_manifest(data).rows[0].path == str(tmp_path / "real" / "a.png")


def test_paths_as_windows_writes_them_are_read(tmp_path: Path) -> None:
    plant(tmp_path, "x/a.png", "y/b.png")
    data = write(tmp_path, "path,label", "x\\a.png,0", ".\\y\\b.png,1")
    assert labels(read_manifest(data)) == {"x/a.png": 0, "y/b.png": 1}


def test_a_bare_name_is_found_wherever_it_lies_once(tmp_path: Path) -> None:
    plant(tmp_path, "images_001/images/a.png", "images_002/images/b.png", "__MACOSX/b.png", ".hidden/a.png")
    data = write(tmp_path, "path,label", "a.png,0", "b.png,1")
    assert list(labels(read_manifest(data))) == ["images_001/images/a.png", "images_002/images/b.png"]
    plant(tmp_path, "copy/b.png")
    told = refused(data)
    assert "line 3" in told
    assert "several files below" in told
    assert "copy/b.png, images_002/images/b.png" in told


def test_two_lines_of_one_file_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, "x/a.png", "b.png")
    told = refused(write(tmp_path, "path,label", "x/a.png,0", "b.png,1", "a.png,0"))
    assert "lines 2 and 4 both mean the file x/a.png" in told


def test_paths_that_begin_with_the_root_itself_are_read(tmp_path: Path) -> None:
    plant(tmp_path, "train/p1/view1.png", "train/p2/view1.png", "valid/p1/view1.png")
    lines = [
        f"CheXpert-small/{name},{label}" for label, name in enumerate(["train/p1/view1.png", "train/p2/view1.png"])
    ]
    data = write(tmp_path, "path,label", *lines)
    assert labels(read_manifest(data)) == {"train/p1/view1.png": 0, "train/p2/view1.png": 1}
    told = refused(write(tmp_path, "path,label", *lines, "valid/p1/view1.png,0"))
    assert "is not there, and several files below" in told, "one folder only, and only if all begin with it"


def test_missing_files_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    data = write(tmp_path, "path,label", "a.png,0", "b.png,1", *(f"gone {i}.png,1" for i in range(7)))
    told = refused(data).splitlines()
    assert "7 of 9 listed files are not below" in told[0]
    assert told[1:6] == [f"  line {i + 4}: gone {i}.png" for i in range(5)]
    assert told[6] == "  and 2 more"
    assert "data.on_bad_file=skip goes on without them" in told[7]
    skipped = {row.image_id: row for row in read_manifest(replace(data, on_bad_file="skip")).rows}
    assert (len(skipped), skipped["gone 0.png"].num_bytes, skipped["gone 0.png"].sha256) == (9, 0, "")


def test_one_image_on_several_equal_lines_is_one(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    lines = ["a.png,0,,p", "b.png,1,10,q", "b.png,1,20,q"]
    data = replace(write(tmp_path, "path,label,x,who", *lines), csv_patient="who")
    assert labels(read_manifest(data)) == {"a.png": 0, "b.png": 1}


@pytest.mark.parametrize(
    ("second", "what"), [("a.png,1,p,train", "label"), ("a.png,0,q,train", "patient"), ("a.png,0,p,test", "split")]
)
def test_one_image_on_contradictory_lines_is_refused(tmp_path: Path, second: str, what: str) -> None:
    plant(tmp_path, "a.png", "b.png")
    data = write(tmp_path, "path,label,who,side", "a.png,0,p,train", "b.png,1,p,train", second)
    told = refused(replace(data, csv_patient="who", csv_split="side"))
    assert f"lines 2 and 4 list a.png with another {what} each" in told


def test_official_splits_are_read_under_their_usual_names(tmp_path: Path) -> None:
    words = ["train", "Training", "val", "VALID", "validate", "Validation", "test", " Testing "]
    plant(tmp_path, *(f"{i}.png" for i in range(8)))
    data = write(tmp_path, "path,label,side", *(f"{i}.png,{i % 2},{word}" for i, word in enumerate(words)))
    manifest = read_manifest(replace(data, csv_split="side"))
    assert [row.split for row in manifest.rows] == ["train"] * 2 + ["val"] * 4 + ["test"] * 2


@pytest.mark.parametrize("word", ["", "dev", "tests", "0"])
def test_another_split_is_refused_by_its_line(tmp_path: Path, word: str) -> None:
    plant(tmp_path, "a.png")
    data = write(tmp_path, "path,label,side", "a.png,0,train", f"b.png,1,{word}")
    told = refused(replace(data, csv_split="side"))
    assert f"line 3: split {word!r} in column 'side'; expected train, val or test" in told


def test_a_missing_patient_is_refused_by_its_line(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    data = replace(write(tmp_path, "path,label,who", "a.png,0,p1", "b.png,1, "), csv_patient="who")
    assert "line 3: no patient in column 'who'" in refused(data)
    data = replace(write(tmp_path, "path,label,who", "a.png,0,p1", 'b.png,1,"p\x1b"'), csv_patient="who")
    assert "line 3: the patient in column 'who' holds a control character" in refused(data)


def test_patients_may_come_from_the_path(tmp_path: Path) -> None:
    plant(tmp_path, "patient1/a.png", "patient2/b.png")
    data = write(tmp_path, "path,label", "patient1/a.png,0", "patient2/b.png,1")
    manifest = read_manifest(replace(data, patient_regex="(patient[0-9]+)/"))
    assert ([row.patient for row in manifest.rows], manifest.patients_verifiable) == (["patient1", "patient2"], True)
    assert "finds no patient in patient1/a.png" in refused(replace(data, patient_regex="(p2)/"))
    both = replace(data, patient_regex="(p)", csv_patient="label")
    assert "both name the patient; give one of them" in refused(both)


def test_options_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    data = two(tmp_path)
    assert "share '1'; a value means one class" in refused(replace(data, csv_negative=("0", "1.0")))
    assert "each need a label value" in refused(replace(data, csv_positive=()))
    assert "data.csv_separator is empty" in refused(replace(data, csv_separator=""))


def test_root_and_list_must_be_there(tmp_path: Path) -> None:
    data = two(tmp_path)
    assert "needs data.root=DIR" in refused(replace(data, root=None))
    assert "gone is no folder" in refused(replace(data, root=str(tmp_path / "gone")))
    assert "there is no file" in refused(replace(data, csv_file="gone.csv"))
    assert "there is no file" in refused(replace(data, csv_file="."))
    elsewhere = tmp_path / "lists" / "list.csv"
    elsewhere.parent.mkdir()
    (tmp_path / "list.csv").rename(elsewhere)
    assert len(read_manifest(replace(data, csv_file=str(elsewhere))).rows) == 2
    with pytest.raises(ConfigError, match=r"data=csv needs data\.csv_file=FILE"):
        check_data(DataConfig(source="csv"))


PUBLISHED = {
    "rsna": (
        "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        ["0004cfab,,,,,0", "00436515,264.0,152.0,213.0,379.0,1", "00436515,562.0,152.0,256.0,453.0,1"],
        {"stage_2_train_images/0004cfab.dcm": 0, "stage_2_train_images/00436515.dcm": 1},
        None,
    ),
    "nih": (
        "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        [
            "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143",
            "00000002_000.png,No Finding,0,2,80,M,PA,2500,2048,0.171,0.171",
            "00000011_006.png,Infiltration|Pneumonia,6,11,75,M,PA,2992,2991,0.143,0.143",
        ],
        {"images_001/images/00000002_000.png": 0, "images_002/images/00000011_006.png": 1},
        ["00000002", "00000011"],
    ),
    "chexpert": (
        "train.csv",
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
        "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
        "Support Devices",
        [
            "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
            "CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Male,5,Frontal,AP,,,,,,,,1.0,,,,,,",
            "CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Male,5,Frontal,AP,,,,,,,,0.0,,,,,,",
            "CheXpert-v1.0-small/train/patient00004/study1/view1_frontal.jpg,Male,5,Frontal,AP,,,,,,,,-1.0,,,,,,",
        ],
        {
            "train/patient00002/study1/view1_frontal.jpg": 1,
            "train/patient00003/study1/view1_frontal.jpg": 0,
        },
        ["patient00002", "patient00003"],
    ),
    "padchest": (
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
        "MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
        "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,"
        "WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,"
        "ExposureTime,RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,"
        "LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS",
        [
            f"{number},{number}_x.png,{number},20140915,77,{patient},1930.0,F,POSTEROANTERIOR,PA,"
            "Manual review of DICOM fields,No,CR,PhilipsMedicalSystems,MONOCHROME2,0,\"['1', '1']\",0.2,12,"
            f'2047.0,4095.0,1760,2140,,,,,307.0,4765777,sin hallazg  .,Physician,"{told}",'
            "\"['loc basal', 'loc left']\",\"[['normal']]\",[],[]"
            for number, patient, told in (
                (0, "839860488694292331637988235681460987", "['normal']"),
                (1, "8398", "['infiltrates', ' pneumonia']"),
                (2, "8399", "['cardiomegaly']"),
                (3, "8399", ""),
            )
        ],
        {"0/0_x.png": 0, "1/1_x.png": 1},
        ["839860488694292331637988235681460987", "8398"],
    ),
}


@pytest.mark.parametrize("source", PUBLISHED)
def test_a_published_list_is_read_by_its_preset(tmp_path: Path, source: str) -> None:
    """The columns as published; files of RSNA's names are no DICOM here, they are listed and hashed all the same."""
    name, header, lines, expected, patients = PUBLISHED[source]
    for image in expected:
        plant(tmp_path, Path(image).with_suffix(".png").as_posix())
        (tmp_path / image).with_suffix(".png").rename(tmp_path / image)
    write(tmp_path, header, *lines, name=name)
    manifest = read_manifest(preset(source, tmp_path))
    assert labels(manifest) == expected
    assert manifest.patients_verifiable == (patients is not None)
    expected_keys = [key(patient) for patient in patients or ()] if source == "padchest" else patients
    assert [row.patient for row in manifest.rows] == (expected_keys or ["", ""])


def preset(name: str, root: Path, **options: str) -> DataConfig:
    """conf/data/<name>.yaml as it composes."""
    values = OmegaConf.to_container(OmegaConf.load(CONF_DIR / "data" / f"{name}.yaml"))
    assert isinstance(values, dict)
    data = from_mapping({**values, "root": str(root), **options}, DataConfig)
    check_data(data)
    return data


def snippet(word: str) -> str:
    """The one Python example of docs/data.md that holds `word`."""
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if word in code]
    return str(code)


def run(word: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", snippet(word)], cwd=folder, check=True)


def test_the_pages_example_for_rsna_adds_nihs_patients(tmp_path: Path) -> None:
    name, header, lines, images, _ = PUBLISHED["rsna"]
    write(tmp_path, header, *lines, name=name)
    told = [{"subset_img_id": "0004cfab", "img_id": "00000002_000.png"}]
    told += [{"subset_img_id": "00436515", "img_id": "00000011_006.png"}]
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(told))
    run("mappings_2018.json", tmp_path)
    for image in images:
        (tmp_path / image).parent.mkdir(exist_ok=True)
        (tmp_path / image).write_bytes(image.encode())
    manifest = read_manifest(preset("rsna", tmp_path, csv_file="with_patients.csv", csv_patient="patient"))
    assert {row.patient for row in manifest.rows} == {key("00000002"), key("00000011")}
    assert manifest.patients_verifiable


def test_the_pages_example_for_nih_adds_the_official_split(tmp_path: Path) -> None:
    name, header, lines, images, _ = PUBLISHED["nih"]
    write(tmp_path, header, *lines, name=name)
    plant(tmp_path, *images)
    (tmp_path / "test_list.txt").write_text("00000011_006.png\n")
    run("test_list.txt", tmp_path)
    manifest = read_manifest(preset("nih", tmp_path, csv_file="with_split.csv", csv_split="split"))
    assert [(row.split, row.patient) for row in manifest.rows] == [("train", "00000002"), ("test", "00000011")]


def test_the_pages_example_for_chexpert_keeps_frontal_films(tmp_path: Path) -> None:
    name, header, lines, _, _ = PUBLISHED["chexpert"]
    write(tmp_path, header, *lines, lines[1].replace("Frontal", "Lateral").replace("_frontal", "_lateral"), name=name)
    run("frontal.csv", tmp_path)
    assert (tmp_path / "frontal.csv").read_text().splitlines() == [header, *lines]


def test_a_list_is_split_by_its_patients_and_becomes_a_store(tmp_path: Path) -> None:
    names = [f"{patient:02d}_{film}.png" for patient in range(30) for film in range(3)]
    plant(tmp_path, *names)
    lines = [f"{name},{int(name[:2]) % 2},{name[:2]}" for name in names]
    data = replace(write(tmp_path, "path,label,who", *lines), csv_patient="who", image_size_px=16)
    manifest = read_manifest(data)
    split = make_split(manifest, data, seed=0)
    sides = [{manifest.rows[i].patient for i in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, sides)) == 30
    assert all(sides)
    assert open_store(manifest, data, folder=tmp_path / "stores").images.shape == (90, 16, 16, 1)


def test_official_test_rows_of_a_list_are_kept(tmp_path: Path) -> None:
    names = [f"{number:02d}.png" for number in range(40)]
    plant(tmp_path, *names)
    lines = [f"{name},{int(name[:2]) % 2},{'test' if name < '10' else 'train'}" for name in names]
    data = replace(write(tmp_path, "path,label,side", *lines), csv_split="side")
    manifest = read_manifest(data)
    split = make_split(manifest, data, seed=0)
    assert [manifest.rows[i].image_id for i in split.test] == names[:10]


def test_a_wrong_list_is_one_line_and_status_2(tmp_path: Path, command: Command) -> None:
    write(tmp_path / "films", "file,label", "a.png,0")
    words = ("data=csv", f"data.root={tmp_path / 'films'}", "data.csv_file=list.csv", "tracking=disabled")
    said = command("train", *words, home=tmp_path)
    assert said.status == 2
    (line,) = said.err.splitlines()
    assert "data.csv_path=path" in line
    assert "(columns: file, label)" in line


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("films"), "a.png", "b.png", "x/c.png", "y/d.png", "y/a.png")


NASTY = [
    "../a.png",
    "/a.png",
    ".",
    "x",
    "",
    " ",
    "0",
    "1",
    "1.0",
    "-1",
    "['0', '1']",
    "007",
    '"',
    "\0",
    "\r",
    "\t",
    ";",
    "x,y",
]
FITTING = ["a.png", "b.png", "c.png", "x/c.png", "y/d.png", "d.png", "NORMAL", "pneumonia", "train", "valid", "test"]
WHOLE = st.tuples(
    st.sampled_from(["a.png", "b.png", "c.png", "x/c.png", "y\\d.png"]),
    st.sampled_from(["0", "1", "1.0", "normal", "['0', '1']", "-1"]),
    st.sampled_from(["007", "7"]),
    st.sampled_from(["train", "valid", "Test"]),
).map(list)
CELLS = st.sampled_from(NASTY + FITTING) | st.text(max_size=8)
OPTIONS = st.fixed_dictionaries(
    {
        "csv_path": st.sampled_from(["path", "path", "{path}", "{side}/{path}", "{path}.png", "{", "nothing"]),
        "csv_patient": st.sampled_from([None, "who", ""]),
        "csv_split": st.sampled_from([None, "side"]),
        "csv_separator": st.sampled_from([None, ",", "|"]),
        "csv_unlisted": st.sampled_from(["stop", "drop"]),
        "on_bad_file": st.sampled_from(["stop", "skip"]),
        "csv_file": st.sampled_from(["list.csv", "list.tsv"]),
    }
)


def read_or_refuse(films: Path, content: bytes, options: dict[str, str | None]) -> Manifest | str:
    """The manifest, or what our own error says; any other error ends the test."""
    data = replace(DataConfig(source="csv", root=str(films)), **options)  # type: ignore[arg-type]
    (films / str(data.csv_file)).write_bytes(content)
    try:
        return read_manifest(data)
    except (DataError, ConfigError) as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(WHOLE, min_size=2, max_size=6)
    | st.lists(WHOLE | st.lists(CELLS, min_size=3, max_size=5), max_size=6),
    options=OPTIONS,
)
def test_any_list_becomes_rows_or_is_refused(
    films: Path, rows: list[list[str]], options: dict[str, str | None]
) -> None:
    joint = "\t" if options["csv_file"] == "list.tsv" else ","
    text = "\n".join(joint.join(row) for row in [["path", "label", "who", "side"], *rows])
    manifest = read_or_refuse(films, text.encode(errors="surrogatepass"), options)
    if isinstance(manifest, str):
        assert manifest
        return
    assert {row.label for row in manifest.rows} == {0, 1}
    assert all(Path(os.path.realpath(row.path)).is_relative_to(films) for row in manifest.rows)
    digits = {"007"} & {cell for row in rows for cell in row[2:3]}
    assert not digits & {row.patient for row in manifest.rows}


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode), options=OPTIONS)
def test_any_bytes_are_refused_or_read(films: Path, content: bytes, options: dict[str, str | None]) -> None:
    assert read_or_refuse(films, b"path,label,who,side\n" + content, options)
    assert read_or_refuse(films, content, options)


def test_the_two_tests_above_read_what_is_whole(films: Path) -> None:
    options: dict[str, str | None] = {"csv_patient": "who", "csv_split": "side", "csv_file": "list.csv"}
    rows = b"path,label,who,side\na.png,0,007,train\nc.png,1,7,test\n"
    assert isinstance(read_or_refuse(films, rows, options), Manifest)


def test_a_link_that_leads_round_in_a_circle_is_no_list(tmp_path: Path) -> None:
    data = two(tmp_path)
    (tmp_path / "list.csv").unlink()
    (tmp_path / "list.csv").symlink_to(tmp_path / "list.csv")
    assert "there is no file" in refused(data)
