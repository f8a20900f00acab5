"""A planted corner mark is found in the run that learnt it and not in its twin; the finding is kept, shown, tagged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, Said, Sweep

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.config.compose import load_config
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.evidence.evaluation import read_predictions, read_scores
from cxr_experiments.evidence.shortcuts import Association, Gate, Swapped, judge_swap, read_associations, read_swapped
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.store import open_store
from cxr_experiments.record.run_folder import RunFolder, all_runs, read_json_lines
from cxr_experiments.record.shortcut_gate import (
    FILES,
    gate_table,
    keep_gate,
    of_data_once,
    read_gate,
    say_gate,
    told_alarms,
)

# Networks of seconds that learn what they are given: easy phantoms at 32 px, and steps enough (small batches) for the
# running means of batch normalisation to arrive.
PLANTED = (
    *("data.num_patients=220", "data.image_size_px=32", "data.difficulty=0", "depth=shallow", "augmentation=none"),
    *("training.epochs=9", "training.patience=0", "training.batch_size=4", "optimizer.learning_rate=0.002"),
    "tracking=disabled",
)


@dataclass(frozen=True)
class Evaluated:
    """Two runs, on marked phantoms and on the same without marks, and what `evaluate` said of both."""

    home: Path
    marked: RunFolder
    plain: RunFolder
    said: Said


@pytest.fixture(scope="module")
def evaluated_twins(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Evaluated:
    home = tmp_path_factory.mktemp("marker")
    trained = command("train", "-m", "data.marker=label,none", *PLANTED, "experiment_name=marker", home=home)
    assert trained.status == 0, trained.err
    said = command("evaluate", "experiment_name=phantom-marker", home=home)
    assert said.status == 0, said.err
    runs = {load_config(run.file("config.yaml")).data.marker: run for run in all_runs(home / "runs")}
    return Evaluated(home, runs["label"], runs["none"], said)


def test_the_run_that_learnt_the_mark_is_alarmed_by_swap_and_border_probe(evaluated_twins: Evaluated) -> None:
    lines = {one.label: one for one in read_gate(evaluated_twins.marked)}
    assert {name for name, one in lines.items() if one.rings} == {"used: border swap", "probe: border alone"}
    assert lines["used: border swap"].low > 0.1
    scores = {one.name: one.value for one in read_scores(evaluated_twins.marked.file("scores.csv"))}
    assert scores["val_auroc"] > 0.9
    assert scores["test_auroc"] < 0.5
    assert lines["probe: the model"].auroc == pytest.approx(scores["test_auroc"])


def test_the_twin_without_marks_is_clean(evaluated_twins: Evaluated) -> None:
    found = read_gate(evaluated_twins.plain)
    assert told_alarms(found) == "clean"
    assert {one.heading for one in found} == {"available", "visible", "used", "probe"}
    assert next(one for one in found if one.name == "the model").auroc > 0.8


def test_the_table_stands_after_the_scores_marked_as_synthetic(evaluated_twins: Evaluated) -> None:
    lines = evaluated_twins.said.out.splitlines()
    alarms = [line for line in lines if "shortcut alarms: " in line]
    assert sorted(alarms) == [
        "SYNTHETIC shortcut alarms: clean",
        "SYNTHETIC shortcut alarms: used: border swap; probe: border alone",
    ]
    rows = [line for line in lines if "border swap  difference" in line or "border alone  " in line]
    assert len(rows) == 4
    assert all(line.startswith("SYNTHETIC ") and "[" in line and " images" in line for line in rows)
    assert sum("RINGS" in line for line in rows) == 2


def test_every_number_of_the_swap_comes_from_its_file(evaluated_twins: Evaluated) -> None:
    for folder in (evaluated_twins.marked, evaluated_twins.plain):
        predictions = read_predictions(folder.predictions("test"))
        swapped = read_swapped(folder.file("border_swap.csv"))
        (kept,) = [one for one in read_gate(folder) if one.name == "border swap"]
        assert judge_swap(swapped, predictions, level=0.02, verifiable=True) == kept
        label = dict(zip(predictions.image_id.tolist(), predictions.label.tolist(), strict=True))
        assert all(label[lent] == label[own] for own, lent in zip(swapped.image_id, swapped.same_id, strict=True))
        assert all(label[lent] != label[own] for own, lent in zip(swapped.image_id, swapped.other_id, strict=True))


def test_mlflow_has_the_tag_and_the_files(sweep: Sweep, evaluated: Said) -> None:
    from mlflow import MlflowClient

    assert evaluated.status == 0, evaluated.err
    client = MlflowClient(f"sqlite:///{sweep.home}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("phantom-two_by_two")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    by_id = {run.data.tags["cxr.run_id"]: run for run in runs if "cxr.run_id" in run.data.tags}
    folders = [folder for folder in all_runs(sweep.home / "runs") if folder.file("shortcuts.csv").is_file()]
    assert len(folders) == 3
    for folder in folders:
        run = by_id[folder.run_id]
        assert run.data.tags["cxr.shortcuts"] == told_alarms(read_gate(folder))
        assert set(FILES) <= {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_evaluated_again_at_other_levels_nothing_is_opened_or_overwritten(
    evaluated_twins: Evaluated, command: Command
) -> None:
    folder, home = evaluated_twins.marked, evaluated_twins.home
    before = {name: folder.file(name).read_bytes() for name in FILES}
    num_looks = len(list(read_json_lines(home / "test_ledger.jsonl")))
    said = command("evaluate", f"run={folder.run_id}", "shortcuts.border_auroc=0.99", home=home)
    assert said.status == 0, said.err
    assert "SYNTHETIC shortcut alarms: used: border swap\n" in said.out
    assert "the first judgement's own levels: used: border swap; probe: border alone" in said.out
    assert {name: folder.file(name).read_bytes() for name in FILES} == before
    assert len(list(read_json_lines(home / "test_ledger.jsonl"))) == num_looks

    def swap_row(text: str) -> str:
        return next(line for line in text.splitlines() if "border swap  difference" in line and "RINGS" in line)

    assert swap_row(said.out).split() == swap_row(evaluated_twins.said.out).split()


# ---- without a network


def line(heading: str, name: str, auroc: float, low: float, within: str = "", note: str = "") -> Association:
    level = {"probe": None}.get(heading, 0.6)
    return Association(heading, name, within, auroc, low, min(1.0, 2 * auroc - low), 200, 150, level, note)


LINES = (
    line("available", "bytes", 0.9, 0.85, note="smaller in PNEUMONIA"),
    line("available", "height", 0.55, 0.48),
    line("available", "width", 0.58, 0.5),
    line("available", "mode", math.nan, math.nan, note="constant: L"),
    line("used", "bytes", 0.62, 0.55, within="NORMAL"),
    line("probe", "the model", 0.95, 0.92),
    line("probe", "centre alone", 0.8, 0.75),
)
NO_SWAP = Swapped(*(np.array(["a", "b"]) for _ in range(3)), np.zeros(2), np.zeros(2))


def test_table_shows_what_rings_the_largest_of_the_rest_and_counts_the_others() -> None:
    table = gate_table(LINES)
    assert "over patients" in table[0]
    text = "\n".join(table)
    assert "bytes  AUROC 0.900 [0.850, 0.950]  200 images  150 patients  level 0.6  RINGS  smaller in PNEUMONIA" in text
    assert "width  AUROC 0.580" in text
    assert "height" not in text
    assert "1 more below their level: shortcuts.csv" in text
    assert "no number: mode (constant: L)" in text
    assert "bytes in NORMAL  AUROC 0.620" in text
    assert "visible (the pixels tell a property of the file): nothing to measure" in text
    assert text.index("the model") < text.index("centre alone"), "probes stand in their own order, all of them"


def test_alarms_are_named_and_silence_has_two_meanings() -> None:
    assert told_alarms(LINES) == "available: bytes"
    assert told_alarms(LINES[1:]) == "clean"
    assert told_alarms(()) == "not judged"


def test_clean_is_not_said_where_no_alarm_could_ring() -> None:
    few = [replace(one, num_images=8, num_patients=8) for one in LINES[1:] if one.heading != "available"]
    assert told_alarms(few) == "not judged: used (too few images or patients for any alarm to ring)"
    assert told_alarms([replace(one, num_images=40, num_patients=40) for one in few]) == "clean"


def test_first_result_of_a_run_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path)
    say_gate(folder, ShortcutsConfig(), synthetic=False)
    assert "not judged" in capsys.readouterr().out
    keep_gate(folder, Gate(LINES[4:], NO_SWAP), LINES[:4])
    first = folder.file("shortcuts.csv").read_bytes()
    keep_gate(folder, Gate(LINES[5:], NO_SWAP), LINES[:4])
    assert folder.file("shortcuts.csv").read_bytes() == first
    assert told_alarms(read_gate(folder, ShortcutsConfig(available_auroc=0.86))) == "clean"
    say_gate(folder, ShortcutsConfig(available_auroc=0.86), synthetic=True)
    said = capsys.readouterr().out.splitlines()
    assert all(row.startswith("SYNTHETIC ") for row in said)
    assert said[-1].endswith("own levels: available: bytes; shortcuts.csv keeps those")


def test_what_belongs_to_the_data_is_computed_once(tmp_path: Path) -> None:
    data = DataConfig(num_patients=30, image_size_px=32)
    store = open_store(read_manifest(data), data, folder=tmp_path)
    found = of_data_once(store, ShortcutsConfig())
    (kept,) = store.path.glob("shortcuts_*.csv")
    marked = (replace(read_associations(kept)[0], note="read and not computed"), *found[1:])
    kept.write_text(kept.read_text().replace(found[0].note, marked[0].note, 1))
    assert of_data_once(store, ShortcutsConfig())[0].note == "read and not computed"
    kept.write_text("damaged")
    assert str(of_data_once(store, ShortcutsConfig())) == str(found)
    assert open_store(store.manifest, data, folder=tmp_path).path == store.path, "the store does not mind the file"
