"""Provenance says what must be known to repeat a run, and no secret."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from cxr_experiments.record.provenance import collect_provenance, uncommitted_change

ROOT = Path(__file__).resolve().parents[1]


def test_commit_versions_and_hardware_are_named() -> None:
    told = collect_provenance()
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert told.commit == head.stdout.strip()
    assert told.packages["tensorflow"].startswith("2.")
    assert all(told.packages.values())
    assert told.num_cores >= 1
    assert told.memory_gib > 0.5
    assert told.processor
    assert told.dirty == bool(uncommitted_change())


def test_credentials_in_the_command_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x/train.py", "tracking=server", "tracking.uri=https://me:secret@host:5000"])
    told = asdict(collect_provenance())
    assert told["command"] == ["train", "tracking=server", "tracking.uri=https://host:5000"]
    assert "secret" not in str(told)
