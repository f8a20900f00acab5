"""A data report on disk, one per data set: runs/.data/<first 12 digits of its digest>/report.json and report.html.

A report is made once and found again by the digest of the images, wherever they lie; another version of the checks, or
another resize rule or level, makes it anew in the same place.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

from cxr_experiments.config.commands import VerifyConfig
from cxr_experiments.config.compose import PACKAGE_DIR, leaf_values
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.evidence.evaluation.csv_rows import write_text
from cxr_experiments.evidence.shortcuts import Association
from cxr_experiments.images.fingerprints import fingerprint_code
from cxr_experiments.images.manifest import Manifest
from cxr_experiments.record.data_report.finding import ERROR, LEVELS, DataReport, Finding
from cxr_experiments.record.report.tables import Table

NOT_VERIFIED = "not verified"
STATE_TAG, LINK_TAG = "cxr.data_report", "cxr.data_report_link"
# Errors that training refuses: scores on these images would be too good.
LEAKS = ("duplicate-across-splits", "patient-across-splits")
_FORMAT = 1
_CODE = ("record/data_report/*.py", "evidence/shortcuts/*.py", "images/duplicates/*.py", "images/published.py")


def data_folder(home: Path, digest: str) -> Path:
    """Where everything that was found out about a data set lies."""
    return home / "runs" / ".data" / digest[:12]


def report_key(manifest: Manifest, config: VerifyConfig) -> str:
    """16 hex digits over all that a report depends on beside the place of the images."""
    settings = [config.data.resize, config.data.patient_rule, asdict(config.shortcuts)]
    told = [_FORMAT, manifest.source, manifest.digest, manifest.classes, settings, fingerprint_code(), _code()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def find_report(home: Path, digest: str) -> DataReport | None:
    """The kept report of a data set, else of the one that this is without unreadable files; None when there is none."""
    folder = data_folder(home, digest)
    try:
        if not (folder / "report.json").is_file() and (folder / "report_of").is_file():
            folder = data_folder(home, (folder / "report_of").read_text(encoding="ascii").strip())
        report = from_json((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):  # absent, or of another version: it is made anew
        return None
    return report if digest in (report.digest, report.usable_digest) else None


def keep_report(home: Path, report: DataReport, page: str) -> Path:
    """Write report.html, then report.json, each under a temporary name first; returns the folder.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = data_folder(home, report.digest)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "report.html", page)
        write_text(folder / "report.json", to_json(report))
        (folder / "mlflow.json").unlink(missing_ok=True)  # that one told of the report before
        if report.usable_digest != report.digest:
            usable = data_folder(home, report.usable_digest)
            usable.mkdir(parents=True, exist_ok=True)
            write_text(usable / "report_of", report.digest)
    except OSError as error:
        raise DataError(f"data report {folder} cannot be written: {error}; set CXR_HOME elsewhere") from error
    return folder


def to_json(report: DataReport) -> str:
    """The whole report; what is no number is null."""
    levels = {level: report.count(level) for level in LEVELS}
    told = {
        "format": _FORMAT,
        **{field.name: getattr(report, field.name) for field in fields(report)},
        "levels": levels,
    }
    for name in ("findings", "tables"):
        told[name] = [asdict(one) for one in told[name]]
    told["associations"] = [{**asdict(one), "rings": one.rings} for one in report.associations]
    return json.dumps(_plain(told), indent=2) + "\n"


def from_json(text: str) -> DataReport:
    """The report that `to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is of another version, or damaged.
    """
    told = json.loads(text)
    if told["format"] != _FORMAT:
        raise ValueError(f"format {told['format']}, expected {_FORMAT}")
    values = {field.name: told[field.name] for field in fields(DataReport)}
    values["findings"] = tuple(
        Finding(**{**one, "files": _tuples(one["files"]), "reasons": tuple(one["reasons"])}) for one in told["findings"]
    )
    values["tables"] = tuple(
        Table(one["title"], one["note"], tuple(one["columns"]), _tuples(one["rows"])) for one in told["tables"]
    )
    values["associations"] = tuple(_association(one) for one in told["associations"])
    return DataReport(**values)


def known_leak(home: Path, digest: str) -> str:
    """What `verify` found on both sides of the official split, in words; "" when nothing is known of it."""
    report = find_report(home, digest)
    leaks = [one for one in report.findings if one.level == ERROR and one.code in LEAKS] if report else []
    return "; ".join(f"{one.sentence} ({one.listed(1)[0]})" for one in leaks)


def data_tags(home: Path, digest: str) -> dict[str, str]:
    """What MLflow says of a run's images: `0 errors, 3 warnings` or `not verified`, and where the report stands."""
    report = find_report(home, digest)
    if report is None:
        return {STATE_TAG: NOT_VERIFIED}
    link = report_link(data_folder(home, report.digest))
    return {STATE_TAG: report.told, **({LINK_TAG: link} if link else {})}


def report_link(folder: Path) -> str:
    """Path of the report's run in MLflow's UI, behind http://HOST:PORT/; "" when MLflow was not told."""
    told = read_mlflow(folder)
    # without the last part the UI of MLflow 3 opens in its mode for chat applications
    way = "?workflowType=machine_learning"
    return f"#/experiments/{told['experiment_id']}/runs/{told['run_id']}{way}" if told else ""


def read_mlflow(folder: Path) -> dict[str, str]:
    """`experiment_id`, `run_id` and `uri` of the report in MLflow; empty when it was not told, or not wholly."""
    path = folder / "mlflow.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {name: str(told[name]) for name in ("experiment_id", "run_id", "uri")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def verify_command(data: DataConfig) -> str:
    """The command that looks at the images of a run: its data options that differ from the defaults.

    Example:
        >>> verify_command(DataConfig(num_patients=40))
        'python -m cxr_experiments.verify data=phantom data.num_patients=40'
    """
    here, usual = leaf_values(data), leaf_values(DataConfig())
    words = [f"data.{key}={_typed(value)}" for key, value in here.items() if value != usual[key] and key in _TOLD]
    return " ".join(["python -m cxr_experiments.verify", f"data={data.source}", *words])


# What decides which images there are, and what the report says of them.
_TOLD = (
    *("root", "classes", "resize", "patient_rule", "patient_regex", "num_patients", "difficulty", "phantom_seed"),
    *("marker", "npz_size_px", "csv_file", "csv_path", "csv_label", "csv_patient", "csv_split", "csv_positive"),
    *("csv_negative", "csv_separator", "csv_unlisted", "on_bad_file"),
)


def _typed(value: Any) -> str:
    text = f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
    return text if all(letter.isalnum() or letter in "_-./" for letter in text) else f"'{text}'"


def _association(told: Mapping[str, Any]) -> Association:
    values = {field.name: told[field.name] for field in fields(Association)}
    missing = {name: math.nan for name in ("auroc", "low", "high") if values[name] is None}
    return Association(**{**values, **missing})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _tuples(groups: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in groups)


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _CODE for path in PACKAGE_DIR.glob(pattern)):
        digest.update(f"{path.relative_to(PACKAGE_DIR).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
