"""Simulated arms: networks of known quality on images with Kermany's patient keys, as cells and as prediction files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.comparison import Arm, Cell, Rows
from cxr_experiments.evidence.metrics import sigmoid

FAMILIES = ("IM", "NORMAL2-IM", "bacteria", "virus")
COLUMNS = ("image_id", "patient", "split", "label", "logit", "probability", "seed", "run_id", "dataset_digest")


def make_arms(
    effects: Sequence[float] = (0.0,),
    *,
    num_seeds: int = 4,
    num_patients: int = 120,
    per_patient: int = 1,
    seed_sd: float = 0.1,
    split: str = "test",
    synthetic: bool = False,
    seed: int = 0,
) -> list[Arm]:
    """A baseline and one option for each effect, which moves the classes' mean logits by so much apart.

    Every run sees the same images; noise has a part of the image, of arm and image, of arm and seed, and of the run.
    """
    rng = np.random.default_rng(seed)
    patient = np.array([f"{FAMILIES[number % 4]}:{number // 4}" for number in range(num_patients)])
    label = np.array([number % 4 >= 2 for number in range(num_patients)]).astype(np.int8)
    rows = np.repeat(np.arange(num_patients), per_patient)
    image_id = np.array([f"{split}/{patient[row]}-{place}.jpeg" for place, row in enumerate(rows)])
    shared = rng.normal(0, 0.8, num_patients)[rows] + rng.normal(0, 0.3, len(rows))
    arms = []
    for number, effect in enumerate((0.0, *effects)):
        own = rng.normal(0, 0.3, len(rows)) if number else np.zeros(len(rows))
        name = f"option {number}" if number else "baseline"
        cells = []
        for repetition in range(num_seeds):
            apart = 2.4 + effect + rng.normal(0, seed_sd)
            logit = apart * (label[rows] - 0.5) + shared + own + rng.normal(0, 0.3, len(rows))
            taken = Rows(image_id, patient[rows], label[rows], logit, sigmoid(logit))
            run_id = f"{number}{repetition}abcdef{number}{repetition}"
            cells.append(Cell(run_id, repetition, split, taken, "d" * 64, synthetic, threshold=0.5))
        arms.append(Arm(name, tuple(cells), factor=f"factor {number}" if number else "", changed=("key",)))
    return arms


def with_rows(arm: Arm, order: NDArray[np.int64]) -> Arm:
    """The arm whose runs hold these rows in this order."""

    def taken(rows: Rows) -> Rows:
        return Rows(
            rows.image_id[order], rows.patient[order], rows.label[order], rows.logit[order], rows.probability[order]
        )

    return replace(arm, cells=tuple(replace(cell, rows=taken(cell.rows)) for cell in arm.cells))


def write_arm(folder: Path, arm: Arm, *, columns: Sequence[str] = COLUMNS) -> str:
    """One file per run as a user writes it with csv.DictWriter; returns the pattern that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell in arm.cells:
        whole = {"split": cell.split, "seed": cell.seed, "run_id": cell.run_id, "dataset_digest": cell.dataset_digest}
        with open(folder / f"run_{cell.seed}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            rows = cell.rows
            for place, image_id in enumerate(rows.image_id):
                values = {name: getattr(rows, name)[place] for name in ("patient", "label", "logit", "probability")}
                writer.writerow({"image_id": image_id, **values, **whole})
    return f"{folder}/*.csv"
