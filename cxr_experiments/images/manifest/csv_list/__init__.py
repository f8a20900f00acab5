"""A list of images with columns of any name as a manifest: RSNA, NIH, CheXpert, PadChest, or a hospital's own.

`lines` reads the list, `cells` understands what stands in it, `places` finds the files.  A list comes from elsewhere:
nothing in it is executed, no path in it leads out of `data.root`, and a column of patients is used as salted hashes
alone, as a DICOM file's patient is.  Cells stay text: patient 007 is not patient 7.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.manifest.csv_list.cells import Listed, identity_of, understand
from cxr_experiments.images.manifest.csv_list.lines import read_lines
from cxr_experiments.images.manifest.csv_list.places import Place, find_places
from cxr_experiments.images.manifest.files import Contents, contents_of
from cxr_experiments.images.manifest.patients import compile_regex, patient_in
from cxr_experiments.images.manifest.rows import ImageRow, Manifest
from cxr_experiments.images.manifest.salted import patient_key

_NUM_NAMED = 5  # label values spelt out in a message; the rest is counted


def read_csv_list(data: DataConfig) -> Manifest:
    """The images that `data.csv_file` lists, found below `data.root`.

    Raises:
        ConfigError: options that contradict each other, or a column that the list does not have.
        DataError: no root or list, a damaged or contradictory line, files that are missing, or one class alone.
    """
    root = _find_root(data)
    path = _find_list(data, root)
    if data.csv_patient is not None and data.patient_regex is not None:
        raise ConfigError("data.csv_patient and data.patient_regex both name the patient; give one of them")
    listed = _one_per_image(understand(read_lines(path, data), path, data), path)
    listed = _labelled(listed, path, data)
    places = find_places(listed, root, path, allow_missing=data.on_bad_file == "skip")
    in_files = data.csv_patient is None and data.patient_regex is None
    contents = contents_of([Path(place.path) for place in places], with_patients=in_files)
    patients = [read.patient for read in contents] if in_files else _patients(listed, places, data)
    rows = [_row(*told) for told in zip(listed, places, contents, patients, strict=True)]
    images = [row for row in rows if row.mode] if in_files else rows
    return Manifest(
        source=data.source,
        rows=tuple(rows),
        classes=data.classes,
        patients_verifiable=bool(images) and all(row.patient for row in images),
        synthetic=False,
        root=str(root),
    )


def _find_root(data: DataConfig) -> Path:
    if not data.root:
        raise DataError("data=csv needs data.root=DIR, the folder below which the listed images lie")
    root = Path(data.root).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"data.root={data.root}: {root} is no folder; data=csv reads the listed images below it")
    return root


def _find_list(data: DataConfig, root: Path) -> Path:
    path = root / Path(data.csv_file or "").expanduser()
    if not path.is_file():
        raise DataError(f"data.csv_file={data.csv_file}: there is no file {path}; a relative path starts at data.root")
    return path


def _one_per_image(listed: Iterable[Listed], path: Path) -> list[Listed]:
    """Lines that say the same of one image are one, as RSNA lists an image once for each of its boxes."""
    first: dict[str, Listed] = {}
    for one in listed:
        before = first.setdefault(one.path, one)
        for what in ("label", "patient", "split"):
            if getattr(before, what) != getattr(one, what):
                raise DataError(
                    f"{path} lines {before.number} and {one.number} list {one.path} with another {what} each; "
                    f"keep one of them"
                )
    if not first:
        raise DataError(f"{path} lists no image: it holds a header and nothing below it")
    return list(first.values())


def _labelled(listed: list[Listed], path: Path, data: DataConfig) -> list[Listed]:
    """Those with label 0 or 1; the others are refused, or dropped and counted aloud."""
    unlisted = [one for one in listed if one.label is None]
    if unlisted:
        told = _told_labels(unlisted)
        among = f"{len(unlisted):,} of {len(listed):,} images have labels in neither data.csv_positive nor"
        if data.csv_unlisted == "stop":
            raise DataError(
                f"{path}: {among} data.csv_negative: {told}; the first in line {unlisted[0].number}. "
                f"Add the values to one of them, or leave such images out: data.csv_unlisted=drop"
            )
        _say_once(f"{path}: {among} data.csv_negative and are left out (data.csv_unlisted=drop): {told}")
    kept = [one for one in listed if one.label is not None]
    if len({one.label for one in kept}) < 2:
        alone = (
            f"all {len(kept):,} usable images are {data.classes[kept[0].label or 0]}" if kept else "no image is left"
        )
        raise DataError(
            f"{path}: {alone}; both classes are needed. Column {data.csv_label!r} was compared with "
            f"data.csv_positive={list(data.csv_positive)} and data.csv_negative={list(data.csv_negative)}"
        )
    return kept


def _told_labels(listed: Sequence[Listed]) -> str:
    """`'Effusion' (13), '' (4) and 7 other values`."""
    counted = Counter(one.told for one in listed)
    named = ", ".join(f"{value!r} ({num_images:,})" for value, num_images in counted.most_common(_NUM_NAMED))
    more = len(counted) - _NUM_NAMED
    return f"{named} and {more:,} other value(s)" if more > 0 else named


@functools.cache
def _say_once(text: str) -> None:
    """On stderr, once in a process: the jobs of a sweep read the same list again and again."""
    logging.getLogger(__name__).warning(text)


def _patients(listed: Sequence[Listed], places: Sequence[Place], data: DataConfig) -> list[str]:
    """One patient key per image: from the path, or from the column as a salted hash; "" for csv_patient=''."""
    pattern = compile_regex(data.patient_regex)
    if pattern is not None:
        return [patient_in(place.image_id, pattern) for place in places]
    keys = {patient: patient_key(identity_of(patient)) for patient in {one.patient for one in listed}}
    return [keys[one.patient] for one in listed]


def _row(one: Listed, place: Place, contents: Contents, patient: str) -> ImageRow:
    return ImageRow(
        image_id=place.image_id,
        path=place.path,
        label=one.label or 0,
        patient=patient,
        loose_key="",
        split=one.split,
        width=contents.header.width,
        height=contents.header.height,
        mode=contents.header.mode,
        num_bytes=contents.num_bytes,
        sha256=contents.sha256,
    )
