"""Fixtures of the whole: the real images, counted, and a quiet environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run `python -m cxr_experiments.<words>` for real, with a home and a current directory of one's own."""

    def run(*words: str, home: Path, cwd: Path | None = None, timeout_s: float = 300, **environment: str) -> Said:
        variables = {name: value for name, value in os.environ.items() if name not in ("CXR_DATA", "HYDRA_FULL_ERROR")}
        done = subprocess.run(
            [sys.executable, "-m", f"cxr_experiments.{words[0]}", *words[1:]],
            cwd=cwd or home,
            env={**variables, "CXR_HOME": str(home), **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


# A run of seconds: 40 phantom patients at 32 px.
SMALL = (
    "data.num_patients=40",
    "data.image_size_px=32",
    "depth=shallow",
    "training.epochs=2",
    "training.batch_size=16",
)


@dataclass(frozen=True)
class Sweep:
    """A 2 x 2 sweep on phantoms in which one cell cannot be built, and what it printed."""

    home: Path
    words: tuple[str, ...]
    said: Said


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Sweep:
    """depth=shallow,standard x 16, 32 px: five poolings do not fit into 16 px, so that one of the four cells fails."""
    home = tmp_path_factory.mktemp("sweep")
    sizes = ("depth=shallow,standard", "data.image_size_px=16,32", "data.num_patients=40")
    words = ("train", "-m", *sizes, "training.epochs=2", "training.batch_size=16", "experiment_name=two_by_two")
    return Sweep(home, words, command(*words, home=home))


@pytest.fixture(scope="session")
def evaluated(sweep: Sweep, command: Command) -> Said:
    """What `evaluate` says of the sweep's three finished runs."""
    return command("evaluate", "experiment_name=phantom-two_by_two", home=sweep.home)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is painted, kept for a look at its texts; painting itself goes on."""
    kept: list[Figure] = []
    paint = FigureCanvasAgg.draw

    def keep_and_paint(self: FigureCanvasAgg) -> None:
        if self.figure not in kept:  # a test may paint it once more
            kept.append(self.figure)
        paint(self)

    monkeypatch.setattr(FigureCanvasAgg, "draw", keep_and_paint)
    return kept
