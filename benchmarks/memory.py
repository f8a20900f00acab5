"""Anonymous memory: the peak of a whole `train` run beside a bare Keras step, and growth over 20 epochs.

    python -m benchmarks.memory [quick]

RssAnon is what cannot be dropped when memory is short, unlike pages of the store.  The parent reads it from /proc every
10 ms, children included.  The bare step is the same graph in Keras' own layers on one gray batch of 200 px, five times,
and nothing else: no input, no validation, no MLflow, no figures.  The run is `train` on phantoms with everything that
it does, the build of its store included.  Growth is the slope of the lowest RssAnon of each epoch (what is held and not
what is passing), by Theil and Sen with its 95 % interval, over the last 20 of 40 epochs: in the first ones the pools of
the allocator fill, ever more slowly.
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

from benchmarks.interleaved import ROOT, Missing, Row, interleave, row, show
from benchmarks.scale import MIB, anonymous_bytes, family

SIZE_PX, BATCH_SIZE, NUM_PATIENTS = 200, 32, 180
BARE, WHOLE = "bare Keras step on one batch", "ours, a whole train run"
NUM_EPOCHS, SETTLING_EPOCHS = 40, 20
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


def growth_rows(repetitions: int) -> list[Row]:
    """The growth of a small run's memory, and of Keras' `fit` of the same network alone."""
    run = ["data.image_size_px=64", "data.num_patients=60", f"training.epochs={NUM_EPOCHS}", "depth=shallow"]
    measures = {OURS: partial(growing, train_words(run)), FIT: partial(growing, ["-m", "benchmarks.memory", "--fit"])}
    series = interleave(measures, repetitions)
    lines = []
    for variant in measures:
        ends = zip(series[variant].values("low"), series[variant].values("high"), strict=True)
        intervals = ", ".join(f"[{low:.3f}, {high:.3f}]" for low, high in ends)
        note = f"95 % intervals {intervals}, epochs {SETTLING_EPOCHS + 1} to {NUM_EPOCHS}, 64 px"
        note += "; asked: zero" if variant == OURS else ""
        lines.append(row("growth of RssAnon", series, variant, "slope", "MiB per epoch", note=note))
    return lines


def watched(words: Sequence[str]) -> Mapping[str, float]:
    """The peak of a process, MiB."""
    with tempfile.TemporaryDirectory() as home:
        samples = sampled(words, Path(home))
    return {"peak_mib": max(taken for _, taken in samples) / MIB}


def growing(words: Sequence[str]) -> Mapping[str, float]:
    """The growth of a run's memory over its epochs.

    Raises:
        Missing: Too few epochs were seen.
    """
    with tempfile.TemporaryDirectory() as home:
        samples = sampled(words, Path(home))
    held: dict[int, int] = {}
    for epoch, taken in samples:
        held[epoch] = min(taken, held.get(epoch, taken))
    # an epoch is running from the line of the one before it to its own; behind the last stands the evaluation
    settled = {epoch: held[epoch] / MIB for epoch in held if SETTLING_EPOCHS <= epoch < NUM_EPOCHS}
    if len(settled) < (NUM_EPOCHS - SETTLING_EPOCHS) / 2:
        raise Missing(f"memory was seen in {len(settled)} epochs only")
    growth = slope_of(settled)
    return {"slope": growth.slope, "low": growth.low, "high": growth.high}


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


def small_fit() -> None:
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
    model.fit(images, labels, epochs=NUM_EPOCHS, callbacks=[listen], verbose=0, **data)


if __name__ == "__main__":
    if sys.argv[1:] == ["--bare"]:
        bare_step()
    elif sys.argv[1:] == ["--fit"]:
        small_fit()
    else:
        show(rows)
