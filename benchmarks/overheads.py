"""What a run costs beside training: seconds of every stage of `train`, of a mistake, of `--help`, and of a sweep.

    python -m benchmarks.overheads [quick]                      # the table; CXR_DATA=DIR adds a run on the Kermany set
    python -m benchmarks.overheads stages seed=3 data=kaggle    # one run under CXR_HOME, second by second

A thread looks every 4 ms at what the main thread executes: nothing is replaced, and what several threads do at once is
counted as long as the main thread waits for it.  Each look goes to the function that `run_experiment` calls, or to the
library that is being imported.  Imports of MLflow and matplotlib count as overhead, as do heat maps; imports of
TensorFlow, Keras, NumPy, SciPy and Hydra do not.  Wall time says little on a busy machine: beside it stands what the
main thread computed, without its waits.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from benchmarks.films import phantom_films, write_folder
from benchmarks.interleaved import ROOT, Missing, Row, interleave, row, show
from cxr_experiments.config.schema import DataConfig

BEAT_S = 0.004
SHORT_SIZE_PX, NUM_RUNS = 64, 8
SHORT = ("training=smoke", "training.epochs=1", f"data.image_size_px={SHORT_SIZE_PX}")
IMPORT, TRAINING, EVALUATION, PREPARING, OVERHEAD = "import", "compile, train", "evaluate", "prepare images", "overhead"
# What is called by run_experiment; whatever stands in none of these is overhead.
CATEGORIES = {
    **dict.fromkeys(("start_tensorflow", "make_pipeline", "build_model", "train_model", "logit_function"), TRAINING),
    **dict.fromkeys(("predict_split", "predict_stressed", "train_sample"), EVALUATION),
    **dict.fromkeys(("judge_validation", "judge_robustness"), EVALUATION),
}
LISTENERS = {"LiveRun.epoch", "Progress.epoch", "Progress.batch"}  # called by train_model, and no training
RECORDS = ("mlflow", "matplotlib", "sqlalchemy", "alembic", "git")  # whose import is part of keeping a record


class Watch:
    """Wall and processor seconds of the main thread by (category, stage), while it is entered."""

    def __init__(self) -> None:
        self.wall_s: Counter[tuple[str, str]] = Counter()
        self.processor_s: Counter[tuple[str, str]] = Counter()
        self._main = threading.main_thread().ident or 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        clock = time.pthread_getcpuclockid(self._main)
        last, last_cpu = time.perf_counter(), time.clock_gettime(clock)
        while not self._ended.wait(BEAT_S):
            stage = stage_of(sys._current_frames().get(self._main))
            now, now_cpu = time.perf_counter(), time.clock_gettime(clock)
            self.wall_s[stage] += now - last
            self.processor_s[stage] += now_cpu - last_cpu
            last, last_cpu = now, now_cpu


def stage_of(frame: FrameType | None) -> tuple[str, str]:
    """Category and name of what a thread does, from its innermost frame."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.insert(0, frame)
        frame = frame.f_back
    loading = [one.f_locals["name"].partition(".")[0] for one in frames if one.f_code.co_name == "_find_and_load"]
    if foreign := [name for name in loading if name != "cxr_experiments"]:
        return OVERHEAD if foreign[0] in RECORDS else IMPORT, f"import {foreign[0]}"
    names = [one.f_code.co_qualname for one in frames if "cxr_experiments" in one.f_code.co_filename]
    if loading:
        return IMPORT, "import cxr_experiments"
    if "run_experiment" not in names:
        return OVERHEAD, "compose and check the config"
    inside = names[names.index("run_experiment") + 1 :]
    if "build" in inside and inside[0] == "open_counted":
        return PREPARING, "open_counted: build"
    if heard := LISTENERS & set(inside):
        return OVERHEAD, f"{inside[0]}: {heard.pop()}"
    stage = inside[0] if inside else "run_experiment itself"
    return CATEGORIES.get(stage.partition(".")[0], OVERHEAD), stage


def watched(told: Path, words: Sequence[str]) -> None:
    """In a process of its own: one `train` with these words; its seconds go to the JSON file `told`."""
    began_s = float(os.environ["BENCHMARK_BEGAN_S"])
    start_s, start_cpu_s = time.time() - began_s, time.process_time()
    sys.argv = ["train", *words]
    with Watch() as watch:
        try:
            runpy.run_module("cxr_experiments.train", run_name="__main__", alter_sys=True)
        except SystemExit as left:
            if left.code:
                raise
    seconds = [[*stage, wall_s, watch.processor_s[stage]] for stage, wall_s in watch.wall_s.items()]
    seconds.append([IMPORT, "Python", start_s, start_cpu_s])
    used_s = time.process_time() + _children_s()
    told.write_text(json.dumps({"stages": seconds, "ended_s": time.time(), "processor_s": used_s}))


@dataclass(frozen=True)
class Stage:
    """One line: wall seconds, and how many of them the main thread computed."""

    category: str
    name: str
    wall_s: float
    processor_s: float


def stages(words: Sequence[str], home: Path) -> list[Stage]:
    """The stages of one run, with what the interpreter needs to leave."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "seconds.json")
        before_s, began = _children_s(), {"BENCHMARK_BEGAN_S": str(time.time())}
        duration(["-m", "benchmarks.overheads", "watched", str(told), *words], home=home, env=began)
        ended_s, processor_s, values = time.time(), _children_s(), json.loads(told.read_text())
    leave = Stage(
        OVERHEAD, "leave the interpreter", ended_s - values["ended_s"], processor_s - before_s - values["processor_s"]
    )
    return [*(Stage(*one) for one in values["stages"]), leave]


def _children_s() -> float:
    """Processor seconds of all children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_category(category: str, found: Sequence[Stage]) -> Stage:
    """All stages of one category as one."""
    own = [one for one in found if one.category == category]
    return Stage(category, "", sum(one.wall_s for one in own), sum(one.processor_s for one in own))


def tell_stages(found: Sequence[Stage]) -> str:
    """The stages as lines, by category and then the longest first; those under 10 ms left out."""
    lines = ["    wall  computed"]
    for category in sorted({one.category for one in found}):
        own = sorted((one for one in found if one.category == category), key=lambda one: -one.wall_s)
        for one in (in_category(category, found), *own):
            if one.wall_s >= 0.01:
                told = f"  {one.name}" if one.name else category.upper()
                lines.append(f"{one.wall_s:8.2f}  {one.processor_s:8.2f}  {told}")
    return "\n".join(lines)


def duration(
    words: Sequence[str], *, status: int = 0, home: Path | None = None, env: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Wall seconds of one process of Python with these words.

    Raises:
        Missing: it ended with another status.
    """
    surroundings = {**os.environ, **(env or {}), **({"CXR_HOME": str(home)} if home else {})}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=surroundings, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode != status:
        raise Missing(f"status {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
    return {"s": seconds}


def answers(repetitions: int) -> list[Row]:
    """`--help`, `--cfg job`, and two mistakes."""
    train = ("-m", "cxr_experiments.train")
    measures = {
        "--help": partial(duration, (*train, "--help")),
        "--cfg job": partial(duration, (*train, "--cfg", "job")),
        "a key that does not exist": partial(duration, (*train, "sede=1"), status=2),
        "a value out of range": partial(duration, (*train, "training.epochs=-1"), status=2),
    }
    series = interleave(measures, repetitions)
    return [row("answer", series, name, "s", "s", note="asked: under 1.0") for name in measures]


def runs(repetitions: int, home: Path) -> list[Row]:
    """Seconds beside import, compilation, training and evaluation, of runs on a ready store."""
    seeds = iter(range(1, 1000))

    def measure(*words: str) -> Callable[[], dict[str, float]]:
        def one() -> dict[str, float]:
            with tempfile.TemporaryDirectory(dir=home) as new:
                fresh = in_category(OVERHEAD, stages([*SHORT, *words], Path(new)))
            found = stages([*SHORT, *words, f"seed={next(seeds)}"], home)
            later, imports = (in_category(category, found) for category in (OVERHEAD, IMPORT))
            recording = sum(one.wall_s for one in found if one.category == OVERHEAD and one.name.startswith("import"))
            told = {"first": fresh.wall_s, "later": later.wall_s, "import": imports.wall_s}
            told["later, no import"] = later.wall_s - recording
            return {**told, "later, computed": later.processor_s}

        stages([*SHORT, *words, f"seed={next(seeds)}"], home)  # makes store and database
        return one

    measures = {"phantoms": measure()}
    if os.environ.get("CXR_DATA"):
        measures["Kermany's set"] = measure("data=kaggle")
    series = interleave(measures, repetitions)
    notes = {
        "later": "beside compilation, training, evaluation and the imports below",
        "later, no import": "without the imports of MLflow and matplotlib; asked: under 3",
        "later, computed": "of that, seconds in which the main thread computed: what a quiet machine would take",
        "first": "in a new CXR_HOME, where MLflow's database is made too",
        "import": "TensorFlow, Keras, NumPy, SciPy, Hydra; no part of the above",
    }
    return [
        row(f"overhead of a run: {name}", series, data, name, "s", note=notes[name])
        for data in measures
        for name in notes
    ]


def sweeps(repetitions: int, scratch: Path) -> list[Row]:
    """One sweep of eight short runs on phantoms beside eight processes of plain Keras on the same films."""
    config = DataConfig(image_size_px=SHORT_SIZE_PX)
    folder = write_folder(phantom_films(scratch, config.image_size_px, config.num_patients), scratch / "films")
    home, seeds = scratch / "home", iter(range(1, 1_000_000))
    stages([*SHORT, "seed=0"], home)  # makes store and database

    def ours() -> dict[str, float]:
        listed = ",".join(str(next(seeds)) for _ in range(NUM_RUNS))
        return duration(["-m", "cxr_experiments.train", "-m", *SHORT, f"seed={listed}"], home=home)

    def plain() -> dict[str, float]:
        words = ["benchmarks/plain_keras.py", str(folder), str(config.image_size_px), "1"]
        return {"s": sum(duration([*words, str(next(seeds))])["s"] for _ in range(NUM_RUNS))}

    peer, sweep = f"plain Keras, {NUM_RUNS} processes", f"ours, a sweep of {NUM_RUNS}"
    series = interleave({peer: plain, sweep: ours}, repetitions)
    figure = f"{NUM_RUNS} runs of one epoch, {config.image_size_px} px"
    note = "with all that a run keeps; asked: at most 0.5"
    return [row(figure, series, peer, "s", "s"), row(figure, series, sweep, "s", "s", peer=peer, note=note)]


def rows(quick: bool) -> list[Row]:
    """The lines of the table."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as scratch:
        few = 1 if quick else 3
        return [*answers(3 * few), *runs(few, Path(home)), *sweeps(few, Path(scratch))]


if __name__ == "__main__":
    if sys.argv[1:2] == ["watched"]:
        watched(Path(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1:2] == ["stages"]:
        print(tell_stages(stages(sys.argv[2:], Path(os.environ.get("CXR_HOME", ROOT)))))
    else:
        show(rows)
