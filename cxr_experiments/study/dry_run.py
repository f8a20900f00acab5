"""The plan of a study in words: cells, what each arm changes, time, and the smallest difference it can resolve."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from cxr_experiments.config.compose import home
from cxr_experiments.config.study_spec import ON_VALIDATION, VARIED, StudyConfig
from cxr_experiments.errors import ConfigError, CxrError
from cxr_experiments.evidence.comparison.resolution import (
    Design,
    Noise,
    Resolution,
    assumed_noise,
    can_decide,
    resolution,
    seeds_needed,
)
from cxr_experiments.images.splits import Split
from cxr_experiments.record.places import Places
from cxr_experiments.record.run_folder import read_json
from cxr_experiments.study.cell import cell_file
from cxr_experiments.study.plan import Plan, PlannedCell
from cxr_experiments.study.table import duration

OVERHEAD_S = 20.0  # building, stress validation, figures
SPLITS = {"validation": "val", "the test split": "test"}
RANKED = ("auroc", "stress_auroc_mean", "stress_auroc_worst")  # what the closed form is about


def plan_lines(plan: Plan) -> list[str]:
    """Cells, arms with the keys that differ, what a seed varies, images, time, and what can be resolved."""
    spec = plan.spec
    missing = [cell for cell in plan.cells if not cell_file(cell.card, cell.identity.run_id).is_file()]
    repeats = f"{len(spec.seeds)} seeds" + (f" x {spec.folds} folds" if spec.folds else "")
    lines = [
        f"study {plan.name}: {spec.question or 'no question given'}",
        f"{len(plan.arms)} arms x {repeats} = {len(plan.cells)} cells, {len(plan.cells) - len(missing)} answered, "
        f"{len(missing)} to train",
    ]
    lines += [f"  {arm.spec.name}: {_changes(arm.differing)}" for arm in plan.arms]
    fixed = [word for word in VARIED if word not in spec.vary]
    lines.append(
        f"a seed varies {', '.join(spec.vary) or 'nothing'}" + (f"; {', '.join(fixed)} fixed" if fixed else "")
    )
    split = plan.places.look_up(plan.cells[0].config)[1]
    lines.append(_images(plan, split))
    lines.append(f"time: {time_left(missing, plan.places)}")
    for stage, design in designs(plan, split).items():
        lines.append(f"on {stage}: {_resolvable(plan, design, stage)}")
    return lines


def refusals(plan: Plan, config: StudyConfig) -> list[str]:
    """Why the study cannot reach a verdict; empty when it can."""
    spec = plan.spec
    found: list[str] = []
    if config.confirm and spec.primary_metric in ON_VALIDATION:
        found.append(f"confirm=true: study.primary_metric={spec.primary_metric} does not exist on a test split")
    split = plan.places.look_up(plan.cells[0].config)[1]
    for stage, design in designs(plan, split).items():
        if stage == "the test split" and not config.confirm:
            continue
        if min(design.num_negative, design.num_positive) < 2:
            found.append(f"{stage} has {design.num_negative} NORMAL and {design.num_positive} PNEUMONIA images")
        elif not found and spec.primary_metric in RANKED and (reason := _undecidable(plan, design, stage)):
            found.append(reason)
    return found


def refuse_hopeless(plan: Plan, config: StudyConfig) -> None:
    """Stop a study that cannot reach a verdict.

    Raises:
        ConfigError: with every reason.
    """
    if reasons := refusals(plan, config):
        raise ConfigError(f"study {plan.name} cannot reach a verdict: {'; '.join(reasons)}")


def designs(plan: Plan, split: Split) -> dict[str, Design]:
    """What is judged on validation, and on the test split, whose images are counted and not opened."""
    labels, spec = plan.manifest.labels, plan.spec
    repeats = len(plan.cells) // len(plan.arms)
    family = max(1, len(plan.arms) - 1)
    cut = plan.cells[0].config.data.val_fraction
    shared = 0.0 if spec.folds else cut if "split" in spec.vary else 1.0
    sizes = {"validation": (split.val, shared), "the test split": (split.test, 1.0)}
    return {
        stage: Design(int((labels[rows] == 0).sum()), int((labels[rows] == 1).sum()), repeats, family, share)
        for stage, (rows, share) in sizes.items()
    }


def noise_of(plan: Plan, design: Design, stage: str) -> Noise:
    """Measured on earlier studies of the same data, split and metric (their comparison.csv), else assumed."""
    rows = [row for path in _comparisons() for row in _rows(path) if _fits(row, plan, stage)]
    if not rows:
        return assumed_noise(design)
    patients = [float(row["patient_error"]) / _averaging(int(row["num_seeds"]), design.shared) for row in rows]
    training = [float(row["training_error"]) * int(row["num_seeds"]) ** 0.5 for row in rows]
    return Noise(median(patients), median(training), f"measured on {len(rows)} comparison(s) there")


def time_left(missing: list[PlannedCell], places: Places) -> str:
    """An estimate from the speed of earlier runs here, scaled by the number of pixels."""
    if not missing:
        return "nothing to train"
    speeds = list(_speeds())
    if not speeds:
        return "not known, no run has been timed here yet"
    pixels_per_s = median(speeds)
    total = 0.0
    for cell in missing:
        _, split = places.look_up(cell.config)
        size = cell.config.data.image_size_px**2
        total += cell.config.training.epochs * len(split.train) * size / pixels_per_s + OVERHEAD_S
    return f"about {duration(total)}, from the pixels per second of {len(speeds)} earlier run(s), whatever their graph"


def _resolvable(plan: Plan, design: Design, stage: str) -> str:
    counted = f"{design.num_negative:,} NORMAL, {design.num_positive:,} PNEUMONIA a repetition"
    if plan.spec.primary_metric not in RANKED:
        return f"{counted}; no forecast for {plan.spec.primary_metric}"
    if min(design.num_negative, design.num_positive) < 2:
        return f"{counted}; nothing can be resolved"
    noise = noise_of(plan, design, stage)
    found = resolution(design, noise)
    return (
        f"{counted}; smallest difference told from 0 in 80 of 100 such studies {found.smallest:.4f}, half width of the "
        f"interval {found.half_width:.4f}, margin {plan.spec.margin:g} ({noise.source})"
    )


def _undecidable(plan: Plan, design: Design, stage: str) -> str:
    margin = plan.spec.margin or 0.0
    noise = noise_of(plan, design, stage)
    found: Resolution = resolution(design, noise)
    if can_decide(found, margin):
        return ""
    seeds = seeds_needed(design, noise, margin)
    with_seeds = f"{seeds} seeds would do" if seeds else "no number of seeds helps, more patients would"
    return (
        f"on {stage} the interval would be ±{found.half_width:.4f} and only differences of {found.smallest:.4f} and "
        f"more would be told from 0, so that neither none (margin {margin:g}) nor one of two margins would be "
        f"recognised ({noise.source}); {with_seeds}, or a margin of {found.half_width * 1.05:.2g}"
    )


def _changes(differing: Mapping[str, tuple[object, object]]) -> str:
    return ", ".join(f"{key} {before} -> {after}" for key, (before, after) in differing.items()) or "as it stands"


def _images(plan: Plan, split: Split) -> str:
    patients = {name: {plan.manifest.rows[row].patient for row in rows} for name, rows in _parts(split).items()}
    told = [
        f"{len(rows):,} {name} images ({len(patients[name]):,} patient keys)"
        if "" not in patients[name]
        else f"{len(rows):,} {name} images (patients not verifiable)"
        for name, rows in _parts(split).items()
    ]
    return f"first repetition: {', '.join(told)}; test images are counted, not opened"


def _parts(split: Split) -> dict[str, list[int]]:
    return {"training": split.train.tolist(), "validation": split.val.tolist(), "test": split.test.tolist()}


def _speeds() -> list[float]:
    """Pixels per second of earlier trainings under runs/."""
    found = []
    for costs in (home() / "runs").glob("*/*/costs.json"):
        try:
            size = read_json(costs.with_name("identity.json"))["config"]["data.image_size_px"]
            found.append(float(read_json(costs)["images_per_s"]) * int(size) ** 2)
        except (CxrError, KeyError, TypeError, ValueError):
            continue
    return found


def _comparisons() -> list[Path]:
    return sorted((home() / "results").glob("*/*/comparison.csv"))


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _fits(row: Mapping[str, str], plan: Plan, stage: str) -> bool:
    known = row.get("training_error") and row.get("patient_error") and row.get("num_seeds", "").isdecimal()
    same = (row.get("dataset_digest"), row.get("metric")) == (plan.manifest.digest, plan.spec.primary_metric)
    return bool(known) and same and row.get("split") == SPLITS[stage]


def _averaging(num_seeds: int, shared: float) -> float:
    """How much the patients' part of an error shrinks over repetitions that share so many of their images."""
    return float((1 / num_seeds + (1 - 1 / num_seeds) * shared) ** 0.5)
