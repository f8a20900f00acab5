"""What a report is told beside the comparison: what was asked, what was trained, on what, where and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cxr_experiments.record.results import Costs

Histories = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]


@dataclass(frozen=True)
class ArmFacts:
    """One arm: its overrides, keys that differ (baseline's value, its own), costs and run ids in seed order, tuning.

    `lowest_epochs`, from 0, are those of the lowest validation loss, which `training.keep=last` passes over.
    """

    name: str
    factor: str
    overrides: tuple[str, ...]
    differing: Mapping[str, tuple[Any, Any]]
    costs: tuple[Costs, ...]
    lowest_epochs: tuple[int, ...]
    tuned: str
    run_ids: tuple[str, ...]

    @property
    def warning(self) -> str:
        """Said when a run ended at its epoch limit: it may not have converged."""
        ended = sum(one.epochs_run >= one.epoch_limit and not one.stopped_early for one in self.costs)
        late = sum(
            epoch >= one.epoch_limit - 1 and not one.stopped_early
            for one, epoch in zip(self.costs, self.lowest_epochs, strict=True)
        )
        if not ended:
            return ""
        return f"{ended} of {len(self.costs)} runs ended at their epoch limit, {late} had their best epoch there"


@dataclass(frozen=True)
class StudyFacts:
    """The study around a comparison; `stage` is "validation" or "test", `looks` the test ledger's count.

    `leaking` says by how much the split lets patients stand on both sides; "" when it does not.
    """

    name: str
    question: str
    commands: tuple[str, ...]
    commit: str
    hardware: str
    duration_s: float
    data_card: Mapping[str, str]
    vary: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: int
    threshold_rule: str
    stage: str
    looks: int
    exploratory: bool
    arms: tuple[ArmFacts, ...]
    failed: tuple[tuple[str, str], ...] = ()
    noise_floor: str = ""
    leaking: str = ""
    histories: Histories = field(default_factory=dict)
