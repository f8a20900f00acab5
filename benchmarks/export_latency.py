"""What an exported network weighs and takes, beside Keras: file size, one film from start to answer, one warm image.

    python -m benchmarks.export_latency [quick]

The standard graph at 200 px after one epoch on phantoms, which costs what any other weights cost.  *Start to answer* is
the whole command `predict` in a fresh process: interpreter, imports, network, decoding, answer.  *One image, warm* is
the network alone, a batch of one, on all cores, the median of 100 calls.  Wall time says little on a busy machine:
beside it stands processor time, all threads together.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.interleaved import ROOT, Missing, Row, Series, child, interleave, row, show
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.record.run_folder import RunFolder, all_runs

KERAS, LITERT = "keras", "litert"
NUM_WARM, NUM_CALLS = 10, 100
RUN = ("training.epochs=1", "data.num_patients=60", "tracking=disabled")


def finished_run(home: Path) -> RunFolder:
    """A run of the standard graph under `home`, trained and exported."""
    command(["train", *RUN], home)
    (folder,) = all_runs(home / "runs")
    command(["export", f"run={folder.run_id}"], home)
    return folder


def write_film(path: Path) -> Path:
    """One phantom as it comes from its source, as PNG."""
    from PIL import Image

    from cxr_experiments.images.manifest import load_pixels, read_manifest

    data = DataConfig(num_patients=8)
    manifest = read_manifest(data)
    Image.fromarray(load_pixels(manifest.rows[0], manifest, data)).save(path)
    return path


def command(words: Sequence[str], home: Path) -> dict[str, float]:
    """Seconds of one command in a fresh process, by the clock and of the processor.

    Raises:
        Missing: it failed.
    """
    surroundings = {**os.environ, "CXR_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
    before_s, began = _children_s(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"cxr_experiments.{words[0]}", *words[1:]],
        cwd=ROOT,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Missing(f"{words[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return {"s": time.perf_counter() - began, "processor_s": _children_s() - before_s}


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def warm(engine: str, run_id: str) -> dict[str, float]:
    """Milliseconds of one image, in this process, and whether TensorFlow had to be imported."""
    import numpy as np

    from cxr_experiments.config.compose import home
    from cxr_experiments.predict.chosen import asked_network
    from cxr_experiments.record.run_folder import find_run

    network = asked_network(find_run(home() / "runs", run_id, None), engine)
    image = np.random.default_rng(0).integers(0, 256, (1, network.size_px, network.size_px, 1), dtype=np.uint8)
    for _ in range(NUM_WARM):
        network.predict(image)
    walls, used_s = [], time.process_time()
    for _ in range(NUM_CALLS):
        began = time.perf_counter()
        network.predict(image)
        walls.append(time.perf_counter() - began)
    processor_ms = 1000 * (time.process_time() - used_s) / NUM_CALLS
    imported = float("tensorflow" in sys.modules)
    return {"ms": 1000 * statistics.median(walls), "processor_ms": processor_ms, "tensorflow": imported}


def require_tensorflow_is_absent(series: Mapping[str, Series]) -> None:
    """The figures are those of an engine without TensorFlow, or none."""
    if any(series[LITERT].values("tensorflow")):
        raise RuntimeError("engine=litert imported TensorFlow: its figures would not be what they are called")


def rows(quick: bool) -> Sequence[Row]:
    """The lines of the table."""
    repetitions = 2 if quick else 7
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        folder, film = finished_run(home), write_film(home / "film.png")
        weighed = {KERAS: folder.file("model.keras"), LITERT: folder.file("export") / "model.tflite"}
        sizes = {name: Series(({"mib": path.stat().st_size / 2**20},)) for name, path in weighed.items()}
        asked = ["predict", f"run={folder.run_id}", str(film)]
        starts = interleave(
            {name: partial(command, [*asked, f"engine={name}"], home) for name in (KERAS, LITERT)}, repetitions
        )
        words = ["-m", "benchmarks.export_latency", "--warm"]
        images = interleave(
            {
                name: partial(child, [*words, name, folder.run_id], env={"CXR_HOME": str(home)})
                for name in (KERAS, LITERT)
            },
            repetitions,
        )
    require_tensorflow_is_absent(images)
    figures = (
        ("file, float32", sizes, "mib", "MiB"),
        ("start to answer, one film", starts, "s", "s"),
        ("start to answer, processor", starts, "processor_s", "s"),
        ("one image, warm", images, "ms", "ms"),
        ("one image, warm, processor", images, "processor_ms", "ms"),
    )
    notes = {"s": "TensorFlow is not imported; asked: under 1.5"}
    return [
        row(figure, series, name, key, unit, peer=KERAS, note=notes.get(key, "") if name == LITERT else "")
        for figure, series, key, unit in figures
        for name in (KERAS, LITERT)
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--warm"]:
        print(json.dumps(warm(*sys.argv[2:])))
    else:
        show(rows)
