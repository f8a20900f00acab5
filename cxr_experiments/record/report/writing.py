"""A comparison and its facts become report.html (self-contained), report.md, comparison.csv and .tex, forest.png."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from cxr_experiments.evidence.comparison import Arm, Comparison, Difference, Estimate
from cxr_experiments.images.decode import encode_png
from cxr_experiments.record import figures
from cxr_experiments.record.report.disagreements import disagreements
from cxr_experiments.record.report.facts import StudyFacts
from cxr_experiments.record.report.methods import REFERENCES, STRESS, claim_table, methods_paragraph
from cxr_experiments.record.report.tables import (
    Table,
    changes_table,
    checks_table,
    costs_table,
    noise_table,
    results_table,
    runs_table,
    subgroups_table,
)

Films = Callable[[str], NDArray[np.uint8] | None]


def write_report(
    folder: Path, facts: StudyFacts, comparison: Comparison, arms: Sequence[Arm], *, films: Films | None = None
) -> Path:
    """Write the report's files, each under a temporary name first; an older report there is replaced.

    Args:
        folder: made when missing.
        facts: the study around the comparison.
        comparison: what was found.
        arms: the baseline and its options, as compared.
        films: image id -> (height, width) uint8 to show, or None; without it the page names images by id alone.

    Returns:
        The path of report.html.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "results": results_table(comparison, facts),
        "costs": costs_table(comparison, facts),
        "changes": changes_table(facts),
        "noise": noise_table(comparison),
        "subgroups": subgroups_table(comparison),
        "checks": checks_table(comparison),
        "runs": runs_table(comparison, facts),
        "claim": claim_table(facts, comparison),
    }
    drawn = _figures(folder, facts, comparison, arms)
    environment = Environment(
        loader=PackageLoader("cxr_experiments.record.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("page.html.j2").render(
        facts=facts,
        comparison=comparison,
        tables=tables,
        figures=drawn,
        disagreements=_shown(arms, films),
        standing=standing(facts),
        with_films=films is not None,
        methods=methods_paragraph(facts, comparison),
        stress=STRESS,
        references=REFERENCES,
        duration=hours(facts.duration_s),
    )
    write_whole(folder / "report.md", markdown(facts, comparison, tables))
    write_whole(folder / "comparison.csv", csv_text(comparison))
    write_whole(folder / "comparison.tex", latex(tables["results"], facts, comparison))
    write_whole(folder / "report.html", html)
    return folder / "report.html"


def markdown(facts: StudyFacts, comparison: Comparison, tables: dict[str, Table]) -> str:
    """The report as Markdown: command, commit, hardware and time first, then verdicts and tables."""
    mark = marks_of(facts, comparison)
    told = f"Commit {facts.commit or 'not known'}; {facts.hardware}; {hours(facts.duration_s)} of training."
    lines = [f"# {_md(facts.question or facts.name)}{mark}", "", "```", *facts.commands, "```", ""]
    lines += [_md(told), "", _md(standing(facts)), ""]
    lines += [f"- {_md(one.sentence)}" for one in comparison.differences]
    lines += ["", "![forest plot](forest.png)", "", *(f"- {_md(note)}" for note in comparison.notes), ""]
    for name in ("results", "costs", "changes", "noise", "subgroups", "checks", "runs"):
        if tables[name].rows:
            lines += [
                f"## {_md(tables[name].title)}{mark}",
                "",
                _md(tables[name].note),
                "",
                *markdown_table(tables[name]),
                "",
            ]
    if facts.noise_floor:
        lines += [f"## Noise floor{mark}", "", _md(facts.noise_floor), ""]
    if facts.failed:
        lines += ["## Left out", "", *(f"- {_md(cell)}: {_md(reason)}" for cell, reason in facts.failed), ""]
    lines += ["## Data", "", *(f"- {_md(key)}: {_md(value)}" for key, value in facts.data_card.items()), ""]
    lines += ["## Methods", "", _md(methods_paragraph(facts, comparison)), "", STRESS, ""]
    lines += [*(f"- {one}" for one in REFERENCES), ""]
    claim = tables["claim"]
    lines += [f"## {claim.title}", "", _md(claim.note), "", *markdown_table(claim)]
    return "\n".join(lines) + "\n"


def standing(facts: StudyFacts) -> str:
    """On what the study was judged, how often the test split was opened so far, and what that makes of it."""
    looks = f"Looks at the test split on record: {facts.looks}."
    looks += f" {facts.leaking}." if facts.leaking else ""
    if facts.stage != "test":
        return f"Study {facts.name}, judged on {facts.stage}; the test split was not opened for this. {looks}"
    told = f"Study {facts.name}, judged on the test split. {looks}"
    exploratory = "Exploratory: this data set was opened under another locked protocol before; this confirms nothing."
    return f"{told} {exploratory}" if facts.exploratory else told


def csv_text(comparison: Comparison) -> str:
    """One row per option at full precision; nested estimates become three columns."""
    stream = io.StringIO()
    skipped = {"checks", "subgroups"}
    names = [field.name for field in fields(Difference) if field.name not in skipped]
    rows = [_flat(one, names) for one in comparison.differences]
    whole = {
        "metric": comparison.metric,
        "split": comparison.split,
        "margin": comparison.margin,
        "synthetic": comparison.synthetic,
        "dataset_digest": comparison.dataset_digest,
    }
    writer = csv.DictWriter(stream, [*rows[0], *whole], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **whole} for row in rows)
    return stream.getvalue()


def latex(table: Table, facts: StudyFacts, comparison: Comparison) -> str:
    """The results table for a paper (booktabs)."""
    columns = " & ".join(_tex(name) for name in table.columns)
    # the braces keep a row that begins with a bracket from being read as an option of the line break before it
    body = "\n".join("{}" + " & ".join(_tex(cell) for cell in row) + r" \\" for row in table.rows)
    caption = _tex(f"{facts.name}{marks_of(facts, comparison)}. {table.note}")
    return (
        "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\\small\n"
        f"\\caption{{{caption}}}\n\\begin{{tabular}}{{{'l' * len(table.columns)}}}\n\\toprule\n"
        f"{columns} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def hours(seconds: float) -> str:
    """`1 h 32 min`, `4 min`."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _figures(folder: Path, facts: StudyFacts, comparison: Comparison, arms: Sequence[Arm]) -> dict[str, str]:
    """Base64 of each PNG; the forest stays in the folder too, for Markdown."""
    with TemporaryDirectory() as name:
        draft = Path(name)
        figures.draw_forest(draft / "forest.png", comparison)
        figures.draw_roc_overlay(draft / "roc.png", arms, synthetic=comparison.synthetic)
        figures.draw_calibration_overlay(draft / "calibration.png", arms, synthetic=comparison.synthetic)
        if facts.histories:
            figures.draw_seed_curves(draft / "curves.png", facts.histories, synthetic=comparison.synthetic)
        names = ("forest", "roc", "calibration", "curves")
        found = {one: (draft / f"{one}.png") for one in names}
        (folder / "forest.png").write_bytes(found["forest"].read_bytes())
        return {one: _base64(path.read_bytes()) if path.is_file() else "" for one, path in found.items()}


def _shown(arms: Sequence[Arm], films: Films | None) -> list[tuple[str, list[tuple[object, str]]]]:
    return [(arm.name, [(one, _film(one.image_id, films)) for one in disagreements(arms[0], arm)]) for arm in arms[1:]]


def _film(image_id: str, films: Films | None) -> str:
    film = films(image_id) if films is not None else None
    if film is None:
        return ""
    with TemporaryDirectory() as name:
        encode_png(Path(name) / "film.png", film)
        return _base64((Path(name) / "film.png").read_bytes())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _flat(one: Difference, names: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {}
    for name in names:
        value = getattr(one, name)
        if isinstance(value, Estimate):
            row |= {name if key == "value" else f"{name}_{key}": part for key, part in asdict(value).items()}
        else:
            row[name] = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return {name: "" if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def marks_of(facts: StudyFacts, comparison: Comparison) -> str:
    """` (SYNTHETIC)` and what else a reader must know before any number; "" where there is nothing."""
    flags = {"LEAKING": facts.leaking, "EXPLORATORY": facts.exploratory, "SYNTHETIC": comparison.synthetic}
    marks = [mark for mark, on in flags.items() if on]
    return f" ({', '.join(marks)})" if marks else ""


def markdown_table(table: Table) -> list[str]:
    """The rows of a table as Markdown, names escaped."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_md, cells))} |"

    return [line(table.columns), f"|{'---|' * len(table.columns)}", *map(line, table.rows)]


def _md(text: str) -> str:
    """Markdown in which names mean themselves."""
    for mark in "\\`*_<>|#$~":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("](", "]\\(").split())


def _tex(text: str) -> str:
    """LaTeX in which names mean themselves."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    special |= {mark: f"\\{mark}" for mark in "&%$#_{}"}
    minus = re.sub(r"(?<![^\s\[])-(?=[.\d])", "\u2212", " ".join(text.split()))
    return "".join({**special, "\u2212": "$-$"}.get(mark, mark) for mark in minus)


def write_whole(path: Path, text: str) -> None:
    """Under a temporary name, then renamed."""
    draft = path.with_name(f".{path.name}.partial")
    draft.write_text(text, encoding="utf-8", errors="surrogateescape")
    draft.replace(path)
