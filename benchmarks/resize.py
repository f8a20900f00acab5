"""What does squash, pad or crop let a network see of a film's aspect ratio, and through it of the label?

    python benchmarks/resize.py [ROOT]      # ROOT/NORMAL, ROOT/PNEUMONIA: originals, whose sides differ by class

Generated files are healthy phantoms in both classes, so that nothing but the aspect ratio can tell the label.  It is
drawn by class (AUROC about .88, as in the originals), and made by cutting either the height or the width of the film;
in the last set it is drawn alike, where every AUROC must be one half.  Each set goes through the package's own manifest
and store, for each resize; a linear probe (ridge on 32 x 32 thumbnails, cross-validated by patient) is asked for the
label, and within each class for aspect ratios above the class's median.  A probe finds the least that can be found.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats as distributions

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.evidence.shortcuts import thumbnails_of
from cxr_experiments.evidence.shortcuts.association import Measured, measure, oriented
from cxr_experiments.evidence.shortcuts.ridge import cross_scores, draw_folds
from cxr_experiments.images.decode import encode_png
from cxr_experiments.images.manifest import Manifest, read_manifest
from cxr_experiments.images.phantom import PHANTOM_SIZE_PX, phantom_rows, render
from cxr_experiments.images.prepare import RESIZES
from cxr_experiments.images.store import open_store

NUM_FILMS = 800
MEANS, SPREAD = (1.22, 1.39), 0.10  # width / height of NORMAL and PNEUMONIA: AUROC .88
NARROW_PX = 160  # height of the films whose width is cut
KERMANY_PATIENT = r"(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)"


def main(originals: Path | None) -> None:
    """Both tables, set by set."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sets = [("originals", DataConfig(source="folder", root=str(originals), patient_regex=KERMANY_PATIENT))]
        sets = sets if originals else []
        for name, cut, tied in (
            ("generated, height cut", "height", True),
            ("generated, width cut", "width", True),
            ("generated, width cut, alike in both classes", "width", False),
        ):
            root = folder / name
            write_films(root, cut=cut, tied=tied)
            sets.append((name, DataConfig(source="folder", root=str(root), patient_regex="(patient[0-9]+)")))
        manifests = {name: read_manifest(data) for name, data in sets}
        print(*told_shapes(manifests), "", *told_probes(sets, manifests, folder / "stores"), sep="\n")


def write_films(root: Path, *, cut: str, tied: bool) -> None:
    """Healthy phantoms of one film each, as PNG whose sides are drawn by class, or alike."""
    rng = np.random.default_rng(0)
    firsts = {row.patient: row for row in reversed(phantom_rows(NUM_FILMS, 0))}
    for number, row in enumerate(sorted(firsts.values(), key=lambda row: row.index)):
        label = int(rng.integers(2))
        ratio = float(np.clip(rng.normal(MEANS[label if tied else int(rng.integers(2))], SPREAD), 1.02, 1.6))
        film = render(replace(row, label=0), seed=0, difficulty=0.5).image
        height = PHANTOM_SIZE_PX / ratio if cut == "height" else NARROW_PX
        width = PHANTOM_SIZE_PX if cut == "height" else NARROW_PX * ratio
        path = root / ("NORMAL", "PNEUMONIA")[label] / f"patient{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_png(path, middle(film, round(height), round(width)))


def middle(film, height: int, width: int):
    """The central part of a film."""
    top, left = (film.shape[0] - height) // 2, (film.shape[1] - width) // 2
    return np.ascontiguousarray(film[top : top + height, left : left + width])


def told_shapes(manifests: dict[str, Manifest]) -> list[str]:
    """How far the films are from square, by class, and what their aspect ratio alone tells of the label."""
    lines = [
        "| films | class | n | width / height, mean | share lost by crop = bars of pad, mean | 5 % to 95 % of films | "
        "label from the aspect ratio alone, AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, manifest in manifests.items():
        ratios = aspect_ratios(manifest)
        patients = patients_of(manifest)
        alone = told(oriented(measure(manifest.labels, ratios, patients, verifiable=True, family=1)))
        for label, of_class in enumerate(manifest.classes):
            own = ratios[manifest.labels == label]
            lost = 1 - np.minimum(own, 1 / own)
            low, high = np.quantile(lost, (0.05, 0.95))
            cells = (name, of_class, str(len(own)), told_mean(own), told_mean(lost), f"{low:.2f} to {high:.2f}", alone)
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def told_probes(sets: list[tuple[str, DataConfig]], manifests: dict[str, Manifest], stores: Path) -> list[str]:
    """What the probe reads from the prepared pixels."""
    lines = [
        "| films | resize | label | high aspect ratio within NORMAL | high aspect ratio within PNEUMONIA |",
        "|---|---|---|---|---|",
    ]
    for name, data in sets:
        manifest = manifests[name]
        ratios = aspect_ratios(manifest)
        for resize in RESIZES:
            store = open_store(manifest, replace(data, resize=resize), folder=stores)
            films = thumbnails_of(store.images, np.arange(len(store.images)))
            found = [probed(films, manifest, manifest.labels, np.ones(len(ratios), dtype=bool))]
            for label in (0, 1):
                own = manifest.labels == label
                found.append(probed(films, manifest, (ratios > np.median(ratios[own])).astype(np.int8), own))
            lines.append(f"| {' | '.join((name, resize, *map(told, found)))} |")
    return lines


def probed(films, manifest: Manifest, targets, kept) -> Measured:
    """How well the pixels tell a target, over the rows in `kept`."""
    features = films[kept].reshape(int(kept.sum()), -1).astype(np.float32) / 255
    wanted, patients = targets[kept], patients_of(manifest)[kept]
    fold = draw_folds(wanted, patients.tolist(), seed=0)
    scores = cross_scores(features, wanted[:, None].astype(np.float32), fold)[:, 0]
    return measure(wanted, scores, patients, verifiable=True, family=1)


def aspect_ratios(manifest: Manifest):
    """(n,) width / height."""
    return np.array([row.width / row.height for row in manifest.rows])


def patients_of(manifest: Manifest):
    """(n,) keys."""
    return np.array([row.patient for row in manifest.rows])


def told(found: Measured) -> str:
    """An AUROC with interval and n."""
    return f"{found.auroc:.3f} [{found.low:.3f}, {found.high:.3f}], n {found.num_images}"


def told_mean(values) -> str:
    """A mean with its 95 % interval."""
    half = distributions.t.ppf(0.975, len(values) - 1) * distributions.sem(values)
    return f"{values.mean():.3f} [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None)
