"""Fixtures of the whole: the real images, counted, and a quiet environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The official Kermany layout that CXR_DATA names: skipped when unset, a failure when set and missing."""
    named = os.environ.get("CXR_DATA")
    if not named:
        pytest.skip("CXR_DATA is not set")
    root = Path(named).resolve()
    if not (root / "train" / "NORMAL").is_dir():
        pytest.fail(f"CXR_DATA names {root}, which has no train/NORMAL folder")
    return root


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines say how many tests looked at real images."""
    passed = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    num_real = sum("real_data" in report.keywords for report in passed)
    terminalreporter.write_line(f"tests on real images that ran and passed: {num_real}")
