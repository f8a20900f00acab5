"""The study command as a user runs it, on phantoms: plan, cells, resuming, confirmation, and every way to go wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Command, Said

from cxr_experiments.record.run_folder import RunFolder, read_state

# Seconds of training: 60 phantom patients at 32 px, one epoch of a net of two layers.  AdamW with next to no decay
# takes the very steps of Adam here, so that the verdict is certain.
TINY = """\
question: Does a weight decay of next to nothing matter?
baseline:
  - data=phantom
  - data.num_patients=60
  - data.image_size_px=32
  - data.difficulty=0
  - augmentation=none
  - depth.filters=[8,16]
  - depth.convolutions=[1,1]
  - pooling.dense_units=8
  - training.epochs=1
  - training.batch_size=16
  - training.patience=0
factors:
  optimizer: [{decay: [optimizer=adamw, optimizer.weight_decay=1e-6]}]
seeds: [0, 1, 2]
margin: 0.3
"""


@dataclass(frozen=True)
class Tiny:
    """A home in which study=tiny was run, the folder of its file, and what it said."""

    home: Path
    conf: Path
    said: Said

    @property
    def results(self) -> Path:
        return self.home / "results" / "tiny"

    def copy(self, home: Path, *, runs: bool = True) -> Tiny:
        """Another home with the same results, and the same runs unless told."""
        shutil.copytree(self.home / "results", home / "results")
        if runs:
            shutil.copytree(self.home / "runs", home / "runs")
        return Tiny(home, self.conf, self.said)

    def words(self, *more: str) -> tuple[str, ...]:
        return ("study", "study=tiny", f"hydra.searchpath=[file://{self.conf}]", "tracking=disabled", *more)


@pytest.fixture(scope="session")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own folder of studies."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "study").mkdir()
    (folder / "study" / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture(scope="session")
def tiny(conf: Path, tmp_path_factory: pytest.TempPathFactory, command: Command) -> Tiny:
    """Two arms, three seeds, trained once for all tests: they work on copies."""
    home = tmp_path_factory.mktemp("study")
    begun = Tiny(home, conf, Said(0, "", ""))
    return Tiny(home, conf, command(*begun.words(), home=home))


def cells_of(study: Tiny, stage: str = "cells") -> dict[tuple[str, int, int], Path]:
    """(arm, seed, fold) -> the cell's JSON."""
    paths = (study.results / stage).glob("*.json")
    told = {path: json.loads(path.read_text()) for path in paths}
    return {(facts["arm"], facts["seed"], facts["fold"]): path for path, facts in told.items()}


def written(study: Tiny, stage: str = "cells") -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (study.results / stage).iterdir()}


def verdict(said: Said) -> str:
    """The one sentence about the tiny study's option."""
    (line,) = [line for line in said.out.splitlines() if line.startswith("SYNTHETIC decay: ")]
    return line


def test_study_ends_in_a_verdict_cells_and_a_report(tiny: Tiny) -> None:
    assert tiny.said.status == 0, tiny.said.err
    assert "equivalent" in verdict(tiny.said)
    assert "3 seeds" in verdict(tiny.said)
    assert "6 cells, 0 answered, 6 to train" in tiny.said.out
    assert "decay changes the optimizer" in tiny.said.out, "the proof that the factor takes effect"
    assert tiny.said.err.count("SYNTHETIC done") == 6
    assert "(6 of 6 trained)" in tiny.said.err
    cells = cells_of(tiny)
    assert set(cells) == {(arm, seed, 0) for arm in ("baseline", "decay") for seed in (0, 1, 2)}
    for path in cells.values():
        assert path.with_suffix(".csv").is_file()
        assert {"identity", "provenance", "metrics", "costs"} <= set(json.loads(path.read_text()))
    report = tiny.results / "validation"
    assert {"report.html", "report.md", "comparison.csv", "comparison.tex"} <= {path.name for path in report.iterdir()}
    assert f"report: {report / 'report.html'}" in tiny.said.out


def test_training_prints_into_logs_and_leaves_the_terminal_to_the_study(tiny: Tiny) -> None:
    assert "training gap" not in tiny.said.out + tiny.said.err
    assert "WARNING" not in tiny.said.err
    logs = list((tiny.home / "runs" / ".sweeps").glob("*/*/console.log"))
    assert len(logs) == 6
    assert all("SYNTHETIC val_auroc" in log.read_text() for log in logs)


def test_same_command_again_trains_nothing(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    again = tiny.copy(tmp_path)
    before = written(again)
    said = command(*again.words(), home=tmp_path)
    assert said.status == 0
    assert "6 cells, 6 answered, 0 to train" in said.out
    assert verdict(said) == verdict(tiny.said)
    assert written(again) == before


def test_results_alone_answer_on_a_fresh_clone(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    said = command(*clone.words(), home=tmp_path)
    assert (said.status, verdict(said)) == (0, verdict(tiny.said))
    assert not (tmp_path / "runs" / "phantom-tiny").exists()
    confirmed = command(*clone.words("confirm=true"), home=tmp_path)
    assert confirmed.status == 2
    assert "was trained elsewhere and its model is not under" in confirmed.err
    assert not (tmp_path / "results" / "test_ledger.jsonl").exists()


def test_report_only_needs_no_image(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    shutil.rmtree(clone.results / "validation")
    said = command(*clone.words("report_only=true"), home=tmp_path)
    assert (said.status, verdict(said)) == (0, verdict(tiny.said))
    assert (clone.results / "validation" / "report.html").is_file()
    assert not (tmp_path / "runs").exists()
    nothing = command(*clone.words("report_only=true", "study.seeds=[7,8]"), home=tmp_path)
    assert nothing.status == 2
    assert nothing.err == "study: nothing can be compared: no val cell yet for baseline, decay\n"


def test_seeds_are_found_in_whatever_place_they_were_trained(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    fewer = command(*clone.words("study.seeds=[2,1]", "study.margin=0.2"), home=tmp_path)
    assert "4 cells, 4 answered, 0 to train" in fewer.out
    assert "2 seeds" in verdict(fewer)
    assert "margin of .200" in verdict(fewer)
    page = (clone.results / "validation" / "report.md").read_text()
    assert cells_of(clone)["baseline", 0, 0].stem not in page
    assert "study.seeds=[2,1]" in page.replace("'", ""), "the command is the one that was typed"


def test_cells_of_another_baseline_are_no_answer(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    own = "study.baseline=[data=phantom,data.num_patients=60,depth.filters=[8,16],depth.convolutions=[1,1]]"
    said = command(*clone.words("report_only=true", own), home=tmp_path)
    assert said.status == 2
    assert "nothing can be compared: no val cell yet for baseline, decay" in said.err


def test_missing_cells_are_named_and_their_repetition_left_out(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    cells_of(clone)["decay", 1, 0].unlink()
    said = command(*clone.words("report_only=true"), home=tmp_path)
    assert said.status == 0
    assert "left out: decay, seed 1 (no cell)" in said.out
    assert "left out: baseline, seed 1 (left out: not every arm has this repetition)" in said.out
    assert "2 seeds" in verdict(said)


def test_two_answers_to_one_cell_are_refused_by_name(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    cell = cells_of(clone)["decay", 1, 0]
    for path in (cell, cell.with_suffix(".csv")):
        shutil.copy(path, path.with_stem("0" * 12))
    twin = json.loads((cell.parent / f"{'0' * 12}.json").read_text())
    (cell.parent / f"{'0' * 12}.json").write_text(json.dumps({**twin, "run_id": "0" * 12}))
    said = command(*clone.words("report_only=true"), home=tmp_path)
    assert said.status == 2
    assert f"decay, seed 1 is answered by {'0' * 12}.json and {cell.name}" in said.err


def test_confirmation_locks_the_protocol_and_opens_the_test_split_once(
    tiny: Tiny, tmp_path: Path, command: Command
) -> None:
    study = tiny.copy(tmp_path)
    said = command(*study.words("confirm=true"), home=tmp_path)
    assert said.status == 0, said.err
    assert "(AUROC on test, 3 seeds" in said.out
    assert "WARNING" not in said.err
    ledger = tmp_path / "results" / "test_ledger.jsonl"
    lock, opening = map(json.loads, ledger.read_text().splitlines())
    runs = sorted(path.stem for path in cells_of(study).values())
    told = ("tiny", "auroc", 0.3, ["decay"], "sensitivity_at 0.95")
    assert (*(lock[key] for key in ("lock", "primary_metric", "margin", "family", "threshold_rule")),) == told
    assert sorted(lock["models"]) == opening["run_ids"] == runs
    assert all(len(digest) == 64 for digest in lock["models"].values())
    assert opening["study"] == "tiny"
    assert not (tmp_path / "test_ledger.jsonl").exists(), "one opening for the whole protocol"
    assert all("test_auroc" in json.loads(path.read_text())["metrics"] for path in cells_of(study).values())
    assert "EXPLORATORY" not in (study.results / "test" / "report.md").read_text()

    before = ledger.read_text()
    again = command(*study.words("confirm=true"), home=tmp_path)
    assert again.status == 0
    assert ledger.read_text() == before, "the same protocol again is no other look"

    changed = command(*study.words("confirm=true", "study.margin=0.25"), home=tmp_path)
    assert changed.status == 0
    assert changed.out.count("EXPLORATORY: another protocol was locked on this data set before") == 2
    assert len(ledger.read_text().splitlines()) == 4
    for stage in ("validation", "test"):
        assert "EXPLORATORY" in (study.results / stage / "report.md").read_text()

    looked = command("evaluate", f"run={runs[0]}", "threshold=youden", home=tmp_path)
    assert "looks at this test split: 3" in looked.out
    assert len((tmp_path / "test_ledger.jsonl").read_text().splitlines()) == 1


def test_stress_metrics_decide_on_validation_and_are_not_confirmed(
    tiny: Tiny, tmp_path: Path, command: Command
) -> None:
    clone = tiny.copy(tmp_path, runs=False)
    said = command(*clone.words("study.primary_metric=stress_auroc_worst", "confirm=true"), home=tmp_path)
    assert said.status == 2
    assert "stress" in verdict(said).lower()
    assert "a study that is to be confirmed needs one that the test split has too" in said.err
    assert not (tmp_path / "results" / "test_ledger.jsonl").exists()


def test_dry_run_prints_the_plan_and_trains_nothing(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    said = command(*tiny.words("dry_run=true"), home=tmp_path)
    assert said.status == 0, said.err
    for text in (
        "study tiny: Does a weight decay of next to nothing matter?",
        "2 arms x 3 seeds = 6 cells, 0 answered, 6 to train",
        "decay: optimizer.kind adam -> adamw, optimizer.weight_decay 0.0 -> 1e-06",
        "a seed varies split, init, order, augmentation",
        "test images are counted, not opened",
        "time: not known, no run has been timed here yet",
        "smallest difference told from 0 in 80 of 100 such studies",
        "decay changes the optimizer",
    ):
        assert text in said.out
    assert not (tmp_path / "results").exists()
    assert not list((tmp_path / "runs").glob("phantom-*"))


def test_hopeless_study_is_refused_with_its_reason(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    said = command(*tiny.words("study.margin=0.001"), home=tmp_path)
    assert said.status == 2
    assert said.err.startswith("study: study tiny cannot reach a verdict: on validation the interval would be ")
    assert said.err.count("\n") == 1
    assert not list((tmp_path / "runs").glob("phantom-*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=null"], "study"),
        (["study=tyni"], "study=tyni: no such option; did you mean tiny?"),
        (["study.margin=null"], "study.margin has no value: give the smallest difference of interest"),
        (["study.seeds=[4]"], "study.seeds=[4] is one repetition"),
        (["study.seds=[1,2]"], "study.seds: no such key; did you mean study.seeds?"),
        (["dryrun=true"], "dryrun: no such key; did you mean dry_run?"),
        (["study.seeds=3"], "study.seeds: expected a list, as [0, 1]"),
        (["study.factors.optmizer=[sgd]"], "study.factors.optmizer: the study has no such factor; +study.factors."),
        (["+study.factors.optmizer=[sgd]"], "study.factors.optmizer: optmizer: no such key; did you mean optimizer?"),
        (["+study.factors.pooling=[gpm]"], "study.factors.pooling: pooling=gpm: no such option; did you mean gmp?"),
        (["+study.factors.pooling=gmp"], "study.factors.pooling: expected a list of options, as [flip, none], got"),
        (["+study.factors.schedule=[constant]"], "schedule=constant changes nothing, the baseline has it already"),
        (["+study.factors.depth=[shallow]"], "depth.convolutions=[1,1] in study.baseline stands over it"),
        (
            ["+study.factors.x=[{a:['optimizer=adamw','optimizer.weight_decay=1e-6']}]"],
            "decay and a are the same change",
        ),
        (["+study.factors={pooling.dropout:[7]}"], "pooling.dropout=7.0: expected 0.0 to 0.95 probability"),
        (["+study.factors.pooling.dropout=[7]"], "a single key is a factor as 'pooling.dropout': [VALUE]"),
        (["study.baseline=[data=phantom,trainig.epochs=1]"], "study.baseline: trainig.epochs: no such key; did you"),
        (["study.baseline=[seed=3]"], "study.baseline: seed=3 belongs to the study as a whole: say it by study.seeds"),
    ],
)
def test_mistake_is_one_line_with_the_nearest_match(
    words: list[str], message: str, conf: Path, tmp_path: Path, command: Command
) -> None:
    named = [] if words[0].startswith("study=") else ["study=tiny"]
    said = command("study", f"hydra.searchpath=[file://{conf}]", *named, *words, home=tmp_path)
    assert said.status == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: [1, 2]\n", "sede: no such key; did you mean study.seeds?"),
        ("margin: small\n", "study.margin: Value 'small' of type 'str' could not be converted to Float"),
        ("factors: {augmentatoin: [flip]}\nmargin: 0.1\n", "augmentatoin: no such key; did you mean augmentation?"),
        ("factors: {augmentation: [flip]}\n", "study.margin has no value"),
        ("factors: {model: [{own: [model=custom, model.builder=net.py:build]}]}\nmargin: 0.1\n", "names code"),
    ],
)
def test_wrong_file_is_one_line(text: str, message: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(text)
    said = command("study", f"hydra.searchpath=[file://{tmp_path}]", "study=mine", home=tmp_path)
    assert said.status == 2
    assert message in said.err
    assert said.err.count("\n") == 1


def test_study_is_to_be_named_and_the_known_ones_are(tmp_path: Path, command: Command) -> None:
    said = command("study", home=tmp_path)
    assert (said.status, said.out) == (2, "")
    assert said.err == "study: give study=NAME; there are: demo, first_look, four_choices, precision, recipe\n"


def test_factor_that_training_would_not_see_is_refused(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    said = command(*tiny.words("+study.factors={augmentation.fill_mode:[reflect]}"), home=tmp_path)
    assert said.status == 2
    assert "reflect changes augmentation.fill_mode, and training would see nothing of it" in said.err
    assert not list((tmp_path / "runs").glob("phantom-*"))


def test_arms_judged_on_other_images_are_refused_before_training(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    said = command(*tiny.words("+study.factors={data.val_fraction:[0.3]}"), home=tmp_path)
    assert said.status == 2
    assert "val_fraction=0.3 is judged on other images than the baseline (data.val_fraction)" in said.err
    assert not list((tmp_path / "runs").glob("phantom-*"))


def test_failing_cell_is_told_at_once_and_the_others_go_on(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    study = tiny.copy(tmp_path)
    cells = cells_of(study)
    broken, later = cells["baseline", 0, 0], cells["decay", 2, 0]
    for cell in (broken, later):
        shutil.rmtree(tmp_path / "runs" / "phantom-tiny" / cell.stem)
        cell.unlink()
    (tmp_path / "runs" / "phantom-tiny" / broken.stem).write_text("in the way of the run's folder")
    said = command(*study.words(), home=tmp_path)
    assert said.status == 2
    lines = said.err.splitlines()
    (failed,) = [number for number, line in enumerate(lines) if line.startswith("FAILED baseline, seed 0: cannot read")]
    (done,) = [number for number, line in enumerate(lines) if line.startswith("SYNTHETIC done     decay, seed 2")]
    assert failed < done
    assert lines[-1] == "study: 1 of 6 cells failed, see FAILED above; the same command goes on"
    assert "Traceback" not in said.err
    assert "left out: baseline, seed 0 (cannot read" in said.out
    assert "2 seeds" in verdict(said)
    assert "baseline, seed 0" in (study.results / "validation" / "report.md").read_text()


def stopped(study: Tiny, sign: signal.Signals, after: Path) -> subprocess.CompletedProcess[str]:
    """The study begun again and sent a signal as soon as the cell `after` is there."""
    begun = subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.study", *study.words()[1:]],
        cwd=study.home,
        env={**os.environ, "CXR_HOME": str(study.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not after.exists() and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    begun.send_signal(sign)
    out, err = begun.communicate(timeout=60)
    return subprocess.CompletedProcess(begun.args, begun.returncode, out, err)


def test_study_that_was_stopped_goes_on_where_it_was(tiny: Tiny, tmp_path: Path, command: Command) -> None:
    study = tiny.copy(tmp_path)
    cells = cells_of(study)
    order = [cells[key] for key in (("decay", 1, 0), ("baseline", 2, 0), ("decay", 2, 0))]
    for cell in order:
        shutil.rmtree(tmp_path / "runs" / "phantom-tiny" / cell.stem)
        cell.unlink()
        cell.with_suffix(".csv").unlink()
    interrupted = stopped(study, signal.SIGINT, order[0])
    assert interrupted.returncode == 130, interrupted.stderr
    assert "tiny: stopped with 4 of 6 cells done; the same command goes on" in interrupted.stdout
    assert interrupted.stderr.splitlines()[-1] == "study: interrupted"
    killed = stopped(study, signal.SIGKILL, order[1])
    assert killed.returncode == -signal.SIGKILL
    assert not order[2].exists(), "it was stopped before its end"
    before = {name: at for name, at in written(study).items() if not name.startswith((".", order[2].stem))}
    said = command(*study.words(), home=tmp_path)
    assert said.status == 0, said.err
    assert "6 cells, 5 answered, 1 to train" in said.out
    assert "failed" not in said.err, "an earlier attempt is no failure of this command"
    assert verdict(said) == verdict(tiny.said)
    after = written(study)
    assert {name: after[name] for name in before} == before


@pytest.mark.long
def test_joblib_trains_cells_in_other_processes_bit_for_bit_and_failures_are_told(
    tiny: Tiny, tmp_path: Path, command: Command
) -> None:
    study = tiny.copy(tmp_path)
    cells = cells_of(study)
    new = {key: cells[key] for key in (("baseline", 2, 0), ("decay", 2, 0), ("decay", 1, 0))}
    before = {key: path.with_suffix(".csv").read_text() for key, path in new.items()}
    broken = new.pop(("decay", 1, 0))
    for cell in (*new.values(), broken):
        shutil.rmtree(tmp_path / "runs" / "phantom-tiny" / cell.stem)
        cell.unlink()
    (tmp_path / "runs" / "phantom-tiny" / broken.stem).write_text("in the way of the run's folder")
    said = command(*study.words("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), home=tmp_path)
    assert said.status == 2
    assert "FAILED decay, seed 1: cannot read" in said.err
    assert said.err.splitlines()[-1] == "study: 1 of 6 cells failed, see FAILED above; the same command goes on"
    assert "SYNTHETIC done     decay, seed 2" in said.err
    assert "left out: decay, seed 1 (cannot read" in said.out
    assert {key: path.with_suffix(".csv").read_text() for key, path in new.items()} == {key: before[key] for key in new}


ENGINES = {"ray": "ray", "submitit": "slurm"}  # package -> extra


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher",
    [
        ("hydra/launcher=process", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=ray", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local", "hydra.launcher.array_parallelism=2"),
    ],
    ids=lambda words: words[0],
)
def test_cell_whose_process_is_killed_costs_itself_alone(
    launcher: tuple[str, str], tiny: Tiny, tmp_path: Path, command: Command
) -> None:
    package = launcher[0].partition("=")[2].partition("_")[0]
    if package in ENGINES and importlib.util.find_spec(package) is None:
        pytest.skip(f"the extra {ENGINES[package]} is not installed")
    study = tiny.copy(tmp_path)
    cells = cells_of(study)
    new = {key: cells[key] for key in (("decay", 1, 0), ("baseline", 2, 0), ("decay", 2, 0))}
    before = {key: path.with_suffix(".csv").read_text() for key, path in new.items()}
    for cell in new.values():
        shutil.rmtree(tmp_path / "runs" / "phantom-tiny" / cell.stem)
        cell.unlink()
    victim = new.pop(("decay", 1, 0))
    words = study.words(*launcher)
    begun = subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.study", *words[1:]],
        cwd=tmp_path,
        env={**os.environ, "CXR_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = RunFolder(tmp_path / "runs" / "phantom-tiny" / victim.stem)
    deadline = time.monotonic() + 200
    while not folder.file("events.jsonl").exists() and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(read_state(folder).attempt.pid, signal.SIGKILL)
    out, err = begun.communicate(timeout=200)
    assert begun.returncode == 2, err
    assert "FAILED decay, seed 1: its process was killed by SIGKILL (out of memory?)" in err.splitlines()
    assert err.splitlines()[-1] == "study: 1 of 6 cells failed, see FAILED above; the same command goes on"
    assert "left out: decay, seed 1 (its process was killed by SIGKILL" in out
    assert {key: path.with_suffix(".csv").read_text() for key, path in new.items()} == {key: before[key] for key in new}
    said = command(*words, home=tmp_path)
    assert said.status == 0, said.err
    assert "6 cells, 5 answered, 1 to train" in said.out
    assert victim.with_suffix(".csv").read_text() == before["decay", 1, 0]
    assert verdict(said) == verdict(tiny.said)


def test_noise_floor_repeats_the_baseline_and_its_replicate_is_identical(
    tiny: Tiny, tmp_path: Path, command: Command
) -> None:
    study = tiny.copy(tmp_path)
    said = command(*study.words("noise_floor=true", "study.seeds=[0,1]"), home=tmp_path)
    assert said.status == 0, said.err
    assert set(cells_of(study, "noise_floor")) == {("baseline", 3, 0), ("baseline", 4, 0)}
    (replicate,) = cells_of(study, "replicate").values()
    first = cells_of(study)["baseline", 0, 0]
    assert replicate.stem != first.stem
    assert replicate.with_suffix(".csv").read_text() == first.with_suffix(".csv").read_text()
    page = (study.results / "validation" / "report.md").read_text()
    assert "A replicate with the same seed gave the same logits, every one." in page

    table = replicate.with_suffix(".csv")
    rows = table.read_text().splitlines()
    at = next(number for number, row in enumerate(rows) if row.split(",")[2] == "val")
    cut = rows[at].split(",")
    rows[at] = ",".join([*cut[:4], "0.123", *cut[5:]])
    table.write_text("\n".join(rows) + "\n")
    moved = command(*study.words("noise_floor=true", "study.seeds=[0,1]"), home=tmp_path)
    assert moved.status == 2
    assert f"run {replicate.stem} repeats run {first.stem} with the same seeds and differs in 1 of " in moved.err


def test_arms_tune_on_validation_at_a_seed_of_their_own_and_folds_repeat_them(
    tiny: Tiny, tmp_path: Path, command: Command
) -> None:
    study = Tiny(tmp_path, tiny.conf, tiny.said)
    factor = "+study.factors.optimizer={options:[sgd],tune:{optimizer.learning_rate:[0.01,0.1]}}"
    words = study.words("~study.factors.optimizer", factor, "study.seeds=[0]", "study.folds=2")
    early = command(*words, "report_only=true", home=tmp_path)
    assert early.status == 2
    assert "there is nothing to report yet; tuning comes first: up to 4 cells at seed 1" in early.err
    said = command(*words, home=tmp_path)
    assert said.status == 0, said.err
    trials = cells_of(study, "tuning")
    assert {(seed, fold) for _, seed, fold in trials} == {(1, 0)}
    assert len(trials) == 4
    assert set(cells_of(study)) == {(arm, 0, fold) for arm in ("baseline", "sgd") for fold in (0, 1)}
    chosen = {}
    for arm in ("baseline", "sgd"):
        own = [json.loads(path.read_text()) for (name, _, _), path in trials.items() if name.split()[0] == arm]
        rates = {one["identity"]["config"]["optimizer.learning_rate"]: one["metrics"]["val_auroc"] for one in own}
        assert set(rates) == {0.01, 0.1}, "the same budget for every arm"
        chosen[arm] = max(sorted(rates), key=lambda rate: rates[rate])
        cell = json.loads(cells_of(study)[arm, 0, 0].read_text())
        assert cell["identity"]["config"]["optimizer.learning_rate"] == chosen[arm]
    page = (study.results / "validation" / "report.md").read_text()
    assert "chosen on validation from 2 settings at a seed of its own" in page
    clone = command(*words, "report_only=true", home=tmp_path)
    assert clone.status == 0, clone.err
    told = (study.results / "validation" / "report.md").read_text()
    assert "chosen on validation from 2 settings at a seed of its own" in told
    assert "on validation, 1 seed x 2 folds, " in clone.out


def test_help_is_there_in_a_moment_and_names_the_studies(tmp_path: Path, command: Command) -> None:
    begun = time.monotonic()
    said = command("study", "--help", home=tmp_path)
    assert said.status == 0
    assert time.monotonic() - begun < 5, "well under a second on a quiet machine"
    for text in (
        "study: demo, first_look, four_choices, precision, recipe",
        "margin: null",
        "study=demo dry_run=true",
        "confirm=true",
    ):
        assert text in said.out
