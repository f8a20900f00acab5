"""What a probability meant on validation: of the films with the nearest scores, how many were positive.

Nothing here changes a probability.  The share holds for films that are drawn like those of validation, with its mixture
of classes; elsewhere it is another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_experiments.evidence.calibration import refuse_test
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.stats import proportion_interval

# An eighth of the rows is near enough to tell high from low scores; a hundred films leave +-.1 at the most, and more
# would only blur; below twenty the interval says nothing.
SHARE, FEWEST, MOST = 1 / 8, 20, 100
SAME = 5e-5  # probabilities are shown with four digits; another batch size moves them by less


@dataclass(frozen=True)
class SimilarFilms:
    """The validation films whose scores lie nearest to one probability.

    `num_positive` of `num_images` films were positive; `low` and `high` are the 95 % interval of that share, over
    `num_patients` patients, or over images where that is 0 (patients not verifiable).  `lowest` and `highest` are the
    probabilities among them, in [0, 1].
    """

    num_images: int
    num_positive: int
    num_patients: int
    low: float
    high: float
    lowest: float
    highest: float

    @property
    def share(self) -> float:
        """Positive films by films."""
        return self.num_positive / self.num_images

    def beyond(self, probability: float) -> str:
        """`high` or `low` when no validation film has a score as high or as low; else "".

        Only at an end of all scores does a probability lie outside of its nearest ones.
        """
        if probability > self.highest + SAME:
            return "high"
        return "low" if probability < self.lowest - SAME else ""


def similar_films(predictions: Predictions, probability: float) -> SimilarFilms:
    """The rows with the nearest ranks of their probability, and all that tie with the outermost of them.

    As many below as above, except at the ends, where the lowest or highest rows are taken.

    Args:
        predictions: of validation rows, at least one.
        probability: in [0, 1].

    Raises:
        LeakageError: the rows are those of the test split.
    """
    refuse_test(predictions.split)
    ordered = np.sort(predictions.probability)
    count = min(len(ordered), int(np.clip(round(SHARE * len(ordered)), FEWEST, MOST)))
    middle = (np.searchsorted(ordered, probability, "left") + np.searchsorted(ordered, probability, "right")) / 2
    first = int(np.clip(np.floor(middle - count / 2), 0, len(ordered) - count))
    lowest, highest = float(ordered[first]), float(ordered[first + count - 1])
    near = (predictions.probability >= lowest) & (predictions.probability <= highest)
    hits, patients = predictions.label[near] == 1, predictions.patient[near]
    known = bool(np.all(predictions.patient != ""))
    interval = proportion_interval(hits, patients if known else np.full(len(hits), ""))
    num_patients = len(np.unique(patients)) if known else 0
    return SimilarFilms(int(near.sum()), int(hits.sum()), num_patients, interval.low, interval.high, lowest, highest)
