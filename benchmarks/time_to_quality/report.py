"""Everything that was kept of the runs -> tables in Markdown, and the times of each run as CSV.  Trains nothing."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.time_to_quality.arms import read_arms
from benchmarks.time_to_quality.judged import (
    COMMON,
    LOWEST,
    OWN,
    READINGS,
    SINCE_IMPORTS,
    SINCE_START,
    Compared,
    Waited,
    compare,
)
from benchmarks.time_to_quality.records import PLAIN, RunRecord, read_records, require_comparable
from cxr_experiments.evidence.stats.censored import MedianRatio
from cxr_experiments.record.run_folder import read_json

BARS = ((1 / 3, "one third"), (1 / 4, "one quarter"))
NOISY_SHARE = 0.05  # of the machine's processor time taken by others: a run is then named as disturbed
TOLD_READINGS = {
    OWN: "lowest level that plain holds for two evaluations running, held by both",
    LOWEST: "plain's single lowest evaluation; plain is there with it, the other must hold it for two",
    COMMON: "one level for all seeds, the median of plain's held ones, held by both",
}


def build_time_path(folder: Path, size_px: int) -> Path:
    """Where the time that the store took is kept; its name is not that of a record."""
    return folder / f"store-{size_px}.json"


def write_report(folder: Path) -> str:
    """Read the folder's records, write report.md and times.csv beside them, and give the report.

    Raises:
        ValueError: no record, one that cannot be read, or runs that cannot be compared.
    """
    records = read_records(folder)
    if not records:
        raise ValueError(f"{folder} holds no record of a run: `python -m benchmarks.time_to_quality run` makes them")
    require_comparable(records)
    sizes = sorted({one.size_px for one in records})
    mark = ["**SYNTHETIC: phantoms, which say nothing of real radiographs.**", ""] if records[0].synthetic else []
    parts = [line for size_px in sizes for line in _of_size(folder, records, size_px)]
    text = "\n".join(["# Time to quality", "", *mark, *_conditions(records), "", *parts]) + "\n"
    for name, content in (("report.md", text), ("times.csv", _times(records))):
        draft = folder / f".{name}"
        draft.write_text(content, encoding="utf-8")
        draft.replace(folder / name)
    return text


def _conditions(records: Sequence[RunRecord]) -> list[str]:
    first = records[0]
    commits = sorted({f"{one.commit[:12] or 'none'}{' with changes' if one.dirty else ''}" for one in records})
    disturbed = [f"{one.arm} {one.seed} ({one.others_share:.0%})" for one in records if one.others_share > NOISY_SHARE]
    calm = f"Other processes took more than {NOISY_SHARE:.0%} of the machine in: {', '.join(disturbed) or 'no run'}."
    return [
        "`python -m benchmarks.time_to_quality report` computes this page from the records beside it.",
        "Clock: from the start of the process, imports included, to the end of the evaluation that counts; the store",
        "is ready.  A run that never gets there is censored at its end: plain's time is then a lower bound, that of",
        "any other arm is infinite.",
        f"{first.processor}, {first.num_cores} cores; {first.versions}; commit {', '.join(commits)}.",
        calm,
    ]


def _of_size(folder: Path, records: Sequence[RunRecord], size_px: int) -> list[str]:
    ours = [one for one in records if one.size_px == size_px]
    arms = _arms(ours)
    build = build_time_path(folder, size_px)
    store = [f"The store took {read_json(build)['store_build_s']} s, once for all runs.", ""] if build.is_file() else []
    lines = [f"## {size_px} px", "", *store]
    if arms:
        lines += [*_table(SUMMARY, (_summary(ours, arm, reading) for arm in arms for reading in READINGS)), ""]
        lines += [f"- {reading}: {TOLD_READINGS[reading]}." for reading in READINGS]
        lines += [f"- {sentence}" for arm in arms for sentence in _verdict(compare(ours, arm, OWN))]
        lines += ["", *_table(IMPORTS, (_since_imports(ours, arm) for arm in arms)), ""]
        lines += [*_table(SEEDS, (row for arm in arms for row in _seeds(ours, arm))), ""]
    by_seed = sorted(ours, key=lambda one: (one.seed, one.arm != PLAIN, (*arms, one.arm).index(one.arm)))
    return [*lines, *_table(RUNS, map(_run, by_seed)), ""]


def _arms(records: Sequence[RunRecord]) -> list[str]:
    """Arms that share a seed with the plain twin, in the order of arms.yaml, then by name."""
    plain = {one.seed for one in records if one.arm == PLAIN}
    found = {one.arm for one in records if one.arm != PLAIN and one.seed in plain}
    known = [arm for arm in read_arms() if arm in found]
    return [*known, *sorted(found - set(known))]


SUMMARY = (
    *("arm", "reading", "seeds", "reached: plain, arm", "median time: plain, arm"),
    *("ratio of medians [interval]", "geometric mean of the ratios [95 %, t]"),
)
IMPORTS = ("arm", "reading", "seeds", "median time behind the imports: plain, arm", "ratio of medians [interval]")
SEEDS = ("arm", "seed", "level", "plain", "arm's time", "ratio")
RUNS = (
    *("arm", "seed", "lowest validation log loss", "in epoch", "epochs", "ended", "whole run", "images/s"),
    "others' share",
)


def _summary(records: Sequence[RunRecord], arm: str, reading: str) -> tuple[str, ...]:
    found = compare(records, arm, reading)
    reached = f"{_reached(found.reference)}, {_reached(found.compared)}"
    medians = f"{_median(found.reference)}, {_median(found.compared)}"
    mean = _ratio(found.ratio.geometric_mean, found.ratio.geometric_low, found.ratio.geometric_high)
    return (arm, reading, str(found.ratio.num_pairs), reached, medians, _told_ratio(found.ratio), mean)


def _since_imports(records: Sequence[RunRecord], arm: str) -> tuple[str, ...]:
    found = compare(records, arm, OWN, SINCE_IMPORTS)
    medians = f"{_median(found.reference)}, {_median(found.compared)}"
    return (arm, OWN, str(found.ratio.num_pairs), medians, _told_ratio(found.ratio))


def _seeds(records: Sequence[RunRecord], arm: str) -> Iterable[tuple[str, ...]]:
    found = compare(records, arm, OWN)
    for slow, fast in zip(found.reference, found.compared, strict=True):
        ratio = fast.time.seconds / slow.time.seconds if fast.time.reached else math.inf
        yield (arm, str(slow.seed), f"{slow.level:.4f}", _waited(slow), _waited(fast), _number(ratio))


def _run(record: RunRecord) -> tuple[str, ...]:
    lowest = min(record.evaluations, key=lambda one: one.val_loss)
    epochs = f"{len(record.evaluations)} of {record.epoch_limit}"
    speed = "-" if math.isnan(record.images_per_s) else f"{record.images_per_s:.0f}"
    return (
        *(record.arm, str(record.seed), f"{lowest.val_loss:.4f}", str(lowest.epoch + 1), epochs, record.ended),
        *(f"{record.wall_s:.0f} s", speed, f"{record.others_share:.1%}"),
    )


def _verdict(found: Compared) -> list[str]:
    """What the interval says of the bars, and what kind of interval it is."""
    ratio, name = found.ratio, f"{found.arm}, {found.ratio.num_pairs} seeds"
    if ratio.num_pairs == 1:
        return [f"{found.arm}: one seed, so that there is no interval; a single ratio is no verdict."]
    kind = (
        f"the interval is the range of the {ratio.num_pairs} paired ratios, which encloses their median with a "
        f"probability of {ratio.exact_level:.1%} whatever the distribution"
        if ratio.is_range
        else "the interval is the percentile bootstrap's at 95 %"
    )
    bound = "at most, since plain was cut short: " if ratio.num_censored_reference else ""
    return [f"{name}: {bound}{'; '.join(_against(ratio, bar, words) for bar, words in BARS)}. Here {kind}."]


def _against(ratio: MedianRatio, bar: float, words: str) -> str:
    if ratio.high <= bar:
        return f"the whole interval lies at or below {words}"
    return f"above {words}" if ratio.low > bar else f"{words} lies inside the interval"


def _told_ratio(ratio: MedianRatio) -> str:
    at_most = "<= " if ratio.num_censored_reference else ""
    return at_most + _ratio(ratio.ratio, ratio.low, ratio.high)


def _ratio(value: float, low: float, high: float) -> str:
    if math.isinf(value) and math.isnan(low):
        return _number(value)
    limits = "no interval" if math.isnan(high) else f"{_number(low)}, {_number(high)}"
    return f"{_number(value)} [{limits}]"


def _number(value: float) -> str:
    return "not reached" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.3g}"


def _median(times: Sequence[Waited]) -> str:
    """A time that is not known is longer than all; the median may be one of them."""
    middle = statistics.median(one.time.seconds if one.time.reached else math.inf for one in times)
    return "not reached" if math.isinf(middle) else f"{middle:.0f} s"


def _reached(times: Sequence[Waited]) -> str:
    return f"{sum(one.time.reached for one in times)} of {len(times)}"


def _waited(one: Waited) -> str:
    if one.time.reached:
        return f"{one.time.seconds:.0f} s, epoch {one.evaluations}"
    return f"not within {one.time.seconds:.0f} s, {one.evaluations} epochs"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def _times(records: Sequence[RunRecord]) -> str:
    """times.csv: one line per size, arm, reading and seed."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ("size_px", "arm", "seed", "reading", "level", "plain_s", "plain_reached", "arm_s", "arm_reached", "clock")
    )
    for size_px in sorted({one.size_px for one in records}):
        ours = [one for one in records if one.size_px == size_px]
        for arm in _arms(ours):
            for reading in READINGS:
                for clock in (SINCE_START, SINCE_IMPORTS):
                    writer.writerows(_lines(compare(ours, arm, reading, clock), size_px, reading, clock))
    return stream.getvalue()


def _lines(found: Compared, size_px: int, reading: str, clock: str) -> Iterable[tuple[object, ...]]:
    for slow, fast in zip(found.reference, found.compared, strict=True):
        times = (slow.time.seconds, slow.time.reached, fast.time.seconds, fast.time.reached)
        yield (size_px, found.arm, slow.seed, reading, f"{slow.level:.6f}", *times, clock)
