"""From predictions to numbers with intervals: metrics, stats, calibration, evaluation.  No TensorFlow, no MLflow."""
