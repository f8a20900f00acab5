"""One trial: an ordinary run that tells its epochs, may be given up after any of them, and is judged on validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_experiments import train
from cxr_experiments.config.search_spec import LOWER_IS_BETTER
from cxr_experiments.errors import ConfigError, PrunedError, RunError, TrainingError
from cxr_experiments.evidence.evaluation import Score, read_scores
from cxr_experiments.record.console import printing_to
from cxr_experiments.record.run_folder import FINISHED as RUN_FINISHED
from cxr_experiments.record.run_folder import RunFolder, is_at_work, read_json_lines, read_state
from cxr_experiments.search.book import FAILED, FINISHED, PRUNED, tell_epoch
from cxr_experiments.search.plan import Plan, PlannedTrial, plan_trial

if TYPE_CHECKING:
    from optuna.trial import Trial

    from cxr_experiments.record.epoch import Epoch

LOOK_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: its state, what is minimized (None unless finished), why it ended early."""

    state: str
    loss: float | None = None
    reason: str = ""


def run_trial(plan: Plan, trial: Trial) -> Outcome:
    """Train what the trial has drawn, or answer it from the run that is finished already.

    A setting that cannot be built or diverges has failed; what would strike every trial is raised.

    Raises:
        CxrError: the images, the machine or the tracker; the trial is handed out again to whoever asks next.
    """
    try:
        planned = plan_trial(plan, trial.number, trial.params)
        trial.set_user_attr("run_id", planned.folder.run_id)
        _answer(plan, trial, planned)
        return Outcome(FINISHED, loss_of(objective_of(plan, planned.folder)))
    except PrunedError as error:
        return Outcome(PRUNED, reason=str(error))
    except (ConfigError, TrainingError) as error:
        return Outcome(FAILED, reason=str(error))


def objective_of(plan: Plan, folder: RunFolder) -> Score:
    """What a finished run is judged by.

    Raises:
        TrainingError: it is not defined on these validation images.
        RunError: the run's scores cannot be read.
    """
    named = {one.name: one for one in read_scores(folder.file("scores.csv"))}
    if plan.config.objective not in named:
        raise RunError(f"{folder.file('scores.csv')} has no {plan.config.objective}")
    score = named[plan.config.objective]
    if math.isnan(score.value):
        raise TrainingError(f"{score.name} is not defined: {score.note}")
    return score


def loss_of(score: Score) -> float:
    """The objective as Optuna minimizes it, like the val_loss that it is told per epoch."""
    return score.value if score.name in LOWER_IS_BETTER else 1.0 - score.value


def _answer(plan: Plan, trial: Trial, planned: PlannedTrial) -> None:
    """Until the trial's run is finished; another process that trains this very run is waited for."""
    log = plan.folder / "logs" / f"trial-{trial.number}.log"
    while not _is_finished(planned.folder):
        if _is_anothers(planned.folder):
            time.sleep(LOOK_S)
            continue
        try:
            with printing_to(log):
                train.run_experiment(planned.config, _watch(plan, trial, planned.config.training.epochs))
            return
        except RunError:  # claimed, or ended, in the same moment
            if not (_is_anothers(planned.folder) or _is_finished(planned.folder)):
                raise
    for epoch in read_json_lines(planned.folder.file("metrics.jsonl")):
        tell_epoch(trial, float(epoch["val_loss"]), int(epoch["epoch"]) + 1)


def _is_finished(folder: RunFolder) -> bool:
    return folder.path.is_dir() and read_state(folder).status == RUN_FINISHED


def _is_anothers(folder: RunFolder) -> bool:
    return folder.path.is_dir() and is_at_work(folder)


def _watch(plan: Plan, trial: Trial, limit: int) -> Callable[[Epoch], None]:
    """Tells the book of each epoch; after the last one there is nothing to be saved by giving up."""

    def watch(record: Epoch) -> None:
        trained, val_loss = record.epoch + 1, record.metrics["val_loss"]
        tell_epoch(trial, val_loss, trained)
        if trained < limit and trial.should_prune():
            told = f"val_loss {val_loss:.4f} after {trained} of {limit} epochs"
            raise PrunedError(f"{told}, given up by pruner={plan.config.pruner} (search {plan.name})")

    return watch
