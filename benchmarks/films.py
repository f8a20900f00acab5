"""The same synthetic films for us and for the peers: a store of the package's, and a folder of JPEG files beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import Split, make_split
from cxr_experiments.images.store import Store, open_store


@dataclass(frozen=True)
class Films:
    """Prepared phantoms, and who trains and validates."""

    store: Store
    split: Split


def phantom_films(scratch: Path, size_px: int, num_patients: int) -> Films:
    """The phantoms of so many patients; their store is built under `scratch` by the first process that asks."""
    data = phantom_data(size_px, num_patients)
    store = open_store(read_manifest(data), data, folder=scratch / "stores")
    return Films(store, make_split(store.manifest, data, seed=0))


def phantom_data(size_px: int, num_patients: int) -> DataConfig:
    """The data choice behind `phantom_films`."""
    return DataConfig(source="phantom", image_size_px=size_px, num_patients=num_patients)


def write_folder(films: Films, root: Path) -> Path:
    """The same pixels as gray JPEG in train/ and val/, a folder per class, as Keras' loader wants them."""
    from PIL import Image

    classes, labels = films.store.manifest.classes, films.store.manifest.labels
    for side, rows in (("train", films.split.train), ("val", films.split.val)):
        for row in rows:
            folder = root / side / classes[labels[row]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(films.store.images[row, :, :, 0]).save(folder / f"{row:05d}.jpeg", quality=90)
    return root
