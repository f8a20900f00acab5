"""From a study's cells on disk to arms that can be compared; nothing is trained, and no image is needed.

Cells are found by what they were configured with, so that a clone without images can judge them again, and a study
whose file has changed since does not mix the cells of both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cxr_experiments.config.compose import home
from cxr_experiments.config.identity import Identity, identify
from cxr_experiments.errors import RunError
from cxr_experiments.evidence.comparison import Arm, Cell, Rows
from cxr_experiments.record.cells import StoredCell, cell_files, read_cell
from cxr_experiments.study.plan import AskedCell

Key = tuple[str, int]  # arm, position


@dataclass(frozen=True)
class Trained:
    """What only the machine that trained knows: the run that answers each cell, and why others failed, by label."""

    run_ids: Collection[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


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


def answers(
    stored: Sequence[StoredCell], asked: Iterable[AskedCell], run_ids: Collection[str]
) -> dict[Key, StoredCell]:
    """The stored cell that answers each asked one, under its present name; what nothing answers is left out.

    Args:
        stored: cells of one stage.
        asked: by the study as it stands.
        run_ids: of the answers where they are known; else cells answer by their config and seeds.

    Raises:
        RunError: two answer one, of different data sets, code or versions.
    """
    found: dict[Key, StoredCell] = {}
    for one in asked:
        wanted = identify(one.config, "", "")
        fits = [cell for cell in stored if _answers(cell, wanted) and (not run_ids or cell.run_id in run_ids)]
        current = [cell for cell in fits if _same_software(cell, wanted)]
        fits = current if len(fits) > 1 and current else fits
        if len(fits) > 1:
            told = " and ".join(f"{cell.run_id}.json" for cell in fits)
            raise RunError(
                f"{one.label} is answered by {told} (data set, code or versions differ): take one out of "
                f"{home() / 'results' / one.card.study / one.card.stage}"
            )
        if fits:
            card = {name: value for name, value in vars(one.card).items() if name not in ("study", "stage")}
            found[one.card.arm, one.card.position] = replace(fits[0], facts={**fits[0].facts, **card})
    return found


def _answers(cell: StoredCell, wanted: Identity) -> bool:
    """A leaf that did not exist when the cell was trained is no difference."""
    identity: Mapping[str, Any] = cell.facts["identity"]
    same = all(identity["config"].get(key, value) == value for key, value in wanted.config.items())
    return same and identity["seeds"] == wanted.seeds


def _same_software(cell: StoredCell, wanted: Identity) -> bool:
    identity = cell.facts["identity"]
    return (identity["source_digest"], identity["versions"]) == (wanted.source_digest, wanted.versions)


def paired_arms(
    cells: Mapping[Key, StoredCell], asked: Sequence[AskedCell], split: str, failed: Mapping[str, str]
) -> Judged:
    """The arms (the baseline first) over the repetitions that every one of them has.

    An arm without any cell is left out, and so is a repetition that an arm lacks; `left_out` says so of each cell.

    Args:
        cells: the answers to `asked`.
        asked: every cell of the study, by position, then arm.
        split: "val" or "test".
        failed: label -> why it could not be trained, as far as known.

    Raises:
        RunError: the baseline, or every option, has no cell; no repetition is complete.
    """
    there = {key: cell for key, cell in cells.items() if split in cell.predictions}
    names = list(dict.fromkeys(one.card.arm for one in asked))
    shown = [name for name in names if any(name == arm for arm, _ in there)]
    positions = range(1 + max(one.card.position for one in asked))
    complete = [position for position in positions if all((name, position) in there for name in shown)]
    if names[0] not in shown or len(shown) < 2 or not complete:
        missing = ", ".join(name for name in names if name not in shown) or "the same repetitions of every arm"
        raise RunError(f"nothing can be compared: no {split} cell yet for {missing}")
    left_out = []
    for one in asked:
        if (one.card.arm, one.card.position) not in there:
            left_out.append((one.label, failed.get(one.label, "no cell")))
        elif one.card.position not in complete:
            left_out.append((one.label, "left out: not every arm has this repetition"))
    by_arm = {name: tuple(there[name, position] for position in complete) for name in shown}
    return Judged(tuple(arm_of(by_arm[name], split) for name in shown), by_arm, tuple(left_out))


def cell_of(stored: StoredCell, split: str) -> Cell:
    """A stored cell as the comparison takes it."""
    predictions, facts = stored.predictions[split], stored.facts
    train = stored.predictions.get("train")
    identity = facts["identity"]
    return Cell(
        run_id=stored.run_id,
        seed=int(facts["position"]),
        split=split,
        rows=Rows.of(predictions),
        dataset_digest=str(identity["dataset_digest"]),
        synthetic=bool(facts["synthetic"]),
        threshold=float(facts["threshold"]["value"]),
        stress=stored.stressed.logits if stored.stressed is not None and split == "val" else {},
        train=Rows.of(train) if train is not None and split == "val" else None,
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
