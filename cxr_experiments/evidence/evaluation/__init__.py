"""From a predict function and images to predictions, and from predictions to scores with intervals and n."""

from cxr_experiments.evidence.evaluation.calibration_scores import calibration_scores
from cxr_experiments.evidence.evaluation.estimates import Asked, Estimate, estimates
from cxr_experiments.evidence.evaluation.predictions import (
    Predictions,
    predict_split,
    read_predictions,
    write_predictions,
)
from cxr_experiments.evidence.evaluation.score_file import Score, read_scores, score_table, write_scores
from cxr_experiments.evidence.evaluation.scores import score
from cxr_experiments.evidence.evaluation.stress_scores import stress_scores
from cxr_experiments.evidence.evaluation.stressed import (
    Stressed,
    predict_stressed,
    read_stressed,
    train_sample,
    write_stressed,
)

__all__ = [
    "Asked",
    "Estimate",
    "Predictions",
    "Score",
    "Stressed",
    "calibration_scores",
    "estimates",
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
