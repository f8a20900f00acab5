"""Measurements side by side: A B C, C B A, A B C ..., their median and spread, their ratio within each repetition.

A benchmark module offers `rows(quick: bool) -> Sequence[Row]`; `python -m benchmarks` finds it by that name.  It makes
one measurement per variant (usually a fresh process, see `child`), hands them all to `interleave`, and turns the series
into lines of the table with `row`.  What one repetition measured is a mapping from name to number.

    def rows(quick):
        series = interleave({"ours": ours, "plain Keras": peer}, repetitions=2 if quick else 5)
        return [row("build", series, name, "images_per_s", "images/s", peer="plain Keras") for name in series]

    if __name__ == "__main__":  # python -m benchmarks.store_build [quick]
        show(rows)

A variant that cannot be measured raises `Missing`; it becomes a line that says why, and the others go on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cxr_experiments.record.provenance import collect_provenance

Measure = Callable[[], Mapping[str, float]]
ROOT = Path(__file__).resolve().parent.parent
HEADER = ("figure", "variant", "median [lowest, highest]", "unit", "n", "ratio, paired", "share of the roof", "remarks")


class Missing(Exception):
    """A variant that cannot be measured here, with the reason in one line."""


@dataclass(frozen=True)
class Series:
    """What each repetition of one variant measured; None where it was not done, and why not."""

    repetitions: tuple[Mapping[str, float] | None, ...]
    failure: str = ""

    def values(self, name: str) -> tuple[float, ...]:
        """The figure `name` of all repetitions that have it."""
        return tuple(one[name] for one in self.repetitions if one is not None and name in one)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        figure: What was measured, such as `training step, 200 px`.
        variant: Whose it is, such as `plain Keras`.
        unit: Of `values`.
        values: One per repetition, none when it could not be measured.
        ratios: Value / value of `peer` in the same repetition, one per repetition that has both.
        roof_share: Fraction of what the machine could do at most; None where there is no roof.
        note: What is asked, what must be known, or why there is no value.
    """

    figure: str
    variant: str
    unit: str
    values: tuple[float, ...] = ()
    peer: str = ""
    ratios: tuple[float, ...] = ()
    roof_share: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Of the repetitions; not a number without any."""
        return statistics.median(self.values) if self.values else float("nan")


def interleave(measures: Mapping[str, Measure], repetitions: int) -> dict[str, Series]:
    """Measure every variant once per repetition, every other repetition in reverse order.

    Whatever drifts (clock, temperature, neighbours) then meets all variants alike, and ratios within a repetition are
    fairer than ratios of medians.  A variant that fails is not tried again.
    """
    done: dict[str, list[Mapping[str, float] | None]] = {name: [] for name in measures}
    failures: dict[str, str] = {}
    for repetition in range(repetitions):
        for name in list(measures)[:: -1 if repetition % 2 else 1]:
            done[name].append(None if name in failures else _measured(name, measures[name], failures))
        say(f"repetition {repetition + 1} of {repetitions} of {', '.join(measures)}")
    return {name: Series(tuple(done[name]), failures.get(name, "")) for name in measures}


def _measured(name: str, measure: Measure, failures: dict[str, str]) -> Mapping[str, float] | None:
    """One measurement, or None with its reason added to `failures`."""
    try:
        return measure()
    except (Missing, OSError, subprocess.SubprocessError) as error:
        failures[name] = str(error)
        say(f"{name}: {error}")
        return None


def row(
    figure: str, series: Mapping[str, Series], variant: str, name: str, unit: str, *, peer: str = "", note: str = ""
) -> Row:
    """The line of one variant's figure `name`, with its ratio to the variant `peer` within each repetition."""
    own = series[variant]
    ratios: tuple[float, ...] = ()
    if peer and peer != variant:
        pairs = zip(own.repetitions, series[peer].repetitions, strict=True)
        ratios = tuple(a[name] / b[name] for a, b in pairs if a and b and name in a and b.get(name))
    return Row(figure, variant, unit, own.values(name), peer, ratios, note="; ".join(filter(None, [note, own.failure])))


def child(
    words: Sequence[str],
    *,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600,
) -> dict[str, float]:
    """What a fresh interpreter prints as JSON on its last line of output.

    Args:
        words: Behind the interpreter, such as ("-m", "benchmarks.training_step", "torch").
        python: The interpreter.
        env: Added to this process' environment.
        timeout_s: When it is ended.

    Raises:
        Missing: It failed, took too long, or printed no JSON.
    """
    surroundings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true", **(env or {})}
    try:
        done = subprocess.run(
            [python, *words], cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Missing(f"took more than {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise Missing(f"failed: {_last_line(done.stderr)[:200] or f'status {done.returncode}'}")
    try:
        return dict(json.loads(_last_line(done.stdout)))
    except (ValueError, TypeError) as error:
        raise Missing(f"printed no figures: {_last_line(done.stdout)[:200]!r}") from error


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    return "\n".join(lines + [_line(_cells(one)) for one in rows])


def _cells(one: Row) -> list[str]:
    return [
        one.figure,
        one.variant,
        _spread(one.values, one.median),
        one.unit,
        str(len(one.values)),
        f"{_spread(one.ratios, statistics.median(one.ratios))} x {one.peer}" if one.ratios else "-",
        "-" if one.roof_share is None else f"{one.roof_share:.0%}",
        one.note,
    ]


def _spread(values: tuple[float, ...], median: float) -> str:
    if not values:
        return "-"
    digits = 0 if abs(median) >= 100 else 1 if abs(median) >= 10 else 2 if abs(median) >= 0.1 else 4
    told = [f"{value:,.{digits}f}" for value in (median, min(values), max(values))]
    return told[0] if len(values) == 1 else f"{told[0]} [{told[1]}, {told[2]}]"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def surroundings(command: str) -> str:
    """Command, hardware, versions and commit, as they stand above the table."""
    here = collect_provenance()
    commit = here.commit[:12] or "no checkout"
    packages = ", ".join(f"{name} {_version(name)}" for name in ("tensorflow", "tensorflow-cpu", "keras", "numpy"))
    lines = [
        f"`{command}`, commit {commit}{' with uncommitted changes' if here.dirty else ''}",
        f"{here.processor}, {here.num_cores} cores, {here.memory_gib:.0f} GiB, load {os.getloadavg()[0]:.1f} before",
        f"Python {here.python}, {packages}".replace("tensorflow -, ", "").replace("tensorflow-cpu -, ", ""),
    ]
    return "  \n".join(lines)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def show(rows: Callable[[bool], Sequence[Row]], **more: Callable[[], Sequence[Row]]) -> None:
    """Run one module's benchmark and print its table; `quick` on the command line takes few repetitions.

    Args:
        rows: The module's.
        more: What another word on the command line measures instead.

    Raises:
        SystemExit: A word that is none of these.
    """
    tables = {"": partial(rows, False), "quick": partial(rows, True), **more}
    module, word = Path(sys.argv[0]).stem, " ".join(sys.argv[1:])
    if word not in tables:
        raise SystemExit(f"python -m benchmarks.{module} {word}: expected no word, or {', '.join(list(tables)[1:])}")
    told = surroundings(f"python -m benchmarks.{module} {word}".strip())
    print(f"{told}\n\n{table(tables[word]())}")


def say(text: str) -> None:
    """Progress, on stderr, so that the table alone goes to stdout."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
