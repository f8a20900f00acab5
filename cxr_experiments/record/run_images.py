"""A run's own images and its own split, as they were at its training, wherever the images lie now."""

from __future__ import annotations

from dataclasses import replace

from cxr_experiments.config.compose import home
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.splits import Split, prove_disjoint, read_split
from cxr_experiments.images.store import Store
from cxr_experiments.record import console
from cxr_experiments.record.run_folder import RunFolder, read_json


def images_of(trained: ExperimentConfig) -> Store:
    """The prepared images of a run.

    Raises:
        DataError: they are not where they were; the text says how to tell where they are now.
    """
    try:
        return console.open_counted(trained.data, home() / "runs")
    except DataError as error:
        raise DataError(
            f"{error}\nif the images have moved since training, say where they are: data.root=DIR"
        ) from error


def proven_split(folder: RunFolder, trained: ExperimentConfig, store: Store) -> Split:
    """The run's own split, on the very images it was trained on, with no patient on two sides unless that was asked.

    Raises:
        DataError: images or split are not those of training.
        LeakageError: a patient stands on two sides.
    """
    split = read_split(folder.file("split.csv"), store.manifest)
    require_same(folder, dataset_digest=store.manifest.digest, split_digest=split.digest)
    if trained.split.kind != "image_level":
        prove_disjoint(store.manifest, split, patient_rule=trained.data.patient_rule)
    return split


def require_same(folder: RunFolder, **digests: str) -> None:
    """Images and split must be those that the run was trained on.

    Raises:
        DataError: they are not.
    """
    identity = read_json(folder.file("identity.json"))
    for name, digest in digests.items():
        if identity.get(name) != digest:
            raise DataError(
                f"run {folder.run_id} was trained with {name} {str(identity.get(name))[:12]}, and now it is "
                f"{digest[:12]}: point data.root at the very images it was trained on, and leave its split.csv alone"
            )


def with_root(config: ExperimentConfig, root: str | None) -> ExperimentConfig:
    """The config with the images' present folder, when it has changed."""
    return config if root is None else replace(config, data=replace(config.data, root=root))
