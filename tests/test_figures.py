"""Figures: PNGs of the size promised, no text on text, extremes drawn, nothing left behind."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.evaluation import Predictions, score
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.record.figures import (
    draw_calibration,
    draw_confusion,
    draw_contact_sheet,
    draw_curves,
    draw_precision_recall,
    draw_roc,
)
from cxr_experiments.record.figures.page import page

THRESHOLD = Threshold(value=0.4321, rule="sensitivity_at", target=0.95, num_images=80)
SIZES_PX = {"roc": (750, 885), "precision_recall": (750, 690), "confusion": (750, 675), "calibration": (750, 930)}


def simulated(num_images: int, separation: float = 4.0, *, split: str = "val", patients: bool = True) -> Predictions:
    rng = np.random.default_rng(num_images)
    label = np.r_[0, 1, rng.random(num_images - 2) < 0.7].astype(np.int8)
    logit = separation * (label - 0.4) + rng.normal(0, 1.0, num_images)
    return Predictions(
        image_id=np.array([f"{split}/{number:05d}" for number in range(num_images)]),
        patient=np.array([f"p{number // 2}" if patients else "" for number in range(num_images)]),
        split=split,
        label=label,
        logit=logit,
        probability=sigmoid(logit),
        run_id="0123456789ab",
        dataset_digest="d" * 64,
    )


def perfect() -> Predictions:
    rows = simulated(40)
    logit = np.where(rows.label == 1, 40.0, -40.0)
    return dataclasses.replace(rows, logit=logit, probability=sigmoid(logit))


def one_class(label: int) -> Predictions:
    rows = simulated(20)
    return dataclasses.replace(rows, label=np.full(20, label, dtype=np.int8))


CASES = {
    "usual": simulated(782),
    "weak": simulated(624, 0.5, split="test", patients=False),
    "wrong way round": simulated(60, -4.0),
    "perfect": perfect(),
    "five images": simulated(5),
    "positives only": one_class(1),
    "negatives only": one_class(0),
    "many": simulated(2_000, 6.0),
}


def draw_all(folder: Path, predictions: Predictions, *, synthetic: bool = True) -> dict[str, Path]:
    paths = {name: folder / f"{name}.png" for name in SIZES_PX}
    draw_roc(paths["roc"], predictions, THRESHOLD, synthetic=synthetic)
    draw_precision_recall(paths["precision_recall"], predictions, THRESHOLD, synthetic=synthetic)
    draw_confusion(paths["confusion"], predictions, THRESHOLD, synthetic=synthetic)
    draw_calibration(paths["calibration"], predictions, synthetic=synthetic)
    return paths


def visible_texts(figure: Figure) -> list[Text]:
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    # axis text is made for ticks outside the limits too; those are not painted
    ticks = {
        label
        for axes in figure.findobj(matplotlib.axes.Axes)
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not axis.get_view_interval().min() - 1e-9 <= tick.get_loc() <= axis.get_view_interval().max() + 1e-9
    }
    return [text for text in shown if text not in ticks]


def assert_no_text_on_text(figure: Figure) -> None:
    page_box = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in visible_texts(figure)]
    assert len(boxes) > 5
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page_box.x1 + 1 and box.y1 <= page_box.y1 + 1
        assert inside, f"{text!r} leaves the page"
    for (one, box), (other, other_box) in combinations(boxes, 2):
        across = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        down = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert min(across, down) < 1.5, f"{one!r} lies on {other!r}"


def texts_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in visible_texts(figure))


@pytest.mark.parametrize("case", CASES)
def test_figures_are_whole_pngs_of_the_size_promised_without_text_on_text(
    tmp_path: Path, drawn: list[Figure], case: str
) -> None:
    paths = draw_all(tmp_path, CASES[case])
    for name, path in paths.items():
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", SIZES_PX[name])
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 10
    assert len(drawn) == 4
    for figure in drawn:
        assert_no_text_on_text(figure)
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted(path.name for path in paths.values())


def test_every_figure_carries_n_and_says_synthetic_only_of_phantoms(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_all(tmp_path, CASES["usual"], synthetic=True)
    draw_all(tmp_path, CASES["weak"], synthetic=False)
    for figure in drawn[:4]:
        assert "n = 782 images of 391 patients" in texts_of(figure)
        assert "SYNTHETIC" in texts_of(figure)
    for figure in drawn[4:]:
        assert "n = 624 images (patients not verifiable)" in texts_of(figure)
        assert "SYNTHETIC" not in texts_of(figure)


def test_intervals_in_the_figures_are_those_of_the_table(tmp_path: Path, drawn: list[Figure]) -> None:
    predictions = CASES["usual"]
    draw_all(tmp_path, predictions)
    scores = {one.name: one for one in score(predictions, THRESHOLD, patients_verifiable=True)}
    shown = "\n".join(texts_of(figure) for figure in drawn).replace("\n[", " [")
    for name in ("auroc", "average_precision", "brier", "sensitivity_at_frozen", "specificity_at_frozen"):
        one = scores[f"val_{name}"]
        assert f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" in shown


def test_confusion_matrix_shows_counts_and_row_percentages(tmp_path: Path, drawn: list[Figure]) -> None:
    probability = np.array([0.1, 0.2, 0.3, 0.9, 0.4321, 0.1])  # 0.4321 is the threshold itself: called positive
    rows = dataclasses.replace(simulated(6), label=np.array([0, 0, 0, 0, 1, 1], dtype=np.int8), probability=probability)
    draw_confusion(tmp_path / "confusion.png", rows, THRESHOLD, classes=("clear", "ill $"), synthetic=False)
    shown = texts_of(drawn[0]).split("\n")
    assert [text for text in shown if text in "0123456789"] == ["3", "1", "1", "1"]
    assert {"75.0 %", "25.0 %", "50.0 %", "clear", "ill $"} <= set(shown)
    assert "threshold set on these rows" in texts_of(drawn[0])


def test_curve_of_one_class_says_that_it_is_not_defined(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_roc(tmp_path / "roc.png", CASES["positives only"], synthetic=False)
    draw_precision_recall(tmp_path / "pr.png", CASES["negatives only"], synthetic=False)
    for figure in drawn:
        assert "these images hold one class only" in texts_of(figure)


def test_numbers_of_five_digits_have_room_at_the_left(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [{"loss": 88_000.0, "val_loss": 20_000.0, "accuracy": 0.5, "val_accuracy": 0.55}] * 3
    draw_curves(tmp_path / "curves.png", history, 1, num_train=4434, num_val=782, synthetic=True)
    draw_calibration(tmp_path / "calibration.png", simulated(90_000), synthetic=True)
    for figure, number in zip(drawn, ("80000", "20000"), strict=True):
        assert number in texts_of(figure).split("\n")
        assert_no_text_on_text(figure)


@pytest.mark.parametrize("num_epochs", [1, 2, 40, 300])
def test_curves_mark_the_epoch_whose_weights_were_kept(tmp_path: Path, drawn: list[Figure], num_epochs: int) -> None:
    history = [
        {"loss": 1 / (1 + i), "val_loss": 1.2 / (1 + i), "accuracy": 1 - 0.4 / (1 + i), "val_accuracy": 0.7}
        for i in range(num_epochs)
    ]
    path = tmp_path / "curves.png"
    draw_curves(path, history, num_epochs - 1, num_train=4434, num_val=782, synthetic=True)
    with Image.open(path) as image:
        assert image.size == (750, 780)
    (figure,) = drawn
    assert_no_text_on_text(figure)
    assert f"weights kept: epoch {num_epochs}" in texts_of(figure)
    assert "n = 4,434 training, 782 validation images" in texts_of(figure)
    for axes, key in zip(figure.axes, ("loss", "accuracy"), strict=True):
        training, validation, kept = axes.get_lines()
        np.testing.assert_allclose(training.get_ydata(), [epoch[key] for epoch in history])
        np.testing.assert_allclose(validation.get_ydata(), [epoch[f"val_{key}"] for epoch in history])
        assert list(kept.get_xdata()) == [num_epochs, num_epochs]


def test_contact_sheet_shows_each_image_at_its_place_with_its_gray_levels(tmp_path: Path, drawn: list[Figure]) -> None:
    images = np.zeros((2, 6, 40, 40), dtype=np.uint8)
    images[1, 4] = 200
    path = tmp_path / "sheet.png"
    columns = ["original", "1", "2", "3", "4", "5"]
    draw_contact_sheet(path, images, ["none", "no_flip"], "Augmentation", column_labels=columns, synthetic=True)
    (figure,) = drawn
    assert_no_text_on_text(figure)
    strips = sorted(figure.axes[0].get_images(), key=lambda image: image.get_extent()[3])  # by their upper edge
    sheet = np.concatenate([strip.get_array() for strip in strips])
    assert [tuple(strip.get_extent()[2:]) for strip in strips] == [(41.5, -0.5), (81.5, 41.5)]
    assert (sheet == 200).sum() == 40 * 40
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    assert (pixels == 200).sum() > 10_000  # not stretched to white
    assert (pixels == 0).sum() > 100_000


def test_contact_sheet_of_one_image_works(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    draw_contact_sheet(path, np.full((1, 1, 200, 200), 90, dtype=np.uint8), ["crop"], "crop", synthetic=False)
    with Image.open(path) as image:
        assert image.width == 750


def test_failed_drawing_leaves_nothing_behind_and_the_old_figure_whole(tmp_path: Path) -> None:
    path = tmp_path / "roc.png"
    draw_roc(path, CASES["five images"], synthetic=False)
    before = path.read_bytes()
    with pytest.raises(KeyError, match="oops"), page(path, "t", "s", height_in=3, synthetic=False):
        raise KeyError("oops")
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["roc.png"]


def test_user_settings_neither_change_the_page_nor_are_changed(tmp_path: Path) -> None:
    draw_roc(tmp_path / "plain.png", CASES["five images"], synthetic=False)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.bbox": "tight"}):
        draw_roc(tmp_path / "set.png", CASES["five images"], synthetic=False)
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "set.png").read_bytes()
