"""The small classifier of the gate: ridge regression on 0/1 targets, which is a regularised linear discriminant.

Closed form, so that it needs neither iterations nor a seed, and several targets on the same pixels cost as much as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from cxr_experiments.evidence.metrics import Floats

# Of the mean variance of a feature.  Fixed beforehand: a penalty that is searched for would need a split of its own.
PENALTY = 0.1
NUM_FOLDS = 5

Table = NDArray[np.floating[Any]]  # float32 will do for pixels; sums are kept in float64


def ridge_scores(features: Table, targets: Table, asked: Table) -> Floats:
    """Scores of rows that were not fitted on.

    Args:
        features: (n, d) of the rows to fit on.
        targets: (n, t) in {0, 1}.
        asked: (m, d) of other rows.

    Returns:
        (m, t) float64, higher for 1.
    """
    if len(features) < features.shape[1]:
        return _scores_by_rows(features, targets, asked)
    return _Sums.of(features, targets).scores(asked)


def cross_scores(features: Table, targets: Table, fold: NDArray[np.int64]) -> Floats:
    """Scores of every row from the folds that it is not in.

    Args:
        features: (n, d).
        targets: (n, t) in {0, 1}.
        fold: (n,) fold of each row.

    Returns:
        (n, t) float64, higher for 1; 0 for all where every row is in one fold, and nothing is left to fit on.
    """
    scores = np.zeros((len(features), targets.shape[1]))
    if len(np.unique(fold)) < 2:
        return scores
    if len(features) < features.shape[1]:
        for number in np.unique(fold):
            out = fold == number
            scores[out] = ridge_scores(features[~out], targets[~out], features[out])
        return scores
    moved, level = features - features.mean(axis=0), targets - targets.mean(axis=0)
    parts = [_Sums.of(moved[fold == number], level[fold == number]) for number in np.unique(fold)]
    for number, own in zip(np.unique(fold), parts, strict=True):
        others = _Sums.total([part for part in parts if part is not own])
        scores[fold == number] = others.scores(moved[fold == number])
    return scores


def draw_folds(
    targets: NDArray[np.int8], groups: list[str], *, seed: int, num_folds: int = NUM_FOLDS
) -> NDArray[np.int64]:
    """(n,) the fold of each row: a group's rows stay together, and each target is dealt out evenly.

    Args:
        targets: (n,) what to spread evenly, by the first row of each group.
        groups: (n,) names of what must not be torn apart.
        seed: of the order in which groups are dealt out.
        num_folds: how many; a group more never makes two folds differ by more than its rows.
    """
    first = {name: row for row, name in reversed(list(enumerate(groups)))}
    names = sorted(first)
    order = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=lambda name: int(targets[first[name]]))
    fold_of = {name: place % num_folds for place, name in enumerate(order)}
    return np.array([fold_of[name] for name in groups], dtype=np.int64)


def _scores_by_rows(features: Table, targets: Table, asked: Table) -> Floats:
    """The same regression solved in as many unknowns as there are rows, where those are fewer than features."""
    centre = features.mean(axis=0, dtype=np.float64)
    moved = np.asarray(features - centre, dtype=np.float64)
    gram = moved @ moved.T
    penalty = _penalty(float(np.trace(gram)), features.shape)
    weights = linalg.solve(gram + penalty * np.eye(len(gram)), targets - targets.mean(axis=0), assume_a="pos")
    return np.asarray((asked - centre) @ moved.T @ weights, dtype=np.float64)


def _penalty(trace: float, shape: tuple[int, ...]) -> float:
    """Of (n, d) features; not 0 where nothing varies, which would leave nothing to solve."""
    return PENALTY * max(trace / shape[1], 1e-9 * shape[0])


@dataclass(frozen=True, eq=False)
class _Sums:
    """What a ridge regression needs of its rows; sums over folds add up, so that no row is multiplied out twice.

    `count` rows, `features` (d,), `targets` (t,), `gram` (d, d), `products` (d, t), float64.
    """

    count: int
    features: Floats
    targets: Floats
    gram: Floats
    products: Floats

    @classmethod
    def of(cls, features: Table, targets: Table) -> _Sums:
        sums = (features.sum(axis=0), targets.sum(axis=0), features.T @ features, features.T @ targets)
        return cls(len(features), *(np.asarray(one, dtype=np.float64) for one in sums))

    @classmethod
    def total(cls, parts: Sequence[_Sums]) -> _Sums:
        names = ("features", "targets", "gram", "products")
        sums = (np.sum([getattr(part, name) for part in parts], axis=0) for name in names)
        return cls(sum(part.count for part in parts), *sums)

    def scores(self, asked: Table) -> Floats:
        """(m, t) of the rows asked, (m, d); a feature that never varies weighs nothing."""
        centre = self.features / self.count
        gram = self.gram - self.count * np.outer(centre, centre)
        products = self.products - np.outer(centre, self.targets)
        gram[np.diag_indices_from(gram)] += _penalty(float(np.trace(gram)), (self.count, len(gram)))
        weights = linalg.solve(gram, products, assume_a="pos")
        return np.asarray((asked - centre) @ weights, dtype=np.float64)
