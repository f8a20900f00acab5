"""Cells of a sweep in MLflow: the mean over seeds with its interval, once per cell however often it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr_experiments.config.compose import write_config
from cxr_experiments.config.identity import identify
from cxr_experiments.config.schema import DataConfig, ExperimentConfig, TrackingConfig
from cxr_experiments.config.study_spec import ArmSpec, StudyConfig
from cxr_experiments.config.sweep import JobEnd, keep_job, new_folder, read_jobs, varying
from cxr_experiments.evidence.comparison import Arm, Cell, Rows, compare_arms
from cxr_experiments.evidence.evaluation import Predictions, write_predictions
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.record.cells import StoredCell
from cxr_experiments.record.run_folder import FINISHED, claim, record_event
from cxr_experiments.record.summary import CellRuns, cell_lines, summarise, tell_cells, told_cell
from cxr_experiments.record.sweep import by_cell, finished_jobs
from cxr_experiments.study.plan import Arm as StudyArm
from cxr_experiments.study.summaries import has_place, tell_arms

LOCAL = TrackingConfig()


def rows(seed: int) -> Rows:
    """40 images of 20 patients, half of each class."""
    label = np.repeat([0, 1], 20).astype(np.int8)
    logit = 1.5 * label + np.random.default_rng(seed).normal(size=40)
    images, patients = (
        np.array([f"{letter}{n // share}" for n in range(40)]) for letter, share in (("i", 1), ("p", 2))
    )
    return Rows(images, patients, label, logit, np.asarray(sigmoid(logit)))


def arm(name: str, *seeds: int, split: str = "val") -> Arm:
    return Arm(name, tuple(Cell(f"{name}{n}", n, split, rows(n), "d" * 64, synthetic=True) for n in seeds))


def cell_runs(name: str, *seeds: int) -> CellRuns:
    tags = {"study": "s", "factor": "augmentation", "option": name}
    params = {"augmentation": name}
    return CellRuns(name, f"key of {name}", {"val": arm(name, *seeds)}, len(seeds), params=params, tags=tags)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a database; each test has an experiment of its own in it."""
    return tmp_path_factory.mktemp("summaries")


def told(home: Path, experiment_name: str) -> list[Any]:
    """MLflow's active summary runs, in the order in which the link shows them."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    by_start = ["attributes.start_time ASC"]
    return list(client.search_runs([experiment.experiment_id], "tags.kind = 'summary'", order_by=by_start))


def tell(home: Path, experiment_name: str, cells: Sequence[CellRuns], *, replaces_any: bool = False) -> str:
    return tell_cells(LOCAL, home, experiment_name, [summarise(one) for one in cells], replaces_any=replaces_any)


def test_mean_and_interval_are_those_of_a_comparison() -> None:
    first, second = arm("a", 0, 1, 2), arm("b", 3, 4, 5)
    second = replace(second, cells=tuple(replace(cell, seed=cell.seed - 3) for cell in second.cells))
    compared = dict(compare_arms(first, [second], metric="auroc", margin=0.1, thorough=False).arms)
    for one in (first, second):
        found = summarise(CellRuns(one.name, one.name, {"val": one}, 3)).auroc
        expected = compared[one.name]
        assert found.value == pytest.approx(expected.value)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_interval_ends_where_auroc_ends() -> None:
    found = summarise(cell_runs("flip", 0, 1)).auroc
    assert 0.0 <= found.low < found.value < found.high <= 1.0


def test_one_seed_has_a_mean_and_no_interval_over_seeds() -> None:
    summary = summarise(cell_runs("flip", 0))
    assert set(told_cell(summary).metrics) == {"auroc_mean", "num_seeds"}
    assert "one run: over patients alone" in cell_lines([summary])[2]
    assert told_cell(summary).card.name == "flip (1 seed)"


def test_lines_hold_every_cell_in_the_order_given_with_interval_and_n() -> None:
    lines = cell_lines([summarise(cell_runs("z_worse", 0, 1)), summarise(cell_runs("a_better", 2, 3))])
    assert [line.split()[0] for line in lines[2:]] == ["z_worse", "a_better"]
    assert all("[" in line and "2 seeds  40      20" in line for line in lines[2:])


def test_folds_are_named_beside_seeds() -> None:
    summary = summarise(replace(cell_runs("flip", 0, 1, 2, 3), num_seeds=2, num_folds=2))
    assert told_cell(summary).card.name == "flip (2 seeds x 2 folds)"
    assert told_cell(summary).metrics["num_seeds"] == 2


def test_each_cell_becomes_one_flat_run_and_the_link_shows_its_columns(home: Path) -> None:
    from mlflow import MlflowClient

    link = tell(home, "flat", [cell_runs("none", 0, 1), cell_runs("flip", 2, 3)])
    first, second = told(home, "flat")
    assert [first.info.run_name, second.info.run_name] == ["none (2 seeds)", "flip (2 seeds)"]
    assert set(first.data.metrics) == {"auroc_mean", "auroc_lo", "auroc_hi", "num_seeds"}
    assert first.data.params == {"augmentation": "none"}
    wanted = {"kind": "summary", "study": "s", "cell": "none", "factor": "augmentation", "option": "none"}
    assert wanted.items() <= first.data.tags.items()
    assert first.data.tags["cxr.synthetic"] == "true"
    assert first.data.tags["cxr.run_ids"] == "none0 none1"
    assert "mlflow.parentRunId" not in first.data.tags
    assert first.info.status == "FINISHED"
    experiment = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db").get_experiment(first.info.experiment_id)
    path, _, key = link.partition("&viewStateShareKey=")
    assert path == f"#/experiments/{first.info.experiment_id}/runs?workflowType=machine_learning"
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    assert view["searchFilter"] == "tags.kind = 'summary'"
    names = [f"metrics.`{name}`" for name in ("auroc_mean", "auroc_lo", "auroc_hi", "num_seeds")]
    assert view["selectedColumns"] == [*names, "params.`augmentation`"]


def test_same_cells_again_leave_the_same_runs(home: Path) -> None:
    cells = [cell_runs("none", 0, 1), cell_runs("flip", 2, 3)]
    links = {tell(home, "again", cells)}
    before = [run.info.run_id for run in told(home, "again")]
    links.add(tell(home, "again", cells))
    assert [run.info.run_id for run in told(home, "again")] == before
    assert len(links) == 1


def test_more_seeds_replace_fewer_in_their_place_and_fewer_do_not_replace_more(home: Path) -> None:
    tell(home, "more", [cell_runs("none", 0, 1), cell_runs("flip", 2, 3)])
    tell(home, "more", [cell_runs("none", 0, 1, 2)])
    assert [run.info.run_name for run in told(home, "more")] == ["none (3 seeds)", "flip (2 seeds)"]
    tell(home, "more", [cell_runs("none", 0, 2)])
    assert {run.info.run_name for run in told(home, "more")} == {"none (3 seeds)", "flip (2 seeds)", "none (2 seeds)"}


def test_study_has_one_summary_per_arm_whatever_its_runs_were(home: Path) -> None:
    tell(home, "study", [cell_runs("none", 0, 1, 2)], replaces_any=True)
    tell(home, "study", [cell_runs("none", 4, 5)], replaces_any=True)
    assert [run.info.run_name for run in told(home, "study")] == ["none (2 seeds)"]


def test_confirmed_arm_has_test_values_beside_validation(home: Path) -> None:
    confirmed = cell_runs("none", 0, 1)
    tell(home, "confirmed", [confirmed], replaces_any=True)
    confirmed = replace(confirmed, arms={**confirmed.arms, "test": arm("none", 0, 1, split="test")})
    link = tell(home, "confirmed", [confirmed], replaces_any=True)
    (run,) = told(home, "confirmed")
    assert {"test_auroc_mean", "test_auroc_lo", "test_auroc_hi", "auroc_mean"} <= set(run.data.metrics)
    assert link


def test_disabled_tracking_is_told_nothing(tmp_path: Path) -> None:
    assert tell_cells(TrackingConfig(kind="disabled"), tmp_path, "x", [summarise(cell_runs("none", 0))]) == ""
    assert not list(tmp_path.iterdir())


def test_broken_database_costs_one_warning_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("this is no database" * 100)
    assert tell(tmp_path, "x", [cell_runs("none", 0, 1)]) == ""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow at sqlite:///")


def test_jobs_are_read_back_in_their_order_without_credentials(tmp_path: Path) -> None:
    for number in (10, 2):
        words = ("tracking.uri=https://me:secret@host", f"seed={number}")
        keep_job(tmp_path, JobEnd(number, words, "x", f"run{number}", ""))
    assert [job.returned for job in read_jobs(tmp_path)] == ["run2", "run10"]
    assert "secret" not in (tmp_path / "job_2.json").read_text()
    assert varying(read_jobs(tmp_path)) == [{"seed": "2"}, {"seed": "10"}]
    assert varying([]) == []


def test_sweeps_of_one_second_have_a_folder_each(tmp_path: Path) -> None:
    assert [new_folder(tmp_path / "a" / "now").name for _ in range(3)] == ["now", "now_2", "now_3"]


def finished_run(runs: Path, config: ExperimentConfig, split_digest: str, *, replicate: int = 0) -> str:
    """The folder of a finished run with made-up predictions, and its id."""
    identity = identify(config, "d" * 64, split_digest, replicate=replicate)
    folder = claim(runs, f"phantom-{config.experiment_name}", identity)
    write_config(folder.file("config.yaml"), config)
    made = rows(config.seed)
    images = (made.image_id, made.patient, "val", made.label, made.logit, made.probability)
    write_predictions(folder.predictions("val"), Predictions(*images, folder.run_id, "d" * 64))
    record_event(folder, FINISHED)
    return folder.run_id


def test_runs_that_differ_in_seeds_and_folds_are_one_cell_and_a_replicate_counts_once(tmp_path: Path) -> None:
    runs, sweep = tmp_path / "runs", tmp_path / "sweep"
    number = 0
    for size in (32, 64):
        for seed in (0, 1):
            for replicate in (0, 1):
                data = DataConfig(image_size_px=size)
                config = ExperimentConfig(experiment_name="x", seed=seed, data=data)
                run_id = finished_run(runs, config, f"split{seed}", replicate=replicate)
                words = (f"data.image_size_px={size}", f"seed={seed}", f"rerun={bool(replicate)}")
                keep_job(sweep, JobEnd(number, words, "x", run_id, ""))
                number += 1
    keep_job(sweep, JobEnd(number, ("data.image_size_px=16", "seed=0"), "x", "", "ConfigError: too small"))
    groups = by_cell(finished_jobs(sweep, runs))
    assert [[job.config.seed for job in group] for group in groups] == [[0, 1], [0, 1]]
    assert {job.identity["replicate"] for group in groups for job in group} == {0}


def stored_cell(name: str, seed: int) -> StoredCell:
    """A cell of a study as read back, with the facts that a comparison asks for."""
    made = rows(seed)
    images = (made.image_id, made.patient, "val", made.label, made.logit, made.probability)
    facts = {
        **{"arm": name, "factor": "pooling", "changed": ["pooling.kind"], "seed": seed, "position": seed},
        **{"synthetic": True, "experiment_name": "phantom-arms", "threshold": {"value": 0.5}},
        "identity": {"dataset_digest": "d" * 64, "config": {}, "seeds": {}, "replicate": 0},
    }
    return StoredCell(f"{name}{seed}", facts, {"val": Predictions(*images, f"{name}{seed}", "d" * 64)}, None)


def test_study_tells_each_arm_with_what_differs(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXR_HOME", str(home))
    usual = ExperimentConfig()
    other = replace(usual, pooling=replace(usual.pooling, kind="gmp"))
    differing: dict[str, tuple[object, object]] = {"pooling.kind": ("gap", "gmp")}
    arms = (
        StudyArm(ArmSpec("baseline", "", "", ()), usual, {}),
        StudyArm(ArmSpec("gmp", "pooling", "gmp", ("pooling=gmp",)), other, differing),
    )
    stored = [[stored_cell(one.spec.name, seed) for seed in (0, 1)] for one in arms]
    for _ in range(2):
        tell_arms("arms", StudyConfig(), arms, stored)
    baseline, option = told(home, "phantom-arms")
    assert [baseline.info.run_name, option.info.run_name] == ["baseline (2 seeds)", "gmp (2 seeds)"]
    assert [baseline.data.params, option.data.params] == [{"pooling.kind": "gap"}, {"pooling.kind": "gmp"}]
    assert {"study": "arms", "cell": "gmp", "factor": "pooling", "option": "gmp"}.items() <= option.data.tags.items()
    assert capsys.readouterr().out.count("compare the arms: make ui, then http://127.0.0.1:5000/#/experiments/") == 2


def test_judging_stored_cells_again_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    assert not has_place(StudyConfig())
    assert has_place(StudyConfig(tracking=TrackingConfig(kind="server", uri="http://127.0.0.1:9")))
