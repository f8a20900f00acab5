"""Any CLASS/image tree of files as a manifest, patients taken from the paths by a regular expression.

No split is read: `splits` draws the test rows itself.  Without `data.patient_regex` a patient is whom a DICOM file
names, as a salted hash; where one image names none, patients are not verifiable, and whoever prints a figure says so.
"""

from __future__ import annotations

import re
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest.files import Contents, contents_of, files_by_class, folder_names
from cxr_experiments.images.manifest.patients import compile_regex, patient_in
from cxr_experiments.images.manifest.rows import ImageRow, Manifest

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".dcm", ".dicom")
_UID = re.compile(r"[0-9.]+", re.ASCII)


def has_image_suffix(path: Path) -> bool:
    """Whether a file claims to be an image that `decode` reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def may_be_image(path: Path) -> bool:
    """Whether `decode` should look at a file: it claims to be an image, or its name claims nothing.

    DICOM archives and discs name files without a suffix ("IM000001") or by their UID ("1.2.840.113619.2.5"): of these
    the content decides.
    """
    return has_image_suffix(path) or not path.suffix or _UID.fullmatch(path.name) is not None


def read_folder(data: DataConfig) -> Manifest:
    """The two class folders under `data.root` as a manifest.

    Raises:
        ConfigError: `data.patient_regex` is no regular expression, or the salt is no secret.
        DataError: no root, other class folders, an empty class, or a path in which the expression finds no patient.
    """
    root = _find_root(data)
    pattern = compile_regex(data.patient_regex)
    files = files_by_class(root, data.classes)
    listed = [(path, label) for label in (0, 1) for path in files[label]]
    contents = contents_of([path for path, _ in listed], with_patients=pattern is None)
    rows = [_row(root, path, label, read, pattern) for (path, label), read in zip(listed, contents, strict=True)]
    images = [row for row in rows if row.mode and may_be_image(Path(row.path))]
    return Manifest(
        source=data.source,
        rows=tuple(rows),
        classes=data.classes,
        patients_verifiable=pattern is not None or (bool(images) and all(row.patient for row in images)),
        synthetic=False,
        root=str(root),
    )


def _row(root: Path, path: Path, label: int, contents: Contents, pattern: re.Pattern[str] | None) -> ImageRow:
    image_id = path.relative_to(root).as_posix()
    # A stray file of another kind has no patient; the store names it as a bad one.
    is_image = has_image_suffix(path) or (may_be_image(path) and contents.header.mode)
    patient = patient_in(image_id, pattern) if pattern and is_image else contents.patient
    return ImageRow(
        image_id=image_id,
        path=str(path),
        label=label,
        patient=patient,
        loose_key="",
        split="",
        width=contents.header.width,
        height=contents.header.height,
        mode=contents.header.mode,
        num_bytes=contents.num_bytes,
        sha256=contents.sha256,
    )


def _find_root(data: DataConfig) -> Path:
    if not data.root:
        raise DataError("data=folder needs data.root=DIR, a folder with one folder of images per class")
    root = Path(data.root).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"data.root={data.root}: {root} is no folder; data=folder reads a folder of images per class")
    if {"train", "test"} <= set(folder_names(root)):
        raise DataError(
            f"{root} is divided into train and test; data=folder reads one undivided tree, data=kaggle a divided one"
        )
    return root
