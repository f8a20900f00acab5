"""Reproduction: the list is right, what moved is told, and the quick set really comes out again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import Command

from cxr_experiments.config.compose import PACKAGE_DIR
from cxr_experiments.errors import ConfigError, RunError
from cxr_experiments.reproduce import CHECKOUT, ExpectedTable, Moved, compare_table, read_list, table_lines

LIST = CHECKOUT / "results" / "reproduce.yaml"


def test_list_names_commands_of_ours_and_committed_tables() -> None:
    listed = read_list(LIST)
    assert {one.what for one in listed.values()} == {"quick", "full"}
    for name, one in listed.items():
        assert one.reason, f"{name} says where its tolerances come from"
        for words in one.commands:
            assert (PACKAGE_DIR / f"{words.split()[0]}.py").is_file() or (PACKAGE_DIR / words.split()[0]).is_dir()
        for table in one.tables:
            committed = sorted(CHECKOUT.glob(table.expected))
            assert committed, table.expected
            for path in committed:
                with open(path, newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
                assert {table.key, *table.within, *table.equal} <= set(rows[0])
                assert set(table.rows) <= {row[table.key] for row in rows}


def test_every_report_under_results_opens_with_its_command_and_is_reproduced() -> None:
    pages = [path for path in (CHECKOUT / "results").glob("*.md")]
    assert pages
    for page in pages:
        assert page.stem in read_list(LIST), f"results/reproduce.yaml does not rerun {page.stem}"
        head = page.read_text().splitlines()[:14]
        assert any(line.startswith(("python -m cxr_experiments.", "CXR_DATA=")) for line in head), page.name
        told = " ".join(head)
        assert "ommit " in told, page.name
        assert "cores" in told, page.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo: {waht: quick}", "demo.waht: no such key; did you mean what"),
        ("demo: {what: slow}", "demo.what=slow: no such option"),
        ("demo: {tables: [{file: a, within: {auroc: wide}}]}", r"demo.tables.within.auroc=wide: expected a number"),
        ("- demo", "expected names with commands and tables"),
        ("demo: [", "cannot read"),
        ("demo: {commands: [!!python/object:os.system {}]}", "cannot read"),
    ],
)
def test_wrong_list_is_told_by_its_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "reproduce.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_list(tmp_path / "reproduce.yaml")


def test_missing_list_asks_for_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a checkout"):
        read_list(tmp_path / "reproduce.yaml")


DEMO = ExpectedTable(
    file="out.csv",
    expected="results/expected/demo.csv",
    key="arm",
    within={"difference": 0.01},
    equal=("verdict",),
)


def test_value_that_moved_beyond_its_tolerance_is_marked(tmp_path: Path) -> None:
    committed = (CHECKOUT / DEMO.expected).read_text()
    (tmp_path / "out.csv").write_text(committed)
    assert all(one.held for one in compare_table(DEMO, tmp_path))
    with open(CHECKOUT / DEMO.expected, newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    (tmp_path / "out.csv").write_text(committed.replace(row["difference"], "0.5").replace("worse", "better"))
    moved = list(compare_table(DEMO, tmp_path))
    assert [(one.column, one.held) for one in moved] == [("difference", False), ("verdict", False)]
    lines = table_lines(moved)
    assert lines[1].startswith("MOVED")
    assert "0.5000" in lines[1]


def test_empty_number_has_moved(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("arm,difference,verdict\ngap,,worse\n")
    assert [one.held for one in compare_table(DEMO, tmp_path)] == [False, True]


def test_missing_row_and_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no .*out.csv"):
        list(compare_table(DEMO, tmp_path))
    (tmp_path / "out.csv").write_text("arm,difference,verdict\nflat,0.1,worse\n")
    with pytest.raises(RunError, match="has no difference of gap"):
        list(compare_table(DEMO, tmp_path))


def test_runs_are_paired_by_their_seeds(tmp_path: Path) -> None:
    table = ExpectedTable(
        file="runs/*/scores.csv",
        expected="results/seed_study_12_epochs/*/scores.csv",
        key="name",
        rows=("val_auroc",),
        within={"value": 0.0},
    )
    committed = sorted(CHECKOUT.glob(table.expected))
    for number, path in enumerate(reversed(committed)):  # other names in another order
        (tmp_path / "runs" / str(number)).mkdir(parents=True)
        for name in ("scores.csv", "identity.json"):
            shutil.copy(path.with_name(name), tmp_path / "runs" / str(number) / name)
    found = list(compare_table(table, tmp_path))
    assert len(found) == len(committed) == 2
    assert all(one.held for one in found)
    seeds = json.loads((tmp_path / "runs" / "0" / "identity.json").read_text())
    seeds["seeds"]["init"] += 1
    (tmp_path / "runs" / "0" / "identity.json").write_text(json.dumps(seeds))
    with pytest.raises(RunError, match="has the seeds of"):
        list(compare_table(table, tmp_path))


def test_table_is_aligned() -> None:
    lines = table_lines([Moved("t.csv", "flip", "verdict", "worse", "worse", "same", True)])
    assert lines[0].index("committed") == lines[1].index("worse")


@pytest.mark.long
def test_quick_set_comes_out_again(tmp_path: Path, command: Command) -> None:
    said = command("reproduce", "what=quick", home=tmp_path, timeout_s=600)
    assert said.status == 0, said.out + said.err
    assert "came out again within their tolerance" in said.out
