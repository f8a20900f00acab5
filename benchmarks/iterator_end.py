"""What it costs to take a tf.data iterator down: a repeated cached set as autotuning runs it, and without.

    python -m benchmarks.iterator_end [quick]

Nothing is trained: batches are taken one every 50 ms, as a step on a CPU would.  Only the end is timed.  The waits are
rare and long, so the longest of several ends is told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.interleaved import Row, child, interleave, row, show

VARIANTS = ("autotuned, as by default", "not autotuned, as ours")
READING_S, STEP_S, NUM_ITERATORS = 12.0, 0.05, 5


def rows(quick: bool) -> Sequence[Row]:
    """The longest of five ends in one process; each repetition is a process."""
    measures = {name: partial(child, ["-m", "benchmarks.iterator_end", "--one", name]) for name in VARIANTS}
    series = interleave(measures, repetitions=1 if quick else 3)
    figure = f"longest of {NUM_ITERATORS} ends of a repeated cached set, read for {READING_S:.0f} s"
    return [row(figure, series, name, "longest_s", "s") for name in VARIANTS]


def measure(name: str) -> Mapping[str, float]:
    """Seconds until the iterator is gone."""
    import numpy as np
    import tensorflow as tf

    from cxr_experiments.learning.tf_data import NUM_BATCHES, ready_ahead

    films = np.zeros((320, 64, 64, 1), dtype=np.uint8)

    def ending_s() -> float:
        batches = tf.data.Dataset.from_tensor_slices(films).cache().batch(32)
        if name == VARIANTS[0]:
            batches = batches.map(tf.identity, num_parallel_calls=tf.data.AUTOTUNE).repeat().prefetch(tf.data.AUTOTUNE)
        else:
            batches = ready_ahead(batches.map(tf.identity, num_parallel_calls=NUM_BATCHES).repeat())
        iterator = iter(batches)
        for _ in range(round(READING_S / STEP_S)):
            next(iterator)
            time.sleep(STEP_S)
        began = time.perf_counter()
        del iterator
        return time.perf_counter() - began

    return {"longest_s": max(ending_s() for _ in range(NUM_ITERATORS))}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        import json

        print(json.dumps(measure(sys.argv[2])))
    else:
        show(rows)
