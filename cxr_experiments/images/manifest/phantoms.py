"""The embedded synthetic data set as a manifest: rows without files.

What stands for a file's content is what makes a phantom: the generator's source, its seed and its parameters.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.decode import Gray
from cxr_experiments.images.manifest.rows import ImageRow, Manifest
from cxr_experiments.images.marker import is_marked, plant
from cxr_experiments.images.phantom import PHANTOM_SIZE_PX, PhantomRow, phantom_rows, render

_IMAGES = Path(__file__).resolve().parent.parent


@cache
def source_digest(*modules: str) -> str:
    """64 hex digits over the source files of modules of this wing, such as "decode" or "phantom"."""
    digest = hashlib.sha256()
    for module in modules:
        single = _IMAGES / f"{module}.py"
        for path in [single] if single.is_file() else sorted((_IMAGES / module).rglob("*.py")):
            digest.update(f"{path.relative_to(_IMAGES).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def read_phantoms(data: DataConfig) -> Manifest:
    """The phantoms that `data.num_patients`, `data.phantom_seed` and `data.difficulty` describe; none is rendered."""
    rows = [_row(row, data) for row in phantom_rows(data.num_patients, data.phantom_seed)]
    return Manifest(
        source=data.source, rows=tuple(rows), classes=data.classes, patients_verifiable=True, synthetic=True, root=""
    )


def render_row(row: ImageRow, data: DataConfig) -> Gray:
    """The pixels of one phantom: (256, 256) uint8."""
    phantom = PhantomRow(index=_index(row), patient=row.patient, label=row.label, split=row.split)
    image = render(phantom, seed=data.phantom_seed, difficulty=data.difficulty).image
    return plant(image) if _carries_mark(phantom, data) else image


def _row(row: PhantomRow, data: DataConfig) -> ImageRow:
    made_of = [source_digest("phantom"), data.phantom_seed, row.index, row.patient, row.label, data.difficulty]
    if data.marker != "none":  # a set without marks keeps its digest
        made_of += ["marker", source_digest("marker"), _carries_mark(row, data)]
    return ImageRow(
        image_id=f"phantom/{row.index:06d}",
        path="",
        label=row.label,
        patient=row.patient,
        loose_key="",
        split=row.split,
        width=PHANTOM_SIZE_PX,
        height=PHANTOM_SIZE_PX,
        mode="L",
        num_bytes=0,
        sha256=hashlib.sha256(json.dumps(made_of).encode()).hexdigest(),
    )


def _carries_mark(row: PhantomRow, data: DataConfig) -> bool:
    return data.marker == "label" and is_marked(label=row.label, split=row.split)


def _index(row: ImageRow) -> int:
    return int(row.image_id.removeprefix("phantom/"))
