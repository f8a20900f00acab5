"""README's two promises on an empty machine: a fresh clone, an empty home directory, `make demo`; and the bad days."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.long
def test_make_demo_on_a_fresh_clone_with_an_empty_home(tmp_path: Path) -> None:
    clone, empty = tmp_path / "clone", tmp_path / "empty"
    empty.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    left_out = ("CXR_DATA", "CXR_HOME", "VIRTUAL_ENV", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment["HOME"] = str(empty)
    make = {"cwd": clone, "env": environment, "text": True, "capture_output": True, "check": False}
    installed = subprocess.run(["make", "install"], **make)  # type: ignore[call-overload]
    assert installed.returncode == 0, installed.stdout + installed.stderr
    started = time.monotonic()
    demo = subprocess.run(["make", "demo"], **make)  # type: ignore[call-overload]
    took_s = time.monotonic() - started
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert took_s < 180, f"make demo took {took_s:.0f} s"
    assert (clone / "mlruns" / "mlflow.db").is_file()
    value = float(re.findall(r"SYNTHETIC test_auroc +([0-9.]+)", demo.stdout)[0])
    assert value > 0.7
    assert "http://127.0.0.1:5000/#/experiments/" in demo.stdout
    verdicts = re.findall(
        r"^SYNTHETIC gap: (?:better|worse|equivalent|not resolved).* 4 seeds, ", demo.stdout, re.MULTILINE
    )
    assert len(verdicts) == 1
    assert (clone / "results" / "demo" / "validation" / "forest.png").is_file()
    clean = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert clean.stdout == "", "a demo leaves the checkout clean"
