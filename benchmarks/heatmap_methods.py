"""Which heat map finds the lesion?  Grad-CAM and its kin at every block against integrated gradients, on phantoms.

    python -m cxr_experiments.train -m experiment=heatmap_check depth=shallow,standard
    python benchmarks/heatmap_methods.py RUN_FOLDER [RUN_FOLDER ...]

For each run of phantoms: pointing game with its interval, share of the heat inside the lesion, overlap, and the median
|rank correlation| with the maps of the same network untrained.  docs/heatmaps.md says what came out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cxr_experiments.config.compose import load_config
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.evidence.evaluation import read_predictions
from cxr_experiments.evidence.localisation import localise
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.images.prepare import prepare
from cxr_experiments.learning import heatmap
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.trainer import load_model
from cxr_experiments.record.explanations import lesion_mask
from cxr_experiments.record.run_folder import RunFolder

Heat = Callable[[np.ndarray], np.ndarray]
NUM_RANDOMISED = 16


def class_activation(model: keras.Model, layer: str, kind: str) -> Heat:
    """Grad-CAM (Selvaraju 2017), HiResCAM (Draelos 2020) or LayerCAM (Jiang 2021) at one layer, laid over the image."""
    both = keras.Model(model.input, [model.get_layer(layer).output, model.get_layer("logit").output])

    def heat(images: np.ndarray) -> np.ndarray:
        with tf.GradientTape() as tape:
            activation, logit = both(images, training=False)
            total = tf.reduce_sum(logit)
        slope = tape.gradient(total, activation)
        if kind == "Grad-CAM":
            slope = tf.reduce_mean(slope, (1, 2), keepdims=True)
        elif kind == "LayerCAM":
            slope = tf.nn.relu(slope)
        found = tf.nn.relu(tf.reduce_sum(slope * activation, -1, keepdims=True))
        return tf.image.resize(found, images.shape[1:3])[..., 0].numpy()

    return heat


def methods(model: keras.Model) -> dict[str, Heat]:
    """Every method by name: the three at the end of each block, and ours."""
    layers = [layer.name for layer in model.layers if layer.name.startswith("block")]
    last = {name.partition("_")[0]: name for name in layers if "_relu" in name}
    places = [*last.values(), layers[-1]]
    named = {f"{kind} {place}": class_activation(model, place, kind) for place in places for kind in KINDS}
    return {**named, "integrated gradients": heatmap.heat_function(model)}


KINDS = ("Grad-CAM", "HiResCAM", "LayerCAM")


def compare(folder: RunFolder) -> None:
    """Print one line for each method."""
    config = load_config(folder.file("config.yaml"))
    data, manifest = config.data, read_manifest(config.data)
    predictions = read_predictions(folder.predictions("val"))
    rows = {row.image_id: row for row in manifest.rows}
    ill = [rows[image_id] for image_id in predictions.image_id[predictions.label == 1].tolist()]
    images = np.stack(
        [prepare(load_pixels(row, manifest, data), size_px=data.image_size_px, resize=data.resize) for row in ill]
    )
    masks, patients = np.stack([lesion_mask(row, data) for row in ill]), np.array([row.patient for row in ill])
    trained = methods(load_model(folder.file("model.keras")))
    untrained = methods(build_model(config, replace(resolve_seeds(config), init=12345)))
    print(
        f"SYNTHETIC run {folder.run_id}, {data.image_size_px} px, {len(config.depth.filters)} blocks, {len(ill)} films"
    )
    for name, heat in trained.items():
        one = localise(heat(images), untrained[name](images[:NUM_RANDOMISED]), masks, patients)
        print(
            f"  {name:<30} pointing {one.pointing.value:.2f} [{one.pointing.low:.2f}, {one.pointing.high:.2f}]"
            f"  inside {one.inside.value:.2f}  overlap {one.overlap.value:.2f}  untrained {one.randomised:.2f}",
            flush=True,
        )
    chance = f"pointing {one.pointing.chance:.2f}  inside {one.inside.chance:.2f}  overlap {one.overlap.chance:.2f}"
    print(f"  {'where other lesions are':<30} {chance}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        compare(RunFolder(Path(argument).resolve()))
