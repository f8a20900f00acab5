"""Patients whom DICOM files name: keys that hide them, one salt for all processes, digests that know no salt."""

from __future__ import annotations

import hashlib
import hmac
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dicom
from PIL import Image

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.decode import read_patient_identity
from cxr_experiments.images.manifest import Manifest, load_pixels, read_manifest
from cxr_experiments.images.manifest.salted import FILE, VARIABLE, patient_key
from cxr_experiments.images.splits import make_split

ONE_SALT, OTHER_SALT = "first salt of the tests", "other salt of the tests"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's home without a salt."""
    folder = tmp_path / "home"
    monkeypatch.setenv("CXR_HOME", str(folder))
    monkeypatch.delenv(VARIABLE, raising=False)
    return folder


def film(patient: str, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 4096, (20, 24), dtype=np.uint16)
    return dicom(pixels, BitsStored=12, PatientID=patient, PatientName="Nobody^Known")


def plant(root: Path, *, num_patients: int = 12) -> DataConfig:
    """Two films of each patient; patients are named so that ids and file names sort differently."""
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        (root / name).mkdir(parents=True)
        for patient in range(num_patients):
            for view in range(2):
                path = root / name / f"film{view}-{patient:02d}.dcm"
                path.write_bytes(film(f"{name[0]}{(patient * 7) % num_patients}", patient * 4 + view * 2 + label))
    return DataConfig(source="folder", root=str(root))


def keys(manifest: Manifest) -> dict[str, str]:
    return {row.image_id: row.patient for row in manifest.rows}


def test_keys_are_hmacs_that_only_the_salt_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ONE_SALT)
    identity = read_patient_identity(film("P-1", 0))
    digest = hmac.new(ONE_SALT.encode(), identity, hashlib.sha256).hexdigest()
    assert patient_key(identity) == f"hmac:{digest[:24]}"
    assert patient_key(b"") == ""
    monkeypatch.setenv(VARIABLE, OTHER_SALT)
    assert patient_key(identity) != f"hmac:{digest[:24]}"


def test_a_salt_that_is_no_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "hospital")
    with pytest.raises(ConfigError, match="CXR_PATIENT_SALT has 8 characters; a secret needs at least 16") as refused:
        patient_key(b"P-1")
    assert "hospital" not in str(refused.value)


def test_the_salt_is_drawn_once_and_is_its_owners_alone(home: Path) -> None:
    key = patient_key(b"P-1")
    assert patient_key(b"P-1") == key
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert len((home / FILE).read_text().strip()) == 64
    assert sorted(path.name for path in home.iterdir()) == [f".{FILE}.lock", FILE]


def test_a_damaged_or_barred_salt_is_told(home: Path) -> None:
    home.mkdir()
    (home / FILE).write_text("abc\n")
    with pytest.raises(DataError, match=r"patient_salt, the secret behind patient keys, is damaged") as refused:
        patient_key(b"P-1")
    assert "abc" not in str(refused.value)
    (home / FILE).unlink()
    (home / FILE).mkdir()
    with pytest.raises(DataError, match="cannot be read or written"):
        patient_key(b"P-1")


def test_processes_that_start_at_once_share_one_salt() -> None:
    code = "from cxr_experiments.images.manifest.salted import patient_key; print(patient_key(b'P-1'))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1


def test_dicom_files_in_folders_tell_their_patients(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    manifest = read_manifest(data)
    assert manifest.patients_verifiable
    found = keys(manifest)
    assert len(set(found.values())) == 24
    assert all(key.startswith("hmac:") for key in found.values())
    assert found["NORMAL/film0-03.dcm"] == found["NORMAL/film1-03.dcm"]
    row = manifest.rows[0]
    assert (row.width, row.height, row.mode) == (24, 20, "MONOCHROME2 12-bit")
    assert load_pixels(row, manifest, data).shape == (20, 24)


def test_the_expression_wins_and_needs_no_salt(tmp_path: Path, home: Path) -> None:
    data = replace(plant(tmp_path / "films"), patient_regex="-([0-9]+)")
    manifest = read_manifest(data)
    assert manifest.patients_verifiable
    assert {row.patient for row in manifest.rows} == {f"{number:02d}" for number in range(12)}
    assert not (home / FILE).exists()


def test_one_film_without_a_patient_makes_the_set_not_verifiable(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    (tmp_path / "films/NORMAL/notes.txt").write_text("no image")
    (tmp_path / "films/NORMAL/cut.dcm").write_bytes(film("x", 1)[:300])
    assert read_manifest(data).patients_verifiable, "what is no image needs no patient"
    anonymous = tmp_path / "films/NORMAL/unnamed.dcm"
    anonymous.write_bytes(film("", 99))
    assert not read_manifest(data).patients_verifiable
    anonymous.unlink()
    Image.fromarray(np.zeros((20, 20), dtype=np.uint8)).save(tmp_path / "films/NORMAL/gray.png")
    assert not read_manifest(data).patients_verifiable


def test_films_named_as_archives_name_them_are_images(tmp_path: Path) -> None:
    data = plant(tmp_path / "films", num_patients=2)
    for name in ("IM000001", "1.2.840.113619.2.5"):
        (tmp_path / "films/NORMAL" / name).write_bytes(film("late", len(name)))
    (tmp_path / "films/NORMAL/README").write_text("Films of two patients.")
    manifest = read_manifest(data)
    rows = {Path(row.path).name: row for row in manifest.rows}
    for name in ("IM000001", "1.2.840.113619.2.5"):
        assert load_pixels(rows[name], manifest, data).shape == (20, 24)
    with pytest.raises(DataError, match="not a JPEG, PNG or DICOM file"):
        load_pixels(rows["README"], manifest, data)


def test_digests_and_splits_do_not_depend_on_the_salt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = plant(tmp_path / "films")
    manifests, splits = [], []
    for salt in (ONE_SALT, OTHER_SALT):
        monkeypatch.setenv(VARIABLE, salt)
        manifests.append(read_manifest(data))
        splits.append(make_split(manifests[-1], data, seed=3))
    assert set(keys(manifests[0]).values()).isdisjoint(keys(manifests[1]).values())
    assert manifests[0].digest == manifests[1].digest
    assert (splits[0].digest, splits[0].test_digest) == (splits[1].digest, splits[1].test_digest)
    parts = [{manifests[0].rows[i].patient for i in part} for part in (splits[0].train, splits[0].val, splits[0].test)]
    assert sum(map(len, parts)) == len(set.union(*parts)), "each patient on one side"


def test_the_digest_tells_who_shares_a_patient(tmp_path: Path) -> None:
    manifest = read_manifest(plant(tmp_path / "films"))
    first, *_, last = manifest.rows
    moved = [replace(row, patient=last.patient) if row is first else row for row in manifest.rows]
    assert replace(manifest, rows=tuple(moved)).digest != manifest.digest


def test_the_digest_of_sets_without_such_keys_is_as_it_always_was(tmp_path: Path) -> None:
    root = tmp_path / "films"
    for name in ("NORMAL/p1.png", "PNEUMONIA/p2.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(name.encode())
    manifest = read_manifest(DataConfig(source="folder", root=str(root), patient_regex="(p[0-9])"))
    told = (
        f'[["NORMAL/p1.png", 0, "p1", "", "{hashlib.sha256(b"NORMAL/p1.png").hexdigest()}"], '
        f'["PNEUMONIA/p2.png", 1, "p2", "", "{hashlib.sha256(b"PNEUMONIA/p2.png").hexdigest()}"]]'
    )
    assert manifest.digest == hashlib.sha256(told.encode()).hexdigest()
