"""What of a run's folder MLflow keeps as artifacts too."""

# From the start; the results follow when there are some.
RECORDS = (
    "skipped_files.json",
    "leakage.json",
    "data_report.json",
    "own_network.py",
    "config.yaml",
    "identity.json",
    "provenance.json",
    "uncommitted.diff",
    "split.csv",
    "metrics.jsonl",
    "events.jsonl",
)

RESULTS = (
    *("scores.csv", "calibration.csv", "threshold.json", "costs.json"),
    *("predictions_val.csv", "stress.csv", "explanations.json", "figures"),
)

# What `evaluate` adds to, or writes anew.
TEST_RESULTS = (
    *("scores.csv", "calibration.csv", "threshold_test.json", "predictions_test.csv", "figures"),
    *("shortcuts.csv", "border_swap.csv"),
)
