"""Where the images come from: a DataConfig becomes a Manifest, one row per image, and a row becomes its pixels.

A row holds id, path, label, patient, split, size and SHA-256; the manifest's digest names the data set wherever it
lies.  `read_manifest` lists and hashes files and decodes none; `load_pixels` is the one way from a row to its pixels,
for files, for members of an archive and for phantoms, and `load_square` the one way to what a model takes.  Nothing is
divided here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import BadImageError, DataError
from cxr_experiments.images.decode import Gray, decode_bytes, read_image_bytes
from cxr_experiments.images.manifest.csv_list import read_csv_list
from cxr_experiments.images.manifest.files import num_cores
from cxr_experiments.images.manifest.folder import IMAGE_SUFFIXES, may_be_image, read_folder
from cxr_experiments.images.manifest.kermany import KermanyKeys, kermany_keys, read_kermany
from cxr_experiments.images.manifest.phantoms import read_phantoms, render_row, source_digest
from cxr_experiments.images.manifest.pneumoniamnist import load_npz_row, read_pneumoniamnist
from cxr_experiments.images.manifest.rows import ImageRow, Manifest
from cxr_experiments.images.prepare import prepare, prepare_bytes

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageRow",
    "KermanyKeys",
    "Manifest",
    "kermany_keys",
    "load_pixels",
    "load_square",
    "num_cores",
    "read_manifest",
    "source_digest",
]

_READERS = {
    "phantom": read_phantoms,
    "kaggle": read_kermany,
    "folder": read_folder,
    "csv": read_csv_list,
    "pneumoniamnist": read_pneumoniamnist,
}


def read_manifest(data: DataConfig) -> Manifest:
    """Every image that `data` names, listed and hashed, not decoded.

    Raises:
        DataError: the images are missing, wrongly laid out, or do not tell the patients they should.
    """
    try:
        return _READERS[data.source](data)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; mend its permissions") from error


def load_pixels(row: ImageRow, manifest: Manifest, data: DataConfig) -> Gray:
    """The gray pixels of one row: (height, width) uint8, as in the file or as the phantom is rendered.

    Raises:
        BadImageError: the file cannot be decoded; the text is the reason without the path.
        DataError: the file is no longer the one that the manifest lists.
    """
    if manifest.synthetic:
        return render_row(row, data)
    if manifest.source == "pneumoniamnist":
        return load_npz_row(row, manifest)
    return decode_bytes(_listed_bytes(row))


def load_square(row: ImageRow, manifest: Manifest, data: DataConfig) -> Gray:
    """One row as the model takes it: (size, size, 1) uint8 by `data.image_size_px` and `data.resize`.

    Raises:
        BadImageError, DataError: as `load_pixels`.
    """
    if manifest.synthetic or manifest.source == "pneumoniamnist":
        return prepare(load_pixels(row, manifest, data), size_px=data.image_size_px, resize=data.resize)
    return prepare_bytes(_listed_bytes(row), size_px=data.image_size_px, resize=data.resize)


def _listed_bytes(row: ImageRow) -> bytes:
    """The file of a row, read once, and the same as when it was listed."""
    if not may_be_image(Path(row.path)):
        raise BadImageError(f"suffix {Path(row.path).suffix!r} is none of {', '.join(IMAGE_SUFFIXES)}")
    content = read_image_bytes(Path(row.path))
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise DataError(f"{row.path} changed after it was listed; let the data set rest and start again")
    return content
