"""Which declared level belongs to which line of the gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.evidence.shortcuts.association import Association, newcombe_interval

SWAP, BORDER, CENTRE, THUMBNAIL, MODEL = "border swap", "border alone", "centre alone", "16 x 16 thumbnail", "the model"


def level_of(heading: str, name: str, shortcuts: ShortcutsConfig) -> float | None:
    """What the lower end of the interval must pass for the alarm to ring; None for what is only shown."""
    named = {("used", SWAP): shortcuts.swap_auroc, ("probe", BORDER): shortcuts.border_auroc}
    whole = {"available": shortcuts.available_auroc, "visible": shortcuts.visible_auroc, "used": shortcuts.used_auroc}
    return named.get((heading, name), whole.get(heading))


def unjudgeable(found: Sequence[Association]) -> tuple[str, ...]:
    """Headings with numbers under which no alarm could ring, were its shortcut perfect: too few images or patients.

    A perfect one has an AUROC of 1, and with as many units in either group the narrowest interval.
    """
    silent = []
    for heading in dict.fromkeys(one.heading for one in found):
        judged = [one for one in found if one.heading == heading and one.level is not None and one.auroc == one.auroc]
        if judged and not any(_can_ring(one, family=len(judged)) for one in judged):
            silent.append(heading)
    return tuple(silent)


def _can_ring(one: Association, *, family: int) -> bool:
    half = (one.num_patients or one.num_images) // 2
    if half < 2 or one.level is None:
        return False
    low, _ = newcombe_interval(1.0, half, half, family=family)
    return (1 - math.sqrt(2) * (1 - low) if one.name == SWAP else low) > one.level  # a swap subtracts two AUROCs


def at_levels(associations: Iterable[Association], levels: ShortcutsConfig) -> tuple[Association, ...]:
    """The same numbers, judged at these levels."""
    return tuple(replace(one, level=level_of(one.heading, one.name, levels)) for one in associations)
