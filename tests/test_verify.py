"""`verify` as a user meets it: what it prints, what it keeps, how it ends; and what it finds in the real set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, Said
from PIL import Image

SMALL = ("data=phantom", "data.num_patients=12", "tracking=disabled")


def films(root: Path, *, conflict: bool) -> Path:
    """Four gray squares in two classes; with a conflict, one file stands in both."""
    for number, gray in enumerate((40, 90, 140, 190)):
        path = root / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").point(lambda value, gray=gray: (value + gray) % 256).save(path)
    if conflict:
        shutil.copyfile(root / "NORMAL/0.png", root / "PNEUMONIA/0.png")
    return root


def test_report_is_made_once_kept_and_told_again(tmp_path: Path, command: Command) -> None:
    first = command("verify", *SMALL, f"html={tmp_path}/page (1).html", home=tmp_path)
    assert (first.status, first.err) == (0, "")
    lines = [line for line in first.out.splitlines() if line]
    assert lines[1].startswith("SYNTHETIC 0 errors, 0 warnings, ")
    assert all(line.startswith("SYNTHETIC") for line in lines[:-1])
    assert lines[-1].startswith("report: ")
    (kept,) = (tmp_path / "runs" / ".data").glob("*/report.json")
    assert (tmp_path / "page (1).html").read_bytes() == kept.with_suffix(".html").read_bytes()
    written = kept.stat().st_mtime_ns
    second = command("verify", *SMALL, f"json={tmp_path}/report.json", home=tmp_path)
    assert second.out == first.out
    assert kept.stat().st_mtime_ns == written
    assert (tmp_path / "report.json").read_bytes() == kept.read_bytes()
    third = command("verify", *SMALL, "again=true", "json=-", home=tmp_path)
    assert kept.stat().st_mtime_ns != written
    told = json.loads(third.out)
    assert told["synthetic"] is True
    assert (told["levels"]["error"], told["levels"]["warning"]) == (0, 0)


def test_error_in_the_data_ends_with_status_1(tmp_path: Path, command: Command) -> None:
    root = films(tmp_path / "films", conflict=True)
    said = command("verify", "data=folder", f"data.root={root}", "tracking=disabled", home=tmp_path)
    assert said.status == 1
    assert "ERROR label-conflict: 1 film stands in 2 files under both labels" in said.out
    assert "    NORMAL/0.png = PNEUMONIA/0.png" in said.out
    assert said.err == "verify: 1 error, 1 warning in this data set\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=folder", "data.root=/no/such/folder"), "/no/such/folder is no folder"),
        ((*SMALL, "json=/no/such/report.json"), "json=/no/such/report.json has no folder /no/such to stand in"),
        ((*SMALL, "html=/"), "html=/ is a folder: expected the name of a file"),
    ],
)
def test_mistake_is_one_line_with_status_2(
    words: tuple[str, ...], message: str, tmp_path: Path, command: Command
) -> None:
    said = command("verify", *words, home=tmp_path)
    assert said.status == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not (tmp_path / "runs").exists(), "nothing was looked at"


class Real:
    """What `verify` said of real images, and its report."""

    def __init__(self, said: Said, report: dict[str, Any]) -> None:
        self.said, self.report = said, report
        self.found = {one["code"]: one for one in report["findings"]}
        self.tables = {one["title"]: one["rows"] for one in report["tables"]}


def verify_real(command: Command, home: Path, *words: str) -> Real:
    said = command("verify", *words, f"json={home}/report.json", "tracking=disabled", home=home)
    return Real(said, json.loads((home / "report.json").read_text()))


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory, command: Command) -> Iterator[Real]:
    """The report on the official set; it holds films, so that it is removed again."""
    home = tmp_path_factory.mktemp("real")
    yield verify_real(command, home, "data=kaggle", f"data.root={real_data}")
    shutil.rmtree(home)


@pytest.mark.real_data
def test_official_set_is_what_it_is_known_to_be(real: Real) -> None:
    assert real.said.status == 0, real.said.err
    assert real.report["levels"]["error"] == 0
    assert real.report["digest"].startswith("e20ea7a1")
    assert [[*row[0:4], row[5]] for row in real.tables["Images"]] == [
        ["train", "1,341", "3,875", "5,216", "3,654"],
        ["val", "8", "8", "16", "15"],
        ["test", "234", "390", "624", "428"],
    ]


@pytest.mark.real_data
def test_no_official_patient_stands_on_both_sides_and_bare_numbers_are_explained(real: Real) -> None:
    strict, *loose = real.tables["Patients on both sides"]
    assert strict == ["strict", "family and number", "3,669", "428", "0"]
    assert [(row[1], row[4]) for row in loose] == [("bare number: IM-number", "94"), ("bare number: person", "170")]
    collisions = real.found["number-collisions"]
    assert collisions["level"] == "info"
    assert "170 person, 94 IM-number" in collisions["sentence"]
    assert "is no patient" in collisions["advice"].replace("an equal number", "")
    assert "patient-across-splits" not in real.found


@pytest.mark.real_data
def test_official_set_holds_thirty_films_twice_or_more_and_one_under_two_patients(real: Real) -> None:
    assert real.tables["Copies"] == [
        ["equal bytes", "30", "62", "0", "0", "1"],
        ["equal pixels in other bytes", "0", "0", "0", "0", "0"],
        ["near copies", "0", "0", "0", "0", "0"],
    ]
    assert len(real.found["duplicates"]["files"]) == 30
    assert sum(map(len, real.found["duplicates"]["files"])) == 62
    two = real.found["two-patients-one-image"]
    assert two["level"] == "warning"
    assert two["files"] == [["test/NORMAL/NORMAL2-IM-0095-0001.jpeg", "test/NORMAL/NORMAL2-IM-0096-0001.jpeg"]]


@pytest.mark.real_data
def test_official_normal_films_of_test_are_shifted(real: Real) -> None:
    shift = {one["within"]: one for one in real.report["associations"] if one["heading"] == "shift"}
    assert shift["NORMAL"]["low"] > 0.85
    assert shift["PNEUMONIA"]["high"] < 0.7
    assert real.found["split-shift"]["sentence"].startswith("NORMAL images of test look unlike those of training")
    assert "PNEUMONIA" not in real.found["split-shift"]["sentence"]


@pytest.mark.real_data
def test_originals_give_the_label_away_by_their_files(real_data: Path, tmp_path: Path, command: Command) -> None:
    originals = real_data.parent / "full_resolution_sample"
    if not originals.is_dir():
        pytest.skip(f"no originals in {originals}")
    told = verify_real(command, tmp_path, "data=folder", f"data.root={originals}")
    available = {one["name"]: one for one in told.report["associations"] if one["heading"] == "available"}
    sentence = told.found["shortcut-available"]["sentence"]
    for name in ("bytes", "bytes per pixel", "height", "aspect ratio"):
        assert available[name]["rings"], name
        assert f"{name} AUROC" in sentence
    assert available["bytes"]["auroc"] > 0.99
    assert available["bytes per pixel"]["auroc"] > 0.99
    assert told.said.status == 0
    shutil.rmtree(tmp_path / "runs")
