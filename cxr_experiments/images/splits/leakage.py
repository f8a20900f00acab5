"""Whether a patient or a file stands on two sides of a division: refused where it may not be, measured where it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cxr_experiments.errors import LeakageError
from cxr_experiments.images.manifest import ImageRow, Manifest
from cxr_experiments.images.splits.groups import KEYS
from cxr_experiments.images.splits.rows import Split

_ACROSS_OFFICIAL = {
    "strict": ("patient", "file content"),
    "loose": ("patient", "bare patient number", "file content"),
    "none": ("file content",),
}
_NUM_NAMED = 5  # leaks spelt out in a message; the rest is counted


@dataclass(frozen=True)
class Leak:
    """How many images of one part the network has met, in another film of the patient or as the same file.

    Attributes:
        part: "validation" (against the training images) or "test" (against training and validation images).
        num_images: of the part.
        num_of_patients: of these, share a strict patient key with the other side; None where patients are not known.
        num_copies: of these, are a file that the other side holds too.
    """

    part: str
    num_images: int
    num_of_patients: int | None
    num_copies: int

    def __str__(self) -> str:
        """`361 of 878 validation images (41 %) are of patients in training, 5 are copies of training images`."""
        copies = f"{self.num_copies} are copies of training images"
        if self.num_of_patients is None:
            return (
                f"of {self.num_images} {self.part} images {copies}; patients are not known, so the rest is not either"
            )
        share = f"{self.num_of_patients} of {self.num_images} {self.part} images ({self.share:.0%})"
        return f"{share.replace('%', ' %')} are of patients in training, {copies}"

    @property
    def share(self) -> float:
        """Of the part's images, those that share a patient; in [0, 1]."""
        return (self.num_of_patients or 0) / max(1, self.num_images)


def leaking_sentence(leaks: Iterable[Leak], kind: str) -> str:
    """What stands beside every number of a division that leaks."""
    told = "; ".join(map(str, leaks))
    return f"LEAKING (split={kind}): {told}; scores are too good, this is a control and no result"


def leaks_of(manifest: Manifest, split: Split) -> tuple[Leak, Leak]:
    """How far validation and test of a division are contaminated: what an image-level split costs."""
    train, val, test = ([manifest.rows[i] for i in part] for part in (split.train, split.val, split.test))
    return _leak("validation", train, val, manifest), _leak("test", train + val, test, manifest)


def _leak(part: str, known: Sequence[ImageRow], judged: Sequence[ImageRow], manifest: Manifest) -> Leak:
    shared = {}
    for name in ("patient", "file content"):
        seen = {KEYS[name](row) for row in known}
        shared[name] = sum(KEYS[name](row) in seen for row in judged if KEYS[name](row))
    of_patients = shared["patient"] if manifest.patients_verifiable else None
    return Leak(part, len(judged), of_patients, shared["file content"])


def prove_disjoint(manifest: Manifest, split: Split, *, patient_rule: str) -> None:
    """Check that each row stands in one part, and that no patient and no file stands in two.

    Train and validation share no strict key, no bare number and no content; test shares with neither what
    `patient_rule` (strict, loose, none) forbids, nor a file.

    Raises:
        LeakageError: they do; the images are named.
    """
    placed = np.concatenate([split.train, split.val, split.test])
    if not np.array_equal(np.sort(placed), np.arange(len(manifest.rows))):
        raise LeakageError(
            f"the split places {len(placed)} rows of {len(manifest.rows)}, some of them twice or not at all"
        )
    train, val, test = ([manifest.rows[i] for i in part] for part in (split.train, split.val, split.test))
    for shared in KEYS:
        _refuse_shared(train, val, shared, "train and val")
    for shared in _ACROSS_OFFICIAL[patient_rule]:
        _refuse_shared(train + val, test, shared, "the training images and test")


def _refuse_shared(left: Sequence[ImageRow], right: Sequence[ImageRow], shared: str, between: str) -> None:
    key = KEYS[shared]
    seen = {key(row): row.image_id for row in left if key(row)}
    leaks = [(key(row), seen[key(row)], row.image_id) for row in right if key(row) in seen]
    if not leaks:
        return
    named = "; ".join(f"{value[:16]} in {one} and {other}" for value, one, other in leaks[:_NUM_NAMED])
    rest = f"; and {len(leaks) - _NUM_NAMED} more" if len(leaks) > _NUM_NAMED else ""
    raise LeakageError(
        f"{between} share a {shared} in {len({value for value, _, _ in leaks})} case(s): {named}{rest}. "
        f"Scores on such a split would be too good: remove one side, or say with data.patient_rule which keys count. "
        f"python -m cxr_experiments.verify lists them all"
    )
