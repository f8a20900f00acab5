"""Time to the quality of the plain Keras twin: runs, and what they say.

    python -m benchmarks.time_to_quality run                       # plain, float32, fast; seeds 0 to 4; 128 px
    python -m benchmarks.time_to_quality run size_px=200 seeds=0   # one seed for the table
    python -m benchmarks.time_to_quality run arms=plain,fast,fast_with_bfloat16 seeds=0      # what a choice is worth
    python -m benchmarks.time_to_quality report                    # tables from the files alone; trains nothing

    arms=plain,float32,fast  seeds=0,1,2,3,4  size_px=128  epochs=40 (of plain)  file=arms.yaml
    out=results/time_to_quality  work=FOLDER (stores, links and runs; default runs/.time_to_quality)
    data=kaggle and every data.KEY=VALUE are handed on to each arm;  limit=N lets no arm train for more epochs

Runs go seed by seed, all arms of a seed one after the other, each in a process of its own.  The same command again
makes what is missing; a record that is deleted is made anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.interleaved import ROOT, say
from benchmarks.time_to_quality.arms import ARMS_FILE, SEED_STUDY, compose_arm, prepare, read_arms
from benchmarks.time_to_quality.records import PLAIN, record_path, write_record
from benchmarks.time_to_quality.report import build_time_path, write_report
from benchmarks.time_to_quality.running import Planned, run
from cxr_experiments.config.compose import home
from cxr_experiments.errors import ConfigError, CxrError
from cxr_experiments.record.run_folder import write_json


@dataclass(frozen=True)
class Asked:
    """The words of the command line."""

    arms: tuple[str, ...] = (PLAIN, "float32", "fast")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    size_px: int = 128
    epochs: int = 40
    limit: int | None = None
    file: Path = ARMS_FILE
    out: Path = ROOT / "results" / "time_to_quality"
    work: Path = home() / "runs" / ".time_to_quality"
    data: tuple[str, ...] = ("data=kaggle",)

    @property
    def data_words(self) -> tuple[str, ...]:
        """Overrides about the images."""
        return (*self.data, f"data.image_size_px={self.size_px}")


READERS: dict[str, Callable[[str], Any]] = {
    "arms": lambda text: tuple(text.split(",")),
    "seeds": lambda text: tuple(int(one) for one in text.split(",")),
    **dict.fromkeys(("size_px", "epochs", "limit"), int),
    **dict.fromkeys(("file", "out", "work"), lambda text: Path(text).expanduser().resolve()),
}


def read_words(words: Sequence[str]) -> Asked:
    """key=value words as `Asked`.

    Raises:
        ConfigError: an unknown key, or a value that does not fit it.
    """
    given = dict(word.partition("=")[::2] for word in words)
    data = tuple(f"{key}={value}" for key, value in given.items() if key.partition(".")[0] == "data")
    values: dict[str, Any] = {"data": data} if data else {}
    for key, value in given.items():
        if key.partition(".")[0] == "data":
            continue
        if key not in READERS:
            raise ConfigError(f"{key}={value}: expected one of {', '.join(READERS)}, data, data.KEY")
        try:
            values[key] = READERS[key](value)
        except ValueError as error:
            raise ConfigError(f"{key}={value}: {error}") from error
    return Asked(**values)


def overrides_of(asked: Asked, arm: str, seed: int) -> tuple[str, ...]:
    """What stands behind `cxr_experiments.train`, composed and checked.

    Raises:
        ConfigError: no such arm, or an override that does not fit.
    """
    arms = read_arms(asked.file)
    if arm not in arms:
        raise ConfigError(f"no arm is called {arm}: {PLAIN}, {', '.join(arms)}")
    words = (*arms[arm], *asked.data_words, f"seed={seed}")
    epochs = compose_arm(words).training.epochs
    return words if asked.limit is None or epochs <= asked.limit else (*words, f"training.epochs={asked.limit}")


def make_runs(asked: Asked) -> None:
    """Every run that is asked for and has no record yet."""
    pairs = [(seed, arm) for seed in asked.seeds for arm in asked.arms]
    words = {(seed, arm): () if arm == PLAIN else overrides_of(asked, arm, seed) for seed, arm in pairs}
    missing = [(seed, arm) for seed, arm in pairs if not record_path(asked.out, arm, asked.size_px, seed).is_file()]
    if not missing:
        say(f"every run has its record in {asked.out}")
        return
    warm_up(asked.work)
    prepared = prepare(asked.data_words, sorted({seed for seed, _ in missing}), asked.work)
    if prepared.store_build_s:
        asked.out.mkdir(parents=True, exist_ok=True)
        write_json(build_time_path(asked.out, asked.size_px), {"store_build_s": round(prepared.store_build_s, 1)})
    epochs = min(asked.epochs, asked.limit or asked.epochs)
    for number, (seed, arm) in enumerate(missing, 1):
        say(f"run {number} of {len(missing)}: {arm}, seed {seed}, {asked.size_px} px")
        division = prepared.divisions[seed]
        planned = Planned(arm, seed, asked.size_px, words[seed, arm], epochs, division, prepared.synthetic)
        record = run(planned, asked.work)
        write_record(asked.out, record)
        lowest = f"lowest validation log loss {min(record.losses):.4f}"
        say(f"{len(record.evaluations)} epochs in {record.wall_s:.0f} s, {record.ended}; {lowest}")


def warm_up(folder: Path) -> None:
    """One run of seconds on phantoms, so that MLflow's database stands and modules are compiled, as on any second day.

    Raises:
        CxrError: it failed.
    """
    if (folder / "mlruns").is_dir():
        return
    small = ("data=phantom", "data.num_patients=40", "data.image_size_px=32", "depth=shallow", "training.epochs=1")
    words = [sys.executable, "-m", "cxr_experiments.train", *SEED_STUDY, *small, "experiment_name=warm_up"]
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "CXR_HOME": str(folder)}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CxrError(f"the run that warms up failed: {done.stderr.strip()[-500:]}")


def main(words: Sequence[str]) -> None:
    """`run` or `report`, with key=value words behind it."""
    if not words or words[0] not in ("run", "report"):
        raise SystemExit(__doc__)
    try:
        asked = read_words(words[1:])
        if words[0] == "run":
            make_runs(asked)
        print(write_report(asked.out))
    except (CxrError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
