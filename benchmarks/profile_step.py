"""Where a training step's time goes: TensorFlow's profiler, four steps, own time of each kind of operation.

    python -m benchmarks.profile_step unfused    # the graph as Keras composes it, on the run's own pipeline
    python -m benchmarks.profile_step fused      # what `train` runs

Times are summed over threads, so they exceed the step; docs/speed.md tells what they show.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from benchmarks.films import phantom_films
from benchmarks.input_pipeline import our_batches
from benchmarks.training_step import NUM_PATIENTS, SIZE_PX, gray_model

NUM_STEPS, NUM_SHOWN = 4, 20
ENVELOPES = {"Run", "Process", "FunctionRun"}  # wait for what stands inside them on another thread


def profile(kind: str, scratch: Path) -> Counter[str]:
    """Milliseconds per step of each kind of operation."""
    import keras
    import tensorflow as tf

    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.learning import model, trainer

    phantom_films(scratch, SIZE_PX, NUM_PATIENTS)
    config, batches = our_batches(scratch, epochs=2)
    batches = replace(batches, steps_per_epoch=NUM_STEPS + 2, val=batches.val.take(1))

    def end_step(epoch: int, step: int) -> None:
        if (epoch, step) == (1, 0):
            tf.profiler.experimental.start(str(scratch / "trace"))
        if (epoch, step) == (1, NUM_STEPS):
            tf.profiler.experimental.stop()

    if kind == "fused":
        trainer.start_tensorflow(config)
        seeds = resolve_seeds(config)
        network = model.build_model(config, seeds)
        trainer.train_model(network, batches, config, on_batch_end=lambda one: end_step(one.epoch, one.step))
    else:
        for epoch in range(2):
            listen = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda step, logs, epoch=epoch: end_step(epoch, step)
            )
            network = gray_model(SIZE_PX) if epoch == 0 else network
            network.fit(batches.train, steps_per_epoch=NUM_STEPS + 2, callbacks=[listen], verbose=0)
    (trace,) = (scratch / "trace").rglob("*.xplane.pb")
    return own_times(trace)


def own_times(trace: Path) -> Counter[str]:
    """Of each kind of operation, less that of the operations nested in it, ms per step."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(trace.read_bytes())
    took: Counter[str] = Counter()
    for plane in (plane for plane in space.planes if "CPU" in plane.name):
        for line in plane.lines:
            running: list[tuple[str, int]] = []  # what stands open: kind, end
            for event in sorted(line.events, key=lambda one: (one.offset_ps, -one.duration_ps)):
                kind = plane.event_metadata[event.metadata_id].name.split("#")[0].split(":")[-1]
                while running and event.offset_ps >= running[-1][1]:
                    running.pop()
                if running:
                    took[running[-1][0]] -= event.duration_ps
                took[kind] += event.duration_ps
                running.append((kind, event.offset_ps + event.duration_ps))
    return Counter({kind: ps / 1e9 / NUM_STEPS for kind, ps in took.items() if kind not in ENVELOPES})


if __name__ == "__main__":
    if sys.argv[1:] not in (["fused"], ["unfused"]):
        raise SystemExit("python -m benchmarks.profile_step fused, or unfused")
    with tempfile.TemporaryDirectory() as folder:
        for kind, took_ms in profile(sys.argv[1], Path(folder)).most_common(NUM_SHOWN):
            print(f"{took_ms:8.1f} ms  {kind}")
