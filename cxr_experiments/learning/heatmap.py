"""Where in the film a network finds its evidence: one heat map per image, for any network that `model` builds.

Integrated gradients of the logit from a black film to the image, summed over a neighbourhood, kept where they speak for
the positive class.  On phantoms, whose lesions are known, they found the lesion more often than Grad-CAM, HiResCAM and
LayerCAM at any layer (docs/heatmaps.md).  No layer has to be chosen, so a network of one's own needs none that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import derive, resolve_seeds
from cxr_experiments.errors import RunError
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.traced import slope_of

HeatFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

METHOD = "integrated gradients from black, 16 steps, over 1/16 of the side"  # a change of it asks for new checks
NUM_STEPS = 16  # 8 miss a fifth of the logit and more, 32 find no more lesions
NEIGHBOURHOOD = 1 / 16  # standard deviation of the window as a fraction of the side: single pixels are noise


@dataclass(frozen=True)
class Explainer:
    """How a run's network explains itself: the method's name, its heat, and the heat of the same network untrained.

    Both functions take images (n, size, size, 1) uint8 and give (n, size, size) float32, 0 and more, in logits per
    pixel; whatever n is, NUM_STEPS images are computed at once.
    """

    method: str
    heat: HeatFunction
    untrained_heat: HeatFunction


def explainer(network: keras.Model, config: ExperimentConfig) -> Explainer:
    """The explainer of a trained network; its untrained twin is built when it is first asked."""

    def untrained_heat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seeds = resolve_seeds(config)
        twin = build_model(config, replace(seeds, init=derive(seeds.init, "untrained twin")))
        return heat_function(twin, config)(images)

    return Explainer(METHOD, heat_function(network, config), untrained_heat)


def heat_function(network: keras.Model, config: ExperimentConfig | None = None) -> HeatFunction:
    """Images (n, size, size, 1) uint8 -> heat (n, size, size) float32, 0 and more: what speaks for the positive class.

    The sum over all pixels, negative ones included and before the neighbourhood is drawn in, is the logit of the image
    less the logit of a black film.  The same images give the same heat.

    Args:
        network: as `build_model` or `load_model` gives it.
        config: what it was built from, if the next run of a sweep may take over what is traced here.

    References:
        Sundararajan, Taly and Yan (2017), ICML, equation 3 (midpoint rule).

    Raises:
        RunError: (when called) the logit does not depend on the image in a way that has a gradient.
    """
    gradient = slope_of(network, config)
    size_px = int(network.input.shape[1])
    window = _window(size_px)

    def heat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        fractions = (np.arange(NUM_STEPS, dtype=np.float32) + np.float32(0.5)) / np.float32(NUM_STEPS)
        found = [np.zeros((0, size_px, size_px), dtype=np.float32)]
        for image in images:
            scaled = np.asarray(image, dtype=np.float32) / np.float32(255)
            path = scaled * fractions[:, None, None, None]
            slope = gradient(tf.constant(path)).numpy().mean(axis=0)
            evidence = window @ (scaled * slope)[..., 0] @ window.T
            found.append(np.maximum(evidence, 0).astype(np.float32)[None])
        whole = np.concatenate(found)
        if not np.isfinite(whole).all():
            raise RunError("no heat map: the network's logit has no finite gradient with respect to the image")
        return whole

    return heat


def _window(size_px: int) -> NDArray[np.float32]:
    """(size, size): a Gaussian sum over neighbours as a matrix; beyond the border there is nothing to add."""
    place = np.arange(size_px)
    spread = max(NEIGHBOURHOOD * size_px, 0.5)
    weights = np.exp(-0.5 * ((place[:, None] - place[None, :]) / spread) ** 2)
    kernel: NDArray[np.float32] = (weights / (spread * np.sqrt(2 * np.pi))).astype(np.float32)
    return kernel
