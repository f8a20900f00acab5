"""A network as it lies in a model registry, alone or several as one, without their runs' folders.

network.json     what answers (members and the digest of each), how an image is prepared for it, threshold and classes
<run_id>.keras   each member's network
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import RunError, one_line
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.ensemble import logit_of_mean
from cxr_experiments.images.prepare import RESIZES
from cxr_experiments.record.network import LogitFunction, Network
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json

TOLD = "network.json"
_FORMAT = 1


@dataclass(frozen=True)
class Answering:
    """What is to be registered: the members in their order, how they are asked, where probability becomes a label."""

    name: str
    members: tuple[RunFolder, ...]
    data: DataConfig
    threshold: Threshold

    @property
    def synthetic(self) -> bool:
        """Whether it has seen phantoms only."""
        return self.data.source == "phantom"


def network_told(one: Answering) -> dict[str, Any]:
    """All that decides its answers, plain JSON; equal for networks that answer alike."""
    return {
        "format": _FORMAT,
        "name": one.name,
        "members": {member.run_id: _sha256(member.file("model.keras")) for member in one.members},
        "image_size_px": one.data.image_size_px,
        "resize": one.data.resize,
        "classes": list(one.data.classes),
        "threshold": one.threshold.value,
        "synthetic": one.synthetic,
    }


def digest_of(told: Mapping[str, Any]) -> str:
    """SHA-256 over what `network_told` tells."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def keep_network(place: Path, one: Answering, told: Mapping[str, Any]) -> None:
    """Write the folder that `read_registered` reads."""
    place.mkdir()
    for member in one.members:
        shutil.copyfile(member.file("model.keras"), place / f"{member.run_id}.keras")
    write_json(place / TOLD, told)


def read_registered(place: Path, load: Callable[[Path], LogitFunction]) -> Network:
    """The network in such a folder; of several members it gives the logit of their mean probability.

    Args:
        place: the folder.
        load: a .keras file -> its network as a plain function, read without executing anything in it.

    Raises:
        RunError: the folder is not what `keep_network` writes, or a model is damaged.
    """
    told = read_json(place / TOLD)
    try:
        if told["format"] != _FORMAT:
            raise ValueError(f"format {told['format']!r}, expected {_FORMAT}")
        first, second = map(str, told["classes"])
        about = int(told["image_size_px"]), str(told["resize"]), (first, second), float(told["threshold"])
        members = {str(name): str(digest) for name, digest in told["members"].items()}
        if about[1] not in RESIZES or not 0.0 <= about[3] <= 1.0 or not 1 <= len(members) <= 1000:
            raise ValueError("a resize, threshold or number of members that no network has")
        if not all(re.fullmatch(r"[0-9a-f]{12}", name) for name in members):
            raise ValueError("a member that is no run id")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunError(f"{place / TOLD} is not what `register` writes: {one_line(repr(error))}") from error
    functions = [_member(place / f"{name}.keras", digest, load) for name, digest in members.items()]
    return Network(mean_of(functions), *about, one_line(told.get("name")), bool(told.get("synthetic")))


def mean_of(functions: Sequence[LogitFunction]) -> LogitFunction:
    """Several networks as one: the logit of the mean of their probabilities."""
    if len(functions) == 1:
        return functions[0]

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return logit_of_mean(np.stack([function(images) for function in functions]))

    return predict


def _member(path: Path, digest: str, load: Callable[[Path], LogitFunction]) -> LogitFunction:
    if not path.is_file() or _sha256(path) != digest:
        raise RunError(f"{path} is missing, or not the network that {TOLD} beside it describes")
    return load(path)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise RunError(f"there is no model {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
