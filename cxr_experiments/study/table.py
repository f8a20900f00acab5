"""What a person sees of a study at work: which cells are done, running with the time left, or failed.

It reads what the cells leave on disk, so it shows them whichever launcher runs them, in this process or in others.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cxr_experiments.errors import RunError
from cxr_experiments.record.run_folder import (
    FAILED,
    FINISHED,
    RunFolder,
    is_at_work,
    read_json,
    read_json_lines,
    read_state,
)
from cxr_experiments.study.cell import cell_file, run_of
from cxr_experiments.study.plan import Plan, PlannedCell

REFRESH_S = 2.0


@dataclass(frozen=True)
class CellState:
    """Where a cell stands: `done`, `running`, `failed` or `waiting`; seconds spent, and left where running."""

    status: str
    spent_s: float = 0.0
    left_s: float | None = None
    auroc: float | None = None
    epochs: int = 0


def look(cell: PlannedCell, begun_s: float) -> CellState:
    """The state of one cell, from its files; what ended before `begun_s` (seconds since 1970) waits to be run again."""
    kept = cell_file(cell.card, cell.identity.run_id)
    if kept.is_file():
        facts = read_json(kept)
        return CellState("done", float(facts["costs"]["duration_s"]), auroc=facts["metrics"].get("val_auroc"))
    folder = run_of(cell.config.experiment_name, cell.identity.run_id)
    return _under_way(cell, folder, begun_s) if folder.file("events.jsonl").is_file() else CellState("waiting")


def _under_way(cell: PlannedCell, folder: RunFolder, begun_s: float) -> CellState:
    state, events = read_state(folder), list(read_json_lines(folder.file("events.jsonl")))
    if state.status in (FINISHED, FAILED) and events[-1]["time_s"] >= begun_s:
        return CellState("failed") if state.status == FAILED else CellState("running", left_s=0.0)
    if not is_at_work(folder):
        return CellState("waiting")
    epochs = list(read_json_lines(folder.file("metrics.jsonl"))) if folder.file("metrics.jsonl").is_file() else []
    spent = max(time.time() - events[-1]["time_s"], 0.0)
    per_epoch = mean(epoch["duration_s"] for epoch in epochs) if epochs else None
    left = per_epoch * (cell.config.training.epochs - len(epochs)) if per_epoch is not None else None
    return CellState("running", spent, left, epochs=len(epochs))


@contextmanager
def watched(plan: Plan, missing: Sequence[PlannedCell]) -> Iterator[None]:
    """Show the plan's cells while the body runs them: a live table on a terminal, a line per change elsewhere."""
    answered = len(plan.cells) - len(missing)
    stage = plan.cells[0].card.stage
    what = plan.name if stage == "cells" else f"{plan.name}, {stage.replace('_', ' ')}"
    print(f"{what}: {len(plan.cells)} cells, {answered} answered, {len(missing)} to train", flush=True)
    if not missing:
        yield
        return
    console = Console(file=sys.stderr)  # cells send sys.stderr itself to their logs
    with _live(plan, console) if console.is_terminal else _lines(missing) as show:
        stop = threading.Event()
        thread = threading.Thread(target=_refresh, args=(show, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=2 * REFRESH_S)
            show()


def _refresh(show: Callable[[], None], stop: threading.Event) -> None:
    while not stop.wait(REFRESH_S):
        show()


@contextmanager
def _live(plan: Plan, console: Console) -> Iterator[Callable[[], None]]:
    """What is printed meanwhile (a failure) appears above the table."""
    begun = time.time()
    with Live(console=console, refresh_per_second=1, redirect_stdout=False) as live:
        yield lambda: live.update(cell_table(plan, [_seen(cell, begun) for cell in plan.cells]), refresh=True)


@contextmanager
def _lines(missing: Sequence[PlannedCell]) -> Iterator[Callable[[], None]]:
    before = {cell.identity.run_id: "waiting" for cell in missing}
    begun, err = time.time(), sys.stderr

    def show() -> None:
        for cell in missing:
            state = _seen(cell, begun)
            if state.status != before[cell.identity.run_id]:
                before[cell.identity.run_id] = state.status
                done = sum(status == "done" for status in before.values())
                left = (time.time() - begun) / done * (len(missing) - done) if done else None
                print(line_of(cell, state, (done, len(missing)), left), file=err, flush=True)

    yield show


def line_of(cell: PlannedCell, state: CellState, counts: tuple[int, int], left_s: float | None) -> str:
    """One change as one line: `done  flip, seed 3  val AUROC 0.9912  1 min 40 s  (12 of 40 trained, ...)`."""
    what = f"{state.status:<8} {cell.label}"
    score = f"  val AUROC {state.auroc:.4f}" if state.auroc is not None else ""
    spent = f"  {duration(state.spent_s)}" if state.status == "done" else ""
    left = f", about {duration(left_s)} left" if left_s is not None and counts[0] < counts[1] else ""
    mark = "SYNTHETIC " if score and cell.config.data.source == "phantom" else ""
    return f"{mark}{what}{score}{spent}  ({counts[0]} of {counts[1]} trained{left})"


def cell_table(plan: Plan, states: Sequence[CellState]) -> Group:
    """Arms down, repetitions across: a done cell's validation AUROC, a running one's time left, or the state."""
    spec = plan.spec
    table = Table(box=None, padding=(0, 1))
    table.add_column("arm")
    labels = [f"seed {seed}" + (f"/{fold}" if spec.folds else "") for seed, fold in _columns(plan)]
    for label in labels:
        table.add_column(label, justify="right")
    for arm in plan.arms:
        row = [state for cell, state in zip(plan.cells, states, strict=True) if cell.card.arm == arm.spec.name]
        table.add_row(Text(arm.spec.name), *map(_shown, row))
    return Group(Text(_headline(plan, states)), table)


def _columns(plan: Plan) -> list[tuple[int, int]]:
    return [(cell.card.seed, cell.card.fold) for cell in plan.cells if cell.card.arm == plan.arms[0].spec.name]


def _headline(plan: Plan, states: Sequence[CellState]) -> str:
    done = [state for state in states if state.status == "done"]
    counts = {status: sum(state.status == status for state in states) for status in ("running", "failed")}
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    left = (
        mean(state.spent_s for state in done) * sum(s.status in ("waiting", "running") for s in states) if done else 0
    )
    mark = "SYNTHETIC " if plan.manifest.synthetic else ""
    more = f", {told}" if told else ""
    time_left = f", about {duration(left)} of training left" if left else ""
    return f"{mark}{plan.name}: {len(done)} of {len(states)} cells done{more}{time_left}; validation AUROC"


def _shown(state: CellState) -> str:
    if state.status == "done":
        return f"{state.auroc:.4f}" if state.auroc is not None else "done"
    if state.status == "running":
        left = f"{duration(state.left_s)} left" if state.left_s is not None else "starting"
        return f"[cyan]epoch {state.epochs}, {left}[/cyan]"
    return {"failed": "[red]FAILED[/red]", "waiting": "[dim].[/dim]"}[state.status]


def _seen(cell: PlannedCell, begun_s: float) -> CellState:
    """A file that is being renamed this very moment is looked at again in two seconds."""
    try:
        return look(cell, begun_s)
    except (RunError, OSError, IndexError, KeyError):
        return CellState("running")


def duration(seconds: float) -> str:
    """Seconds as one says them: 45 s, 3 min 20 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
