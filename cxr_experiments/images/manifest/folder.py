"""Any CLASS/image tree of files as a manifest, patients taken from the paths by a regular expression.

No split is read: `splits` draws the test rows itself.  Without `data.patient_regex` patients are not verifiable, and
whoever prints a figure says so.
"""

from __future__ import annotations

import re
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.manifest.files import Contents, contents_of, files_by_class, folder_names
from cxr_experiments.images.manifest.rows import ImageRow, Manifest

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


def has_image_suffix(path: Path) -> bool:
    """Whether a file claims to be an image that `decode` reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_folder(data: DataConfig) -> Manifest:
    """The two class folders under `data.root` as a manifest.

    Raises:
        ConfigError: `data.patient_regex` is no regular expression.
        DataError: no root, other class folders, an empty class, or a path in which the expression finds no patient.
    """
    root = _find_root(data)
    pattern = _compile(data.patient_regex)
    files = files_by_class(root, data.classes)
    listed = [(path, label) for label in (0, 1) for path in files[label]]
    contents = contents_of([path for path, _ in listed])
    rows = [_row(root, path, label, read, pattern) for (path, label), read in zip(listed, contents, strict=True)]
    return Manifest(
        source=data.source,
        rows=tuple(rows),
        classes=data.classes,
        patients_verifiable=pattern is not None,
        synthetic=False,
        root=str(root),
    )


def _row(root: Path, path: Path, label: int, contents: Contents, pattern: re.Pattern[str] | None) -> ImageRow:
    image_id = path.relative_to(root).as_posix()
    # A stray file of another kind has no patient; the store names it as a bad one.
    patient = _patient(pattern, image_id) if pattern and has_image_suffix(path) else ""
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


def _patient(pattern: re.Pattern[str], image_id: str) -> str:
    match = pattern.search(image_id)
    if match is None or not match[1]:
        raise DataError(
            f"data.patient_regex={pattern.pattern} finds no patient in {image_id}; "
            f"its first group must match part of every path below data.root"
        )
    return match[1]


def _compile(expression: str | None) -> re.Pattern[str] | None:
    if expression is None:
        return None
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(f"data.patient_regex={expression} is not a regular expression: {error}") from error
    if pattern.groups == 0:
        raise DataError(
            f"data.patient_regex={expression} has no group; put the part of the path that names the patient in "
            f"parentheses, as in 'data.patient_regex=patient([0-9]+)_'"
        )
    return pattern


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
