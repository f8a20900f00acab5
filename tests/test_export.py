"""An exported network answers as Keras does, without TensorFlow, and says so when it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Command, Sweep

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_json, read_state


@pytest.fixture(scope="module")
def home(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(sweep.home, tmp_path_factory.mktemp("export") / "home"))


@pytest.fixture(scope="module")
def exported(home: Path, command: Command) -> RunFolder:
    """A finished run of the sweep, exported."""
    folder = next(one for one in all_runs(home / "runs") if read_state(one).status == FINISHED)
    said = command("export", f"run={folder.run_id}", home=home)
    assert said.status == 0, said.err
    assert "labels at the frozen threshold" in said.out
    assert not said.err.strip(), said.err
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Phantom films as PNG files."""
    from PIL import Image

    place, data = tmp_path_factory.mktemp("films"), DataConfig(num_patients=20)
    manifest = read_manifest(data)
    for number, row in enumerate(manifest.rows[:3]):
        Image.fromarray(load_pixels(row, manifest, data)).save(place / f"{number}.png")
    return sorted(map(str, place.glob("*.png")))


def test_export_agrees_with_keras_on_validation(exported: RunFolder) -> None:
    told = read_json(exported.file("export") / "export.json")
    agreement = told["agreement"]
    assert agreement["num_images"] > 10
    assert 0 <= agreement["max_probability_difference"] < 1e-5
    assert agreement["num_other_labels"] == 0
    assert agreement["auroc_low"] <= agreement["auroc_difference"] <= agreement["auroc_high"]
    assert abs(agreement["auroc_difference"]) < 1e-3
    assert (told["run"], told["synthetic"]) == (exported.run_id, True)


def test_export_answers_as_keras_without_tensorflow(
    exported: RunFolder, home: Path, films: list[str], tmp_path: Path, command: Command
) -> None:
    """TensorFlow cannot be imported there, and neither SciPy nor matplotlib."""
    for name in ("tensorflow", "keras", "scipy", "matplotlib", "mlflow"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('blocked by the test')")
    words = ("predict", f"run={exported.run_id}", "json=true", *films)
    keras = command(*words, home=home)
    portable = command(*words, "engine=litert", home=home, PYTHONPATH=str(tmp_path))
    assert (keras.status, portable.status) == (0, 0), portable.err
    pairs = [
        (json.loads(one), json.loads(other))
        for one, other in zip(keras.out.splitlines(), portable.out.splitlines(), strict=True)
    ]
    assert len(pairs) == 3
    for one, other in pairs:
        assert other.pop("probability") == pytest.approx(one.pop("probability"), abs=1e-5)
        assert one == other


def test_export_that_is_missing_or_changed_is_one_line(
    exported: RunFolder, home: Path, films: list[str], tmp_path: Path, command: Command
) -> None:
    other = next(
        one for one in all_runs(home / "runs") if one.run_id != exported.run_id and read_state(one).status == FINISHED
    )
    said = command("predict", f"run={other.run_id}", "engine=litert", films[0], home=home)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert f"was not exported: python -m cxr_experiments.export run={other.run_id}" in said.err
    copy = Path(shutil.copytree(home, tmp_path / "home"))
    path = copy / "runs" / exported.experiment_name / exported.run_id / "export" / "model.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    said = command("predict", f"run={exported.run_id}", "engine=litert", films[0], home=copy)
    assert said.status == 2
    assert "is not the file that export.json beside it describes" in said.err


def test_mistakes_are_one_line(home: Path, exported: RunFolder, command: Command) -> None:
    for words, told in (
        (("export",), "no run is named"),
        (("export", "run=aaaaaaaa"), "no run aaaaaaaa"),
        (("predict", f"run={exported.run_id}", "engine=litert", "heatmap=maps", "film.png"), "heat maps need"),
        (("predict", f"run={exported.run_id}", "engine=litter", "film.png"), "litert"),
    ):
        said = command(*words, home=home)
        assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
        assert told in said.err
