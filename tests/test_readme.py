"""What README promises is there: its commands compose, its files exist, its options are those of conf/."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import Command

from cxr_experiments.config.command_line import check_sweep
from cxr_experiments.config.compose import CONF_DIR
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.train import main

assert main  # importing train registers the schema

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


def commands() -> list[str]:
    """Every `python -m cxr_experiments...` line of the pages, continued lines joined, comments cut."""
    found = set()
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"python -m (cxr_experiments\.[^`\n]+)", text):
            found.add(re.sub(r"\s{2,}#.*", "", line).strip())
    return sorted(found)


@pytest.mark.parametrize("line", commands())
def test_command_of_the_pages_composes(
    line: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line.removeprefix("cxr_experiments."))
    if "-m" in words:
        monkeypatch.setattr(sys, "argv", words)
        check_sweep({"train": "config", "preview": "preview"}[words[0]], ExperimentConfig)
        return
    check = ["--help"] if "--help" in words else ["--cfg", "job"]
    said = command(words[0], *[word for word in words[1:] if word != "--help"], *check, home=tmp_path, cwd=ROOT)
    assert said.status == 0, said.err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_table_of_options_is_conf() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    for row in rows:
        named = set(re.findall(r"`([a-z_]+)`", row))
        groups = {name for name in named if (CONF_DIR / name).is_dir() and name not in ("custom",)}
        listed = {path.stem for group in groups for path in (CONF_DIR / group).glob("*.yaml")}
        assert listed <= named, f"not in the table: {listed - named}"


def test_example_network_is_under_30_lines() -> None:
    assert len((ROOT / "examples" / "my_net.py").read_text().splitlines()) < 30


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/reliability.md"])
def test_proofs_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    files = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", text)
    assert len(files) >= 10
    for file, name in files:
        assert (ROOT / file).is_file(), file
        assert not name or f"def {name}(" in (ROOT / file).read_text(), f"{file} has no {name}"


def test_pages_name_no_machine_and_no_registry() -> None:
    for page in PAGES:
        assert not re.search(r"(^|[^A-Za-z0-9_.-])/(root|home|tmp)/", page.read_text()), page.name
