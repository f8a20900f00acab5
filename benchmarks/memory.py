"""Anonymous memory: the peak of a whole `train` run beside a bare Keras step, and growth over 20 epochs.

    python -m benchmarks.memory [quick]
    python -m benchmarks.memory long         # growth alone, over 300 epochs: a leak stays, a pool that fills does not

RssAnon is what cannot be dropped when memory is short, unlike pages of the store.  The parent reads it from /proc every
10 ms, children included.  The bare step is the same graph in Keras' own layers on one gray batch of 200 px, five times,
and nothing else: no input, no validation, no MLflow, no figures.  The run is `train` on phantoms with everything that
it does, the build of its store included.  Growth is the slope of the lowest RssAnon of each epoch (what is held and not
what is passing), by Theil and Sen with its 95 % interval, over the last 20 of 40 epochs: in the first ones the pools of
the allocator fill, ever more slowly. `long` tells it over several windows of one run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.interleaved import ROOT, Missing, Row, Series, interleave, row, show
from benchmarks.scale import MIB, anonymous_bytes, family

SIZE_PX, BATCH_SIZE, NUM_PATIENTS = 200, 32, 180
BARE, WHOLE = "bare Keras step on one batch", "ours, a whole train run"
# Epochs of which growth is told: behind the first up to and with the second; the run ends with the last one.
WINDOWS, LONG_WINDOWS = ((20, 40),), ((20, 40), (40, 100), (100, 200), (200, 300))
OURS, FIT = "ours, a small run", "plain Keras, fit of its network"
POLL_S = 0.01


@dataclass(frozen=True)
class Growth:
    """MiB per epoch, with its 95 % interval."""

    slope: float
    low: float
    high: float


def rows(quick: bool) -> Sequence[Row]:
    """Peaks and their ratio; the growth."""
    run = ["data=phantom", f"data.image_size_px={SIZE_PX}", f"data.num_patients={NUM_PATIENTS}", "training.epochs=2"]
    bare = partial(watched, ["-m", "benchmarks.memory", "--bare"])
    peaks = interleave({BARE: bare, WHOLE: partial(watched, train_words(run))}, repetitions=1 if quick else 3)
    figure, asked = f"peak RssAnon, {SIZE_PX} px, batch {BATCH_SIZE}", "asked: at most 1.15"
    return [
        row(figure, peaks, BARE, "peak_mib", "MiB"),
        row(figure, peaks, WHOLE, "peak_mib", "MiB", peer=BARE, note=f"2 epochs on phantoms, no_flip, gap; {asked}"),
        *growth_rows(repetitions=1 if quick else 3),
    ]


def train_words(overrides: Sequence[str]) -> list[str]:
    """The command of a run."""
    return ["-m", "cxr_experiments.train", "training.patience=0", *overrides]


def growth_rows(repetitions: int, windows: Sequence[tuple[int, int]] = WINDOWS) -> list[Row]:
    """The growth of a small run's memory, and of Keras' `fit` of the same network alone, window by window."""
    epochs = windows[-1][1]
    run = ["data.image_size_px=64", "data.num_patients=60", f"training.epochs={epochs}", "depth=shallow"]
    fit = ["-m", "benchmarks.memory", "--fit", str(epochs)]
    measures = {OURS: partial(growing, train_words(run), windows), FIT: partial(growing, fit, windows)}
    series = interleave(measures, repetitions)
    return [growth_row(series, variant, window) for window in windows for variant in measures]


def growth_row(series: Mapping[str, Series], variant: str, window: tuple[int, int]) -> Row:
    """One line: the slope in one window, with the interval of each repetition."""
    ends = zip(*(series[variant].values(f"{end} {window[1]}") for end in ("low", "high")), strict=True)
    intervals = ", ".join(f"[{low:.3f}, {high:.3f}]" for low, high in ends)
    note = f"95 % intervals {intervals}, epochs {window[0] + 1} to {window[1]}, 64 px"
    note += "; asked: zero" if variant == OURS else ""
    return row("growth of RssAnon", series, variant, f"slope {window[1]}", "MiB per epoch", note=note)


def watched(words: Sequence[str]) -> Mapping[str, float]:
    """The peak of a process, MiB."""
    with tempfile.TemporaryDirectory() as home:
        samples = sampled(words, Path(home))
    return {"peak_mib": max(taken for _, taken in samples) / MIB}


def growing(words: Sequence[str], windows: Sequence[tuple[int, int]]) -> Mapping[str, float]:
    """The growth of a run's memory in each window: `slope END`, `low END` and `high END` by the window's last epoch.

    Raises:
        Missing: Too few epochs of a window were seen.
    """
    with tempfile.TemporaryDirectory() as home:
        samples = sampled(words, Path(home))
    held: dict[int, int] = {}
    for epoch, taken in samples:
        held[epoch] = min(taken, held.get(epoch, taken))
    told: dict[str, float] = {}
    for first, last in windows:
        # an epoch is running from the line of the one before it to its own; behind the last stands the evaluation
        seen = {epoch: held[epoch] / MIB for epoch in held if first <= epoch < last}
        if len(seen) < (last - first) / 2:
            raise Missing(f"memory was seen in {len(seen)} epochs of {last - first} only")
        growth = slope_of(seen)
        told |= {f"slope {last}": growth.slope, f"low {last}": growth.low, f"high {last}": growth.high}
    return told


def slope_of(held: Mapping[int, float]) -> Growth:
    """Theil and Sen's slope of MiB over epochs: one passing peak does not move it."""
    from scipy.stats import theilslopes

    found = theilslopes(list(held.values()), list(held), alpha=0.95)
    return Growth(float(found.slope), float(found.low_slope), float(found.high_slope))


def sampled(words: Sequence[str], home: Path) -> list[tuple[int, int]]:
    """(epochs that are over, RssAnon in bytes) of a process with `home` as its CXR_HOME, every 10 ms.

    Raises:
        Missing: It failed, or this system has no /proc.
    """
    if not anonymous_bytes(os.getpid()):
        raise Missing("RssAnon is told by Linux alone, in /proc")
    environment = {**os.environ, "CXR_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    samples: list[tuple[int, int]] = []
    with tempfile.TemporaryFile("w+") as told:
        command = [sys.executable, *words]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            # nothing is told of a process that begins, ends, or has a thread end while it is read
            if taken := sum(anonymous_bytes(pid) for pid in family(process.pid)):
                samples.append((epochs_over(home), taken))
            time.sleep(POLL_S)
        told.seek(0)
        text = told.read().strip()
    if process.returncode:
        raise Missing(f"failed: {(text.splitlines() or [f'status {process.returncode}'])[-1][:200]}")
    return samples


def epochs_over(home: Path) -> int:
    """Lines of the one run's metrics."""
    return sum(path.read_bytes().count(b"\n") for path in home.glob("runs/*/*/metrics.jsonl"))


def bare_step() -> None:
    """The graph, five steps on one batch, and nothing else."""
    import numpy as np

    from benchmarks.training_step import gray_model

    generator, model = np.random.default_rng(0), gray_model(SIZE_PX)
    images = generator.integers(0, 256, (BATCH_SIZE, SIZE_PX, SIZE_PX, 1), dtype=np.uint8)
    labels = generator.integers(0, 2, (BATCH_SIZE, 1)).astype(np.float32)
    losses = [float(model.train_on_batch(images, labels)[0]) for _ in range(5)]
    print(json.dumps({"loss": losses[-1]}))


def small_fit(epochs: int) -> None:
    """Keras' own `fit` of the small run's network on arrays; it marks each epoch's end where a run would."""
    import keras
    import numpy as np

    from benchmarks.training_step import gray_model
    from cxr_experiments.config.schema import DepthConfig

    generator, model = np.random.default_rng(0), gray_model(64, DepthConfig((16, 32, 64), (2, 2, 2)))
    images = generator.integers(0, 256, (96, 64, 64, 1), dtype=np.uint8)
    labels = generator.integers(0, 2, (96, 1)).astype(np.float32)
    ended = Path(os.environ["CXR_HOME"]) / "runs" / "plain" / "fit" / "metrics.jsonl"
    ended.parent.mkdir(parents=True)

    def tell(epoch: int, logs: object) -> None:
        with ended.open("a") as stream:
            stream.write("{}\n")

    listen = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    data = {"validation_data": (images, labels), "batch_size": BATCH_SIZE}
    model.fit(images, labels, epochs=epochs, callbacks=[listen], verbose=0, **data)


if __name__ == "__main__":
    if sys.argv[1:] == ["--bare"]:
        bare_step()
    elif sys.argv[1:2] == ["--fit"]:
        small_fit(int(sys.argv[2]))
    else:
        show(rows, long=partial(growth_rows, 1, LONG_WINDOWS))
