"""One training run as the clock outside saw it: a JSON file with one line per evaluation, written when it has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

PLAIN = "plain"  # the arm of reference: benchmarks/plain_keras.py


@dataclass(frozen=True)
class Evaluation:
    """One epoch, counted from 0, with the validation that closes it.

    Attributes:
        val_loss: log loss over the validation images, in nats.
        since_start_s: from the start of the process, imports included, to the end of this evaluation.
        since_imports_s: the same from when imports were done and batches and model were yet to be made.
    """

    epoch: int
    val_loss: float
    val_accuracy: float
    since_start_s: float
    since_imports_s: float


@dataclass(frozen=True)
class RunRecord:
    """One run of one arm.

    Attributes:
        command: without paths, and with what differs from the arm's own words.
        ended: "early stopping", "epoch limit", or "failed: " and the last line of the error.
        others_share: share of the machine's processor time that went to other processes meanwhile.
    """

    arm: str
    seed: int
    size_px: int
    epoch_limit: int
    command: str
    ended: str
    num_train: int
    num_val: int
    split_digest: str
    synthetic: bool
    commit: str
    dirty: bool
    processor: str
    num_cores: int
    versions: str
    wall_s: float
    cpu_s: float
    others_share: float
    evaluations: tuple[Evaluation, ...]

    @property
    def losses(self) -> list[float]:
        """Validation log loss of each evaluation."""
        return [one.val_loss for one in self.evaluations]

    @property
    def images_per_s(self) -> float:
        """Training images per second over the epochs behind the first, validation included; NaN for one epoch."""
        first, last = self.evaluations[0], self.evaluations[-1]
        num_images = self.num_train * (len(self.evaluations) - 1)
        return num_images / (last.since_start_s - first.since_start_s) if num_images else float("nan")


def record_path(folder: Path, arm: str, size_px: int, seed: int) -> Path:
    """Where a run's record lies."""
    return folder / f"{arm}-{size_px}px-{seed}.json"


def write_record(folder: Path, record: RunRecord) -> Path:
    """Keep a run: whole or not at all."""
    path = record_path(folder, record.arm, record.size_px, record.seed)
    values = asdict(record)
    rows = ",\n".join(f"    {json.dumps(one)}" for one in values.pop("evaluations"))
    head = json.dumps(values, indent=2)[:-2]
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(f'{head},\n  "evaluations": [\n{rows}\n  ]\n}}\n', encoding="utf-8")
    draft.replace(path)
    return path


def read_records(folder: Path) -> list[RunRecord]:
    """Every record of a folder, by arm, size and seed.

    Raises:
        ValueError: a file that is no record, with its path.
    """
    found = [_read(path) for path in folder.glob("*px-*.json")]
    return sorted(found, key=lambda one: (one.arm, one.size_px, one.seed))


def _read(path: Path) -> RunRecord:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        evaluations = tuple(Evaluation(**one) for one in values.pop("evaluations"))
        record = RunRecord(**values, evaluations=evaluations)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not the record of a run: {error!r}") from error
    if [one.epoch for one in evaluations] != list(range(len(evaluations))) or not evaluations:
        raise ValueError(f"{path}: expected epochs 0, 1, 2 ... without a gap, one at least")
    return record


def require_comparable(records: Sequence[RunRecord]) -> None:
    """One machine, one set of versions, and one division per seed and size: else times are of different things.

    Raises:
        ValueError: names two runs that differ, and in what.
    """
    if not records:
        return
    first = records[0]
    for one in records:
        for name in ("processor", "num_cores", "versions", "synthetic"):
            _require_equal(first, one, name)
        twin = next(other for other in records if (other.seed, other.size_px) == (one.seed, one.size_px))
        for name in ("split_digest", "num_train", "num_val"):
            _require_equal(twin, one, name)


def _require_equal(first: RunRecord, second: RunRecord, name: str) -> None:
    assert name in {field.name for field in fields(RunRecord)}
    told = [getattr(one, name) for one in (first, second)]
    if told[0] != told[1]:
        names = " and ".join(f"{one.arm}, seed {one.seed}" for one in (first, second))
        raise ValueError(f"{names} differ in {name}, {told[0]!r} and {told[1]!r}: their times cannot be compared")
