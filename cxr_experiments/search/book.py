"""The book of a search: which trial is whose, what it drew and what came of it.  The only door to Optuna.

Optuna's study lies in a journal file, one line of JSON per change, which any number of processes append to; nothing in
it is executed.  Trials are handed out under a lock, so that no more are begun than were asked for.  Who works on one is
told as for runs (`record.attempt`): one whose process is gone is handed out again, and its run goes on where it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from filelock import FileLock

from cxr_experiments.config.seeds import derive
from cxr_experiments.errors import ConfigError, RunError, one_line
from cxr_experiments.record.attempt import attempt_of, own_attempt, signs_of_life

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

    from cxr_experiments.config.search_space import Dimension
    from cxr_experiments.config.search_spec import SearchConfig
    from cxr_experiments.search.plan import Plan

# A setting that took its process down so often (no memory, say) has failed.
MAX_ATTEMPTS = 3
FINISHED, PRUNED, FAILED, RUNNING = "finished", "pruned", "failed", "running"


@dataclass(frozen=True)
class Row:
    """One trial on record; a trial that was handed out again is one row, that of its last attempt.

    Attributes:
        number: Optuna's, from 0.
        state: finished, pruned, failed or running.
        params: key -> what was drawn.
        run_id: of its run, 12 hex digits; "" before it is known.
        loss: what was minimized; None unless finished.
        epochs: that were told so far.
        reason: why it failed or was pruned.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    run_id: str
    loss: float | None
    epochs: int
    reason: str


@dataclass(frozen=True)
class Book:
    """An open book; `lock` is held while trials are handed out."""

    plan: Plan
    study: optuna.Study
    lock: FileLock

    @property
    def signs(self) -> Path:
        """The folder of the workers' signs of life."""
        return self.plan.folder / "workers"


def require_optuna() -> None:
    """Called before anything costs time.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError("search needs Optuna: pip install 'cxr-experiments[search]'") from error


def open_book(plan: Plan) -> Book:
    """The search's book, made when it is not there.

    Raises:
        RunError: the journal cannot be read.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would tell every trial a second time
    plan.folder.mkdir(parents=True, exist_ok=True)
    path, lock = plan.folder / "journal.jsonl", FileLock(plan.folder / "trials.lock")
    try:
        with lock:  # a study is made once
            backend = JournalFileBackend(str(path), WritersLock(path))
            study = optuna.create_study(
                storage=JournalStorage(backend),
                study_name=plan.search_id,
                pruner=_pruner(plan),
                load_if_exists=True,
            )
    except (ValueError, KeyError, TypeError) as error:
        told = one_line(repr(error))
        raise RunError(f"{path} is not a readable journal of a search ({told}): move it away to begin anew") from error
    return Book(plan, study, lock)


@contextmanager
def at_work(book: Book) -> Iterator[None]:
    """While it lasts, other processes see that this one works on its trials."""
    book.signs.mkdir(exist_ok=True)
    sign = book.signs / _own_sign()
    try:
        with signs_of_life(sign):
            yield
    finally:
        sign.unlink(missing_ok=True)


def take_trial(book: Book) -> Trial | None:
    """The next trial, what it draws included; None when as many as were asked for have been begun."""
    study, config = book.study, book.plan.config
    with book.lock:
        _hand_back(book)
        trials = study.get_trials(deepcopy=False)
        fresh = sum("after" not in trial.user_attrs for trial in trials)
        if len(_begun(trials)) >= config.trials:
            return None
        # By number, and not once for a process: draws are the same however many processes and interruptions there are.
        study.sampler = _sampler(config, derive(config.sampler_seed, f"trial {fresh}"))
        trial = study.ask({one.key: _distribution(one) for one in book.plan.space})
        trial.set_user_attr("attempt", {**asdict(own_attempt()), "sign": _own_sign()})
        return trial


def finish_trial(book: Book, trial: Trial, state: str, *, loss: float | None = None, reason: str = "") -> None:
    """Write down what came of a trial.

    Raises:
        RunError: another process has it by now.
    """
    from optuna.trial import TrialState

    if book.study.get_trials(deepcopy=False)[trial.number].state != TrialState.RUNNING:
        raise _handed_on(trial)
    states = {FINISHED: TrialState.COMPLETE, PRUNED: TrialState.PRUNED, FAILED: TrialState.FAIL}
    if reason:
        trial.set_user_attr("reason", reason)
    book.study.tell(trial, loss, state=states[state])


def tell_epoch(trial: Trial, val_loss: float, trained: int) -> None:
    """The validation loss after so many epochs.

    Raises:
        RunError: another process has the trial by now.
    """
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        trial.report(val_loss, trained)
    except UpdateFinishedTrialError as error:
        raise _handed_on(trial) from error


def _handed_on(trial: Trial) -> RunError:
    return RunError(f"trial {trial.number} was handed on while this process was not heard of: this one stops")


def rows_of(book: Book) -> list[Row]:
    """The trials that were begun, in the order of their numbers."""
    return [_row(trial) for trial in _begun(book.study.get_trials(deepcopy=False))]


def _row(trial: FrozenTrial) -> Row:
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: FINISHED, TrialState.PRUNED: PRUNED, TrialState.FAIL: FAILED}
    state, told = names.get(trial.state, RUNNING), trial.user_attrs
    run_id = str(told.get("run_id", ""))
    return Row(
        number=trial.number,
        state=state,
        params=trial.params,
        run_id=run_id if re.fullmatch("[0-9a-f]{12}", run_id) else "",  # a folder is named by it
        loss=trial.value if state == FINISHED else None,
        epochs=trial.last_step or 0,
        reason=one_line(told.get("reason", "")),
    )


def _begun(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Without those that wait, and those whose setting was handed out again."""
    from optuna.trial import TrialState

    replaced = {trial.user_attrs["after"] for trial in trials if "after" in trial.user_attrs}
    return [trial for trial in trials if trial.number not in replaced and trial.state != TrialState.WAITING]


def _hand_back(book: Book) -> None:
    """Trials whose process is gone: what they drew waits for the next who asks.  Must be called under the lock."""
    from optuna.trial import TrialState

    trials = book.study.get_trials(deepcopy=False)
    replaced = {trial.user_attrs["after"] for trial in trials if "after" in trial.user_attrs}
    for trial in trials:
        if trial.state != TrialState.RUNNING or _is_at_work(trial, book.signs):
            continue
        attempts = int(trial.user_attrs.get("attempts", 1))
        if trial.number not in replaced and attempts < MAX_ATTEMPTS:  # first this: a kill between the two loses nothing
            told = {"after": trial.number, "attempts": attempts + 1}
            book.study.enqueue_trial(trial.params, user_attrs=told)
        book.study.tell(trial.number, state=TrialState.FAIL)


def _is_at_work(trial: FrozenTrial, signs: Path) -> bool:
    told = trial.user_attrs.get("attempt")
    try:
        return told is not None and attempt_of(told).is_at_work(signs / Path(str(told["sign"])).name)
    except (KeyError, TypeError, ValueError):
        return False


def _own_sign() -> str:
    attempt = own_attempt()
    return f"{''.join(c if c.isalnum() else '_' for c in attempt.host)}-{attempt.pid}-{attempt.started}.alive"


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from cxr_experiments.config.search_space import Options

    if isinstance(dimension, Options):
        return CategoricalDistribution(dimension.options)
    if dimension.whole:
        ends = int(dimension.low), int(dimension.high)
        return IntDistribution(*ends, log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _sampler(config: SearchConfig, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=config.startup_trials, seed=seed)


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    """By val_loss after so many epochs, lower is better; a trial's step is the number of epochs it has trained."""
    import optuna

    config = plan.config
    if config.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=config.min_epochs)
    if config.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(config.min_epochs, max(plan.max_epochs, config.min_epochs))
    return optuna.pruners.NopPruner()


class WritersLock:
    """What Optuna's journal asks of a lock: its own ones outlive a killed process by 30 s, this one goes with it.

    Whoever takes it cuts off the half line that a kill or a full disk may have left: Optuna would append to it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        cut_half_line(self._path)
        return True

    def release(self) -> None:
        self._lock.release()


def cut_half_line(path: Path) -> None:
    """Shorten a file of lines to its last whole one."""
    with path.open("r+b") as stream:
        size = end = stream.seek(0, os.SEEK_END)
        while end and not _ends_line(stream, end):
            end -= 1
        if end < size:
            stream.truncate(end)


def _ends_line(stream: BinaryIO, end: int) -> bool:
    stream.seek(end - 1)
    return stream.read(1) == b"\n"
