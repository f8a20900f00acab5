"""From a predict function and images to predictions, and from predictions to scores with intervals and n."""

from cxr_experiments.evidence.evaluation.predictions import (
    Predictions,
    predict_split,
    read_predictions,
    write_predictions,
)
from cxr_experiments.evidence.evaluation.scores import Score, read_scores, score, score_table, write_scores
from cxr_experiments.evidence.evaluation.stress_scores import stress_scores
from cxr_experiments.evidence.evaluation.stressed import (
    Stressed,
    predict_stressed,
    read_stressed,
    train_sample,
    write_stressed,
)

__all__ = [
    "Predictions",
    "Score",
    "Stressed",
    "predict_split",
    "predict_stressed",
    "read_predictions",
    "read_scores",
    "read_stressed",
    "score",
    "score_table",
    "stress_scores",
    "train_sample",
    "write_predictions",
    "write_scores",
    "write_stressed",
]
