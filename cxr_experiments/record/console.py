"""What a command says on the terminal: a counter while files are read, and the closing lines of a run.

Counters go to stderr and are silent when it is no terminal; results go to stdout.  Every line that holds a metric of
phantoms begins with SYNTHETIC.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cxr_experiments.config.compose import home
from cxr_experiments.config.identity import run_name
from cxr_experiments.record.provenance import slow_precision

if TYPE_CHECKING:
    from cxr_experiments.config.schema import DataConfig, TrainingConfig
    from cxr_experiments.images.store import Store
    from cxr_experiments.record.live_run import LiveRun
    from cxr_experiments.record.results import Costs, Evidence, Robustness
    from cxr_experiments.record.run_folder import RunFolder
    from cxr_experiments.record.run_plan import RunPlan

# What the terminal shows of a split; scores.csv has every metric.
SHOWN = tuple(
    f"{split}_{name}"
    for split in ("val", "test")
    for name in (
        *("auroc", "average_precision", "brier", "log_loss"),
        *("accuracy_at_half", "sensitivity_at_frozen", "specificity_at_frozen"),
    )
)


@contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar fed with (done, in all); it appears with the first call and leaves no trace."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def without_retracing_notes() -> Iterator[None]:
    """Each model of a sweep or study is asked through a function of its own: from the fifth on TensorFlow complains."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """What is printed goes into the file, behind what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        yield


def open_counted(data: DataConfig, runs: Path) -> Store:
    """The prepared images of a data set, with a counter while they are prepared for the first time.

    Raises:
        DataError: the images are missing, wrongly laid out or unreadable.
    """
    from cxr_experiments.images.manifest import read_manifest
    from cxr_experiments.images.store import open_store

    with counter("preparing images") as on_progress:
        return open_store(read_manifest(data), data, folder=runs / ".stores", on_progress=on_progress)


def say(text: str, *, synthetic: bool = False) -> None:
    """Print, each line marked when it speaks of phantoms."""
    for line in text.splitlines():
        print(f"SYNTHETIC {line}" if synthetic else line, flush=True)


def say_started(plan: RunPlan) -> None:
    """One line before a long silence: which run, on how many images."""
    name = run_name(plan.config, plan.identity.replicate)
    counts = f"{len(plan.split.train):,} training and {len(plan.split.val):,} validation images"
    say(f"training {name} (run {plan.identity.run_id}) on {counts}")
    say_data_state(plan.manifest.digest, plan.config.data)
    for warning in (plan.leaking, plan.divided_anew, slow_precision(plan.config.training.precision)):
        if warning:
            say(warning, synthetic=plan.manifest.synthetic)
    if plan.skipped:
        say(f"{len(plan.skipped)} unreadable files were skipped: skipped_files.json in the run folder names them")


def say_devices(training: TrainingConfig, devices: Sequence[str]) -> None:
    """Which devices share the training, under strategy=mirrored; and when that can gain nothing."""
    if training.strategy == "none":
        return
    if len(devices) == 1:
        say(f"training.strategy=mirrored finds one device, {devices[0]}, and trains as strategy=none does")
        return
    tried = "" if devices[0].startswith("GPU") else ": parts of one processor, to try it; nothing gets faster"
    say(f"{len(devices)} devices share each batch of {training.batch_size} images ({', '.join(devices)}){tried}")


def say_data_state(digest: str, data: DataConfig) -> None:
    """What `verify` has found in the images of this digest, and where that stands; or how to look."""
    from cxr_experiments.record.data_report.kept import data_folder, find_report, verify_command

    report = find_report(home(), digest)
    if report is None:
        say(f"data not verified yet: {verify_command(data)}")
    else:
        page = data_folder(home(), report.digest) / "report.html"
        say(f"data verified, {report.told}: {page}", synthetic=report.synthetic)


def say_trained(run: LiveRun, evidence: Evidence, robustness: Robustness, costs: Costs) -> None:
    """The closing lines of a training: validation scores, where everything lies, and what comes next."""
    synthetic = evidence.synthetic
    say_scores(evidence)
    say(told_robustness(robustness), synthetic=synthetic)
    say(told_heatmaps(run.folder), synthetic=synthetic)
    say_leakage(run.folder, synthetic=synthetic)
    stopped = "stopped early" if costs.stopped_early else "reached its epoch limit"
    on_devices = f" on {costs.num_devices} devices" if costs.num_devices > 1 else ""
    say(
        f"{costs.epochs_run} epochs ({stopped}), weights of epoch {costs.best_epoch + 1}, "
        f"{costs.images_per_s:.0f} images/s{on_devices}, {costs.num_parameters:,} parameters",
        synthetic=synthetic,
    )
    say_where(run.folder, run.link)
    say(f"The test split was not opened.  To score it: python -m cxr_experiments.evaluate run={run.folder.run_id}")


def say_leakage(folder: RunFolder, *, synthetic: bool) -> None:
    """The warning that belongs beside every score of a run whose split leaks."""
    from cxr_experiments.record.run_folder import read_told

    if told := read_told(folder, "leakage.json"):
        say(told, synthetic=synthetic)


def told_robustness(robustness: Robustness) -> str:
    """Stress validation in one line: `stress validation: AUROC 0.951 [...] mean, 0.902 [...] worst change: noise`."""
    named = {one.name: one for one in robustness.scores}
    mean, worst, gap = (named[name] for name in ("stress_auroc_mean", "stress_auroc_worst", "gap_train_val"))
    told = {one.name: f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in (mean, worst, gap)}
    return (
        f"stress validation: AUROC {told[mean.name]} {mean.note}, {told[worst.name]} {worst.note}; "
        f"AUROC train - val {told[gap.name]}"
    )


def told_heatmaps(folder: RunFolder) -> str:
    """What the run's heat maps are worth, and how to find out where nobody has."""
    from cxr_experiments.record.run_folder import read_json

    told = read_json(folder.file("explanations.json"))
    if told["reason"]:
        return str(told["reason"])
    ask = "" if told["passed"] else " (experiment=heatmap_check tries it on phantoms: docs/heatmaps.md)"
    return f"heat maps in figures/val_heatmaps.png: {told['words']}{ask}"


def say_scores(evidence: Evidence) -> None:
    """The headline metrics with interval and n, and the threshold that the labels are cut at."""
    from cxr_experiments.evidence.evaluation import score_table

    shown = [one for one in evidence.scores if one.name in SHOWN]
    print(*score_table(shown, synthetic=evidence.synthetic), sep="\n", flush=True)
    say(told_threshold(evidence), synthetic=evidence.synthetic)
    say(told_temperature(evidence), synthetic=evidence.synthetic)


def told_threshold(evidence: Evidence) -> str:
    """The frozen threshold and how it was found: `threshold 0.5132 (sensitivity_at 0.95, set on 105 val images)`."""
    from cxr_experiments.evidence.ensemble import told_origin

    return f"threshold {evidence.threshold.value:.4f} ({told_origin(evidence.threshold)})"


def told_temperature(evidence: Evidence) -> str:
    """What one temperature for all logits changes: log loss before and after."""
    named = {one.name.partition("_")[2]: one for one in evidence.calibration}
    before, after = named["log_loss_as_trained"], named["log_loss_tempered"]
    if math.isnan(after.value):
        return f"no temperature: {after.note}"
    told = [f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in (before, after)]
    return f"{after.note}: log loss {told[0]} -> {told[1]}; slopes and the prior-corrected: calibration.csv"


def say_finished_before(folder: RunFolder) -> None:
    """The run exists: where it is, and how to train it again all the same."""
    say(f"run {folder.run_id} finished before: {folder.path}")
    say("nothing was trained; rerun=true trains a replicate")


def say_where(folder: RunFolder, link: str) -> None:
    """Where a run can be looked at."""
    say(f"run {folder.run_id}: {folder.path}")
    if link:
        say(f"compare: make ui, then http://127.0.0.1:5000/{link}")
