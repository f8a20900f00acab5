"""A run on DICOM films, trained, evaluated and asked: nothing that the files say of a person is left anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, Said
from dicom_files import IDENTIFYING, dicom

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import load_pixels, read_manifest

SALT = "the salt of this test is secret"
# Short ones would be found by chance; what a file says of a date is looked for as it stands there.
SECRETS = {name: value for name, value in IDENTIFYING.items() if name not in ("StudyDate", "PatientBirthDate")}


@dataclass(frozen=True)
class DicomRun:
    """Home, films, and what each command said."""

    home: Path
    films: Path
    said: tuple[Said, ...]


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
def run(tmp_path_factory: pytest.TempPathFactory, command: Command) -> DicomRun:
    home, films = tmp_path_factory.mktemp("dicom_home"), tmp_path_factory.mktemp("films")
    plant(films)
    small = ("data.image_size_px=32", "depth=shallow", "training.epochs=1", "training.batch_size=16")
    said = [command("train", "data=folder", f"data.root={films}", *small, home=home, CXR_PATIENT_SALT=SALT)]
    (name,) = [path.name for path in (home / "runs").iterdir() if not path.name.startswith(".")]
    said.append(command("evaluate", f"experiment_name={name}", home=home, CXR_PATIENT_SALT=SALT))
    broken = films / "broken.dcm"
    broken.write_bytes((films / "NORMAL").iterdir().__next__().read_bytes()[:-4000])
    films_asked = [str(next((films / "PNEUMONIA").iterdir())), str(broken)]
    said.append(command("predict", "run=best", f"experiment_name={name}", *films_asked, home=home))
    return DicomRun(home, films, tuple(said))


def test_a_run_on_dicom_films_trains_evaluates_and_predicts(run: DicomRun) -> None:
    trained, evaluated, predicted = run.said
    assert trained.status == 0, trained.err
    assert evaluated.status == 0, evaluated.err
    assert "not verifiable" not in trained.out + evaluated.out
    assert "truncated DICOM" in predicted.out + predicted.err
    assert "IM000" in predicted.out
    (split,) = run.home.glob("runs/*/*/split.csv")
    patients = {line.split(",")[2] for line in split.read_text().splitlines()[1:]}
    assert len(patients) == 40
    assert all(patient.startswith("hmac:") for patient in patients)


def test_nothing_that_names_a_person_is_left_or_said(run: DicomRun) -> None:
    said = "".join(one.out + one.err for one in run.said).encode()
    kept = {path: path.read_bytes() for path in run.home.rglob("*") if path.is_file()}
    assert any(path.suffix == ".db" for path in kept), "MLflow's database is among them"
    assert any(path.name == "images.npy" for path in kept), "the store is among them"
    assert len(kept) > 20
    secrets = [
        *SECRETS.values(),
        "19370429",
        "1937-04-29",
        SALT,
        "Xylographer",
        "Ziegelstein",
        "QUAGMIRE",
        "KRAKENWALD",
    ]
    for secret in secrets:
        for coding in ("utf-8", "utf-16-le"):
            found = [str(path) for path, content in kept.items() if secret.encode(coding) in content]
            assert not found, f"{secret} stands in {found}"
            assert secret.encode(coding) not in said
    everywhere = b"".join(path.read_bytes() for path in run.films.rglob("IM*"))
    for secret in SECRETS.values():
        assert secret.encode() in everywhere, "it did stand in the films"
