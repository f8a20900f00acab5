"""Cells: what a finished run leaves under results/ is read back to the last bit, or refused by file and line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Said, Sweep
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr_experiments.errors import CxrError, RunError
from cxr_experiments.evidence.evaluation import read_predictions, read_stressed
from cxr_experiments.images.stress import CHANGES
from cxr_experiments.record.cells import CELL_COLUMNS, CellCard, cell_files, keep_cell, read_cell
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_json, read_state
from cxr_experiments.study.judge import arm_of

CARD = CellCard("a_study", "flip", "augmentation", "flip", 3, 0, 1, ("augmentation.horizontal_flip",))


@pytest.fixture(scope="module")
def run(sweep: Sweep, evaluated: Said) -> RunFolder:
    """A finished run of the sweep, evaluated on its test split."""
    assert evaluated.status == 0, evaluated.err
    return next(folder for folder in all_runs(sweep.home / "runs") if read_state(folder).status == FINISHED)


@pytest.fixture(scope="module")
def kept(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep_cell(run, tmp_path_factory.mktemp("results") / "a_study" / "cells", CARD)


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """The cell's JSON in a folder of one's own, to be broken."""
    for suffix in (".json", ".csv"):
        shutil.copy(kept.with_suffix(suffix), tmp_path)
    return tmp_path / kept.name


def test_cell_is_two_small_files_named_after_the_run(run: RunFolder, kept: Path) -> None:
    assert sorted(path.name for path in kept.parent.iterdir()) == [f"{run.run_id}.csv", f"{run.run_id}.json"]
    assert cell_files(kept.parent) == [kept]
    header = kept.with_suffix(".csv").read_text().splitlines()[0]
    assert header == "image_id,patient,split,label,logit,framing,shift,rotation,exposure,contrast,blur,noise,jpeg"


@pytest.mark.parametrize("split", ["val", "train", "test"])
def test_predictions_come_back_as_the_run_wrote_them(run: RunFolder, kept: Path, split: str) -> None:
    wrote, read = read_predictions(run.predictions(split)), read_cell(kept).predictions[split]
    for name in ("image_id", "patient", "label"):
        assert np.array_equal(getattr(wrote, name), getattr(read, name))
    # float32 is what the model computed in: nothing is lost
    assert np.array_equal(np.float32(wrote.logit), np.float32(read.logit))
    assert read.probability == pytest.approx(wrote.probability, abs=1e-7)
    assert (read.split, read.run_id, read.dataset_digest) == (split, run.run_id, wrote.dataset_digest)


def test_stressed_logits_come_back_too(run: RunFolder, kept: Path) -> None:
    wrote, read = read_stressed(run.file("stress.csv")), read_cell(kept).stressed
    assert read is not None
    place = {image_id: row for row, image_id in enumerate(wrote.image_id.tolist())}
    order = [place[image_id] for image_id in read.image_id.tolist()]
    assert set(read.logits) == set(CHANGES)
    for name in CHANGES:
        assert np.array_equal(np.float32(wrote.logits[name][order]), np.float32(read.logits[name]))


def test_facts_tell_identity_costs_and_what_the_study_calls_it(run: RunFolder, kept: Path) -> None:
    facts = read_cell(kept).facts
    told = ("study", "arm", "factor", "option", "seed", "fold", "position", "stage")
    assert tuple(facts[name] for name in told) == ("a_study", "flip", "augmentation", "flip", 3, 0, 1, "cells")
    assert facts["changed"] == ["augmentation.horizontal_flip"]
    assert facts["identity"] == read_json(run.file("identity.json"))
    assert facts["costs"] == read_json(run.file("costs.json"))
    assert facts["synthetic"] is True
    assert len(facts["history"]) == facts["costs"]["epochs_run"] == 2
    assert {"val_auroc", "test_auroc", "stress_auroc_worst", "gap_train_val"} <= set(facts["metrics"])


def test_cell_names_no_folder_of_the_machine(run: RunFolder, kept: Path) -> None:
    text = kept.read_text() + kept.with_suffix(".csv").read_text()
    assert str(run.path.parents[2]) not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"


def test_cell_is_judged_as_an_arm(kept: Path) -> None:
    stored = read_cell(kept)
    validation, test = (arm_of([stored], split) for split in ("val", "test"))
    assert (validation.name, validation.factor, validation.changed) == ("flip", "augmentation", CARD.changed)
    cell = validation.cells[0]
    assert (cell.seed, cell.split, cell.synthetic) == (CARD.position, "val", True)
    assert set(cell.stress) == set(CHANGES)
    assert cell.train is not None
    assert (test.cells[0].stress, test.cells[0].train, test.cells[0].split) == ({}, None, "test")


def test_keeping_a_cell_again_replaces_it(run: RunFolder, copied: Path) -> None:
    before = copied.read_bytes(), copied.with_suffix(".csv").read_bytes()
    assert keep_cell(run, copied.parent, CARD) == copied
    assert (copied.read_bytes(), copied.with_suffix(".csv").read_bytes()) == before
    assert len(list(copied.parent.iterdir())) == 2


def test_cell_without_its_json_is_none_yet(copied: Path) -> None:
    copied.rename(copied.with_name(f".{copied.name}.123"))
    assert cell_files(copied.parent) == []


def changed_facts(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        facts = json.loads(path.read_text())
        change(facts)
        path.write_text(json.dumps(facts))

    return write


def changed_row(number: int, change: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    """Change the cells of one line (from 1) of the CSV."""

    def write(path: Path) -> None:
        lines = path.with_suffix(".csv").read_text().splitlines()
        lines[number - 1] = ",".join(change(lines[number - 1].split(",")))
        path.with_suffix(".csv").write_text("\n".join(lines) + "\n")

    return write


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:-size])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no json": (lambda path: path.unlink(), "cannot read {json}: [Errno 2] No such file"),
    "half a json": (lambda path: cut(path, 40), "cannot read {json}: "),
    "a list": (lambda path: path.write_text("[]"), "{json} holds list, expected a JSON object"),
    "no arm": (changed_facts(lambda facts: facts.pop("arm")), "{json}: arm is None, expected str"),
    "seed in words": (changed_facts(lambda facts: facts.update(seed="x")), "{json}: seed is 'x', expected int"),
    "no costs": (changed_facts(lambda facts: facts["costs"].pop("epochs_run")), "{json}: costs lacks epochs_run"),
    "no config": (changed_facts(lambda facts: facts["identity"].pop("config")), "{json}: identity lacks config"),
    "no history": (changed_facts(lambda facts: facts.update(history=None)), "{json}: history is None, expected list"),
    "another run": (changed_facts(lambda facts: facts.update(run_id="0" * 12)), "{json} speaks of run 000000000000"),
    "no csv": (lambda path: path.with_suffix(".csv").unlink(), "{csv} cannot be read: No such file"),
    "csv cut short": (
        lambda path: cut(path.with_suffix(".csv"), 5),
        "{csv}, line {last}: found a NUL character or a l",
    ),
    "header": (changed_row(1, lambda cells: ["id", *cells[1:]]), "{csv}, line 1: found the header 'id,patient,split"),
    "split": (
        changed_row(2, lambda cells: [*cells[:2], "vall", *cells[3:]]),
        "{csv}, line 2: found split 'vall' and lab",
    ),
    "label": (
        changed_row(3, lambda cells: [*cells[:3], "2", *cells[4:]]),
        "{csv}, line 3: found split 'val' and label '2'",
    ),
    "logit": (
        changed_row(4, lambda cells: [*cells[:4], "nan", *cells[5:]]),
        "{csv}, line 4: found 'nan'; expected a logit",
    ),
    "stress": (changed_row(2, lambda cells: [*cells[:5], *[""] * 8]), "{csv}, line 2: found ''; expected a logit"),
    "no name": (changed_row(3, lambda cells: ["", *cells[1:]]), "{csv}, line 3: found image_id ''; expected a name"),
    "only a header": (
        lambda path: path.with_suffix(".csv").write_text(",".join(CELL_COLUMNS) + "\n"),
        "{csv}, line 2: found no row of split val; expected one for each validation image",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_cell_is_refused_by_file_and_line(copied: Path, case: str) -> None:
    table = copied.with_suffix(".csv")
    last = len(table.read_text().splitlines())
    break_it, told = BROKEN[case]
    break_it(copied)
    with pytest.raises(RunError) as error:
        read_cell(copied)
    assert told.format(json=copied, csv=table, last=last) in str(error.value)
    assert "\n" not in str(error.value)


def test_image_that_stands_twice_is_refused(copied: Path) -> None:
    table = copied.with_suffix(".csv")
    lines = table.read_text().splitlines()
    lines[2] = lines[1]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=r"line 3: found image_id '.*'; expected each val image once"):
        read_cell(copied)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(data=st.data())
def test_any_damage_is_an_error_of_ours_or_leaves_a_whole_cell(kept: Path, tmp_path: Path, data: st.DataObject) -> None:
    """One stretch of bytes of either file replaced by any other."""
    for suffix in (".json", ".csv"):
        shutil.copy(kept.with_suffix(suffix), tmp_path)
    path = (tmp_path / kept.name).with_suffix(data.draw(st.sampled_from([".json", ".csv"])))
    whole = path.read_bytes()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 40)))
    path.write_bytes(whole[:begin] + data.draw(st.binary(max_size=12)) + whole[end:])
    told, cell = "", None
    try:
        cell = read_cell(tmp_path / kept.name)
    except CxrError as error:
        told = str(error)
    assert (cell is None) == (str(tmp_path / kept.stem) in told)
    if cell is not None:
        assert np.isfinite(cell.predictions["val"].logit).all()
