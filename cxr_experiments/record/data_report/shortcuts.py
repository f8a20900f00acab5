"""The shortcut gate's numbers that need no model, as findings and tables: available, visible, exposure and shift."""

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
# Opacities change a film's exposure as well.  Where the lower end passes this, disease alone is an unlikely reason:
# Kermany's films tell their label by contrast or sharpness at .70 [.68, .73], by brightness at .52 (5,232 images).
STRONG_EXPOSURE = 0.75

_NOTES = {
    "available": "How well a property of the files alone tells the label, before one pixel is read. Test images of the "
    "source are left out.",
    "visible": "How well the prepared pixels tell whether a property is high or low, within a class: whether a network "
    "could see it. Properties that are constant there, or not known, are left out.",
    "exposure": "How well brightness (mean gray), contrast (its standard deviation) or sharpness of whole films tells "
    "the label. Disease changes them too. Test images of the source are left out.",
    "shift": "How well the pixels tell the source's test images from its others, within a class; .5 is no difference.",
}
_TITLES = {
    "available": "Available shortcuts",
    "visible": "Visible shortcuts",
    "exposure": "Exposure by class",
    "shift": "Shift from training to test",
}


def check_shortcuts(associations: Sequence[Association]) -> list[Finding]:
    """One warning for all alarms of a heading and class; too few images to judge is said, not passed over."""
    found = []
    for within in dict.fromkeys(one.within for one in associations):
        own = [one for one in associations if one.within == within]
        found += _alarms(within, own)
    return found


def shortcut_tables(associations: Sequence[Association]) -> list[Table]:
    """One table per heading that has lines."""
    lines = {heading: [one for one in associations if one.heading == heading] for heading in _TITLES}
    lines["visible"] = [one for one in lines["visible"] if not math.isnan(one.auroc)]
    return [_table(heading, own) for heading, own in lines.items()]


def told(one: Association) -> str:
    """`.998 [.997, .999]`, or a dash."""
    if math.isnan(one.auroc):
        return "-"
    if math.isnan(one.low):
        return f"{number(one.auroc)} (no interval)"
    return f"{number(one.auroc, places(one.low, one.high))} {limits(one.low, one.high)}"


def _alarms(within: str, lines: Sequence[Association]) -> list[Finding]:
    """What one class, or both together (""), gives rise to."""
    found = []
    if rings := [one for one in lines if one.heading == "available" and one.rings]:
        sentence = f"files tell the label before one pixel is read: {_listed(rings)}"
        advice = "See whether the pixels show it (shortcut-visible) and whether a run uses it (evaluate)."
        found.append(Finding(WARNING, "shortcut-available", sentence, advice))
    if rings := [one for one in lines if one.heading == "visible" and one.rings]:
        sentence = f"the pixels of {within} images tell properties of the files: {_listed(rings)}"
        advice = "A network can use them: compare data.resize=squash, pad and crop, and read `used` under evaluate."
        found.append(Finding(WARNING, "shortcut-visible", sentence, advice))
    if strong := [one for one in lines if one.heading == "exposure" and one.low > STRONG_EXPOSURE]:
        sentence = f"films of the two classes are exposed or processed differently: {_listed(strong)}"
        advice = (
            "Find out why, and read stress validation (exposure, contrast, blur): a network need see no lungs for this."
        )
        found.append(Finding(WARNING, "exposure-tells-label", sentence, advice))
    if strong := [one for one in lines if one.heading == "shift" and one.low > STRONG_SHIFT]:
        sentence = f"{within} images of test look unlike those of training: {_listed(strong)}"
        advice = "Expect threshold and calibration to move between validation and test; report both splits."
        found.append(Finding(WARNING, "split-shift", sentence, advice))
    if few := [one for one in lines if one.level is not None and not math.isnan(one.auroc) and math.isnan(one.low)]:
        names = ", ".join(one.label for one in few)
        sentence = f"too few images or patients to judge {names}"
        found.append(Finding(INFO, "shortcut-not-judged", sentence, "Nothing: more images are needed to judge it."))
    return found


def _listed(lines: Sequence[Association]) -> str:
    """`bytes AUROC .998 [.997, .999] (smaller in PNEUMONIA), height ...; 160 images, patients not verifiable`."""
    named = [f"{one.name} AUROC {told(one)}{f' ({one.note})' if one.note else ''}" for one in lines]
    patients = f"{lines[0].num_patients:,} patient keys" if lines[0].num_patients else "patients not verifiable"
    return f"{', '.join(named)}; {lines[0].num_images:,} images, {patients}"


def _table(heading: str, lines: Sequence[Association]) -> Table:
    """Columns that say nothing under a heading (class, level, note) are left out."""
    with_class, judged = heading in ("visible", "shift"), heading in ("available", "visible")
    with_note = heading != "shift"
    rows = tuple(
        (
            one.name,
            *((one.within,) if with_class else ()),
            told(one),
            f"{one.num_images:,} / {one.num_patients:,}" if one.num_patients else f"{one.num_images:,}",
            *((f"{one.level:g}", "rings" if one.rings else "-") if judged else ()),
            *((one.note or "-",) if with_note else ()),
        )
        for one in lines
    )
    columns = (
        "what" if heading == "shift" else "measure" if heading == "exposure" else "property",
        *(("within",) if with_class else ()),
        "AUROC [95 %]",
        "images / patient keys",
        *(("level", "alarm") if judged else ()),
        *(("note",) if with_note else ()),
    )
    return Table(_TITLES[heading], _NOTES[heading], columns, rows)
