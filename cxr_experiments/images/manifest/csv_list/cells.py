"""What the cells of a list mean: a path inside the root, a label of 0 or 1, a patient, an official split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.manifest.csv_list.lines import Line

_WHOLE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?", re.ASCII)
_DRIVE = re.compile("[A-Za-z]:")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # in no honest name, and a terminal would obey them
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_TOLD = 40  # characters of a cell in a message


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list says of one image.

    Attributes:
        number: line of the list, from 1.
        path: as listed, relative to the root, POSIX.
        label: 0 or 1; None when the cell's values are in neither list.
        patient: as written, to be hashed and never shown; "" without a column.
        split: "train", "val" or "test"; "" without a column.
        told: the label's cell for messages, at most 40 characters.
    """

    number: int
    path: str
    label: int | None
    patient: str
    split: str
    told: str


@dataclass(frozen=True)
class LabelRule:
    """Which label values mean 1 and which 0, as `_key` writes them, and what divides several in one cell."""

    positive: frozenset[str]
    negative: frozenset[str]
    separator: str | None


def understand(lines: Iterable[Line], path: Path, data: DataConfig) -> Iterator[Listed]:
    """The meaning of each line.

    Raises:
        ConfigError: `data.csv_positive` and `data.csv_negative` share a value, or one is empty.
        DataError: a path that leads out of the root, an empty patient, or another split than train, val, test.
    """
    rule = label_rule(data)
    for line in lines:
        try:
            yield Listed(
                number=line.number,
                path=_path(line.path),
                label=label_of(line.label, rule),
                patient=_patient(line.patient, data),
                split=_split(line.split, data),
                told=line.label[:_TOLD],
            )
        except DataError as error:
            raise DataError(f"{path} line {line.number}: {error}") from error


def identity_of(patient: str) -> bytes:
    """What is hashed of a patient: the same as of a DICOM file that has this PatientID and no issuer; b"" for none."""
    return bytes(4) + patient.encode() if patient else b""


def label_rule(data: DataConfig) -> LabelRule:
    """The rule that the config states.

    Raises:
        ConfigError: it contradicts itself.
    """
    positive, negative = (frozenset(map(_key, values)) for values in (data.csv_positive, data.csv_negative))
    if not positive or not negative:
        raise ConfigError("data.csv_positive and data.csv_negative each need a label value")
    if both := positive & negative:
        raise ConfigError(f"data.csv_positive and data.csv_negative share {sorted(both)[0]!r}; a value means one class")
    if data.csv_separator == "":
        raise ConfigError("data.csv_separator is empty; give what stands between labels, such as '|', or null")
    return LabelRule(positive=positive, negative=negative, separator=data.csv_separator)


@lru_cache(maxsize=10_000)
def label_of(cell: str, rule: LabelRule) -> int | None:
    """1 where any label of the cell is positive, else 0 where any is negative, else None.

    Example:
        >>> rule = LabelRule(frozenset({"pneumonia"}), frozenset({"normal"}), ",")
        >>> label_of("['infiltrates', ' pneumonia']", rule), label_of("['normal']", rule), label_of("", rule)
        (1, 0, None)
    """
    if rule.separator is None:
        values = {_key(cell)}
    else:  # a list as Python prints it (PadChest), or bare (NIH)
        inner = cell[1:-1] if cell.startswith("[") and cell.endswith("]") else cell
        values = {_key(part.strip().strip("'\"")) for part in inner.split(rule.separator)}
    if values & rule.positive:
        return 1
    return 0 if values & rule.negative else None


def _key(value: str) -> str:
    """What equal label values share: case and blanks around do not count, and "1.0" is 1."""
    text = value.strip()
    if whole := _WHOLE.fullmatch(text):
        return whole[2] if whole[1] != "-" or whole[2] == "0" else f"-{whole[2]}"
    return text.casefold()


def _path(told: str) -> str:
    """A path below the root, written in one way; lists made on Windows have backslashes."""
    text = told.replace("\\", "/")
    path = PurePosixPath(text)
    if path.is_absolute() or _DRIVE.match(text):
        raise DataError(f"the path {told!r} is absolute; list paths as they are below data.root")
    if ".." in path.parts or not path.parts:
        raise DataError(f"the path {told!r} does not stay below data.root")
    if _CONTROL.search(text):
        raise DataError(f"the path {told!r} holds a control character")
    return str(path)


def _patient(told: str, data: DataConfig) -> str:
    if data.csv_patient and not told:
        raise DataError(
            f"no patient in column {data.csv_patient!r}; fill it in, or say that patients are not known: "
            f"data.csv_patient=''"
        )
    if _CONTROL.search(told):
        raise DataError(f"the patient in column {data.csv_patient!r} holds a control character")
    return told


def _split(told: str, data: DataConfig) -> str:
    if not data.csv_split:
        return ""
    split = _SPLITS.get(told.lower())
    if split is None:
        raise DataError(f"split {told[:_TOLD]!r} in column {data.csv_split!r}; expected train, val or test")
    return split
