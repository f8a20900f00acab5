"""Proof that each factor takes effect: baseline and variants are built and compared before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_experiments.errors import ConfigError
from cxr_experiments.study.plan import Arm, Plan, at_seed

if TYPE_CHECKING:
    from cxr_experiments.learning.effect import Effects

NUM_FILMS = 32
# What keys of a group may change.  A network's shape follows from the size of its images.
MAY_CHANGE = {
    "data": {"films", "batch", "graph"},
    "split": {"films", "batch"},
    "augmentation": {"batch"},
    "depth": {"graph"},
    "pooling": {"graph"},
    "optimizer": {"optimizer", "schedule"},
    "schedule": {"schedule"},
    "imbalance": {"training"},
    "training": {"training", "schedule", "graph"},
    "pipeline": {"training"},
    "threshold": {"training"},
}
# Read by training without a trace in what is built: who is held out, and how the files are read.
NOT_BUILT = ("data.val_fraction", "data.num_folds", "data.fold", "data.patient_rule", "data.on_bad_file")


def prove_effects(plan: Plan) -> list[str]:
    """One line per arm that says what it changes, beside the baseline.

    Raises:
        ConfigError: an arm changes nothing that training sees, or more than its keys may.
    """
    baseline, lines = _effects(plan, plan.arms[0]), []
    for arm in plan.arms[1:]:
        own = _effects(plan, arm)
        changed = differences(baseline, own)
        keys = " ".join(arm.differing)
        groups = {key.partition(".")[0] for key in arm.differing}
        if not changed and not set(arm.differing) & set(NOT_BUILT):
            raise ConfigError(
                f"study.factors.{arm.spec.factor}: {arm.spec.name} changes {keys}, and training would see nothing of "
                "it: same graph, same augmented batch, same optimizer, same options"
            )
        beyond = set(changed) - set().union(*(MAY_CHANGE[group] for group in groups))
        if beyond:
            told = ", ".join(sorted(beyond))
            raise ConfigError(f"study.factors.{arm.spec.factor}: {arm.spec.name} also changes {told}")
        lines.append(f"{arm.spec.name} changes {'; '.join(changed.values()) or keys}")
    return lines


def differences(before: Effects, after: Effects) -> dict[str, str]:
    """Part -> how it differs, in words; empty when training would see no difference."""
    found: dict[str, str] = {}
    if before.graph != after.graph:
        found["graph"] = f"the graph ({before.num_parameters:,} -> {after.num_parameters:,} parameters)"
    if before.films != after.films:
        sides = [one.batch.shape[1] for one in (before, after)]
        told = f"{sides[0]} -> {sides[1]} px a side" if sides[0] != sides[1] else "other pixels, the same size"
        found["films"] = f"the prepared films ({told})"
    if before.batch.shape != after.batch.shape or (before.batch != after.batch).any():
        found["batch"] = _batch_words(before, after)
    for part in ("optimizer", "training"):
        one, other = getattr(before, part), getattr(after, part)
        if keys := [key for key in {**one, **other} if one.get(key) != other.get(key)]:
            told = ", ".join(_change(key, one, other) for key in keys if key in other)
            found[part] = f"{'the optimizer' if part == 'optimizer' else 'options'} ({told})"
    if before.schedule != after.schedule:
        peak, last = max(before.schedule), max(after.schedule)
        shown = f"peak {peak:g} -> {last:g}" if peak != last else "another course"
        found["schedule"] = f"the learning rate ({shown})"
    return found


def _change(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A setting that both have, or that only the variant's kind has."""
    return f"{key} {before[key]} -> {after[key]}" if key in before else f"{key} {after[key]}"


def _batch_words(before: Effects, after: Effects) -> str:
    if before.batch.shape != after.batch.shape:
        return "the augmented batch"
    differing = int((before.batch != after.batch).any(axis=(1, 2, 3)).sum())
    gray = float(np.abs(before.batch.astype(float) - after.batch).mean())
    return f"the augmented batch ({differing} of {len(before.batch)} films, mean {gray:.1f} gray levels)"


def _effects(plan: Plan, arm: Arm) -> Effects:
    from cxr_experiments.learning.effect import effects

    config = at_seed(arm.config, plan.spec, plan.spec.seeds[0], 0)
    _, split = plan.places.look_up(config)
    rows = split.train[:: max(1, len(split.train) // NUM_FILMS)][:NUM_FILMS]
    return effects(config, np.asarray(plan.places.store(config).images[rows]))
