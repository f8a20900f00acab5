"""The shortcut gate of a run as it is kept and shown: shortcuts.csv, border_swap.csv, a table, a tag in MLflow.

The first result of a run stays: judged again, the same numbers are read back, at other levels if other levels are
given.  What belongs to the data alone is computed once and lies beside the prepared images.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.errors import RunError
from cxr_experiments.evidence.shortcuts import (
    Association,
    Gate,
    at_levels,
    of_data,
    read_associations,
    unjudgeable,
    write_associations,
    write_swapped,
)
from cxr_experiments.images.store import Store
from cxr_experiments.record import console
from cxr_experiments.record.run_folder import RunFolder

FILES = ("shortcuts.csv", "border_swap.csv")
CLEAN = "clean"
NOT_JUDGED = "not judged"
# The name changes when what is computed changes, so that nobody meets an older answer.
_OF_DATA = "shortcuts_1.csv"
_HEADINGS = {
    "available": "available (the files alone tell the label)",
    "visible": "visible (the pixels tell a property of the file)",
    "used": "used (the score follows it)",
    "probe": "probes (what a small classifier makes of the same rows)",
}


def of_data_once(store: Store, levels: ShortcutsConfig) -> tuple[Association, ...]:
    """Available and visible, computed for the first run on these prepared images and read by the next ones."""
    path = store.path / _OF_DATA
    if path.is_file():
        with contextlib.suppress(RunError):  # damaged: computed again
            return at_levels(read_associations(path), levels)
    found = of_data(store, levels)
    with contextlib.suppress(OSError):  # a store that others own and we may not write: computed again the next time
        write_associations(path, found)
    return found


def keep_gate(folder: RunFolder, gate: Gate, data: Sequence[Association]) -> None:
    """Write shortcuts.csv and border_swap.csv; a run that has them keeps its own."""
    if folder.file("shortcuts.csv").is_file():
        return
    write_swapped(folder.file("border_swap.csv"), gate.swapped)
    write_associations(folder.file("shortcuts.csv"), [*data, *gate.found])


def read_gate(folder: RunFolder, levels: ShortcutsConfig | None = None) -> tuple[Association, ...]:
    """What the gate found for this run, at these levels or at those of the first time; empty without a gate."""
    path = folder.file("shortcuts.csv")
    found = read_associations(path) if path.is_file() else ()
    return found if levels is None else at_levels(found, levels)


def told_alarms(found: Sequence[Association]) -> str:
    """The alarms that ring; else `clean`, or under which headings none could; what MLflow shows as cxr.shortcuts."""
    if not found:
        return NOT_JUDGED
    if alarms := [one.label for one in found if one.rings]:
        return "; ".join(alarms)
    silent = unjudgeable(found)
    return f"{NOT_JUDGED}: {', '.join(silent)} (too few images or patients for any alarm to ring)" if silent else CLEAN


def say_gate(folder: RunFolder, levels: ShortcutsConfig, *, synthetic: bool) -> None:
    """The short table under its headings, then which alarms ring."""
    first, found = read_gate(folder), read_gate(folder, levels)
    if not found:
        told = "shortcut gate: not judged, this run was scored before there was one; its test images stay shut"
        console.say(told, synthetic=synthetic)
        return
    console.say("\n".join(gate_table(found)), synthetic=synthetic)
    console.say(f"shortcut alarms: {told_alarms(found)}", synthetic=synthetic)
    if first != found:
        told = f"at the first judgement's own levels: {told_alarms(first)}; shortcuts.csv keeps those"
        console.say(told, synthetic=synthetic)


def gate_table(found: Sequence[Association]) -> list[str]:
    """Aligned lines under the headings: all that rings, the largest of the rest, and how many more there are."""
    over = "patients" if any(one.num_patients for one in found) else "images (patients not verifiable)"
    lines = [f"shortcut gate, 95 % intervals over {over}; an alarm rings when the lower end passes its level"]
    for heading, title in _HEADINGS.items():
        own = [one for one in found if one.heading == heading]
        numbers = [one for one in own if not math.isnan(one.auroc)]
        shown = numbers if heading == "probe" else _short(numbers)
        lines.append(f"  {title}{'' if numbers else ': nothing to measure'}")
        lines += [f"    {line}" for line in _aligned(shown)]
        if len(numbers) > len(shown):
            lines.append(f"    {len(numbers) - len(shown)} more below their level: shortcuts.csv")
        if reasons := [f"{', '.join(names)} ({why})" for why, names in _unmeasured(own).items()]:
            lines.append(f"    no number: {'; '.join(reasons)}")
    return lines


def _short(numbers: Sequence[Association]) -> list[Association]:
    """What rings, the border swap, and the largest of the others, in their order."""
    quiet = [one for one in numbers if not one.rings and one.name != "border swap"]
    largest = max(quiet, key=lambda one: one.auroc, default=None)
    return [one for one in numbers if one.rings or one.name == "border swap" or one is largest]


def _unmeasured(own: Sequence[Association]) -> dict[str, list[str]]:
    """Why -> what has no number for that reason, each name once."""
    reasons: dict[str, list[str]] = {}
    for one in own:
        if math.isnan(one.auroc):
            names = reasons.setdefault(one.note or "a group is missing", [])
            names += [one.name] if one.name not in names else []
    return reasons


def _aligned(shown: Sequence[Association]) -> list[str]:
    rows = []
    for one in shown:
        what = "difference" if one.name == "border swap" else "AUROC"
        interval = "no interval" if math.isnan(one.low) else f"[{one.low:.3f}, {one.high:.3f}]"
        patients = f"{one.num_patients} patients" if one.num_patients else ""
        level = "" if one.level is None else f"level {one.level:g}"
        name = f"{one.name}{f' in {one.within}' if one.within else ''}"
        number = f"{what} {one.auroc:.3f} {interval}"
        rows.append((name, number, f"{one.num_images} images", patients, level, "RINGS" if one.rings else "", one.note))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(6)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    ]
