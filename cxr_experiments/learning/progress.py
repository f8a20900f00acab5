"""What a person at a terminal sees of a training: a bar with the time left and the speed, and one line per epoch.

Comes in: the records that `trainer` tells.  Goes out: lines on stderr when it is a terminal, nothing at all otherwise.
Nothing is kept here; the run folder and MLflow listen to the same records.
"""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from cxr_experiments.learning.trainer import EpochRecord, StepRecord


class Progress:
    """A context manager whose `batch` and `epoch` are listeners for `train_model`.

    Args:
        num_epochs: At most so many; the time left is until then, early stopping may end sooner.
        synthetic: Whether the images are phantoms: lines with metrics then begin with SYNTHETIC.
        console: Where to draw; stderr by default, silent unless it is a terminal.

    Example:
        >>> with Progress(40, synthetic=True) as display:
        ...     display.batch(StepRecord(epoch=0, step=0, steps_per_epoch=100, loss=0.7, images_per_s=30.0))
    """

    def __init__(self, num_epochs: int, *, synthetic: bool, console: Console | None = None) -> None:
        # FORCE_COLOR alone must not draw bars into a log file, so rich is told rather than asked
        self._console = console or Console(stderr=True, force_terminal=sys.stderr.isatty())
        self._num_epochs = num_epochs
        self._mark = "SYNTHETIC " if synthetic else ""
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, at most"),
            TimeRemainingColumn(),
            TextColumn("left, {task.fields[images_per_s]:.0f} images/s"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=None, images_per_s=0.0)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def batch(self, record: StepRecord) -> None:
        """Moves the bar on to the end of one training step."""
        self._bar.update(
            self._task,
            total=self._num_epochs * record.steps_per_epoch,
            completed=record.epoch * record.steps_per_epoch + record.step + 1,
            description=f"epoch {record.epoch + 1}/{self._num_epochs}",
            images_per_s=record.images_per_s,
        )

    def epoch(self, record: EpochRecord) -> None:
        """Prints the line of one finished epoch above the bar."""
        if not self._console.is_terminal:
            return
        metrics = "  ".join(f"{name} {record.metrics[name]:.4f}" for name in _SHOWN)
        line = f"{self._mark}epoch {record.epoch + 1}/{self._num_epochs}  {metrics}"
        self._console.print(f"{line}  {record.images_per_s:.0f} images/s  {record.duration_s:.0f} s", highlight=False)


_SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")
