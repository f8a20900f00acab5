"""The shortcut gate's numbers that need no model, as findings and tables: available, visible, and shift."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cxr_experiments.evidence.comparison.verdicts import number, places
from cxr_experiments.evidence.shortcuts import Association
from cxr_experiments.record.data_report.finding import INFO, WARNING, Finding
from cxr_experiments.record.report.tables import Table, limits

# Where the lower end of the shift's interval passes this, a network's threshold and calibration are not those of test:
# Kermany's NORMAL films stand at .9 and lose a third of their specificity, its PNEUMONIA films at .6 and lose nothing.
STRONG_SHIFT = 0.75

_NOTES = {
    "available": "How well a property of the files alone tells the label, before one pixel is read. Test images of the "
    "source are left out.",
    "visible": "How well the prepared pixels tell whether a property is high or low, within a class: whether a network "
    "could see it.",
    "shift": "How well the pixels tell the source's test images from its others, within a class; .5 is no difference.",
}
_TITLES = {"available": "Available shortcuts", "visible": "Visible shortcuts", "shift": "Shift from training to test"}


def check_shortcuts(associations: Sequence[Association]) -> list[Finding]:
    """One warning per alarm that rings; too few patients to judge is said, not passed over."""
    return [finding for one in associations if (finding := _judged(one)) is not None]


def shortcut_tables(associations: Sequence[Association]) -> list[Table]:
    """One table per heading that has lines."""
    return [_table(heading, [one for one in associations if one.heading == heading]) for heading in _TITLES]


def told(one: Association) -> str:
    """`.998 [.997, .999]`, or a dash."""
    if math.isnan(one.auroc):
        return "-"
    return f"{number(one.auroc, places(one.low, one.high))} {limits(one.low, one.high)}"


def _judged(one: Association) -> Finding | None:
    where = f" in {one.within}" if one.within else ""
    basis = f"AUROC {told(one)}, {one.num_images:,} images{_patients(one)}"
    if one.heading == "available" and one.rings:
        sentence = f"{_named(one.name)} the label: {basis}{f', {one.note}' if one.note else ''}"
        advice = "See whether it is visible below and used by a run (evaluate); say it beside every result."
        return Finding(WARNING, "shortcut-available", sentence, advice)
    if one.heading == "visible" and one.rings:
        sentence = f"the pixels tell {one.name}{where}: {basis}"
        advice = "A network can use it: compare data.resize=squash, pad and crop, and read `used` under evaluate."
        return Finding(WARNING, "shortcut-visible", sentence, advice)
    if one.heading == "shift" and one.low > STRONG_SHIFT:
        sentence = f"{one.within} images of test look unlike those of training: {basis}"
        advice = "Expect threshold and calibration to move between validation and test; report both splits."
        return Finding(WARNING, "split-shift", sentence, advice)
    if one.level is not None and not math.isnan(one.auroc) and math.isnan(one.low):
        sentence = f"{one.label}: too few {'patients' if one.num_patients else 'images'} for an interval ({basis})"
        return Finding(INFO, "shortcut-not-judged", sentence, "Nothing: more images are needed to judge it.")
    return None


def _named(name: str) -> str:
    """The property as the subject of `... the label`."""
    return "all file properties together tell" if name == "all together" else f"file property `{name}` tells"


def _patients(one: Association) -> str:
    return f", {one.num_patients:,} patient keys" if one.num_patients else ", patients not verifiable"


def _table(heading: str, lines: Sequence[Association]) -> Table:
    rows = tuple(
        (
            one.name,
            *((one.within,) if heading != "available" else ()),
            told(one),
            f"{one.num_images:,} / {one.num_patients:,}" if one.num_patients else f"{one.num_images:,}",
            *(
                (f"{one.level:g}" if one.level is not None else "-", "rings" if one.rings else "-")
                if heading != "shift"
                else ()
            ),
            *((one.note or "-",) if heading != "shift" else ()),
        )
        for one in lines
    )
    columns = (
        "property" if heading != "shift" else "what",
        *(("within",) if heading != "available" else ()),
        "AUROC [95 %]",
        "images / patient keys",
        *(("level", "alarm", "note") if heading != "shift" else ()),
    )
    return Table(_TITLES[heading], _NOTES[heading], columns, rows)
