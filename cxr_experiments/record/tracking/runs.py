"""One flat run per training, told after the run folder has it.

In: what a run is called, its choices, metrics, files and model.  Out: the same in MLflow's store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_experiments.config.replaced import replaced
from cxr_experiments.record.tracking.place import TrackingPlace, client_of, door
from cxr_experiments.record.tracking.told import Own, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

# What holds requirements against all packages that are installed, for 0.3 s: ours were read from these just now.
_CHECK = "warn_dependency_requirement_mismatches"
# MLflow's table stays readable with 15 final values, validation and test together; scores.csv has them all.
HEADLINES = (
    *(f"val_{name}" for name in ("auroc", "auroc_lo", "auroc_hi", "log_loss")),
    *("stress_auroc_mean", "stress_auroc_worst", "gap_train_val"),
    *(f"test_{name}" for name in ("auroc", "auroc_lo", "auroc_hi", "average_precision", "log_loss")),
    "test_sensitivity_at_frozen",
    "test_specificity_at_frozen",
    "images_per_s",
)


@dataclass(frozen=True)
class RunCard:
    """What MLflow shows of a run beside its metrics."""

    name: str
    params: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)
    dataset_source: str = ""
    dataset_digest: str = ""


def start_run(place: TrackingPlace | None, card: RunCard, *, started_ms: int | None = None) -> str:
    """Open a RUNNING run, started now unless told otherwise, and return its id; "" when tracking is disabled.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None:
        return ""
    with door(place.uri):
        from mlflow.data.http_dataset_source import HTTPDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag, Param

        client = client_of(place.uri)
        # A digest there has at most 36 characters; the whole one is a tag.
        data = MetaDataset(HTTPDatasetSource(card.dataset_source), card.dataset_source, card.dataset_digest[:36])
        run = client.create_run(place.experiment_id, started_ms, dict(card.tags), card.name)
        run_id = str(run.info.run_id)
        client.log_batch(run_id, params=[Param(key, str(value)[:6000]) for key, value in card.params.items()])
        tell_data(
            client, run_id, [DatasetInput(data._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])]
        )
        return run_id


def tell_data(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    """Link a run to its images.

    MLflow looks whether an experiment has a data set and adds it when not: of two runs that are the first at once, the
    database refuses one.  Asked again, it finds the other's.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if "INSERT INTO datasets" not in str(error):
            raise
        client.log_inputs(run_id, inputs)


def reopen_run(place: TrackingPlace, own: Own) -> tuple[str, frozenset[int]] | None:
    """Have a run RUNNING again.

    Returns:
        MLflow's id and the epochs that it has; None when the run is not there.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    with door(place.uri):
        client = client_of(place.uri)
        run, _ = find_run(client, place, own)
        if run is None:
            return None
        found = str(run.info.run_id)
        client.update_run(found, status="RUNNING")
        for tag in {"reason", "mlflow.note.content"} & run.data.tags.keys():  # how the attempt before this one ended
            client.delete_tag(found, tag)
        return found, frozenset(metric.step for metric in client.get_metric_history(found, "val_loss"))


def log_epoch(place: TrackingPlace | None, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """One value per metric at step `epoch`, in one synchronous call: 4 ms, where asynchronous ones lose their tail.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None:
        return
    with door(place.uri):
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        client_of(place.uri).log_batch(
            run_id, metrics=[Metric(key, float(value), now_ms, epoch) for key, value in metrics.items()]
        )


def log_final(place: TrackingPlace | None, run_id: str, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
    """The headline metrics among `metrics`, and files as artifacts (a folder keeps its name).

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None or not run_id:
        return
    log_epoch(place, run_id, 0, headlines(metrics))
    log_files(place, run_id, files)


def headlines(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those among the final metrics that MLflow is told."""
    return {name: metrics[name] for name in HEADLINES if name in metrics}


def log_files(place: TrackingPlace, run_id: str, files: Sequence[Path]) -> None:
    """Files as artifacts (a folder keeps its name); those that are not there are left out.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    with door(place.uri):
        client = client_of(place.uri)
        for file in files:
            if file.is_dir():
                client.log_artifacts(run_id, str(file), file.name)
            elif file.is_file():
                client.log_artifact(run_id, str(file))


def tag_run(place: TrackingPlace | None, run_id: str, tags: Mapping[str, str]) -> None:
    """Tags of a run, open or ended; at most 5,000 characters of each value.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None or not run_id:
        return
    with door(place.uri):
        for name, value in tags.items():
            client_of(place.uri).set_tag(run_id, name, value[:5000])


def log_model(place: TrackingPlace | None, run_id: str, model: Any, example: Any, requirements: Sequence[str]) -> None:
    """The Keras model with signature and input example, loadable through mlflow.pyfunc.

    Args:
        place: where to.
        run_id: MLflow's id.
        model: a keras.Model that holds no custom object.
        example: (1, size, size, 1) uint8.
        requirements: pip lines; with these MLflow does not spend 10 s on guessing them.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None:
        return
    with door(place.uri):
        import mlflow
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model
        from mlflow.utils import environment

        client = client_of(place.uri)
        params = client.get_run(run_id).data.params
        kept = client.create_logged_model(place.experiment_id, "model", run_id, params=params)
        client.log_outputs(run_id, [LoggedModelOutput(kept.model_id, step=0)])
        told = Model(kept.artifact_location, run_id, model_uuid=kept.model_id, model_id=kept.model_id)
        with tempfile.TemporaryDirectory() as folder, replaced(environment, _CHECK, lambda requirements: None):
            # in these steps, since mlflow.tensorflow.log_model would load the model again and ask it: 0.4 s
            mlflow.tensorflow.save_model(
                model,
                f"{folder}/model",
                mlflow_model=told,
                signature=_signature(example.shape[1:]),
                input_example=example,
                pip_requirements=list(requirements),
            )
            client.log_model_artifacts(kept.model_id, f"{folder}/model")
        client.finalize_logged_model(kept.model_id, LoggedModelStatus.READY)


def _signature(image_shape: Sequence[int]) -> Any:
    """uint8 images in, float32 probabilities out; pyfunc refuses other types."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, *image_shape))])
    return ModelSignature(inputs=inputs, outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1))]))


def end_run(
    place: TrackingPlace | None, run_id: str, status: str, reason: str = "", *, ended_ms: int | None = None
) -> None:
    """Close the run as FINISHED, FAILED or KILLED, ended now unless told otherwise; the reason becomes a tag and the
    run's description.

    Raises:
        TrackingError: the store cannot be reached or written.
    """
    if place is None or not run_id:
        return
    with door(place.uri):
        client = client_of(place.uri)
        if reason:
            client.set_tag(run_id, "reason", reason[:5000])
            client.set_tag(run_id, "mlflow.note.content", f"{status}: {reason}"[:5000])
        client.set_terminated(run_id, status=status, end_time=ended_ms)
