"""Images that one arm gets right and the other wrong, in how many of the seeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cxr_experiments.evidence.comparison import Arm, Cell

NUM_SHOWN = 6


@dataclass(frozen=True)
class Disagreement:
    """An image, its label, and in how many of the seeds that judged it each arm was right at its frozen threshold."""

    image_id: str
    label: int
    num_judged: int
    baseline_right: int
    option_right: int


def disagreements(baseline: Arm, option: Arm) -> tuple[Disagreement, ...]:
    """The images on which the two arms differ most often, at most six for either side, most frequent first."""
    judged, before, after = Counter[str](), Counter[str](), Counter[str]()
    labels: dict[str, int] = {}
    for one, other in zip(baseline.cells, option.cells, strict=True):
        labels |= dict(zip(one.rows.image_id.tolist(), one.rows.label.tolist(), strict=True))
        judged.update(one.rows.image_id.tolist())
        before.update(_right(one))
        after.update(_right(other))
    found = [Disagreement(image, labels[image], judged[image], before[image], after[image]) for image in labels]
    found.sort(key=lambda one: (-abs(one.option_right - one.baseline_right), one.image_id))
    gained = [one for one in found if one.option_right > one.baseline_right][:NUM_SHOWN]
    lost = [one for one in found if one.option_right < one.baseline_right][:NUM_SHOWN]
    return (*gained, *lost)


def _right(cell: Cell) -> list[str]:
    called = cell.rows.probability >= cell.threshold
    return [str(image) for image in cell.rows.image_id[called == (cell.rows.label == 1)]]
