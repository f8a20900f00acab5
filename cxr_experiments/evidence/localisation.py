"""Do heat maps find what is known to be there?  Pointing game, overlap with the lesion, and an untrained network.

Heat maps and lesion masks in; rates with intervals, and what chance would reach, out.  Chance is what a map reaches
that never saw the image: the places where other patients have their lesions.  Nothing here computes heat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence import stats
from cxr_experiments.evidence.metrics import Floats

Heat = NDArray[np.float32]
Masks = NDArray[np.bool_]

# The heat of a network with other, untrained weights must rank the pixels differently: Spearman's rho, median film.
RANDOM_LEVEL = 0.5
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over images, its 95 % interval over patients, and what maps reach that never saw the image."""

    value: float
    low: float
    high: float
    chance: float

    @property
    def beats_chance(self) -> bool:
        """The interval's lower end lies above chance; False where nothing could be estimated."""
        return self.low > self.chance


@dataclass(frozen=True)
class Localisation:
    """What heat maps of films with known lesions are worth.

    Attributes:
        pointing: share of films whose hottest pixel lies in the lesion (pointing game).
        inside: mean share of a film's heat that lies in the lesion.
        overlap: mean intersection over union of the lesion and as many of the hottest pixels.
        area: mean share of the image that the lesion takes: what a pixel drawn anywhere would hit.
        randomised: median over films of |Spearman's rho| between the heat and that of an untrained network.
        num_images: films with a lesion.
        num_patients: of so many patients.
    """

    pointing: Estimate
    inside: Estimate
    overlap: Estimate
    area: float
    randomised: float
    num_images: int
    num_patients: int

    @property
    def passed(self) -> bool:
        """The declared criteria: pointing and heat inside beat chance, and training changed the maps."""
        return self.pointing.beats_chance and self.inside.beats_chance and self.randomised < RANDOM_LEVEL


def localise(heat: Heat, untrained: Heat, masks: Masks, patients: NDArray[np.str_]) -> Localisation:
    """Score heat maps against lesion masks.

    Args:
        heat: (n, size, size) float, 0 and more; an image without any heat points nowhere.
        untrained: (m, size, size) heat of the first m images from the same network with untrained weights, m >= 1.
        masks: (n, size, size) bool, each with at least one pixel in the lesion and one patient besides it.
        patients: (n,) patient keys, at least two different ones: chance is what other patients' lesions tell.

    References:
        Zhang et al. (2018), Int. J. Comput. Vis. 126, 1084-1102 (pointing game); Adebayo et al. (2018), NeurIPS
        (randomised weights).
    """
    usual, area = _of_others(masks, patients), float(masks.mean())
    estimates = {}
    for name, measure in (("pointing", pointing), ("inside", heat_inside), ("overlap", overlap)):
        values = measure(heat, masks)
        chance = max(area, float(np.mean(measure(usual, masks))))
        estimates[name] = Estimate(float(np.mean(values)), *_interval(values, patients), chance)
    pairs = zip(heat[: len(untrained)], untrained, strict=True)
    randomised = float(np.median([abs(rank_correlation(one, other)) for one, other in pairs]))
    num_patients = len(np.unique(patients))
    return Localisation(**estimates, area=area, randomised=randomised, num_images=len(heat), num_patients=num_patients)


def pointing(heat: Heat, masks: Masks) -> Floats:
    """1.0 for each image whose hottest pixel lies in its mask; several equally hot ones count by their share inside.

    Example:
        >>> heat = np.array([[[0, 2], [1, 0]], [[0, 0], [0, 0]]], dtype=np.float32)
        >>> pointing(heat, np.array([[[0, 1], [0, 0]], [[1, 1], [1, 1]]], dtype=bool)).tolist()
        [1.0, 0.0]
    """
    flat, inside = _flat(heat), _flat(masks)
    hottest = (flat == flat.max(axis=1, keepdims=True)) & (flat > 0)
    share: Floats = (hottest & inside).sum(axis=1) / np.maximum(hottest.sum(axis=1), 1)
    return share


def heat_inside(heat: Heat, masks: Masks) -> Floats:
    """(n,) share of each image's heat that lies in its mask, in [0, 1]; 0 where there is no heat."""
    flat = _flat(heat).astype(np.float64)
    total = flat.sum(axis=1)
    share: Floats = (flat * _flat(masks)).sum(axis=1) / np.where(total > 0, total, 1.0)
    return share


def overlap(heat: Heat, masks: Masks) -> Floats:
    """(n,) intersection over union of each mask and as many of the hottest pixels; pixels without heat never count.

    Example:
        >>> heat = np.array([[[3, 2], [1, 0]]], dtype=np.float32)
        >>> overlap(heat, np.array([[[1, 0], [1, 0]]], dtype=bool)).tolist()
        [0.3333333333333333]
    """
    found = []
    for one, inside in zip(_flat(heat), _flat(masks), strict=True):
        size = int(inside.sum())
        chosen = np.zeros(len(one), dtype=bool)
        chosen[np.argsort(-one, kind="stable")[:size]] = True
        chosen &= one > 0
        found.append((chosen & inside).sum() / (chosen | inside).sum())
    return np.array(found, dtype=np.float64)


def rank_correlation(one: Heat, other: Heat) -> float:
    """Spearman's rho over the pixels of two maps, ties at their mean rank; 0 where one of them is even.

    Example:
        >>> rank_correlation(np.array([1, 2, 2, 3]), np.array([10, 20, 20, 90]))
        1.0
    """
    ranks = [_ranks(values) for values in (one, other)]
    spread = [values - values.mean() for values in ranks]
    scale = np.sqrt((spread[0] ** 2).sum() * (spread[1] ** 2).sum())
    return float(np.clip((spread[0] * spread[1]).sum() / scale, -1, 1)) if scale > 0 else 0.0


def _ranks(values: Heat) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    return ranks


def _of_others(masks: Masks, patients: NDArray[np.str_]) -> Heat:
    """(n, size, size): for each image, how often each pixel lies in a lesion of the other patients."""
    total = masks.sum(axis=0, dtype=np.float64)
    usual = np.empty(masks.shape, dtype=np.float32)
    for patient in np.unique(patients):
        own = patients == patient
        usual[own] = (total - masks[own].sum(axis=0)) / max(1, int((~own).sum()))
    return usual


def _interval(values: Floats, patients: NDArray[np.str_]) -> tuple[float, float]:
    """The 95 % interval of a mean over random patients: Wilson's for shares of yes and no, else bootstrap."""
    if np.isin(values, (0.0, 1.0)).all():
        share = stats.proportion_interval(values, patients)
        return share.low, share.high
    chunks = [
        (weights * values).sum(axis=1) / weights.sum(axis=1) for weights in stats.patient_weights(patients, seed=SEED)
    ]
    interval = stats.percentile_interval(np.concatenate(chunks))
    return interval.low, interval.high


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)
