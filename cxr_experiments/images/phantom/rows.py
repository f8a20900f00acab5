"""Who there is: patients, their images, labels and splits, drawn from a seed without rendering anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_experiments.images.phantom.frame import stream

# Of the official Kermany split: 1,349 of 5,232 and 234 of 624 images are NORMAL, 428 of 4,082 patients are test.
NORMAL_FRACTION = {"train": 0.26, "test": 0.375}
TEST_FRACTION = 0.12
# Kermany's patients have one film mostly, pneumonia and normal alike here: the number of films must not tell the label.
NUM_IMAGES_PROBABILITY = (0.45, 0.30, 0.15, 0.10)


@dataclass(frozen=True)
class PhantomRow:
    """One image to be rendered; `label` is 0 NORMAL or 1 PNEUMONIA, `split` is "train" or "test"."""

    index: int
    patient: str
    label: int
    split: str


def phantom_rows(num_patients: int, seed: int) -> tuple[PhantomRow, ...]:
    """The images of `num_patients` patients, 1 to 4 each, every patient with one label and in one split.

    Each split gets NORMAL patients until their images reach its share (`NORMAL_FRACTION`), and at least one patient of
    each label when it has two patients.

    Args:
        num_patients: at least 1.
        seed: draws the data set.

    Returns:
        rows with `index` 0, 1, 2 ...; a patient's rows stand together.
    """
    rng = stream(seed, "rows")
    num_images = 1 + rng.choice(len(NUM_IMAGES_PROBABILITY), size=num_patients, p=NUM_IMAGES_PROBABILITY)
    order = rng.permutation(num_patients)
    num_test = round(TEST_FRACTION * num_patients) if num_patients < 17 else max(2, round(TEST_FRACTION * num_patients))
    splits = {"test": order[:num_test], "train": order[num_test:]}
    split_of = {int(patient): split for split, patients in splits.items() for patient in patients}
    normal = {int(p) for split, members in splits.items() for p in _normal_patients(members, num_images, split)}
    rows: list[PhantomRow] = []
    for patient in range(num_patients):
        label = 0 if patient in normal else 1
        for _ in range(int(num_images[patient])):
            rows.append(PhantomRow(len(rows), f"phantom-{patient:04d}", label, split_of[patient]))
    return tuple(rows)


def _normal_patients(members: np.ndarray, num_images: np.ndarray, split: str) -> np.ndarray:
    """The first of `members` whose images together come nearest to the split's share of NORMAL images."""
    if len(members) < 2:
        return members[:0]
    share = np.cumsum(num_images[members]) / num_images[members].sum()
    num_normal = 1 + int(np.argmin(np.abs(share[:-1] - NORMAL_FRACTION[split])))
    return members[:num_normal]
