"""From a study's cells to its comparison and report; nothing is trained, and no image is needed.

Cells are found by what they are (arm, seed, fold and config), so that a clone without images can judge them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr_experiments.config.compose import home
from cxr_experiments.errors import RunError
from cxr_experiments.evidence.comparison import Arm, Cell, Rows
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.record.cells import StoredCell, cell_files, read_cell


@dataclass(frozen=True, eq=False)
class Judged:
    """The cells of a study by arm, in the order of the study, complete repetitions only."""

    arms: tuple[Arm, ...]
    stored: Mapping[str, tuple[StoredCell, ...]]
    left_out: tuple[tuple[str, str], ...]


def read_stage(name: str, stage: str = "cells") -> tuple[StoredCell, ...]:
    """Every cell under results/<name>/<stage>/.

    Raises:
        RunError: one cannot be read.
    """
    return tuple(read_cell(path) for path in cell_files(home() / "results" / name / stage))


def paired_arms(stored: Sequence[StoredCell], names: Sequence[str], split: str) -> Judged:
    """The arms that `names` lists (the baseline first), over the repetitions that every one of them has.

    Args:
        stored: cells of one study.
        names: arms in the order of the study.
        split: "val" or "test".

    Raises:
        RunError: no repetition is complete.
    """
    found = {(cell.facts["arm"], int(cell.facts["position"])): cell for cell in stored if split in cell.predictions}
    positions = sorted({position for _, position in found})
    complete = [position for position in positions if all((name, position) in found for name in names)]
    left_out = tuple(
        (f"{name}, repetition {position + 1}", "left out: not every arm has it")
        for position in positions
        if position not in complete
        for name in names
        if (name, position) in found
    )
    if not complete:
        missing = ", ".join(name for name in names if not any((name, position) in found for position in positions))
        raise RunError(f"no repetition is there for every arm; nothing yet for: {missing or 'the same seeds'}")
    by_arm = {name: tuple(found[name, position] for position in complete) for name in names}
    return Judged(tuple(arm_of(by_arm[name], split) for name in names), by_arm, left_out)


def cell_of(stored: StoredCell, split: str) -> Cell:
    """A stored cell as the comparison takes it."""
    predictions, facts = stored.predictions[split], stored.facts
    train = stored.predictions.get("train")
    identity = facts["identity"]
    return Cell(
        run_id=stored.run_id,
        seed=int(facts["position"]),
        split=split,
        rows=_rows(predictions),
        dataset_digest=str(identity["dataset_digest"]),
        synthetic=bool(facts["synthetic"]),
        threshold=float(facts["threshold"]["value"]),
        stress=stored.stressed.logits if stored.stressed is not None and split == "val" else {},
        train=_rows(train) if train is not None and split == "val" else None,
        config={**identity["config"], **{f"seeds.{name}": value for name, value in identity["seeds"].items()}},
        replicate=int(identity["replicate"]),
    )


def arm_of(cells: Sequence[StoredCell], split: str) -> Arm:
    """Stored cells of one arm as the comparison takes them."""
    facts = cells[0].facts
    return Arm(
        name=str(facts["arm"]),
        cells=tuple(cell_of(cell, split) for cell in cells),
        factor=str(facts["factor"]),
        changed=tuple(facts["changed"]),
    )


def _rows(predictions: Predictions) -> Rows:
    return Rows(
        image_id=predictions.image_id,
        patient=predictions.patient,
        label=predictions.label,
        logit=predictions.logit,
        probability=predictions.probability,
    )
