"""The report of a study: verdicts first, everything in one file, names that mean themselves, nothing shown unasked."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from simulated_arms import make_arms
from test_figures import assert_no_text_on_text

from cxr_experiments.config.schema import DataConfig, ExperimentConfig
from cxr_experiments.config.study_spec import ArmSpec
from cxr_experiments.errors import DataError
from cxr_experiments.evidence.comparison import Arm, Comparison, Overlap, compare_arms
from cxr_experiments.record.figures import draw_calibration_overlay, draw_forest, draw_roc_overlay, draw_seed_curves
from cxr_experiments.record.places import Places
from cxr_experiments.record.report import ArmFacts, StudyFacts, write_report
from cxr_experiments.record.report.disagreements import disagreements
from cxr_experiments.record.report.terminal import terminal_lines
from cxr_experiments.record.results import Costs
from cxr_experiments.study.plan import Arm as StudyArm
from cxr_experiments.study.reporting import films_of

HOSTILE = '<script>alert(1)</script>|_a_%$&#{}~^\\*![x](http://evil.example)`"'
QUESTION = "Do flips or fewer blocks matter?"


def facts_of(arms: Sequence[Arm], **changed: Any) -> StudyFacts:
    """Facts as a study gives them, for simulated arms."""
    told = [
        ArmFacts(
            name=arm.name,
            factor=arm.factor,
            overrides=("augmentation=flip",) if place else (),
            differing={"augmentation.horizontal_flip": (False, True)} if place else {},
            costs=tuple(
                Costs(4448, 784, 8, 8, 7 if place else 4, False, 480.0, 84.0 + place, 1_838_353 - place)
                for _ in arm.cells
            ),
            lowest_epochs=(7 if place else 4,) * len(arm.cells),
            tuned="at default settings, not tuned",
            run_ids=tuple(cell.run_id for cell in arm.cells),
        )
        for place, arm in enumerate(arms)
    ]
    epochs = [{"val_loss": 0.9 * math.exp(-epoch / 3) + 0.1} for epoch in range(8)]
    facts = StudyFacts(
        name="two_choices",
        question=QUESTION,
        commands=("python -m cxr_experiments.study study=two_choices",),
        commit="a33fe20a7340",
        hardware="2 cores of AMD EPYC, 23.5 GiB",
        duration_s=5520.0,
        data_card={"source": "kaggle", "digest": "e" * 64, "prepared": "64 px, squash, gray"},
        vary=("split", "init"),
        seeds=tuple(range(len(arms[0].cells))),
        folds=0,
        threshold_rule="sensitivity_at 0.95",
        stage="validation",
        looks=12,
        exploratory=False,
        arms=tuple(told),
        histories={arm.name: [epochs[: 8 - place] for place in range(len(arm.cells))] for arm in arms},
    )
    return replace(facts, **changed)


@pytest.fixture(scope="module")
def arms() -> list[Arm]:
    simulated = make_arms((-1.2, 0.0), num_seeds=4, num_patients=120, split="val")
    return [replace(arm, name=name) for arm, name in zip(simulated, ("baseline", "flip", "shallow"), strict=True)]


@pytest.fixture(scope="module")
def compared(arms: list[Arm]) -> Comparison:
    return compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01, overlap=Overlap(4448, 784))


@pytest.fixture(scope="module")
def folder(arms: list[Arm], compared: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation report of a study with all that may stand in it."""
    facts = facts_of(
        arms,
        noise_floor="The baseline against itself: AUROC differs by .0010 [-.0030, .0050].",
        failed=(("flip, repetition 5", "left out: not every arm has it"),),
    )
    return write_report(tmp_path_factory.mktemp("report") / "validation", facts, compared, arms).parent


class Page(HTMLParser):
    """A page taken apart: addresses that a browser would load, texts in order, and whether the tags close."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_folder_holds_the_report_in_every_form_and_no_draft(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", "report.md", "comparison.csv", "comparison.tex", "forest.png"}


def test_page_loads_nothing_from_anywhere(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert page.loads
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "url(" not in html
    assert "@import" not in html


def test_every_picture_of_the_page_is_a_whole_png(folder: Path) -> None:
    pictures = [base64.b64decode(address.partition(",")[2]) for address in page_of(folder).loads]
    assert len(pictures) == 4  # forest, ROC, calibration, curves
    for picture in pictures:
        Image.open(io.BytesIO(picture)).verify()
    assert (folder / "forest.png").read_bytes() == pictures[0]


def test_verdicts_come_first_and_all_that_a_report_owes_follows(folder: Path, compared: Comparison) -> None:
    text = page_of(folder).text
    at = [text.index(one.sentence) for one in compared.differences]
    assert max(at) < text.index("AUROC by arm")
    owed = (
        *("AUROC by arm", "Effect beside cost", "What each arm changes", "Where the uncertainty comes from"),
        *("Noise floor.", "Subgroups", "Curves", "Images that one arm gets right and the other wrong", "Left out"),
        *("Data", "Methods", "References", "Commands", "Sensitivity analyses", "Runs", "CLAIM checklist, 2024 update"),
    )
    place = max(at)
    for heading in owed:
        place = text.index(heading, place)


def test_numbers_have_their_n_intervals_and_run_ids(folder: Path, arms: list[Arm], compared: Comparison) -> None:
    text = page_of(folder).text
    assert "mean over 4 seeds, 120 images, 120 patient keys; margin 0.01" in text
    assert "95 % for all 2 comparisons at once" in text
    assert len(re.findall(r"-?\.\d+ \[-?\.\d+, -?\.\d+\]", text)) > 12
    for arm in arms:
        assert " ".join(cell.run_id for cell in arm.cells) in text
    for told in ("1,838,353", "1.4", "2.1", "8 of 8", "4 of 4 runs ended at their epoch limit"):
        assert told in text
    assert "augmentation.horizontal_flip: False -> True" in text
    assert "at default settings, not tuned" in text
    assert "30 / 30" in text  # a subgroup's images and patient keys


def test_report_says_where_it_was_judged_and_how_often_the_test_split_was_opened(folder: Path) -> None:
    text = page_of(folder).text
    assert (
        "judged on validation; the test split was not opened for this. Looks at the test split on record: 12." in text
    )
    assert "python -m cxr_experiments.study study=two_choices" in text
    assert "commit a33fe20a7340; 2 cores of AMD EPYC, 23.5 GiB; 1 h 32 min" in text
    assert "a seed varied split, init, and all arms shared it" in text
    assert "It does not foresee how an arm does on films from elsewhere" in text
    assert "flip, repetition 5: left out: not every arm has it" in text
    assert "EXPLORATORY" not in text
    assert "SYNTHETIC" not in text


def test_checklist_lists_what_only_its_authors_can_fill(folder: Path) -> None:
    text = page_of(folder).text
    told = re.search(r"(\d+) of 44 items are told by the study itself; its authors fill items ([\d, ]+)\.", text)
    assert told is not None
    unfilled = told[2].split(", ")
    assert len(unfilled) == 44 - int(told[1]) == text.count("to be filled by the authors")
    assert {"2", "12", "36", "44"} <= set(unfilled)
    assert not {"7", "23", "29", "37"} & set(unfilled)


def test_synthetic_and_exploratory_stand_on_every_table_and_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    arms = make_arms((0.3,), num_seeds=3, num_patients=60, synthetic=True)
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01)
    folder = write_report(tmp_path, facts_of(arms, stage="test", exploratory=True), found, arms).parent
    page = page_of(folder)
    assert "judged on the test split. Looks at the test split on record: 12. Exploratory: this data set" in page.text
    headings = page.tags.count("h2")
    assert page.text.count("EXPLORATORY") == page.text.count("SYNTHETIC") >= headings - 3  # less Data, Methods, ...
    for figure in drawn:
        assert "SYNTHETIC" in [text.get_text() for text in figure.texts]
    text = (folder / "report.md").read_text()
    for table in re.findall(r"^## (.*)\n\n.*\n\n\|", text, re.MULTILINE):
        assert table.endswith(" (EXPLORATORY, SYNTHETIC)") or table.startswith("CLAIM")
    assert "(EXPLORATORY, SYNTHETIC)" in (folder / "comparison.tex").read_text()


def test_one_seed_has_a_report_without_intervals(tmp_path: Path) -> None:
    arms = make_arms((-2.0,), num_seeds=1, num_patients=60)
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01)
    text = page_of(write_report(tmp_path, facts_of(arms, stage="test", histories={}), found, arms).parent).text
    assert "option 1: not resolved (one seed: how much training alone moves AUROC is not known" in text
    assert "(no interval)" in text
    assert "Where the uncertainty comes from" not in text
    assert "nan" not in text
    assert not any("nan" in line for line in terminal_lines(found))


def test_patients_that_are_not_known_are_said_to_be(tmp_path: Path) -> None:
    arms = make_arms((0.0,), num_seeds=2, num_patients=60)
    for arm in arms:
        for cell in arm.cells:
            cell.rows.patient[:] = ""
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01)
    text = page_of(write_report(tmp_path, facts_of(arms), found, arms).parent).text
    assert "patient independence: not verifiable; intervals are over images" in text
    assert text.count("patients not verifiable") >= 3
    assert "Subgroups" not in text


def named(arms: Sequence[Arm], name: str) -> list[Arm]:
    """The arms with a name and image ids that mean to do harm."""
    found = []
    for place, arm in enumerate(arms):
        ids = np.array([f"{name}{row}" for row in range(len(arm.cells[0].rows.label))])
        cells = tuple(replace(cell, rows=replace(cell.rows, image_id=ids)) for cell in arm.cells)
        found.append(replace(arm, name=f"{name}{place}", cells=cells))
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    arms = named(make_arms((-0.8,), num_seeds=2, num_patients=60), HOSTILE)
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01)
    facts = facts_of(arms, name=HOSTILE, question=HOSTILE, data_card={HOSTILE: HOSTILE}, failed=((HOSTILE, HOSTILE),))
    facts = replace(facts, arms=tuple(replace(arm, differing={HOSTILE: (1, HOSTILE)}) for arm in facts.arms))
    return write_report(tmp_path_factory.mktemp("hostile"), facts, found, arms).parent


def test_hostile_names_are_text_in_html(hostile: Path) -> None:
    page = page_of(hostile)
    assert "script" not in page.tags
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    assert page.text.count(HOSTILE) > 10


def test_hostile_names_are_text_in_markdown(hostile: Path) -> None:
    text = (hostile / "report.md").read_text()
    assert not re.search(r"(?<!\\)<", text)
    assert "](http" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert len(widths) > 20
    for rule in [place for place, line in enumerate(tables) if set(line) <= set("|-")]:
        width = widths[rule]
        rows = [widths[row] for row in range(rule - 1, len(tables)) if row >= rule - 1]
        assert rows[0] == rows[1] == rows[2] == width


def unescaped(tex: str) -> str:
    """LaTeX without what it escapes."""
    return re.sub(r"\\textbackslash\{\}|\\text[a-z]+\{\}|\\[&%$#_{}]|\$[<>-]\$", "", tex)


@pytest.mark.parametrize("case", ["folder", "hostile"])
def test_latex_is_balanced_and_its_rows_are_of_one_width(case: str, request: pytest.FixtureRequest) -> None:
    tex = (request.getfixturevalue(case) / "comparison.tex").read_text()
    plain = unescaped(tex)
    assert plain.count("{") == plain.count("}")
    assert not set("%#~^$<>") & set(plain.partition("\n")[2])
    body = plain[plain.index(r"\toprule") : plain.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == (4 if case == "folder" else 3)
    assert {row.count("&") for row in rows} == {7}


def test_latex_compiles(hostile: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here")
    table = (hostile / "comparison.tex").read_text()
    text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + table + "\\end{document}\n"
    (tmp_path / "x.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_minus_signs_of_numbers_are_set_as_such(folder: Path) -> None:
    tex = (folder / "comparison.tex").read_text()
    assert re.search(r"\$-\$\.\d+ \[\$-\$\.\d+, \$-\$\.\d+\]", tex)
    assert "\n{}flip & 4 & " in tex


def test_csv_keeps_full_precision(folder: Path, compared: Comparison) -> None:
    with (folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, one in zip(rows, compared.differences, strict=True):
        assert float(row["difference"]) == one.difference.value
        assert float(row["difference_low"]) == one.difference.low
        assert float(row["pointwise_high"]) == one.pointwise.high
        assert float(row["baseline_low"]) == one.baseline.low
        assert float(row["adjusted_p_value"]) == one.adjusted_p_value
        assert tuple(map(float, row["per_seed"].split())) == one.per_seed
        assert tuple(row["run_ids_option"].split()) == one.run_ids_option
        assert (row["verdict"], row["sentence"], row["arm"]) == (one.verdict, one.sentence, one.arm)
        assert (row["metric"], row["split"], float(row["margin"]), row["synthetic"]) == ("auroc", "val", 0.01, "False")


def test_csv_leaves_blank_what_is_not_defined(tmp_path: Path) -> None:
    arms = make_arms((0.0,), num_seeds=1, num_patients=60)
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.01)
    write_report(tmp_path, facts_of(arms), found, arms)
    with (tmp_path / "comparison.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["difference_low"], row["p_value"], row["degrees_of_freedom"]) == ("", "", "")


def test_markdown_opens_with_command_commit_hardware_and_time(folder: Path, compared: Comparison) -> None:
    lines = (folder / "report.md").read_text().splitlines()
    assert lines[0] == f"# {QUESTION}"
    assert lines[2:5] == ["```", "python -m cxr_experiments.study study=two_choices", "```"]
    assert lines[6] == "Commit a33fe20a7340; 2 cores of AMD EPYC, 23.5 GiB; 1 h 32 min of training."
    assert "Looks at the test split on record: 12." in lines[8]
    assert [line for line in lines[9:13] if line] == [f"- {one.sentence}" for one in compared.differences]
    assert "![forest plot](forest.png)" in lines
    for heading in ("## Runs", "## Sensitivity analyses", "## CLAIM checklist, 2024 update", "## Noise floor"):
        assert heading in lines


def test_images_that_one_arm_gets_right_are_counted_over_seeds(arms: list[Arm]) -> None:
    found = disagreements(arms[0], arms[1])
    assert 0 < len(found) <= 12
    cells = list(zip(arms[0].cells, arms[1].cells, strict=True))
    for one in found:
        right = [0, 0]
        for pair in cells:
            for side, cell in enumerate(pair):
                (row,) = np.flatnonzero(cell.rows.image_id == one.image_id)
                right[side] += (cell.rows.probability[row] >= cell.threshold) == one.label
        assert [one.baseline_right, one.option_right] == right
        assert one.num_judged == 4
    gains = [one.option_right - one.baseline_right for one in found]
    assert all(gain != 0 for gain in gains)
    first_lost = next((place for place, gain in enumerate(gains) if gain < 0), len(gains))
    assert all(gain < 0 for gain in gains[first_lost:])


def test_identical_arms_disagree_on_no_image(arms: list[Arm], tmp_path: Path) -> None:
    twin = replace(arms[0], name="twin")
    assert disagreements(arms[0], twin) == ()
    found = compare_arms(arms[0], [twin], metric="auroc", margin=0.01)
    text = page_of(write_report(tmp_path, facts_of([arms[0], twin]), found, [arms[0], twin]).parent).text
    assert "twin: equivalent, difference .000 [.000, .000] against a margin of .010" in text
    assert "so that its interval has no width" in text


def test_no_film_appears_unless_films_are_given(
    folder: Path, arms: list[Arm], compared: Comparison, tmp_path: Path
) -> None:
    plain = page_of(folder)
    assert plain.tags.count("img") == 4
    assert "films=true" in plain.text
    shown = {one.image_id for arm in arms[1:] for one in disagreements(arms[0], arm)}
    missing = sorted(shown)[0]

    def film(image_id: str) -> NDArray[np.uint8] | None:
        return None if image_id == missing else np.full((24, 24), len(image_id), dtype=np.uint8)

    page = page_of(write_report(tmp_path, facts_of(arms), compared, arms, films=film).parent)
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    pairs = [one.image_id for arm in arms[1:] for one in disagreements(arms[0], arm)]
    assert page.tags.count("img") == 4 + len(pairs) - pairs.count(missing)
    films = [Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) for address in page.loads[4:]]
    assert {image.size for image in films} == {(24, 24)}
    assert "films=true" not in page.text
    for image_id in shown:
        assert image_id in page.text


def test_report_replaces_an_older_one(arms: list[Arm], compared: Comparison, tmp_path: Path) -> None:
    write_report(tmp_path, facts_of(arms, question="old question"), compared, arms)
    write_report(tmp_path, facts_of(arms, question="new question"), compared, arms)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "new question" in text
        assert "old question" not in text


LONG = "optimizer.learning_rate=0.0003+augmentation=strong"


@pytest.mark.parametrize("effects", [(0.0,), (-1.0, 0.0, 0.4), (-1.0, 0.0, 0.4, 0.1, -0.1, 0.2, 0.05, 1.0)])
@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_no_text_lies_on_text_in_the_figures_of_a_study(
    effects: tuple[float, ...], metric: str, drawn: list[Figure], tmp_path: Path
) -> None:
    arms = make_arms(effects, num_seeds=4, num_patients=120, synthetic=True)
    arms = [*arms[:-1], replace(arms[-1], name=LONG)]
    found = compare_arms(arms[0], arms[1:], metric=metric, margin=0.01, thorough=False)
    draw_forest(tmp_path / "forest.png", found)
    if metric == "auroc":
        draw_roc_overlay(tmp_path / "roc.png", arms, synthetic=True)
        draw_calibration_overlay(tmp_path / "calibration.png", arms, synthetic=True)
        draw_seed_curves(tmp_path / "curves.png", facts_of(arms).histories, synthetic=True)
    for figure in drawn:
        figure.canvas.draw()
        assert_no_text_on_text(figure)
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as image:
            assert image.width == 750  # one column


def test_forest_draws_equal_values_and_one_seed(drawn: list[Figure], tmp_path: Path) -> None:
    for num_seeds in (1, 3):
        arms = make_arms(num_seeds=num_seeds, num_patients=40)
        twin = replace(arms[0], name="twin")
        draw_forest(tmp_path / "f.png", compare_arms(arms[0], [twin], metric="brier", margin=0.01, thorough=False))
        told = [text.get_text() for text in drawn[-1].axes[0].texts]
        assert told == [
            "twin",
            *(["one seed", "not resolved"] if num_seeds == 1 else [".000 [.000, .000]", "equivalent"]),
        ]


def test_tiny_and_separated_arms_are_drawn(tmp_path: Path) -> None:
    arms = make_arms((40.0,), num_seeds=2, num_patients=8)
    draw_roc_overlay(tmp_path / "roc.png", arms, synthetic=False)
    draw_calibration_overlay(tmp_path / "calibration.png", arms, synthetic=False)
    draw_seed_curves(tmp_path / "curves.png", {arm.name: [[{"val_loss": 0.3}]] for arm in arms}, synthetic=False)
    assert len(list(tmp_path.glob("*.png"))) == 3


def study_arm(**data: Any) -> StudyArm:
    return StudyArm(ArmSpec("baseline", "", "", ()), ExperimentConfig(data=DataConfig(**data)), {})


def test_films_are_the_prepared_images_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    arm = study_arm(source="phantom", num_patients=6, image_size_px=32)
    store = Places().store(arm.config)
    film = films_of(arm, store.manifest.digest)
    for number, row in enumerate(store.manifest.rows):
        assert np.array_equal(film(row.image_id), store.images[number, :, :, 0])
    assert film("no such image") is None


def test_films_that_are_not_here_or_not_the_studys_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    with pytest.raises(DataError) as error:
        films_of(study_arm(source="kaggle", root=str(tmp_path / "nowhere")), "d" * 64)
    assert "films=true: the report without films is written, the films are not here: " in str(error.value)
    assert str(tmp_path / "nowhere") in str(error.value)
    with pytest.raises(DataError, match=r"phantom gives data set [0-9a-f]{12}, not the study's"):
        films_of(study_arm(source="phantom", num_patients=6, image_size_px=32), "d" * 64)


def test_a_leaking_split_stands_at_the_head_of_the_report_and_on_every_table(tmp_path: Path, arms: list[Arm]) -> None:
    leak = "LEAKING (split=image_level): 330 of 800 validation images (41 %) are of patients in training"
    found = compare_arms(arms[0], arms[1:], metric="auroc", margin=0.02)
    folder = write_report(tmp_path, facts_of(arms, leaking=leak), found, arms).parent
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text().replace("\\", "")
        assert leak in text
        assert text.count("LEAKING") > 5
