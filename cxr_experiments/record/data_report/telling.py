"""A data report told to MLflow, once: a run of its own, and a tag on each run that was trained on the same images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from cxr_experiments.config.credentials import without_credentials
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import TrackingError
from cxr_experiments.record import tracking
from cxr_experiments.record.data_report.finding import LEVELS, DataReport
from cxr_experiments.record.data_report.kept import (
    STATE_TAG,
    data_tags,
    from_json,
    read_mlflow,
    report_link,
)
from cxr_experiments.record.run_folder import write_json
from cxr_experiments.record.tracking import RunCard
from cxr_experiments.record.tracking.data_reports import EXPERIMENT, keep_data_report, tag_runs_on
from cxr_experiments.record.tracking.place import store_uri


def tell_mlflow(where: TrackingConfig, home: Path, report: DataReport, folder: Path) -> str:
    """Path of the report's run in MLflow's UI, behind http://HOST:PORT/; "" when there is none.

    When MLflow fails, that is said, and the report in its folder is whole.
    """
    if where.kind == "disabled":
        return ""
    uri = without_credentials(store_uri(where, home))
    if read_mlflow(folder).get("uri") == uri:
        return report_link(folder)
    try:
        place = tracking.open_place(where, home, EXPERIMENT)
        if place is None:
            return ""
        run_id = keep_data_report(place, _card(report), _metrics(report), _files(where, report, folder), home)
        told = {"experiment_id": place.experiment_id, "run_id": run_id, "uri": uri}
        write_json(folder / "mlflow.json", told)
        tag_runs_on(place, (report.digest, report.usable_digest), data_tags(home, report.digest))
    except TrackingError as error:
        print(f"warning: {error}; {folder} has the whole report", file=sys.stderr)
        return ""
    return report_link(folder)


def tell_reports_again(where: TrackingConfig, home: Path) -> Iterator[str]:
    """Tell another place of every report that it was not told of, and say so in a line."""
    for path in sorted((home / "runs" / ".data").glob("*/report.json")):
        before = read_mlflow(path.parent)
        try:
            report = from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):  # of another version: `verify` makes it anew
            continue
        if tell_mlflow(where, home, report, path.parent) and read_mlflow(path.parent) != before:
            yield f"data report {path.parent.name}: sent"


def _card(report: DataReport) -> RunCard:
    return RunCard(
        name=f"{report.source}-{report.digest[:12]}",
        params={"data": report.source, "data.resize": report.resize},
        tags={
            "cxr.synthetic": str(report.synthetic).lower(),
            "cxr.data_source": report.source,
            STATE_TAG: report.told,
            "mlflow.source.name": "cxr_experiments.verify",
        },
        dataset_source=report.source,
        dataset_digest=report.digest,
    )


def _metrics(report: DataReport) -> dict[str, float]:
    counts = {f"num_{level}": float(report.count(level)) for level in LEVELS}
    return {"num_images": float(report.num_images), **counts}


def _files(where: TrackingConfig, report: DataReport, folder: Path) -> list[Path]:
    """The page shows films, which no server is sent."""
    page = [folder / "report.html"] if where.kind == "local" or report.synthetic else []
    return [folder / "report.json", *page]
