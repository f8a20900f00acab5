"""Used: the same films with the borders of others.

Every image gets the border of an image of the other class and, as its control, that of an image of its own class, by
one frame of fixed width.  An outline drawn for each image would itself carry the label, since it follows what the
image shows.  A network that reads the lungs minds neither swap more than the other; one that reads the border loses,
or, where the border is tied to the label the other way round, gains with the first alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from cxr_experiments.errors import RunError
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.shortcuts.association import (
    Association,
    Measured,
    newcombe_interval,
    nothing,
)
from cxr_experiments.evidence.shortcuts.levels import SWAP
from cxr_experiments.evidence.stats import LEVEL, patient_clusters, placements

BORDER_FRACTION = 1 / 8  # of the side, on each: where letters, collimation and table edges are, and little of the lungs
SEED = 0  # draws the partners: every run that is judged on the same images meets the same swaps
_BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class Swapped:
    """What a model says of images with others' borders; row i of each array is one image, all (n,).

    `same_id` and `other_id` name the images that lent their border, of the same and of the other class, "" where no
    other patient has one; `same_logit` and `other_logit` are NaN there.
    """

    image_id: NDArray[np.str_]
    same_id: NDArray[np.str_]
    other_id: NDArray[np.str_]
    same_logit: Floats
    other_logit: Floats


def border_swap(
    predict: Callable[[NDArray[np.uint8]], Floats],
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    plain: Predictions,
    *,
    seed: int = SEED,
) -> Swapped:
    """Predictions of the rows `indices` under both swaps, in batches of 32.

    Args:
        predict: (k, size, size, 1) uint8 images -> (k,) logits.
        images: (n, size, size, 1) uint8; may be memory-mapped.
        indices: (m,) the rows that `plain` was predicted from, in its order.
        plain: the predictions of the unchanged images.
        seed: draws the partners.

    Raises:
        RunError: a logit is not finite; the text names the image.
    """
    logits, names = [], []
    for partner in (draw_partners(plain, other_class=other, seed=seed) for other in (False, True)):
        paired = np.flatnonzero(partner >= 0)
        logit = np.full(len(indices), math.nan)
        for start in range(0, len(paired), _BATCH_SIZE):
            own = paired[start : start + _BATCH_SIZE]
            films = with_border_of(images[indices[own]], images[indices[partner[own]]])
            logit[own] = predict(films)
        if not np.all(np.isfinite(logit[paired])):
            image_id = plain.image_id[paired[np.flatnonzero(~np.isfinite(logit[paired]))[0]]]
            raise RunError(f"run {plain.run_id} gives no finite logit for {image_id} with another image's border")
        logits.append(logit)
        names.append(np.array([str(plain.image_id[place]) if place >= 0 else "" for place in partner], dtype=str))
    return Swapped(plain.image_id, names[0], names[1], logits[0], logits[1])


def draw_partners(plain: Predictions, *, other_class: bool, seed: int) -> NDArray[np.int64]:
    """(n,) the place of an image of another patient, of the other class or of the same one; -1 where there is none.

    Every image lends its border as often as any other of its class, or nearly so: few lenders used again and again
    would make chance larger.
    """
    rng = np.random.default_rng([seed, int(other_class)])
    cluster = patient_clusters(plain.patient)
    partner = np.full(len(plain.label), -1, dtype=np.int64)
    for label in (0, 1):
        takers = np.flatnonzero(plain.label == label)
        lenders = np.flatnonzero(plain.label == (1 - label if other_class else label))
        if len(takers) and len(lenders):
            rounds = -(-len(takers) // len(lenders))
            dealt = np.concatenate([rng.permutation(lenders) for _ in range(rounds)])[: len(takers)]
            partner[takers] = _with_others(takers, dealt, cluster, rng)
    return partner


def _with_others(
    takers: NDArray[np.int64], dealt: NDArray[np.int64], cluster: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """What was dealt, exchanged until nobody holds a border of the own patient; -1 for those whom no exchange helps."""
    dealt = dealt.copy()
    for place in np.flatnonzero(cluster[takers] == cluster[dealt]):
        if cluster[takers[place]] != cluster[dealt[place]]:
            continue  # an earlier exchange has helped this one too
        fits = (cluster[dealt] != cluster[takers[place]]) & (cluster[dealt[place]] != cluster[takers])
        if fits.any():
            other = rng.choice(np.flatnonzero(fits))
            dealt[[place, other]] = dealt[[other, place]]
    return np.where(cluster[takers] == cluster[dealt], -1, dealt)


def border_mask(size_px: int) -> NDArray[np.bool_]:
    """(size_px, size_px) bool, True in the frame that is swapped."""
    width = max(1, round(BORDER_FRACTION * size_px))
    mask = np.ones((size_px, size_px), dtype=np.bool_)
    mask[width:-width, width:-width] = False
    return mask


def with_border_of(images: NDArray[np.uint8], partners: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images with their partners' borders; all (k, size, size, 1) uint8."""
    mask = border_mask(images.shape[1])[..., np.newaxis]
    return np.where(mask, partners, images)


def judge_swap(swapped: Swapped, plain: Predictions, *, level: float, verifiable: bool, family: int = 1) -> Association:
    """AUROC with borders of the own class less AUROC with borders of the other class, paired, over patients.

    The difference and its 95 % interval are turned together to where the difference is positive; the note says when
    they were negative, which is what a shortcut that is reversed in these images does.  Its variance is that of the
    placements, with all images that share a patient, as taker or as lender of a border, correlated: what a few lenders'
    borders happen to be is chance too.  Student's t with the patients of the smaller class less one, Bonferroni over
    the `family` of the heading.  Where an AUROC is 0 or 1 and has no standard error: Newcombe's limits of both, squared
    and added.

    References:
        Xiao, Engstrom, Ilyas, Madry (2021), Noise or Signal: The Role of Image Backgrounds in Object Recognition, ICLR
        (backgrounds of the same class against those of others).  DeGrave, Janizek, Lee (2021), Nature Machine
        Intelligence 3, 610-619 (what COVID-19 classifiers read beside the lungs).  DeLong et al. (1988), Biometrics 44,
        837-845 (placements).  Aronow, Samii, Assenova (2015), Political Analysis 23, 564-577 (variance of pairs that
        share members).  Newcombe (1998), Statistics in Medicine 17, 873-890, method 10 (squares added).
    """
    whole = np.isfinite(swapped.same_logit) & np.isfinite(swapped.other_logit)
    labels, keys = plain.label[whole], plain.patient[whole] if verifiable else np.full(int(whole.sum()), "")
    cluster = patient_clusters(keys) if len(keys) else np.zeros(0, np.int64)
    counts = [len(np.unique(cluster[labels == label])) for label in (0, 1)]
    told = len(labels), len(np.unique(cluster)) if verifiable else 0
    if min(counts) < 2:
        note = "needs two patients with a partner in each class"
        return Association(heading="used", name=SWAP, within="", level=level, note=note, **asdict(nothing(*told)))
    same, other = swapped.same_logit[whole], swapped.other_logit[whole]
    values = [placements(labels, score).auroc for score in (same, other)]
    difference = values[0] - values[1]
    taken = _roles(swapped, plain, verifiable=verifiable)[whole]
    low, high = (min(1.0, max(-1.0, end)) for end in _paired_interval(labels, (same, other), taken, family))
    note = f"AUROC {values[0]:.3f} with borders of the same class, {values[1]:.3f} with those of the other"
    if difference < 0:
        difference, low, high = -difference, -high, -low
        note += "; turned round: the border speaks against the label here" if low > 0 else ""
    line = asdict(Measured(difference, low, high, *told))
    return Association(heading="used", name=SWAP, within="", level=level, note=note, **line)


def _roles(swapped: Swapped, plain: Predictions, *, verifiable: bool) -> NDArray[np.int64]:
    """(n, 3) the patients of the image itself and of the two that lent their borders."""
    cluster = patient_clusters(plain.patient if verifiable else np.full(len(plain.label), ""))
    number = dict(zip(plain.image_id.tolist(), cluster.tolist(), strict=True))
    lent = [[number.get(image_id, -1) for image_id in ids.tolist()] for ids in (swapped.same_id, swapped.other_id)]
    return np.stack([cluster, *np.array(lent, dtype=np.int64)], axis=1)


def _paired_interval(
    labels: NDArray[np.int8], scores: tuple[Floats, Floats], roles: NDArray[np.int64], family: int
) -> tuple[float, float]:
    """95 % interval of the difference of two AUROCs on the same images."""
    counts = [len(np.unique(roles[labels == label, 0])) for label in (0, 1)]
    found = [placements(labels, score) for score in scores]
    same, other = (one.auroc for one in found)
    if all(0.0 < value < 1.0 for value in (same, other)):
        pairs = float(np.prod([np.sum(labels == label) for label in (0, 1)]))
        moved = np.empty(len(labels))
        for label, side in ((1, "of_positive"), (0, "of_negative")):
            own = getattr(found[0], side) - getattr(found[1], side)
            moved[labels == label] = (own - own.mean()) / pairs * math.sqrt(counts[label] / (counts[label] - 1))
        half = float(special.stdtrit(min(counts) - 1, 1 - (1 - LEVEL) / (2 * family))) * _error(moved, roles)
        return same - other - half, same - other + half
    ends = [newcombe_interval(value, *counts, family=family) for value in (same, other)]
    (same_low, same_high), (other_low, other_high) = ends
    below = math.hypot(same - same_low, other_high - other)
    return same - other - below, same - other + math.hypot(same_high - same, other - other_low)


def _error(moved: Floats, roles: NDArray[np.int64]) -> float:
    """Standard error of a sum of (n,) deviations; rows that share a patient in any of (n, 3) roles are correlated."""
    rows = np.repeat(np.arange(len(moved)), roles.shape[1])
    touched = sparse.csr_array((np.ones(rows.size), (rows, roles.ravel())), shape=(len(moved), int(roles.max()) + 1))
    shares = (touched @ touched.T > 0).astype(np.float64)
    alone = np.bincount(roles[:, 0], moved)  # what takers alone say: sharing lenders may not take from it
    together = np.dot(moved, np.asarray(shares @ moved, dtype=np.float64))
    return math.sqrt(max(float(together), float(np.sum(alone**2))))
