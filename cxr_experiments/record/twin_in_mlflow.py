"""A run's twin in MLflow: told second, waited for only so long, and done without once it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxr_experiments.config.compose import load_config
from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import TrackingError
from cxr_experiments.record import tracking
from cxr_experiments.record.run_folder import (
    RunFolder,
    begun,
    is_taken_up,
    mlflow_run_id,
    read_json,
    write_json,
)
from cxr_experiments.record.tracking import Own, RunCard, TrackingPlace
from cxr_experiments.record.tracking.limits import OPEN_S, within


@dataclass
class Twin:
    """The run as MLflow has it.

    Attributes:
        place: where the run is told to; None with tracking=disabled, or when it was away from the start.
        mlflow_id: MLflow's id of it.
        told_epochs: that MLflow has from an attempt before this one.
        lost: why MLflow is no longer told; once it has something, nothing more is sent.
    """

    place: TrackingPlace | None
    mlflow_id: str = ""
    told_epochs: frozenset[int] = frozenset()
    lost: list[str] = field(default_factory=list)

    def tell(self, limit_s: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call `call(place, mlflow_id, *arguments)`; a failure, or silence for `limit_s`, is said once."""
        if self.lost or self.place is None:
            return
        try:
            within(limit_s if self.place.is_server else None, lambda: call(self.place, self.mlflow_id, *arguments))
        except TrackingError as error:
            self.lose(error)

    def lose(self, error: TrackingError) -> None:
        """MLflow is not told any more."""
        self.lost.append(str(error))
        print(f"warning: {error}; the run's folder keeps it, `runs sync` sends it later", file=sys.stderr, flush=True)


def find_twin(told_to: TrackingConfig, home: Path, experiment_name: str) -> Twin:
    """The place for a twin, before the run's folder is claimed.

    A place that has taken runs before may be away: the second half of a sweep must not fail with the server.

    Raises:
        TrackingError: the place does not answer and never has: its address may be mistyped.
    """
    limit_s = OPEN_S if told_to.kind == "server" else None
    if limit_s is not None:
        tracking.load_client()
    try:
        return Twin(within(limit_s, lambda: tracking.open_place(told_to, home, experiment_name)))
    except TrackingError as error:
        if not tracking.has_answered(told_to, home):
            raise
        twin = Twin(None)
        twin.lose(error)
        return twin


def open_twin(twin: Twin, folder: RunFolder, card: RunCard) -> None:
    """Begin the run in MLflow, or take up again what an attempt before this one has begun there."""
    if twin.place is None:
        return
    place = twin.place
    try:
        twin.mlflow_id, twin.told_epochs = within(
            OPEN_S if place.is_server else None, lambda: _begun(place, folder, card)
        )
    except TrackingError as error:
        twin.lose(error)
        return
    keep_id(folder, place, twin.mlflow_id)


def _begun(place: TrackingPlace, folder: RunFolder, card: RunCard) -> tuple[str, frozenset[int]]:
    if is_taken_up(folder) and (earlier := tracking.reopen_run(place, own(folder))):
        return earlier
    return tracking.start_run(place, card), frozenset()


def keep_id(folder: RunFolder, place: TrackingPlace, mlflow_id: str) -> None:
    """Write down which run of MLflow's is the folder's, and on which server; `uri` is empty for a database."""
    told = {"run_id": mlflow_id, "experiment_id": place.experiment_id, "uri": place.uri if place.is_server else ""}
    write_json(folder.file("mlflow.json"), told)


def where_told(folder: RunFolder, home: Path) -> TrackingConfig:
    """Where the run was told last: as its config says, or where `runs sync tracking=server` has moved it.

    Raises:
        TrackingError: on a server that nobody has named here, or that has never answered.
        ConfigError, RunError: the run's config, or its mlflow.json, cannot be read.
    """
    trained, path = load_config(folder.file("config.yaml")).tracking, folder.file("mlflow.json")
    moved = read_json(path).get("uri") if path.is_file() else None
    if moved:
        trained = TrackingConfig("server", str(moved))
    elif moved == "" and trained.kind == "server":
        trained = TrackingConfig()
    return tracking.named_before(trained, home)


def own(folder: RunFolder) -> Own:
    """What the folder knows of its twin."""
    return Own(mlflow_run_id(folder), folder.run_id, begun(folder))
