"""What the heat maps of an architecture are worth: checked on phantoms, whose lesions are known, or not at all.

    runs/.explanations/<architecture>/<run_id>.json    one check: scores, n, chance, criteria, and whether it passed

A phantom run checks its architecture when it ends, unless one has passed already or its training was so short that
the check would weigh more than a fifth of it.  A pass says that on phantoms these maps find lesions and depend on
training; it does not say so of real films, nor that every single map is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import RunError
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.localisation import RANDOM_LEVEL, Localisation, localise
from cxr_experiments.images.manifest import ImageRow
from cxr_experiments.images.phantom import PhantomRow, render
from cxr_experiments.images.prepare import prepare
from cxr_experiments.images.store import Store
from cxr_experiments.record.figures.heatmaps import UNVALIDATED
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json

NUM_CHECKED = 48  # films with a lesion: intervals of about +-.08 where nine of ten maps point at it
NUM_RANDOMISED = 16  # of these, asked again of the untrained network: rank correlations scatter little
SHORTEST_TRAINING = 5_000  # images times epochs: the check passes through the network some 1,000 times
CRITERIA = (
    "95 % intervals of pointing game and of heat inside the lesion lie above chance (the places of other patients' "
    f"lesions), and the median |rank correlation| with the untrained network's heat is below {RANDOM_LEVEL:g}"
)


class Explainer(Protocol):
    """What `learning.heatmap` gives: the method's name, and heat (n, size, size) of images (n, size, size, 1) uint8."""

    @property
    def method(self) -> str: ...

    @property
    def heat(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]: ...

    @property
    def untrained_heat(self) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Worth:
    """Whether the architecture passed its check, and the words that its overlays carry."""

    passed: bool
    words: str


def read_worth(folder: RunFolder, method: str) -> Worth:
    """What heat maps of a run's architecture are worth, by the checks kept beside the runs.

    Raises:
        RunError: the run's identity or a check cannot be read.
    """
    checks = [read_json(path) for path in sorted(_place(folder, method).glob("*.json"))]
    for check in checks:
        if check.get("passed") is True:
            return Worth(True, _words(check))
    return Worth(False, UNVALIDATED)


def needs_check(folder: RunFolder, method: str, *, num_passes: int, synthetic: bool) -> bool:
    """Whether a run that ends should check its architecture; `num_passes` are training images times epochs."""
    return synthetic and num_passes >= SHORTEST_TRAINING and not read_worth(folder, method).passed


def check_on_phantoms(
    explainer: Explainer, predictions: Predictions, store: Store, data: DataConfig
) -> Localisation | None:
    """Heat maps of validation phantoms against their lesions; None when fewer than two patients have one.

    Args:
        explainer: of the trained network.
        predictions: of the validation phantoms.
        store: their prepared images.
        data: which phantoms they are.

    Raises:
        RunError: the network has no heat map.
    """
    rows = {row.image_id: number for number, row in enumerate(store.manifest.rows)}
    ill = np.flatnonzero(predictions.label == 1)
    ill = ill[np.unique(np.linspace(0, len(ill) - 1, min(NUM_CHECKED, len(ill))).round().astype(int))]
    ill = np.concatenate([ill[start::3] for start in range(3)])  # the first third, asked twice, is spread over all
    numbers = [rows[image_id] for image_id in predictions.image_id[ill].tolist()]
    masks = np.array([lesion_mask(store.manifest.rows[number], data) for number in numbers])
    seen = np.flatnonzero([mask.any() for mask in masks])  # less than half a pixel everywhere is no lesion any more
    patients = predictions.patient[ill[seen]]
    if len(np.unique(patients)) < 2:
        return None
    images = np.asarray(store.images[np.array(numbers)[seen]])
    untrained = explainer.untrained_heat(images[:NUM_RANDOMISED])
    return localise(explainer.heat(images), untrained, masks[seen], patients)


def lesion_mask(row: ImageRow, data: DataConfig) -> NDArray[np.bool_]:
    """(size, size) bool: the lesion of a phantom, prepared as its film was; True where it takes half the pixel."""
    phantom = PhantomRow(int(row.image_id.rpartition("/")[2]), row.patient, row.label, row.split)
    mask = render(phantom, seed=data.phantom_seed, difficulty=data.difficulty).lesion_mask
    square = prepare(mask.astype(np.uint8) * np.uint8(255), size_px=data.image_size_px, resize=data.resize)
    half: NDArray[np.bool_] = square[:, :, 0] >= 128
    return half


def keep_check(folder: RunFolder, method: str, found: Localisation) -> dict[str, Any]:
    """Write one check beside the runs, under the architecture of the run that made it, and return what it says."""
    place = _place(folder, method)
    place.mkdir(parents=True, exist_ok=True)
    told = {"passed": found.passed, "criteria": CRITERIA, "synthetic": True, "run_id": folder.run_id, **asdict(found)}
    write_json(place / f"{folder.run_id}.json", {**told, "architecture": _architecture(folder, method)})
    return told


def _place(folder: RunFolder, method: str) -> Path:
    told = json.dumps(_architecture(folder, method), sort_keys=True)
    return folder.path.parents[1] / ".explanations" / hashlib.sha256(told.encode()).hexdigest()[:16]


def _architecture(folder: RunFolder, method: str) -> dict[str, Any]:
    """What decides the graph, at which size and precision, and how its heat is computed.

    The size belongs to it because a layer sees another part of the film at another size; weights, data and optimizer
    do not: they are what a check has to pass with.
    """
    identity = read_json(folder.file("identity.json"))
    leaves = identity.get("config")
    if not isinstance(leaves, dict):
        raise RunError(f"{folder.file('identity.json')} has no section `config`: the run's architecture is not known")
    names = [name for name in leaves if name.startswith(("depth.", "pooling.")) and name != "pooling.dropout"]
    chosen = {name: leaves[name] for name in (*names, "data.image_size_px", "training.precision") if name in leaves}
    return {**chosen, "builder_digest": identity.get("builder_digest", ""), "method": method}


def _words(check: dict[str, Any]) -> str:
    """`checked on phantoms: pointing game .96 [.89, .99] against .70 by chance (n 48)`."""
    try:
        told = check["pointing"]
        value, low, high, chance = (_short(float(told[name])) for name in ("value", "low", "high", "chance"))
        return (
            f"checked on phantoms: pointing game {value} [{low}, {high}] against {chance} by chance, "
            f"n {int(check['num_images'])}"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"a check under runs/.explanations is not readable: {error!r}; remove it") from error


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
