"""A run whose split leaks on purpose says so beside its numbers, everywhere it is shown."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from conftest import SMALL, Command

LEAK = r"LEAKING \(split=image_level\): \d+ of \d+ validation images \(\d+ %\) are of patients in training"


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory, command: Command) -> tuple[Path, str]:
    """Home and output of a run on an image-level split."""
    home = tmp_path_factory.mktemp("leaking")
    said = command("train", "split=image_level", "experiment_name=control", *SMALL, home=home)
    assert said.status == 0, said.err
    return home, said.out


def test_training_says_it_first_and_beside_the_scores(leaking: tuple[Path, str]) -> None:
    _, out = leaking
    lines = [place for place, line in enumerate(out.splitlines()) if re.search(LEAK, line)]
    table = next(place for place, line in enumerate(out.splitlines()) if "val_auroc" in line)
    assert len(lines) == 2
    assert lines[0] < table < lines[1]
    assert re.search(r"split=image_level divides all images anew, \d+ official test images among them", out)


def test_folder_and_mlflow_keep_it(leaking: tuple[Path, str]) -> None:
    home, _ = leaking
    (run,) = (home / "runs" / "phantom-control").iterdir()
    assert re.search(LEAK, (run / "leakage.json").read_text())
    with sqlite3.connect(home / "mlruns" / "mlflow.db") as database:
        tags = dict(database.execute("select key, value from tags").fetchall())
    assert tags["cxr.split"] == "image_level"
    assert re.match(LEAK, tags["cxr.patients"])


def test_evaluate_says_it_beside_the_test_scores(leaking: tuple[Path, str], command: Command) -> None:
    home, _ = leaking
    said = command("evaluate", "experiment_name=phantom-control", home=home)
    assert said.status == 0, said.err
    assert re.search(LEAK, said.out)
    assert "test images" in said.out
