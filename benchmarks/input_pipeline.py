"""Input work: augmented batches per second on one core, its share of a training step, and the first batch of a run.

    python -m benchmarks.input_pipeline [quick]

Throughput is that of `make_pipeline` on a ready store at 200 px, in a process that may use one core (set before
TensorFlow is imported), beside the four augmentation layers of Keras on RGB batches in memory.  The share is told two
ways: processor time of one batch of that pipeline over processor time of one step; and processor time of steps on the
pipeline less that of steps on one constant batch, each in fresh, interleaved processes.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.films import phantom_data, phantom_films
from benchmarks.interleaved import Missing, Row, Series, child, interleave, row, show

SIZE_PX, BATCH_SIZE, NUM_PATIENTS = 200, 32, 180
OURS, PEER = "ours: store, one composed warp, gray", "four Keras layers, RGB, from memory"
STEP, CONSTANT = "ours, steps on the pipeline", "ours, steps on one constant batch"
READY = "ours, a second run on a ready store"
WARMUP_BATCHES = 5


def rows(quick: bool) -> Sequence[Row]:
    """Throughput, shares, first batch."""
    repetitions, num_batches, num_steps = (1, 60, 6) if quick else (5, 150, 12)
    with tempfile.TemporaryDirectory() as folder:
        phantom_films(Path(folder), SIZE_PX, NUM_PATIENTS)
        call = partial(measure, Path(folder))
        measures = {
            OURS: partial(call, OURS, num_batches),
            PEER: partial(call, PEER, num_batches // 5),
            STEP: partial(call, STEP, num_steps),
            CONSTANT: partial(call, CONSTANT, num_steps),
            READY: partial(call, READY, 1),
        }
        series = interleave(measures, repetitions)
    figure, asked = f"augmented batches on one core, {SIZE_PX} px", "asked: 1,500"
    first = "TensorFlow imported to first batch: package, manifest, split, store, pipeline; asked: 1.0"
    return [
        row(figure, series, OURS, "images_per_s", "images/s", peer=PEER, note=asked),
        row(figure, series, PEER, "images_per_s", "images/s"),
        *share_rows(series),
        row("first batch", series, READY, "first_batch_s", "s", note=first),
    ]


def measure(scratch: Path, variant: str, count: int) -> dict[str, float]:
    """One variant in a fresh process."""
    return child(["-m", "benchmarks.input_pipeline", "--one", variant, str(scratch), str(count)])


def share_rows(series: Mapping[str, Series]) -> list[Row]:
    """Input's part of a float32 step's processor time."""
    figure, unit = "input work of a step, float32", "% of processor time"
    batch = series[OURS].values("cpu_ms")
    steps, still = series[STEP].values("cpu_ms"), series[CONSTANT].values("cpu_ms")
    if not batch or not steps or not still:
        return [Row(figure, STEP, unit, note="a part could not be measured")]
    share = 100 * statistics.median(batch) / statistics.median(steps)
    alone = f"one batch alone {statistics.median(batch):.0f} ms, one step {statistics.median(steps):.0f} ms; asked: 5"
    less = tuple(100 * (1 - b / a) for a, b in zip(steps, still, strict=True))
    note = f"less that of steps on one constant batch, {statistics.median(still):.0f} ms"
    return [Row(figure, "batch over step", unit, (share,), note=alone), Row(figure, STEP, unit, less, note=note)]


def use_one_core() -> None:
    """For this process and all its threads to come.

    Raises:
        Missing: The system has no way to ask for it.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise Missing("this system cannot hold a process on one core")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def time_batches(batches: object, count: int) -> dict[str, float]:
    """Images per second of `count` batches after the first ones."""
    drawn = iter(batches)  # type: ignore[call-overload]
    list(islice(drawn, WARMUP_BATCHES))
    began, began_cpu, num_images = time.perf_counter(), time.process_time(), 0
    for images, *_ in islice(drawn, count):
        num_images += int(images.shape[0])
    took, took_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return {"images_per_s": num_images / took, "cpu_ms": 1000 * took_cpu * BATCH_SIZE / num_images}


def our_batches(scratch: Path, epochs: int):
    """The run's configuration, seeds and pipeline on the ready store."""
    from cxr_experiments.config.schema import ExperimentConfig, TrainingConfig
    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.learning.pipeline import make_pipeline

    films, training = phantom_films(scratch, SIZE_PX, NUM_PATIENTS), TrainingConfig(epochs=epochs, patience=0)
    config = ExperimentConfig(data=phantom_data(SIZE_PX, NUM_PATIENTS), training=training)
    return config, make_pipeline(config, films.store, films.split, resolve_seeds(config), scratch / "links")


def keras_batches():
    """RGB batches in memory through the plain twin's four layers, as one compiled function, without end."""
    import tensorflow as tf
    from keras import layers

    augment = [
        layers.RandomRotation(10 / 360, fill_mode="constant"),
        layers.RandomTranslation(0.05, 0.05, fill_mode="constant"),
        layers.RandomZoom(0.1, fill_mode="constant"),
        layers.RandomContrast(0.1),
    ]
    images = tf.random.uniform((BATCH_SIZE, SIZE_PX, SIZE_PX, 3), 0, 255, seed=0)

    @tf.function
    def changed(batch):
        for layer in augment:
            batch = layer(batch, training=True)
        return batch

    while True:
        yield changed(images), None


def time_steps(scratch: Path, num_steps: int, *, constant: bool) -> dict[str, float]:
    """Processor time of one step as `train_model` runs it, all threads, mean over epochs after the first."""
    import tensorflow as tf

    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.learning import model, trainer

    config, batches = our_batches(scratch, epochs=3)
    trainer.start_tensorflow(config)
    # epochs shortened, so that the short batch at an epoch's end is not among them
    batches = replace(batches, steps_per_epoch=num_steps // 2, val=batches.val.take(1))
    if constant:
        same = tf.data.Dataset.from_tensors(next(iter(batches.train))).repeat()
        batches = replace(batches, train_from=lambda epoch: same)
    ended: list[float] = []
    network = model.build_model(config, resolve_seeds(config))
    trainer.train_model(network, batches, config, on_batch_end=lambda _: ended.append(time.process_time()))
    half = num_steps // 2
    took = [ended[step] - ended[step - 1] for step in range(half + 1, 3 * half) if step % half]
    return {"cpu_ms": 1000 * statistics.fmean(took)}


def time_first_batch(scratch: Path) -> dict[str, float]:
    """From TensorFlow's import to the first augmented batch."""
    import tensorflow as tf

    began = time.perf_counter()
    _, batches = our_batches(scratch, epochs=1)
    next(iter(batches.train))
    return {"first_batch_s": time.perf_counter() - began, "num_devices": len(tf.config.list_physical_devices())}


def one(variant: str, scratch: Path, count: int) -> dict[str, float]:
    """The measurement of one variant, in this process."""
    if variant == READY:
        return time_first_batch(scratch)
    if variant in (STEP, CONSTANT):
        return time_steps(scratch, count, constant=variant == CONSTANT)
    use_one_core()
    if variant == PEER:
        return time_batches(keras_batches(), count)
    return time_batches(our_batches(scratch, epochs=1000)[1].train, count)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        show(rows)
