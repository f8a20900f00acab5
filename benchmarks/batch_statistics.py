"""Do the running averages of batch normalization explain a run's validation result?  Validation images only.

python benchmarks/batch_statistics.py RUN_FOLDER [IMAGES]: AUROC and log loss on the run's validation images, judged
with the running averages, with the statistics of each batch, and after 60 unaugmented batches through the averages.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr_experiments.config.compose import load_config
from cxr_experiments.evidence.metrics import auroc, log_loss
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import read_split
from cxr_experiments.images.store import open_store
from cxr_experiments.learning.trainer import load_model

BATCH_SIZE, NUM_BATCHES = 64, 60


def main(run: Path, root: str | None) -> None:
    """Print the three judgements of one run."""
    data = load_config(run / "config.yaml").data
    data = replace(data, root=root or data.root)
    store = open_store(read_manifest(data), data, folder=run.parents[1] / ".stores")
    split = read_split(run / "split.csv", store.manifest)
    model, generator = load_model(run / "model.keras"), np.random.default_rng(0)
    val = generator.permutation(split.val)
    train = generator.permutation(split.train)
    labels = store.manifest.labels[val]

    def judge(name: str, *, training: bool) -> None:
        starts = range(0, len(val), BATCH_SIZE)
        batches = [model(store.images[val[at : at + BATCH_SIZE]], training=training).numpy()[:, 0] for at in starts]
        scores = np.concatenate(batches)
        values = f"AUROC {auroc(labels, scores):.4f}  log loss {log_loss(labels, scores):.4f}  n {len(val)}"
        print(f"{name:<34}{values}", flush=True)

    weights = model.get_weights()
    judge("running averages, as saved", training=False)
    judge("statistics of each batch", training=True)  # dropout is on as well
    model.set_weights(weights)
    for batch in range(NUM_BATCHES):
        model(store.images[train[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]], training=True)
    judge(f"averages after {NUM_BATCHES} more batches", training=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else None)
