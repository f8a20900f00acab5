"""A cell, one setting over its seeds, in a few numbers: mean AUROC with interval, and the run that tells MLflow so.

In: finished runs that differ in their seeds (and folds) alone, as arms.  Out: summaries, a table of them for the
terminal in the order given, and one flat MLflow run each.  Nothing is ranked, and no two cells are compared here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import TrackingError
from cxr_experiments.evidence.comparison import Arm, Estimate, arm_mean
from cxr_experiments.evidence.stats import auroc_interval
from cxr_experiments.record import tracking
from cxr_experiments.record.tracking import RunCard, Summary

COLUMNS = ("auroc_mean", "auroc_lo", "auroc_hi", "num_seeds")
TEST_COLUMNS = ("test_auroc_mean", "test_auroc_lo", "test_auroc_hi")


@dataclass(frozen=True, eq=False)
class CellRuns:
    """The finished runs of one cell.

    `arms` has the cell as judged on "val" and, once its test split was opened for every run, on "test"; `num_seeds`
    and `num_folds` (0 without cross-validation) say what its runs are; `params` are what tells it from other cells;
    `key` is the same for the same setting, however many runs it has.
    """

    name: str
    key: str
    arms: Mapping[str, Arm]
    num_seeds: int
    num_folds: int = 0
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, eq=False)
class CellSummary:
    """A cell's mean AUROC on validation (and on test) over its runs; limits NaN with one run."""

    runs: CellRuns
    auroc: Estimate
    test_auroc: Estimate | None
    num_images: int
    num_patients: int

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Our ids of the runs behind it, sorted."""
        return tuple(sorted(cell.run_id for cell in self.runs.arms["val"].cells))

    @property
    def repetitions(self) -> str:
        """`8 seeds`, or `2 seeds x 5 folds`."""
        seeds = f"{self.runs.num_seeds} seed{'s' if self.runs.num_seeds != 1 else ''}"
        return f"{seeds} x {self.runs.num_folds} folds" if self.runs.num_folds > 1 else seeds


def summarise(runs: CellRuns) -> CellSummary:
    """Means over the runs with Hillis' interval over random seeds and random patients, as in a study's report.

    Raises:
        ComparisonError: the images of a run are of one class.
    """
    arm = runs.arms["val"]
    images = {image for cell in arm.cells for image in cell.rows.image_id.tolist()}
    patients = {patient for cell in arm.cells for patient in cell.rows.patient.tolist()}
    test = arm_mean(runs.arms["test"], "auroc") if "test" in runs.arms else None
    return CellSummary(runs, arm_mean(arm, "auroc"), test, len(images), 0 if "" in patients else len(patients))


def tell_cells(
    where: TrackingConfig, home: Path, experiment_name: str, cells: Sequence[CellSummary], *, replaces_any: bool = False
) -> str:
    """Write one MLflow run per cell, and return the path behind http://HOST:PORT/ that shows them; "" where none are.

    A tracker that fails costs one warning line: the run folders (or the cells under results/) have everything.

    Args:
        where: MLflow's place.
        home: that of runs/ and mlruns/.
        experiment_name: MLflow's experiment, in which the cells' runs are too.
        cells: in the order in which they are to be shown.
        replaces_any: as in `Summary`.
    """
    try:
        place = tracking.open_place(where, home, experiment_name)
        if place is None or not cells:
            return ""
        tracking.keep_summaries(place, [told_cell(cell, replaces_any=replaces_any) for cell in cells], home)
        params = list(dict.fromkeys(name for cell in cells for name in cell.runs.params))
        columns = (*COLUMNS, *(TEST_COLUMNS if any(cell.test_auroc for cell in cells) else ()))
        return tracking.keep_view(place, columns, params)
    except TrackingError as error:
        print(f"warning: {error}; no summary of the cells was written there", file=sys.stderr)
        return ""


def told_cell(cell: CellSummary, *, replaces_any: bool = False) -> Summary:
    """The cell as MLflow is told it: a number that is not there, as an interval with one run, is left out."""
    first = cell.runs.arms["val"].cells[0]
    metrics = {"num_seeds": float(cell.runs.num_seeds)}
    for prefix, estimate in (("", cell.auroc), ("test_", cell.test_auroc)):
        if estimate is not None:
            named = {"mean": estimate.value, "lo": estimate.low, "hi": estimate.high}
            # MLflow's columns cut 17 digits off before they end
            metrics |= {
                f"{prefix}auroc_{name}": round(value, 4) for name, value in named.items() if math.isfinite(value)
            }
    patients = f"{cell.num_patients} patients" if cell.num_patients else "patients not verifiable"
    tags = {
        **cell.runs.tags,
        "cell": cell.runs.name,
        "cxr.synthetic": str(first.synthetic).lower(),
        "cxr.dataset_digest": first.dataset_digest,
        "mlflow.note.content": (
            f"Mean AUROC of {len(cell.run_ids)} trainings that differ in their seeds alone ({cell.repetitions}), on "
            f"validation ({cell.num_images} images, {patients}); interval over random seeds and random patients."
        ),
    }
    name = f"{cell.runs.name} ({cell.repetitions})"
    card = RunCard(name, cell.runs.params, tags, cell.runs.source, first.dataset_digest)
    return Summary(card, metrics, cell.runs.key, cell.run_ids, replaces_any)


def cell_lines(cells: Sequence[CellSummary]) -> list[str]:
    """The cells as aligned lines, in their order."""
    rows = [("cell", "AUROC", "95 % interval", "runs", "images", "patients")]
    for cell in cells:
        patients = str(cell.num_patients) if cell.num_patients else "-"
        counts = (cell.repetitions, str(cell.num_images), patients)
        rows.append((cell.runs.name, f"{cell.auroc.value:.4f}", _interval(cell), *counts))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return ["validation AUROC of each cell, mean over its runs; intervals over random seeds and random patients", *body]


def _interval(cell: CellSummary) -> str:
    if len(cell.run_ids) > 1:
        return _limits(cell.auroc.low, cell.auroc.high)
    rows = cell.runs.arms["val"].cells[0].rows
    alone = auroc_interval(rows.label, rows.score, rows.patient)
    return f"{_limits(alone.low, alone.high)} one run: over patients alone"


def _limits(low: float, high: float) -> str:
    return "not defined" if math.isnan(low) else f"[{low:.4f}, {high:.4f}]"
