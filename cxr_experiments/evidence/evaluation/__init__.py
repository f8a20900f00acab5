"""From a predict function and images to predictions, and from predictions to scores with intervals and n."""

from cxr_experiments.evidence.evaluation.predictions import (
    Predictions,
    predict_split,
    read_predictions,
    write_predictions,
)
from cxr_experiments.evidence.evaluation.scores import Score, read_scores, score, score_table, write_scores

__all__ = [
    "Predictions",
    "Score",
    "predict_split",
    "read_predictions",
    "read_scores",
    "score",
    "score_table",
    "write_predictions",
    "write_scores",
]
