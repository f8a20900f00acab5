"""The pages do what they say: commands run, the worked example works, errors that are explained are ours."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SMALL, Command
from PIL import Image

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.store import open_store
from cxr_experiments.record.run_folder import all_runs

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def commands_of(page: str) -> list[list[str]]:
    """The words behind `python -m cxr_experiments.` in the page's code blocks, one list a line."""
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.fullmatch(r"python -m cxr_experiments\.(.+)", line) for line in lines]
    return [shlex.split(match.group(1)) for match in found if match]


def texts_of_the_package() -> Iterator[str]:
    """Every piece of text that stands in the package's code, docstrings left out."""
    for path in (ROOT / "cxr_experiments").rglob("*.py"):
        tree = ast.parse(path.read_text())
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
                yield node.value


def test_errors_that_are_explained_are_ours() -> None:
    told = re.findall(r"\*\*`([^`]+)`\*\*", (DOCS / "troubleshooting.md").read_text())
    texts = list(texts_of_the_package())
    assert len(told) >= 15
    assert [one for one in told if not any(one in text for text in texts)] == []


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that holds my_films: 200 drawn films in two folders."""
    data = DataConfig(source="phantom", image_size_px=96, num_patients=200, difficulty=0.0)
    store = open_store(read_manifest(data), data, folder=tmp_path / "stores")
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        (tmp_path / "my_films" / name).mkdir(parents=True)
        rows = [row for row, one in enumerate(store.manifest.rows) if one.label == label][:100]
        assert len(rows) == 100
        for row in rows:
            Image.fromarray(store.images[row, :, :, 0]).save(tmp_path / "my_films" / name / f"{row:04d}.png")
    return tmp_path


@pytest.mark.long
def test_own_films_end_in_a_verdict_in_three_commands_and_a_quarter_of_an_hour(place: Path, command: Command) -> None:
    started, told = time.monotonic(), []
    for words in commands_of("own_data.md"):
        said = command(*words, home=place, timeout_s=3600)
        assert said.status == 0, said.err
        told.append(said.out)
    looked, planned, judged = told
    assert "folder: 200 images" in looked
    assert "2 arms x 3 seeds x 4 folds = 24 cells" in planned
    assert re.search(r"^none: (better|worse|equivalent|not resolved).* 3 seeds", judged, re.MULTILINE), judged
    assert (place / "results" / "first_look" / "validation" / "report.html").is_file()
    assert time.monotonic() - started < 15 * 60


@pytest.mark.long
def test_quick_start_runs_as_it_stands(tmp_path: Path, command: Command) -> None:
    for words in commands_of("quick_start.md"):
        done = [run.run_id for run in all_runs(tmp_path / "runs")]
        said = command(*(word.replace("ID", done[-1]) if word == "run=ID" else word for word in words), home=tmp_path)
        assert said.status == 0, (words, said.err)
    assert (tmp_path / "results" / "demo" / "validation" / "report.html").is_file()
    assert len(all_runs(tmp_path / "runs", "phantom-demo")) == 6 + 8, (
        "two poolings by three seeds, and the study's cells"
    )


def test_worked_example_of_an_option_works(tmp_path: Path) -> None:
    (change,) = re.findall(r"^```diff\n(.*?)^```", (DOCS / "options.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(change.splitlines()) < 30
    for name in ("cxr_experiments", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=change, text=True, check=True)
    said = subprocess.run(
        [sys.executable, "-m", "cxr_experiments.train", "optimizer=lion", *SMALL, "tracking=disabled"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "CXR_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    (run,) = all_runs(tmp_path / "home" / "runs")
    assert "kind: lion" in run.file("config.yaml").read_text()
