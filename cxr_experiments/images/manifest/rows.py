"""The data set as plain values: one ImageRow per image, and the Manifest that holds them in order."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# What a patient key begins with that was made from a DICOM file's PatientID under this installation's salt.
SALTED = "hmac:"


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of a data set.

    Attributes:
        image_id: POSIX path relative to the root ("train/NORMAL/IM-0115-0001.jpeg"); "phantom/000123" for a phantom.
        path: absolute path of the file; "" for what is no file of its own: a phantom, a row of an .npz archive.
        label: 0 (the first of `data.classes`) or 1.
        patient: strict patient key, such as "bacteria:12", or "hmac:" and 24 hex digits for a patient whom a DICOM file
            names; "" when the patient is not known.
        loose_key: key that joins families which may number the same patients, such as "person:12"; "" without one.
        split: "train", "val" or "test" as the source says; "" when it says nothing.
        width, height: px as stored, before any EXIF orientation is obeyed; 0 when the header could not be read.
        mode: how pixels are coded, in PIL's words ("L", "RGB", "I;16") or DICOM's ("MONOCHROME2 12-bit"); "" when the
            header could not be read.
        num_bytes: size of the file; 0 for a phantom and for a file that could not be read.
        sha256: 64 hex digits over the file's bytes, or over what makes the phantom; "" when the file could not be read.
    """

    image_id: str
    path: str
    label: int
    patient: str
    loose_key: str
    split: str
    width: int
    height: int
    mode: str
    num_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        for name in ("patient", "loose_key", "split", "mode"):  # one string each, however many rows say the same
            object.__setattr__(self, name, sys.intern(getattr(self, name)))


@dataclass(frozen=True)
class Manifest:
    """Every image of a data set, sorted by image id whatever order they came in.

    Attributes:
        source: "phantom", "kaggle", "folder", "csv" or "pneumoniamnist".
        rows: one entry per image; a row number is a position in this tuple.
        classes: names of label 0 and label 1.
        patients_verifiable: whether every image has a patient key.
        synthetic: True for phantoms.
        root: absolute folder of the images, or the .npz archive; "" for phantoms.  Not part of the digest.
    """

    source: str
    rows: tuple[ImageRow, ...]
    classes: tuple[str, str]
    patients_verifiable: bool
    synthetic: bool
    root: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(sorted(self.rows, key=lambda row: row.image_id)))

    @cached_property
    def digest(self) -> str:
        """64 hex digits over id, label, patient, split and content of all rows: the same wherever the files lie.

        A salted patient key counts as the smallest image id of that patient, so that the digest is the same under every
        salt and tells nothing of it.
        """
        first: dict[str, str] = {}
        for row in self.rows:
            if row.patient.startswith(SALTED):
                first.setdefault(row.patient, row.image_id)
        digest = hashlib.sha256(b"[")  # over a JSON list of all rows, which is never held as a whole
        for number, row in enumerate(self.rows):
            told = [row.image_id, row.label, first.get(row.patient, row.patient), row.split, row.sha256]
            digest.update((", " if number else "").encode() + json.dumps(told).encode())
        digest.update(b"]")
        return digest.hexdigest()

    @property
    def labels(self) -> NDArray[np.int8]:
        """(n,) int8 in {0, 1}, one per row."""
        return np.array([row.label for row in self.rows], dtype=np.int8)

    def without(self, image_ids: Iterable[str]) -> Manifest:
        """The same data set less some images."""
        dropped = set(image_ids)
        return replace(self, rows=tuple(row for row in self.rows if row.image_id not in dropped))
