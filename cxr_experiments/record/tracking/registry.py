"""MLflow's model registry: a network becomes a version under a name, an alias points at it, and it is fetched again.

In: a folder with the network, a card, what it is called.  Out: a version that `mlflow models serve` answers for through
`cxr_experiments.served`, without a pickle.  One network is one version, however often it is registered.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from cxr_experiments.config.schema import TrackingConfig
from cxr_experiments.errors import ConfigError, TrackingError
from cxr_experiments.record.tracking.known import remember
from cxr_experiments.record.tracking.moved import follow_move
from cxr_experiments.record.tracking.place import TrackingPlace, client_of, door, opening_lock, store_uri
from cxr_experiments.record.tracking.runs import RunCard, start_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOADER, CARD_FILE = "cxr_experiments.served", "model_card.md"
MAX_DESCRIPTION = 5000  # characters that MLflow keeps of a version's description
_VERSION = re.compile(r"models:/([^/:@]+)(?:@([^/:@]+)|/([0-9]{1,9}))")


@dataclass(frozen=True)
class Version:
    """`models:/NAME@ALIAS` or `models:/NAME/NUMBER`; one of alias and number is ""."""

    name: str
    alias: str
    number: str


@dataclass(frozen=True)
class Entry:
    """What is put into the registry.

    Attributes:
        name: of the registered model.
        alias: that shall point at this version; "" for none.
        digest: of all that decides the answers: two entries with the same are one version.
        card: Markdown.
        source: the run in MLflow that it comes from, as it is called where it has to be made first.
        mlflow_id: of that run; "" where MLflow does not have it.
        image_shape: (size, size, 1).
        requirements: pip lines.
    """

    name: str
    alias: str
    digest: str
    card: str
    source: RunCard
    mlflow_id: str
    image_shape: tuple[int, int, int]
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """What the registry has now, and what was done for it: the version's number, the alias' earlier version or ""."""

    number: str
    is_new: bool
    card_changed: bool
    alias_before: str


def parse_version(named: str) -> Version:
    """What `models:/...` names.

    Raises:
        ConfigError: it is neither of the two forms.
    """
    if not (found := _VERSION.fullmatch(named)):
        raise ConfigError(
            f"{named}: expected models:/NAME@ALIAS or models:/NAME/VERSION, as models:/pneumonia@champion"
        )
    return Version(*(part or "" for part in found.groups()))


def registry_of(tracking: TrackingConfig | None, home: Path) -> TrackingConfig:
    """The registry that the user names, else the one of this home's own database.

    Raises:
        TrackingError: it is this home's, and there is none yet.
    """
    told = tracking or TrackingConfig()
    if told.kind == "disabled":
        raise ConfigError("tracking=disabled has no registry: name tracking=local or tracking=server tracking.uri=...")
    if not told.uri and not (home / "mlruns" / "mlflow.db").is_file():
        raise TrackingError(f"there is no registry under {home / 'mlruns'}: `register run=ID name=NAME` makes one")
    return told


@contextmanager
def fetched(registry: TrackingConfig, version: Version, home: Path) -> Iterator[Path]:
    """A copy of the folder that was registered, there until the context ends.

    Raises:
        TrackingError: the registry does not answer, or has no such version.
    """
    uri = store_uri(registry, home)
    if not registry.uri:
        with opening_lock(home / "mlruns"), door(uri):
            follow_move(home)
    with tempfile.TemporaryDirectory(prefix="cxr-registered-") as folder:
        with door(uri):
            from mlflow.artifacts import download_artifacts

            client = client_of(uri)
            number = version.number or client.get_model_version_by_alias(version.name, version.alias).version
            location = client.get_model_version_download_uri(version.name, str(number))
            place = download_artifacts(artifact_uri=f"{location}/data/network", dst_path=folder, tracking_uri=uri)
            remember(registry, home)
        yield Path(place)


def find_version(place: TrackingPlace, name: str, digest: str) -> str:
    """The number of the version that is this very network; "" when there is none.

    Raises:
        TrackingError: the registry does not answer.
    """
    with door(place.uri):
        found = _same(client_of(place.uri), name, digest)
        return str(found.version) if found else ""


def keep_version(place: TrackingPlace, entry: Entry, network: Path, home: Path) -> Kept:
    """Have the network in the registry, its card with it, and the alias pointing at it; nothing is done twice.

    Raises:
        TrackingError: the registry does not answer or cannot be written.
    """
    with FileLock(home / "mlruns" / ".registry.lock"), door(place.uri):
        client = client_of(place.uri)
        found = _same(client, entry.name, entry.digest)
        version = found or _new_version(client, place, entry, network)
        card_changed = found is not None and version.description != shortened(entry.card)
        if card_changed:
            _log_card(client, version.tags["cxr.model_id"], entry.card)
            client.update_model_version(entry.name, str(version.version), shortened(entry.card))
        before = str(client.get_registered_model(entry.name).aliases.get(entry.alias, ""))
        if entry.alias and before != str(version.version):
            client.set_registered_model_alias(entry.name, entry.alias, str(version.version))
        return Kept(str(version.version), found is None, card_changed, before)


def shortened(card: str) -> str:
    """The card as a version's description holds it."""
    end = f"\n\n(cut here: the whole card is {CARD_FILE} beside the model)"
    return card if len(card) <= MAX_DESCRIPTION else card[: MAX_DESCRIPTION - len(end)] + end


def _same(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    """The oldest whole version under the name with this digest."""
    found = client.search_model_versions(f"name = '{name}' and tags.`cxr.digest` = '{digest}'")
    return min((one for one in found if one.status == "READY"), key=lambda one: int(one.version), default=None)


def _new_version(client: MlflowClient, place: TrackingPlace, entry: Entry, network: Path) -> ModelVersion:
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

    run_id = _source_run(client, place, entry)
    kept = client.create_logged_model(place.experiment_id, "registered", run_id, tags={"cxr.digest": entry.digest})
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder) / "model", kept, entry, network)
        client.log_model_artifacts(kept.model_id, f"{folder}/model")
    client.finalize_logged_model(kept.model_id, LoggedModelStatus.READY)
    try:
        client.create_registered_model(entry.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {**entry.source.tags, "cxr.digest": entry.digest, "cxr.model_id": kept.model_id}
    # the place itself: MLflow looks a source models:/ID up in the default store of this process, whatever the client's
    version = client.create_model_version(
        entry.name, kept.artifact_location, run_id, tags, description=shortened(entry.card), model_id=kept.model_id
    )
    if not place.is_server:  # a server does so itself
        told = json.dumps([{"name": entry.name, "version": int(version.version)}])
        client.set_logged_model_tags(kept.model_id, {"mlflow.modelVersions": told})
    return version


def _source_run(client: MlflowClient, place: TrackingPlace, entry: Entry) -> str:
    """The run that it comes from, or one of its own, finished, where MLflow has none."""
    from mlflow.exceptions import MlflowException

    if entry.mlflow_id:
        try:
            tags = client.get_run(entry.mlflow_id).data.tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            tags = {}
        if _members(tags) == _members(entry.source.tags):
            return entry.mlflow_id
    run_id = start_run(place, entry.source)
    client.set_terminated(run_id, status="FINISHED")
    return run_id


def _members(tags: Mapping[str, str]) -> Sequence[str]:
    return (tags.get("cxr.run_ids") or tags.get("cxr.run_id", "")).split()


def _save(path: Path, kept: Any, entry: Entry, network: Path) -> None:
    """An MLflow model whose loader is a module of this package: no object is pickled into it."""
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    images = Schema([TensorSpec(np.dtype(np.uint8), (-1, *entry.image_shape))])
    kinds = {"probability": DataType.double, "label": DataType.string, "threshold": DataType.double}
    answers = Schema([ColSpec(kind, name) for name, kind in kinds.items()])
    mlflow.pyfunc.save_model(
        str(path),
        loader_module=LOADER,
        data_path=str(network),
        mlflow_model=Model(
            kept.artifact_location, kept.source_run_id, model_uuid=kept.model_id, model_id=kept.model_id
        ),
        signature=ModelSignature(inputs=images, outputs=answers),
        input_example=np.linspace(0, 255, np.prod(entry.image_shape), dtype=np.uint8).reshape(1, *entry.image_shape),
        pip_requirements=list(entry.requirements),
    )
    (path / CARD_FILE).write_text(entry.card, encoding="utf-8")


def _log_card(client: MlflowClient, model_id: str, card: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CARD_FILE).write_text(card, encoding="utf-8")
        client.log_model_artifacts(model_id, folder)
