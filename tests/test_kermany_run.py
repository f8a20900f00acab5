"""The main job on the real Kermany set, small: trained, scored, and said with patients and without a SYNTHETIC mark."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Command

from cxr_experiments.evidence.evaluation import read_predictions, read_scores
from cxr_experiments.record.run_folder import all_runs, read_json_lines


@pytest.mark.real_data
def test_train_and_evaluate_on_the_real_set(real_data: Path, tmp_path: Path, command: Command) -> None:
    words = ("data=kaggle", "data.image_size_px=32", "depth=shallow", "training.epochs=3", "training.batch_size=16")
    trained = command("train", *words, "tracking=disabled", home=tmp_path, CXR_DATA=str(real_data))
    assert trained.status == 0, trained.err
    assert "SYNTHETIC" not in trained.out
    (folder,) = all_runs(tmp_path / "runs")
    assert folder.experiment_name == "seed_study"
    scored = command("evaluate", f"run={folder.run_id}", home=tmp_path, CXR_DATA=str(real_data))
    assert scored.status == 0, scored.err
    scores = {one.name: one for one in read_scores(folder.file("scores.csv"))}
    assert scores["val_auroc"].value > 0.9
    assert scores["val_auroc"].num_images == 784
    assert (scores["test_auroc"].num_images, scores["test_auroc"].num_patients) == (624, 428)
    assert scores["test_auroc"].value > 0.7
    test = read_predictions(folder.predictions("test"))
    assert int((test.label == 0).sum()) == 234
    (line,) = read_json_lines(tmp_path / "test_ledger.jsonl")
    assert (line["source"], line["num_images"]) == ("kaggle", 624)
