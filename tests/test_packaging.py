"""The wheel carries conf/ and works without the checkout; pinned versions name no registry; the version stands once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = place.glob("*.whl")
    return path


def test_wheel_holds_package_and_conf_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "cxr_experiments/conf/config.yaml" in names
    assert "cxr_experiments/conf/augmentation/no_flip.yaml" in names
    assert {"cxr_experiments/app/templates/film.html.j2", "cxr_experiments/app/static/app.css"} <= set(names)
    assert [name for name in names if name.startswith("hydra_plugins")] == ["hydra_plugins/cxr_process_launcher.py"]
    tops = {"cxr_experiments", "cxr_experiments-0.1.0.dist-info", "hydra_plugins"}
    assert {name.partition("/")[0] for name in names} == tops


def test_commands_compose_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    words = ["-m", "cxr_experiments.train", "--cfg", "job", "augmentation=flip", "model=flatten"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "horizontal_flip: true" in done.stdout
    where = [sys.executable, "-c", "import cxr_experiments; print(cxr_experiments.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(site)), "it was the wheel that answered"


def test_pinned_versions_cover_the_dependencies_and_name_no_registry() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert "--" not in text.replace("# ", "")
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in text.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        *project["dependencies"],
        *project["optional-dependencies"]["cpu"],
        *project["optional-dependencies"]["server"],
        *project["optional-dependencies"]["dev"],
        *project["optional-dependencies"]["ray"],
        *project["optional-dependencies"]["slurm"],
    ]
    for requirement in named:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name.group()).lower() in pinned, requirement


def test_python_versions_are_those_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert {"cpu", "gpu"} <= set(project["optional-dependencies"])


def test_make_alone_lists_the_targets() -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    said = subprocess.run(["make"], cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    listed = [line.split()[1] for line in said.splitlines()]
    numbers = ["demo", "reproduce-quick", "reproduce", "benchmark"]
    assert listed == ["help", "install", *numbers, "test", "test-long", "faults", "audit", "app", "ui", "server"]
    assert all(len(line.split()) > 3 for line in said.splitlines()), "each with what it does"


def test_audit_fails_where_it_cannot_look_up() -> None:
    recipe = subprocess.run(
        ["make", "-n", "-o", "install", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "--strict" in recipe, "without it, an index without advisories passes for one without findings"
    assert "-r constraints.txt" in recipe


def test_gate_is_what_the_readme_says() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make demo" in (ROOT / "README.md").read_text()
