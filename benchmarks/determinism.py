"""What bitwise repetition costs: steps with op determinism, as `train` has them by default, beside steps without.

    python -m benchmarks.determinism [quick]

The standard graph at 200 px, batch 32, in float32; each measurement is a fresh process, since op determinism, once on,
stays on.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.films import phantom_films, write_folder
from benchmarks.interleaved import Row, child, interleave, row, show
from benchmarks.training_step import FIGURE, NUM_PATIENTS, SIZE_PX, time_ours

VARIANTS = {"training.deterministic=true": True, "training.deterministic=false": False}
PEER = "training.deterministic=false"


def rows(quick: bool) -> Sequence[Row]:
    """Images per second with and without, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        write_folder(phantom_films(Path(folder), SIZE_PX, NUM_PATIENTS), Path(folder) / "films")
        measures = {name: partial(child, ["-m", "benchmarks.determinism", "--one", name, folder]) for name in VARIANTS}
        series = interleave(measures, repetitions=2 if quick else 5)
    return [row(FIGURE, series, name, "images_per_s", "images/s", peer=PEER) for name in VARIANTS]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _, _, variant, scratch = sys.argv
        print(json.dumps(time_ours(Path(scratch), 3, "float32", deterministic=VARIANTS[variant])))
    else:
        show(rows)
