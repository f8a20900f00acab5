"""The test split is opened by `evaluate` alone, with validation's frozen threshold, and each opening is on record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import SMALL, Command, Said, Sweep

from cxr_experiments.evidence.evaluation import read_predictions, read_scores
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_json_lines, read_state


@pytest.fixture(scope="module")
def folders(sweep: Sweep, evaluated: Said) -> list[RunFolder]:
    """The evaluated runs."""
    assert evaluated.status == 0, evaluated.err
    return [folder for folder in all_runs(sweep.home / "runs") if read_state(folder).status == FINISHED]


def test_every_run_gets_test_predictions_scores_and_figures(folders: list[RunFolder]) -> None:
    for folder in folders:
        test = read_predictions(folder.predictions("test"))
        scores = {one.name: one for one in read_scores(folder.file("scores.csv"))}
        assert test.split == "test"
        assert {"val_auroc", "test_auroc", "test_sensitivity_at_frozen"} <= set(scores)
        assert scores["test_auroc"].num_images == len(test.label)
        assert folder.file("figures/test_roc.png").is_file()


def test_every_score_states_its_method_and_calibration_stands_beside(folders: list[RunFolder]) -> None:
    for folder in folders:
        scores = {one.name: one for one in read_scores(folder.file("scores.csv"))}
        assert all(one.method for one in scores.values())
        frozen, redrawn = (scores[f"test_sensitivity_at_{name}"] for name in ("frozen", "redrawn"))
        assert frozen.value == pytest.approx(redrawn.value)
        assert "interval conditional on it" in frozen.note
        calibration = [one.name for one in read_scores(folder.file("calibration.csv"))]
        for split in ("val", "test"):
            for name in ("as_trained", "tempered", "prior_corrected_stated_prevalence"):
                assert f"{split}_log_loss_{name}" in calibration
        assert len(set(calibration)) == len(calibration) == 50


def test_what_a_temperature_changes_is_said_in_one_line(evaluated: Said, sweep: Sweep) -> None:
    for said, runs in ((evaluated, 3), (sweep.said, 3)):
        lines = [line for line in said.out.splitlines() if "temperature" in line]
        assert len(lines) == runs
        assert all(line.startswith("SYNTHETIC ") for line in lines)
        assert all("log loss " in line and "[" in line for line in lines if "no temperature" not in line)


def test_test_rows_were_neither_trained_on_nor_validated(folders: list[RunFolder]) -> None:
    for folder in folders:
        sides = [line.split(",") for line in folder.file("split.csv").read_text().splitlines()[1:]]
        by_patient: dict[str, set[str]] = {}
        for _image, side, patient, *_ in sides:
            by_patient.setdefault(patient, set()).add(side)
        assert all(len(found) == 1 for found in by_patient.values())
        tested = set(read_predictions(folder.predictions("test")).image_id.tolist())
        assert tested == {image for image, side, *_ in sides if side == "test"}


def test_threshold_is_the_one_that_validation_froze(folders: list[RunFolder]) -> None:
    for folder in folders:
        frozen = json.loads(folder.file("threshold.json").read_text())
        val = read_predictions(folder.predictions("val"))
        positive = val.probability[val.label == 1]
        assert (positive >= frozen["value"]).mean() >= 0.95
        assert (frozen["rule"], frozen["set_on"], frozen["num_images"]) == ("sensitivity_at", "val", len(val.label))
        test = read_predictions(folder.predictions("test"))
        expected = (test.probability[test.label == 1] >= frozen["value"]).mean()
        scores = {one.name: one.value for one in read_scores(folder.file("scores.csv"))}
        assert scores["test_sensitivity_at_frozen"] == pytest.approx(expected)


def test_each_opening_stands_in_the_ledger_once(sweep: Sweep, folders: list[RunFolder], command: Command) -> None:
    ledger = list(read_json_lines(sweep.home / "test_ledger.jsonl"))
    assert sorted(line["run_id"] for line in ledger) == sorted(folder.run_id for folder in folders)
    again = command("evaluate", f"run={folders[0].run_id}", home=sweep.home)
    assert again.status == 0
    assert "test split opened" not in again.out, "predictions that are there are not made again"
    assert len(list(read_json_lines(sweep.home / "test_ledger.jsonl"))) == len(ledger)


def test_printed_scores_are_marked_and_carry_interval_and_n(evaluated: Said) -> None:
    rows = [line for line in evaluated.out.splitlines() if "test_" in line]
    assert len(rows) == 3 * 7
    assert all(line.startswith("SYNTHETIC test_") and "[" in line for line in rows)


def test_another_rule_is_one_more_look_and_overwrites_nothing(
    folders: list[RunFolder], sweep: Sweep, command: Command
) -> None:
    folder = folders[-1]
    before = {name: folder.file(name).read_bytes() for name in ("scores.csv", "threshold.json", "predictions_test.csv")}
    num_looks = len(list(read_json_lines(sweep.home / "test_ledger.jsonl")))
    for _ in range(2):
        said = command("evaluate", f"run={folder.run_id}", "threshold=fixed", "threshold.value=0.25", home=sweep.home)
        assert "threshold 0.2500 (given beforehand)" in said.out
    assert {name: folder.file(name).read_bytes() for name in before} == before
    assert folder.file("scores_test_fixed_0.25.csv").is_file()
    looks = list(read_json_lines(sweep.home / "test_ledger.jsonl"))
    assert len(looks) == num_looks + 1, "the same rule twice is one look"
    assert looks[-1]["threshold_rule"] == "fixed 0.25"


def test_split_file_that_was_edited_is_refused(tmp_path: Path, command: Command) -> None:
    trained = command("train", *SMALL, "tracking=disabled", "training.epochs=1", home=tmp_path)
    assert trained.status == 0, trained.err
    (folder,) = all_runs(tmp_path / "runs")
    split = folder.file("split.csv")
    split.write_text(split.read_text().replace(",train,", ",test,", 3))
    said = command("evaluate", f"run={folder.run_id}", home=tmp_path)
    assert said.status == 2
    assert "leave its split.csv alone" in said.err
    assert not (tmp_path / "test_ledger.jsonl").exists()


def test_lost_tracking_database_is_told_after_the_scores(tmp_path: Path, command: Command) -> None:
    assert command("train", *SMALL, "training.epochs=1", home=tmp_path).status == 0
    (tmp_path / "mlruns" / "mlflow.db").unlink()
    (folder,) = all_runs(tmp_path / "runs")
    said = command("evaluate", f"run={folder.run_id}", home=tmp_path)
    assert said.status == 2
    assert "SYNTHETIC test_auroc" in said.out
    assert "mlflow.db is gone" in said.err
    assert not (tmp_path / "mlruns" / "mlflow.db").exists(), "no empty database takes its place"


def test_same_choices_under_two_names_are_told_apart(tmp_path: Path, command: Command) -> None:
    for name in ("a", "b"):
        words = (*SMALL, "tracking=disabled", "training.epochs=1", f"experiment_name={name}")
        assert command("train", *words, home=tmp_path).status == 0
    first, second = all_runs(tmp_path / "runs")
    assert first.run_id == second.run_id
    said = command("evaluate", f"run={first.run_id}", home=tmp_path)
    assert (said.status, "add experiment_name=NAME" in said.err) == (2, True)
    told = command("evaluate", f"run={first.run_id}", "experiment_name=phantom-b", home=tmp_path)
    assert told.status == 0, told.err
    assert second.predictions("test").is_file()
    assert not first.predictions("test").is_file()


def test_mlflow_id_and_short_id_name_a_run(folders: list[RunFolder], sweep: Sweep, command: Command) -> None:
    told = json.loads(folders[0].file("mlflow.json").read_text())["run_id"]
    for name in (told, folders[0].run_id[:8]):
        assert f"run {folders[0].run_id}" in command("evaluate", f"run={name}", home=sweep.home).out


def test_without_a_run_the_finished_ones_are_listed(folders: list[RunFolder], sweep: Sweep, command: Command) -> None:
    said = command("evaluate", home=sweep.home)
    assert said.status == 2
    assert all(f"run={folder.run_id}  experiment_name=phantom-two_by_two" in said.err for folder in folders)


def test_unfinished_run_is_refused(sweep: Sweep, folders: list[RunFolder], command: Command) -> None:
    (failed,) = [folder for folder in all_runs(sweep.home / "runs") if read_state(folder).status != FINISHED]
    said = command("evaluate", f"run={failed.run_id}", home=sweep.home)
    assert (said.status, "is FAILED" in said.err) == (2, True)


def test_changed_images_are_refused(tmp_path: Path, command: Command) -> None:
    images = tmp_path / "images"
    make_folder(images)
    words = (
        "data=folder",
        f"data.root={images}",
        "data.patient_regex=(p[0-9]+)",
        "data.image_size_px=16",
        "depth=shallow",
    )
    trained = command("train", *words, "training.epochs=1", "tracking=disabled", home=tmp_path)
    assert trained.status == 0, trained.err
    (folder,) = all_runs(tmp_path / "runs")
    moved = tmp_path / "moved"
    images.rename(moved)
    victim = next((moved / "NORMAL").glob("*.png"))
    shutil.copyfile(next((moved / "PNEUMONIA").glob("*.png")), victim)
    said = command("evaluate", f"run={folder.run_id}", f"data.root={moved}", home=tmp_path)
    assert said.status == 2
    assert "was trained with dataset_digest" in said.err or "split" in said.err
    assert not (tmp_path / "test_ledger.jsonl").exists(), "nothing was opened"


def make_folder(root: Path) -> None:
    """60 gray PNG of 20 patients in two classes."""
    import numpy as np

    from cxr_experiments.images.decode import encode_png

    generator = np.random.default_rng(0)
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        (root / name).mkdir(parents=True)
        for number in range(30):
            image = generator.integers(0, 200 + 40 * label, (24, 20), dtype=np.uint8)
            encode_png(root / name / f"p{label}{number // 3:02d}_{number}.png", image)
