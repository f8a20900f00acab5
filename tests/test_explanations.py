"""What heat maps are worth: who passes the check on phantoms, who does not, and what the pictures say about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Command
from matplotlib.figure import Figure
from PIL import Image
from test_figures import assert_no_text_on_text, texts_of

from cxr_experiments.config.identity import identify
from cxr_experiments.config.schema import DataConfig, ExperimentConfig, PoolingConfig, TrainingConfig
from cxr_experiments.errors import RunError
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.localisation import Localisation, localise
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.images.prepare import prepare
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import Store
from cxr_experiments.record.explanations import (
    SHORTEST_TRAINING,
    UNVALIDATED,
    check_on_phantoms,
    keep_check,
    lesion_mask,
    needs_check,
    read_worth,
)
from cxr_experiments.record.figures import Caption, ExplainedFilm, draw_explained, draw_heatmaps
from cxr_experiments.record.figures.heatmaps import TILE_IN, TITLE_IN, heat_extent
from cxr_experiments.record.figures.page import DOTS_PER_INCH, HEADING_IN
from cxr_experiments.record.heatmaps import keep_heatmaps, telling_rows
from cxr_experiments.record.run_folder import RunFolder, write_json

CONFIG = ExperimentConfig(data=DataConfig(image_size_px=48, difficulty=0.3))
METHOD = "a method"
CAPTION = Caption(UNVALIDATED, "PNEUMONIA", 0.5, synthetic=False)


@dataclass(frozen=True)
class Explained:
    """A stand-in for `learning.heatmap`: any heat under any name."""

    heat: Callable[[np.ndarray], np.ndarray]
    untrained_heat: Callable[[np.ndarray], np.ndarray]
    method: str = METHOD


def noise(images: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(images.sum()) % 1000).random(images.shape[:3]).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The validation films as they are; all others are left black, for nobody may look at them."""
    manifest = read_manifest(CONFIG.data)
    path = tmp_path_factory.mktemp("store")
    images = np.lib.format.open_memmap(path / "images.npy", "w+", np.uint8, (len(manifest.rows), 48, 48, 1))
    for number in make_split(manifest, CONFIG.data, seed=0).val:
        images[number] = prepare(load_pixels(manifest.rows[number], manifest, CONFIG.data), size_px=48, resize="squash")
    return Store(images=images, manifest=manifest, bad_files=(), path=path)


@pytest.fixture(scope="module")
def predictions(store: Store) -> Predictions:
    """Validation phantoms with logits that are mostly right."""
    rows = [store.manifest.rows[row] for row in make_split(store.manifest, CONFIG.data, seed=0).val]
    label = np.array([row.label for row in rows], dtype=np.int8)
    logit = 3.0 * (label - 0.5) + np.random.default_rng(0).normal(0, 1.5, len(rows))
    ids, patients = ([getattr(row, name) for row in rows] for name in ("image_id", "patient"))
    probability = sigmoid(logit)
    return Predictions(
        np.array(ids), np.array(patients), "val", label, logit, probability, "0123456789ab", store.manifest.digest
    )


@pytest.fixture(scope="module")
def oracle(store: Store) -> Explained:
    """Heat that is the lesion itself, and an untrained network whose heat is noise."""
    known = {store.images[number].tobytes(): row for number, row in enumerate(store.manifest.rows)}

    def heat(images: np.ndarray) -> np.ndarray:
        masks = [lesion_mask(known[image.tobytes()], CONFIG.data) for image in images]
        return np.array(masks, dtype=np.float32) + 0.1 * noise(images)

    return Explained(heat, noise)


@pytest.fixture(scope="module")
def passing(store: Store, predictions: Predictions, oracle: Explained) -> Localisation:
    """The oracle's check."""
    found = check_on_phantoms(oracle, predictions, store, CONFIG.data)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def failing() -> Localisation:
    """A check of maps that are the same everywhere."""
    masks = np.stack([np.eye(4, dtype=bool)] * 2)
    return localise(np.ones((2, 4, 4), np.float32), np.ones((1, 4, 4), np.float32), masks, np.array(["a", "b"]))


def folder_of(home: Path, config: ExperimentConfig, name: str = "0123456789ab") -> RunFolder:
    folder = RunFolder(home / "runs" / "phantom-x" / name)
    folder.path.mkdir(parents=True)
    write_json(folder.file("identity.json"), asdict(identify(config, "d", "s")))
    return folder


def test_lesion_mask_lies_where_the_prepared_film_differs_from_its_healthy_twin(store: Store) -> None:
    from cxr_experiments.images.phantom import PhantomRow, render

    row = next(row for row in store.manifest.rows if row.label == 1)
    mask = lesion_mask(row, CONFIG.data)
    films = [
        render(PhantomRow(int(row.image_id[-6:]), row.patient, label, row.split), seed=0, difficulty=0.3).image
        for label in (0, 1)
    ]
    healthy, ill = (prepare(film, size_px=48, resize="squash")[..., 0].astype(int) for film in films)
    changed = np.abs(ill - healthy)
    assert mask.any()
    assert changed[mask].mean() > 10 * changed[~mask].mean()


def test_maps_of_the_lesion_pass_and_the_words_say_how_well(passing: Localisation, tmp_path: Path) -> None:
    assert passing.passed
    folder = folder_of(tmp_path, CONFIG)
    assert read_worth(folder, METHOD).words == UNVALIDATED
    keep_check(folder, METHOD, passing)
    worth = read_worth(folder, METHOD)
    assert worth.passed
    interval = f"[{passing.pointing.low:.2f}, {passing.pointing.high:.2f}]".replace("0.", ".")
    assert worth.words.startswith(f"checked on phantoms: pointing game 1.00 {interval} against ")
    assert worth.words.endswith(f"by chance, n {passing.num_images}")


def test_untrained_network_does_not_pass(store: Store, predictions: Predictions, tmp_path: Path) -> None:
    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.learning import heatmap
    from cxr_experiments.learning.model import build_model

    network = build_model(CONFIG, resolve_seeds(CONFIG))
    found = check_on_phantoms(heatmap.explainer(network, CONFIG), predictions, store, CONFIG.data)
    assert found is not None
    assert found.pointing.low < found.pointing.chance
    assert not found.passed
    folder = folder_of(tmp_path, CONFIG)
    keep_check(folder, heatmap.METHOD, found)
    assert (read_worth(folder, heatmap.METHOD).passed, read_worth(folder, heatmap.METHOD).words) == (False, UNVALIDATED)


def test_status_belongs_to_the_architecture_the_size_and_the_method(passing: Localisation, tmp_path: Path) -> None:
    keep_check(folder_of(tmp_path, CONFIG), METHOD, passing)
    other_weights = replace(CONFIG, seed=5, augmentation=replace(CONFIG.augmentation, horizontal_flip=True))
    other_weights = replace(other_weights, pooling=replace(CONFIG.pooling, dropout=0.1))
    others = {
        "pooling": replace(CONFIG, pooling=PoolingConfig("flatten")),
        "depth": replace(CONFIG, depth=replace(CONFIG.depth, filters=(8, 8, 8, 8, 8))),
        "size": replace(CONFIG, data=replace(CONFIG.data, image_size_px=64)),
        "precision": replace(CONFIG, training=TrainingConfig(precision="mixed_bfloat16")),
    }
    assert read_worth(folder_of(tmp_path, other_weights, "a" * 12), METHOD).passed
    assert not read_worth(folder_of(tmp_path, CONFIG, "b" * 12), "another method").passed
    for name, config in others.items():
        assert not read_worth(folder_of(tmp_path, config, f"{name:x<12}"), METHOD).passed, name


def test_check_is_due_once_and_only_after_real_training(
    passing: Localisation, failing: Localisation, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, CONFIG)
    assert needs_check(folder, METHOD, num_passes=SHORTEST_TRAINING, synthetic=True)
    assert not needs_check(folder, METHOD, num_passes=SHORTEST_TRAINING - 1, synthetic=True)
    assert not needs_check(folder, METHOD, num_passes=SHORTEST_TRAINING, synthetic=False)
    keep_check(folder, METHOD, failing)
    assert needs_check(folder, METHOD, num_passes=SHORTEST_TRAINING, synthetic=True), "a failed check may be repeated"
    keep_check(folder, METHOD, passing)
    assert not needs_check(folder, METHOD, num_passes=SHORTEST_TRAINING, synthetic=True)


def test_too_few_patients_are_not_checked(store: Store, predictions: Predictions, oracle: Explained) -> None:
    healthy = predictions.label == 0
    columns = {name: getattr(predictions, name)[healthy] for name in ("image_id", "patient", "label", "logit")}
    few = replace(predictions, probability=predictions.probability[healthy], **columns)
    assert check_on_phantoms(oracle, few, store, CONFIG.data) is None


def test_damaged_check_is_told_in_one_line(failing: Localisation, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, CONFIG)
    keep_check(folder, METHOD, failing)
    (kept,) = (tmp_path / "runs" / ".explanations").rglob("*.json")
    kept.write_text(json.dumps({"passed": True}))
    with pytest.raises(RunError, match="is not readable"):
        read_worth(folder, METHOD)
    kept.write_text("{")
    with pytest.raises(RunError, match="cannot read"):
        read_worth(folder, METHOD)


def test_telling_rows_are_the_most_confidently_wrong_and_the_typical(predictions: Predictions) -> None:
    label = np.array([1, 1, 1, 0, 0, 0, 1, 1, 1, 0], dtype=np.int8)
    probability = np.array([0.1, 0.3, 0.2, 0.9, 0.6, 0.9, 0.7, 0.8, 0.99, 0.2])
    ids = np.array([f"i{number}" for number in range(10)])
    few = replace(predictions, image_id=ids, patient=ids, label=label, probability=probability, logit=probability)
    rows = telling_rows(few, 0.5, ("NORMAL", "PNEUMONIA"))
    assert rows == {
        "PNEUMONIA, missed": [0, 2],
        "NORMAL, false alarm": [3, 5],
        "PNEUMONIA, typical": [7, 6],
        "NORMAL, typical": [9],
    }
    perfect = telling_rows(few, 0.0, ("NORMAL", "PNEUMONIA"))
    assert perfect["PNEUMONIA, missed"] == perfect["NORMAL, typical"] == []


def evidence_of(predictions: Predictions) -> SimpleNamespace:
    threshold = Threshold(value=0.5, rule="sensitivity_at", target=0.95, num_images=80)
    return SimpleNamespace(predictions=predictions, threshold=threshold, synthetic=True)


@pytest.mark.parametrize(("epochs", "words"), [(500, "checked on phantoms"), (1, UNVALIDATED)])
def test_page_of_a_run_carries_what_its_maps_are_worth(
    store: Store,
    predictions: Predictions,
    oracle: Explained,
    tmp_path: Path,
    drawn: list[Figure],
    epochs: int,
    words: str,
) -> None:
    folder, costs = folder_of(tmp_path, CONFIG), SimpleNamespace(num_train=100, epochs_run=epochs)
    keep_heatmaps(folder, oracle, store, evidence_of(predictions), CONFIG, costs)
    (figure,) = drawn
    assert_no_text_on_text(figure)
    shown = texts_of(figure)
    assert words in shown
    assert "SYNTHETIC" in shown
    told = json.loads(folder.file("explanations.json").read_text())
    assert told["passed"] == (words != UNVALIDATED)
    named = [image_id for group in told["films"].values() for image_id in group]
    assert len(named) >= 6
    for image_id in named:
        row = predictions.image_id.tolist().index(image_id)
        assert f"{image_id}\npatient {predictions.patient[row]}" in shown
        assert f"P {predictions.probability[row]:.4f}, called" in shown
    with Image.open(folder.file("figures/val_heatmaps.png")) as image:
        assert 900 <= image.width <= 1300, "MLflow shows it at about that width"


def test_network_without_heat_leaves_the_reason_and_the_run_goes_on(
    store: Store, predictions: Predictions, tmp_path: Path
) -> None:
    def no_heat(images: np.ndarray) -> np.ndarray:
        raise RunError("no heat map: no gradient")

    folder = folder_of(tmp_path, CONFIG)
    costs = SimpleNamespace(num_train=100, epochs_run=1)
    keep_heatmaps(folder, Explained(no_heat, no_heat), store, evidence_of(predictions), CONFIG, costs)
    assert json.loads(folder.file("explanations.json").read_text())["reason"] == "no heat map: no gradient"
    assert not folder.file("figures/val_heatmaps.png").exists()


def film(height: int, width: int, resize: str = "squash", heat: np.ndarray | None = None) -> ExplainedFilm:
    ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    found = np.eye(32, dtype=np.float32) if heat is None else heat
    return ExplainedFilm(ramp, found, resize, 0.93, "PNEUMONIA", "train/PNEUMONIA/person1_bacteria_1.jpeg")


@pytest.mark.parametrize("shape", [(300, 300), (300, 900), (900, 300)])
@pytest.mark.parametrize("heat", [None, np.zeros((32, 32), np.float32)])
def test_one_film_keeps_its_proportions(
    tmp_path: Path, drawn: list[Figure], shape: tuple[int, int], heat: np.ndarray | None
) -> None:
    draw_explained(tmp_path / "x.png", film(*shape, heat=heat), CAPTION)
    (figure,) = drawn
    assert_no_text_on_text(figure)
    assert UNVALIDATED in texts_of(figure)
    assert "SYNTHETIC" not in texts_of(figure)
    assert ("no evidence" in texts_of(figure)) == (heat is not None)
    for axes in figure.axes[:2]:
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(shape[1] / shape[0], rel=0.02)


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(120, 120), (90, 161), (161, 90)])
def test_heat_is_laid_back_where_the_square_came_from(resize: str, shape: tuple[int, int]) -> None:
    """A bright spot of the film is found in the prepared square, and laid back within a square pixel of its place."""
    image = np.zeros(shape, dtype=np.uint8)
    row, column = shape[0] // 2 + 20, shape[1] // 2 - 25
    image[row - 3 : row + 3, column - 3 : column + 3] = 255
    square = prepare(image, size_px=60, resize=resize)[..., 0].astype(float)
    at_row, at_column = ((square * place).sum() / square.sum() + 0.5 for place in np.mgrid[:60, :60])
    left, right, bottom, top = heat_extent(shape, 60, resize)
    assert top + at_row / 60 * (bottom - top) == pytest.approx(row, abs=0.6)
    assert left + at_column / 60 * (right - left) == pytest.approx(column, abs=0.6)


def test_empty_group_says_so_and_long_names_are_cut(tmp_path: Path, drawn: list[Figure]) -> None:
    long = replace(film(64, 64), name="x" * 200 + ".jpeg\npatient not known")
    groups = {"PNEUMONIA, missed": [], "NORMAL, typical": [long, long]}
    draw_heatmaps(tmp_path / "x.png", groups, CAPTION)
    assert_no_text_on_text(drawn[0])
    assert "none" in texts_of(drawn[0])
    assert "xxx.jpeg\npatient not known" in texts_of(drawn[0])


def test_heat_on_the_page_ends_where_the_film_does(tmp_path: Path) -> None:
    """A film half as wide as high: the padded square's bars, as wide as the film, would lie over its neighbours."""
    narrow = film(80, 40, "pad", np.ones((32, 32), dtype=np.float32))
    draw_heatmaps(tmp_path / "x.png", {"NORMAL, typical": [narrow, narrow]}, CAPTION)
    with Image.open(tmp_path / "x.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    top, side = round((HEADING_IN + TITLE_IN) * DOTS_PER_INCH), round(TILE_IN * DOTS_PER_INCH)
    strip = pixels[top + 5 : top + side - 5]
    is_coloured = (strip.max(axis=2) - strip.min(axis=2) > 20).any(axis=0)
    assert is_coloured.sum() == pytest.approx(2 * side / 2, abs=6), "two overlays, each half a tile wide"


@pytest.mark.long
def test_trained_network_passes(tmp_path: Path, command: Command) -> None:
    said = command("train", "experiment=heatmap_check", "tracking=disabled", home=tmp_path, timeout_s=900)
    assert said.status == 0, said.err
    assert "checked on phantoms: pointing game" in said.out
