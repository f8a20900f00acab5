"""Records -> the level that each seed must reach, and when each run held it.

The plain twin's run sets the level of its seed.  Three readings of "as good as", told side by side:

    own      the lowest level that the plain run itself holds for two evaluations running; both arms must hold it so
    lowest   the plain run's single lowest evaluation: plain is there with that one, the others must hold it twice
    common   one level for all seeds, the median of `own`: both must hold it, and either may fail
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.time_to_quality.records import PLAIN, RunRecord
from cxr_experiments.evidence.stats.censored import MedianRatio, WaitedTime, ratio_of_medians

OWN, LOWEST, COMMON = "own", "lowest", "common"
READINGS = (OWN, LOWEST, COMMON)
SINCE_START, SINCE_IMPORTS = "since_start_s", "since_imports_s"


@dataclass(frozen=True)
class Waited:
    """How long one run took to the level of its seed.

    Attributes:
        level: validation log loss.
        time: to the end of the evaluation that counts, or to the run's end.
        evaluations: that evaluation's number counted from 1, or how many there were.
    """

    seed: int
    level: float
    time: WaitedTime
    evaluations: int


@dataclass(frozen=True)
class Compared:
    """One arm against the plain twin, over the seeds that both have."""

    arm: str
    reference: tuple[Waited, ...]
    compared: tuple[Waited, ...]
    ratio: MedianRatio


def held_level(losses: Sequence[float]) -> float:
    """The lowest level that two evaluations running stay at or below.

    Raises:
        ValueError: fewer than two evaluations.

    Example:
        >>> held_level([0.5, 0.1, 0.4, 0.2, 0.3])
        0.3
    """
    if len(losses) < 2:
        raise ValueError(f"{len(losses)} evaluation holds no level for two running: at least two epochs are needed")
    return min(max(pair) for pair in itertools.pairwise(losses))


def first_held(losses: Sequence[float], level: float, *, running: int = 2) -> int | None:
    """Index of the evaluation with which `level` has been held for so many running; None when it never was.

    Example:
        >>> first_held([0.5, 0.1, 0.4, 0.2, 0.3], 0.3), first_held([0.5, 0.1, 0.4], 0.1, running=1)
        (4, 1)
    """
    for end in range(running, len(losses) + 1):
        if max(losses[end - running : end]) <= level:
            return end - 1
    return None


def compare(records: Sequence[RunRecord], arm: str, reading: str, clock: str = SINCE_START) -> Compared:
    """One arm against the plain twin under one reading.

    Args:
        records: of one size; those of `arm` and of the plain twin are used, for the seeds that both have.
        arm: name of the arm.
        reading: one of READINGS.
        clock: SINCE_START or SINCE_IMPORTS.

    Raises:
        ValueError: no seed was run by both.
    """
    plain, own = ({one.seed: one for one in records if one.arm == name} for name in (PLAIN, arm))
    seeds = sorted(plain.keys() & own.keys())
    if not seeds:
        raise ValueError(f"no seed was run by both {PLAIN} and {arm}")
    levels = _levels(plain, reading)
    reference = tuple(waited(plain[s], levels[s], clock, running=1 if reading == LOWEST else 2) for s in seeds)
    compared = tuple(waited(own[s], levels[s], clock) for s in seeds)
    ratio = ratio_of_medians([one.time for one in reference], [one.time for one in compared])
    return Compared(arm, reference, compared, ratio)


def _levels(plain: dict[int, RunRecord], reading: str) -> dict[int, float]:
    """Seed -> level.  `common` is over all seeds of the plain twin, whichever of them the other arm has."""
    if reading == LOWEST:
        return {seed: min(record.losses) for seed, record in plain.items()}
    own = {seed: held_level(record.losses) for seed, record in plain.items()}
    return own if reading == OWN else dict.fromkeys(own, statistics.median(own.values()))


def waited(record: RunRecord, level: float, clock: str, *, running: int = 2) -> Waited:
    """When one run had held the level; its last evaluation, as not reached, when it never did."""
    index = first_held(record.losses, level, running=running)
    last = record.evaluations[len(record.evaluations) - 1 if index is None else index]
    time = WaitedTime(getattr(last, clock), reached=index is not None)
    return Waited(record.seed, level, time, last.epoch + 1)
