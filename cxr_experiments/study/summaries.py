"""A study's arms in MLflow: one summary run each, beside the runs of their cells."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cxr_experiments.config.compose import home, leaf_values
from cxr_experiments.config.study_spec import StudyConfig
from cxr_experiments.record import console
from cxr_experiments.record.cells import StoredCell
from cxr_experiments.record.summary import CellRuns, summarise, tell_cells
from cxr_experiments.study.judge import arm_of
from cxr_experiments.study.plan import Arm


def tell_arms(name: str, config: StudyConfig, arms: Sequence[Arm], stored: Sequence[Sequence[StoredCell]]) -> None:
    """Write a summary of each arm into MLflow, in place of any earlier one of that arm, and print where they are.

    A tracker that fails costs one warning line.

    Args:
        name: of the study.
        config: its spec and switches.
        arms: as composed, the baseline first.
        stored: the judged cells of each arm, in the same order.
    """
    keys = list(dict.fromkeys(key for arm in arms for key in arm.differing))
    cells = [summarise(_runs_of(name, config, arm, own, keys)) for arm, own in zip(arms, stored, strict=True)]
    experiment_name = str(stored[0][0].facts["experiment_name"])
    if link := tell_cells(config.tracking, home(), experiment_name, cells, replaces_any=True):
        console.say(f"compare the arms: make ui, then http://127.0.0.1:5000/{link}")


def has_place(config: StudyConfig) -> bool:
    """Whether MLflow is somewhere already: judging stored cells again, as on a clone, makes no database for it."""
    return config.tracking.kind != "local" or (home() / "mlruns" / "mlflow.db").is_file()


def _runs_of(name: str, config: StudyConfig, arm: Arm, stored: Sequence[StoredCell], keys: Sequence[str]) -> CellRuns:
    """One arm's cells; test rows count once every cell has them."""
    splits = ("val", "test") if all("test" in cell.predictions for cell in stored) else ("val",)
    values = leaf_values(arm.config)
    return CellRuns(
        name=arm.spec.name,
        key=hashlib.sha256(f"{name}\n{arm.spec.name}".encode()).hexdigest()[:32],
        arms={split: arm_of(stored, split) for split in splits},
        num_seeds=len({cell.facts["seed"] for cell in stored}),
        num_folds=config.study.folds,
        params={key: str(values[key]) for key in keys},
        tags={"study": name, "factor": arm.spec.factor, "option": arm.spec.option},
        source=arm.config.data.source,
    )
