"""Which declared level belongs to which line of the gate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.evidence.shortcuts.association import Association

SWAP, BORDER, CENTRE, THUMBNAIL, MODEL = "border swap", "border alone", "centre alone", "16 x 16 thumbnail", "the model"


def level_of(heading: str, name: str, shortcuts: ShortcutsConfig) -> float | None:
    """What the lower end of the interval must pass for the alarm to ring; None for what is only shown."""
    named = {("used", SWAP): shortcuts.swap_auroc, ("probe", BORDER): shortcuts.border_auroc}
    whole = {"available": shortcuts.available_auroc, "visible": shortcuts.visible_auroc, "used": shortcuts.used_auroc}
    return named.get((heading, name), whole.get(heading))


def at_levels(associations: Iterable[Association], levels: ShortcutsConfig) -> tuple[Association, ...]:
    """The same numbers, judged at these levels."""
    return tuple(replace(one, level=level_of(one.heading, one.name, levels)) for one in associations)
