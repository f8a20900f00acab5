"""Memory does not grow with pixels: more images cost their names, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NUM_FEW, NUM_MANY, SIZE_PX = 400, 3_000, 200
PIXELS_MIB = (NUM_MANY - NUM_FEW) * SIZE_PX**2 / 2**20

# Lists, stores, batches and predicts the films of each folder, and prints the peak of RssAnon of each pass in MiB.
PASSES = """
import json, sys, threading, time
from pathlib import Path
from cxr_experiments.config.schema import AugmentationConfig, DataConfig, ExperimentConfig, TrainingConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.evidence.evaluation import predict_split
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import journal, open_store
from cxr_experiments.learning.pipeline import make_pipeline

peak, at_work = 0, True

def watch():
    global peak
    while at_work:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = max(peak, *(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon")))
        time.sleep(0.005)

def one_pass(root):
    still = AugmentationConfig(0.0, 0.0, 0.0, contrast_fraction=0.0)
    data = DataConfig(source="folder", root=root, patient_regex="(p[0-9]+)_")
    config = ExperimentConfig(data=data, augmentation=still, training=TrainingConfig(epochs=1))
    store = open_store(read_manifest(data), data, folder=Path(root).parent / "stores")
    seeds = resolve_seeds(config)
    split = make_split(store.manifest, data, seed=seeds.split)
    batches = make_pipeline(config, store, split, seeds, Path(root).parent)
    seen = sum(len(images) for side in (batches.train, batches.val) for images, _ in side)
    assert seen == len(split.train) + len(split.val)
    mean = lambda images: images.mean(axis=(1, 2, 3))
    predict_split(mean, store.images, store.manifest, split.train, split="train", run_id="one")

journal._CHECKPOINT_S = 0.1
watcher = threading.Thread(target=watch)
watcher.start()
told = []
one_pass(sys.argv[1])  # what TensorFlow takes for itself
for root in sys.argv[2:]:
    peak = 0
    one_pass(root)
    told.append(peak)
at_work = False
print(json.dumps(told))
"""


def write_films(root: Path, num_images: int) -> None:
    """Small PNGs, two of each patient, which the store makes 40 KB each."""
    films = np.random.default_rng(num_images).integers(0, 256, (num_images, 24, 32), dtype=np.uint8)
    for name in ("NORMAL", "PNEUMONIA"):
        (root / name).mkdir(parents=True)
    for number, film in enumerate(films):
        patient = number // 2
        path = root / ("NORMAL", "PNEUMONIA")[patient % 2] / f"p{patient}_{number % 2}.png"
        Image.fromarray(film).save(path, compress_level=0)


def test_listing_storing_batching_and_predicting_hold_few_images(tmp_path: Path) -> None:
    roots = [tmp_path / name / "films" for name in ("first", "few", "many")]
    for root, num_images in zip(roots, (NUM_FEW, NUM_FEW + 1, NUM_MANY), strict=True):
        write_films(root, num_images)
    done = subprocess.run(
        [sys.executable, "-c", PASSES, *map(str, roots)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    few, many = json.loads(done.stdout)
    assert PIXELS_MIB > 95
    assert many - few < 30, f"{few} MiB for {NUM_FEW} images, {many} MiB for {NUM_MANY}"
