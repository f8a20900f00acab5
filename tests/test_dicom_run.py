"""A run on DICOM films, trained, evaluated and asked: nothing that the files say of a person is left anywhere."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from dicom_files import IDENTIFYING, dicom

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.images.manifest.salted import VARIABLE

SALT = secrets.token_hex(20)
# Short ones would be found by chance; what a file says of a date is looked for as it stands there.
SECRETS = {name: value for name, value in IDENTIFYING.items() if name not in ("StudyDate", "PatientBirthDate")}


# All commands in one process, which imports TensorFlow once; "--" stands between them.
COMMANDS = """
import runpy, sys
words = sys.argv[1:] + ["--"]
while words:
    end = words.index("--")
    sys.argv, words = words[:end], words[end + 1:]
    name = sys.argv[0]
    try:
        runpy.run_module(f"cxr_experiments.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print(f"{name} ended with status {ended.code or 0}")
"""


@dataclass(frozen=True)
class DicomRun:
    """Home, films, and what the commands said."""

    home: Path
    films: Path
    said: str


def plant(root: Path) -> None:
    """40 phantom patients as films of 12 bits, each with an identity of its own that begins with a known one."""
    data = DataConfig(num_patients=40)
    manifest = read_manifest(data)
    for number, row in enumerate(manifest.rows):
        pixels = load_pixels(row, manifest, data)[::4, ::4].astype(np.uint16) * 16
        own = {name: f"{value}{row.patient[-4:]}" for name, value in IDENTIFYING.items() if "UID" not in name}
        own |= {"PatientBirthDate": "19370429", "StudyDate": "19991231", "SOPInstanceUID": uid(number)}
        path = root / data.classes[row.label] / f"IM{number:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom(pixels, BitsStored=12, **{**IDENTIFYING, **own}))


def uid(number: int) -> str:
    return f"{IDENTIFYING['SOPInstanceUID']}.{number}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> DicomRun:
    home, films = tmp_path_factory.mktemp("dicom_home"), tmp_path_factory.mktemp("films")
    plant(films)
    whole, broken = next((films / "PNEUMONIA").iterdir()), home.parent / f"{home.name}-broken.dcm"
    broken.write_bytes(whole.read_bytes()[:-4000])
    small = ("data.image_size_px=32", "depth=shallow", "training.epochs=1", "training.batch_size=16")
    name = "experiment_name=films"
    words = ["train", "data=folder", f"data.root={films}", name, *small, "--", "evaluate", name, "--"]
    words += ["predict", "run=best", name, str(whole), str(broken)]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, *words],
        env={**os.environ, "CXR_HOME": str(home), VARIABLE: SALT},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return DicomRun(home, films, done.stdout + done.stderr)


def test_a_run_on_dicom_films_trains_evaluates_and_predicts(run: DicomRun) -> None:
    assert "train ended" not in run.said, run.said
    assert "evaluate ended" not in run.said, run.said
    assert "predict ended with status 2" in run.said, "one of its files is broken"
    assert "truncated DICOM" in run.said
    assert "not verifiable" not in run.said
    (split,) = run.home.glob("runs/*/*/split.csv")
    patients = {line.split(",")[2] for line in split.read_text().splitlines()[1:]}
    assert len(patients) == 40
    assert all(patient.startswith("hmac:") for patient in patients)
    (predictions,) = run.home.glob("runs/*/*/predictions_test.csv")
    assert "hmac:" in predictions.read_text()


def test_nothing_that_names_a_person_is_left_or_said(run: DicomRun) -> None:
    said = run.said.encode()
    files = [path for path in run.home.rglob("*") if path.is_file() and path.name != "uncommitted.diff"]
    kept = {path: path.read_bytes() for path in files}  # that diff may hold the source of these tests
    assert any(path.suffix == ".db" for path in kept), "MLflow's database is among them"
    assert any(path.name == "images.npy" for path in kept), "the store is among them"
    assert len(kept) > 20
    dates_and_parts = ["19370429", "1937-04-29", "19991231", "Xylographer", "Ziegelstein", "QUAGMIRE", "KRAKENWALD"]
    for secret in [*SECRETS.values(), *dates_and_parts, SALT]:
        for coding in ("utf-8", "utf-16-le"):
            found = [str(path) for path, content in kept.items() if secret.encode(coding) in content]
            assert not found, f"{secret} stands in {found}"
            assert secret.encode(coding) not in said
    everywhere = b"".join(path.read_bytes() for path in run.films.rglob("IM*"))
    for secret in SECRETS.values():
        assert secret.encode() in everywhere, "it did stand in the films"
