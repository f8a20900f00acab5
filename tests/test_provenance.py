"""Provenance says what must be known to repeat a run, and no secret."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from cxr_experiments.record.provenance import collect_provenance, slow_precision, uncommitted_change

ROOT = Path(__file__).resolve().parents[1]


def test_commit_versions_and_hardware_are_named() -> None:
    told = collect_provenance(uncommitted="")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert told.commit == head.stdout.strip()
    assert told.packages["tensorflow"].startswith("2.")
    assert all(told.packages.values())
    assert told.num_cores >= 1
    assert told.memory_gib > 0.5
    assert told.processor
    assert not told.dirty
    assert collect_provenance(uncommitted="diff --git a/x.py b/x.py").dirty


def test_change_of_a_tracked_file_is_told_as_a_diff() -> None:
    changed = subprocess.run(["git", "-C", str(ROOT), "diff", "HEAD", "--quiet"], capture_output=True, check=False)
    assert uncommitted_change().startswith("diff --git") == (changed.returncode == 1)
    assert collect_provenance().dirty == bool(uncommitted_change())


def test_credentials_in_the_command_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x/train.py", "tracking=server", "tracking.uri=https://me:secret@host:5000"])
    told = asdict(collect_provenance(uncommitted=""))
    assert told["command"] == ["train", "tracking=server", "tracking.uri=https://host:5000"]
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    ("precision", "flags", "said"),
    [
        ("mixed_bfloat16", "flags\t\t: fpu avx2 avx512f", True),
        ("mixed_bfloat16", "flags\t\t: fpu avx2 avx512f avx512_bf16", False),
        ("mixed_bfloat16", "Features\t: fp asimd bf16", False),
        ("float32", "flags\t\t: fpu avx2", False),
    ],
)
def test_bfloat16_without_instructions_is_said_beforehand(
    tmp_path: Path, precision: str, flags: str, said: bool
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    assert bool(slow_precision(precision, cpuinfo)) == said
    assert slow_precision(precision, tmp_path / "missing") == ""
