"""Predictions there and back, odd files refused, scores that agree with scikit-learn, tables that tell their n."""

from __future__ import annotations

import dataclasses
import math
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from cxr_experiments.errors import RunError
from cxr_experiments.evidence.calibration import Threshold, choose_threshold
from cxr_experiments.evidence.evaluation import (
    Predictions,
    Score,
    predict_split,
    read_predictions,
    read_scores,
    score,
    score_table,
    write_predictions,
    write_scores,
)
from cxr_experiments.evidence.metrics import average_precision, sigmoid
from cxr_experiments.evidence.stats import auroc_interval, patient_bootstrap
from cxr_experiments.images.manifest import ImageRow, Manifest

FIXED = Threshold(value=0.3, rule="sensitivity_at", target=0.95, num_images=80)


def simulated(num_images: int, *, split: str = "val", seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    label = np.r_[0, 1, rng.random(num_images - 2) < 0.7].astype(np.int8)
    logit = 3.0 * (label - 0.4) + rng.normal(0, 1.5, num_images)
    return Predictions(
        image_id=np.array([f"{split}/{number:04d}.jpeg" for number in range(num_images)]),
        patient=np.array([f"bacteria:{number // 2}" for number in range(num_images)]),
        split=split,
        label=label,
        logit=logit,
        probability=sigmoid(logit),
        run_id="0123456789ab",
        dataset_digest="d" * 64,
    )


def assert_same(found: Predictions, wanted: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(wanted, field.name), err_msg=field.name)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
logits = st.floats(-1e3, 1e3)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(names, st.one_of(st.just(""), names), st.integers(0, 1), logits),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    ),
    split=st.sampled_from(["train", "val", "test"]),
    run_id=names,
)
def test_predictions_come_back_as_they_were_bit_for_bit(tmp_path: Path, rows: list, split: str, run_id: str) -> None:
    image_id, patient, label, logit = zip(*rows, strict=True)
    wanted = Predictions(
        np.array(image_id),
        np.array(patient),
        split,
        np.array(label, dtype=np.int8),
        np.array(logit),
        sigmoid(logit),
        run_id,
        "d" * 64,
    )
    path = tmp_path / "predictions.csv"
    write_predictions(path, wanted)
    found = read_predictions(path)
    assert_same(found, wanted)
    assert found.label.dtype == np.int8
    assert [child.name for child in tmp_path.iterdir()] == ["predictions.csv"]


GOOD = "image_id,patient,split,label,logit,probability,run_id,dataset_digest\n" + "".join(
    f"test/{number}.jpeg,bacteria:{number},test,{number % 2},{number - 2.0!r},{float(sigmoid(number - 2.0))!r},r,d\n"
    for number in range(5)
)


def read_or_refusal(path: Path) -> tuple[Predictions | None, str]:
    """What was read, or the text of our own error; any other exception is a failure."""
    try:
        return read_predictions(path), ""
    except RunError as error:
        return None, str(error)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(GOOD) - 1), drop=st.integers(0, 40), put=st.binary(max_size=6))
def test_mutated_file_is_read_or_refused_with_file_and_line(
    tmp_path: Path, position: int, drop: int, put: bytes
) -> None:
    path = tmp_path / "predictions.csv"
    content = GOOD.encode()
    path.write_bytes(content[:position] + put + content[position + drop :])
    found, refusal = read_or_refusal(path)
    if found is None:
        assert f"{path}, line " in refusal
        assert "; expected " in refusal
        return
    assert np.isfinite(found.logit).all() or np.isnan(found.logit).all()
    assert len(set(found.image_id.tolist())) == len(found.label) >= 1
    assert set(found.label.tolist()) <= {0, 1}
    assert found.probability.min() >= 0
    assert found.probability.max() <= 1


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("test/1.jpeg", "test/0.jpeg", 3, "'test/0.jpeg' stands on line 2 too; expected each image once"),
        (",test,1,-1.0", ",test,2,-1.0", 3, "label '2'; expected 0 or 1"),
        (",-1.0,", ",nan,", 3, "found 'nan'; expected a finite logit"),
        (",-1.0,", ",inf,", 3, "found 'inf'; expected a finite logit"),
        (",-1.0,", ",1e999,", 3, "found '1e999'; expected a finite logit"),
        (",-1.0,", ",,", 3, "logit ''; expected a logit on every row or on none"),
        (",-1.0,", ",-1_0.0,", 3, "found '-1_0.0'"),
        (",0.5,", ",0.500002,", 4, "expected sigmoid(logit) = 0.5 within 1e-6"),
        (",0.5,", ",,", 4, "found ''; expected a probability"),
        (",0.5,", ",1.5,", 4, "probability 1.5; expected a number in [0, 1]"),
        (",0.5,", ",NaN,", 4, "found 'NaN'; expected a probability"),
        ("bacteria:2,test", "bacteria:2,val", 4, "split 'val'; expected 'test' as on the first row"),
        (",r,d\ntest/3", ",other,d\ntest/3", 4, "run_id 'other'; expected 'r' as on the first row"),
        (",r,d\ntest/3", ",r,e\ntest/3", 4, "dataset_digest 'e'; expected 'd' as on the first row"),
        (",r,d\ntest/3", ",r\ntest/3", 4, "7 cells; expected 8"),
        ("image_id,", "image,", 1, "the header 'image,patient"),
        ("test/3.jpeg", "test\0.jpeg", 5, "a NUL character"),
        ("test/3.jpeg", '"test/3.jpeg', 7, "not CSV"),
    ],
)
def test_odd_line_is_named_with_what_was_expected(tmp_path: Path, old: str, new: str, line: int, text: str) -> None:
    assert old in GOOD
    path = tmp_path / "predictions.csv"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(RunError) as caught:
        read_predictions(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line ")
    assert text in message
    if "not CSV" not in text:  # an open quote swallows the rest of the file
        assert message.startswith(f"{path}, line {line}: ")


def test_unknown_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(GOOD.replace(",test,", ",holdout,"))
    with pytest.raises(RunError, match="line 2: found split 'holdout'; expected one of train, val, test"):
        read_predictions(path)


@pytest.mark.parametrize("content", [b"", b"\n", GOOD.encode()[:-1], GOOD.splitlines(keepends=True)[0].encode()])
def test_empty_and_cut_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"predictions\.csv, line "):
        read_predictions(path)


def test_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "exploded",)

    path = tmp_path / "predictions.csv"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RunError, match="line 1"):
        read_predictions(path)
    assert not (tmp_path / "exploded").exists()


def test_missing_file_is_told_by_path(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere\.csv cannot be read: No such file"):
        read_predictions(tmp_path / "nowhere.csv")


def test_logit_may_be_blank_throughout_and_is_not_computed_back(tmp_path: Path) -> None:
    wanted = dataclasses.replace(simulated(6), logit=np.full(6, np.nan))
    write_predictions(tmp_path / "predictions.csv", wanted)
    found = read_predictions(tmp_path / "predictions.csv")
    assert np.isnan(found.logit).all()
    np.testing.assert_array_equal(found.probability, wanted.probability)


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    good = simulated(4)
    twice = dataclasses.replace(good, image_id=np.array(["a", "b", "a", "c"]))
    with pytest.raises(RunError, match="stands on line 2 too"):
        write_predictions(path, twice)
    with pytest.raises(RunError, match="expected a finite logit"):
        write_predictions(path, dataclasses.replace(good, logit=np.array([np.inf, *good.logit[1:]])))
    assert list(tmp_path.iterdir()) == []


def small_manifest(num_images: int) -> Manifest:
    rows = tuple(
        ImageRow(f"img/{number:03d}", "", number % 2, f"p{number // 3}", "", "", 64, 64, "L", 0, f"{number:064x}")
        for number in range(num_images)
    )
    return Manifest("phantom", rows, ("NORMAL", "PNEUMONIA"), True, True, "")


def test_predict_split_keeps_order_and_names_in_batches_of_32() -> None:
    manifest = small_manifest(200)
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1) * np.ones((1, 4, 4, 1), dtype=np.uint8)
    indices = np.random.default_rng(0).permutation(200)[:150]
    sizes = []

    def predict(batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.uint8
        sizes.append(batch.shape)
        return batch[:, 0, 0, 0] / 50.0 - 2.0

    found = predict_split(predict, images, manifest, indices, split="val", run_id="r")
    assert sizes == [(32, 4, 4, 1)] * 4 + [(22, 4, 4, 1)]
    np.testing.assert_allclose(found.logit, indices / 50.0 - 2.0)
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(2.0 - indices / 50.0)))
    assert found.image_id.tolist() == [f"img/{index:03d}" for index in indices]
    assert found.patient.tolist() == [f"p{index // 3}" for index in indices]
    assert found.label.tolist() == (indices % 2).tolist()
    assert (found.split, found.run_id, found.dataset_digest) == ("val", "r", manifest.digest)


def test_logit_that_is_not_finite_names_run_and_image() -> None:
    images = np.zeros((3, 4, 4, 1), dtype=np.uint8)
    with pytest.raises(RunError, match="run r gives the logit nan for img/001"):
        predict_split(
            lambda batch: np.array([0.0, np.nan]), images, small_manifest(3), np.array([0, 1]), split="val", run_id="r"
        )


AT_THRESHOLD = (
    *("balanced_accuracy", "sensitivity", "specificity", "f1", "accuracy", "mcc"),
    *("ppv", "npv", "ppv_stated_prevalence", "npv_stated_prevalence"),
)
NAMES = (
    *("auroc", "average_precision", "brier", "log_loss", "calibration_slope", "calibration_intercept", "ece"),
    *(f"{name}_at_half" for name in AT_THRESHOLD),
    *(f"{name}_at_frozen" for name in AT_THRESHOLD),
)


def test_scores_bear_the_agreed_names_and_agree_with_scikit_learn() -> None:
    predictions = simulated(300, split="test")
    found = {one.name: one.value for one in score(predictions, FIXED, patients_verifiable=True)}
    assert tuple(found) == tuple(f"test_{name}" for name in NAMES)
    label, probability = predictions.label, predictions.probability
    assert found["test_auroc"] == pytest.approx(reference.roc_auc_score(label, probability))
    assert found["test_log_loss"] == pytest.approx(reference.log_loss(label, probability))
    for suffix, threshold in (("at_half", 0.5), ("at_frozen", 0.3)):
        called = probability >= threshold
        assert found[f"test_f1_{suffix}"] == pytest.approx(reference.f1_score(label, called))
        assert found[f"test_sensitivity_{suffix}"] == pytest.approx(reference.recall_score(label, called))
        assert found[f"test_mcc_{suffix}"] == pytest.approx(reference.matthews_corrcoef(label, called))
        assert found[f"test_ppv_{suffix}"] == pytest.approx(reference.precision_score(label, called))
        assert found[f"test_npv_{suffix}"] == pytest.approx(reference.precision_score(1 - label, ~called))


def test_every_score_has_its_interval_and_its_n() -> None:
    predictions = simulated(300)
    scores = score(predictions, FIXED, patients_verifiable=True, seed=4)
    for one in scores:
        assert one.low <= one.value <= one.high or one.name == "val_ece"
        assert (one.num_images, one.num_patients) == (300, 150)
    rows = (predictions.label, predictions.probability, predictions.patient)
    closed, drawn = auroc_interval(*rows), patient_bootstrap(average_precision, *rows, seed=4)
    assert [(one.low, one.high) for one in scores[:2]] == [(closed.low, closed.high), (drawn.low, drawn.high)]


def test_patients_that_are_not_verifiable_give_intervals_over_images_named_so() -> None:
    predictions = simulated(300)
    scores = score(predictions, FIXED, patients_verifiable=False)
    assert {one.num_patients for one in scores} == {0}
    rows = (predictions.label, predictions.probability, np.full(300, ""))
    closed, drawn = auroc_interval(*rows), patient_bootstrap(average_precision, *rows, seed=0)
    assert [(one.low, one.high) for one in scores[:2]] == [(closed.low, closed.high), (drawn.low, drawn.high)]
    assert score_table(scores, synthetic=False)[-1] == "95 % intervals over images (patients not verifiable)"


def test_values_on_the_rows_that_set_the_threshold_say_so() -> None:
    val, test = simulated(200), simulated(200, split="test", seed=1)
    threshold = choose_threshold(val.label, val.probability, rule="sensitivity_at", value=0.95, split="val")
    for predictions, text in ((val, "threshold set on these rows"), (test, "threshold set on val")):
        for one in score(predictions, threshold, patients_verifiable=True):
            assert (text in one.note) == one.name.endswith("_at_frozen")
    given = choose_threshold(val.label, val.probability, rule="fixed", value=0.4, split="val")
    assert "P >= 0.4; threshold given" in score(val, given, patients_verifiable=True)[-1].note


def test_undefined_draws_and_degenerate_intervals_are_noted_not_hidden() -> None:
    few = simulated(4)
    notes = {one.name: one.note for one in score(few, FIXED, patients_verifiable=True)}
    assert "of 2000 draws undefined (one class)" in notes["val_average_precision"]
    one_class = dataclasses.replace(simulated(30), label=np.ones(30, dtype=np.int8))
    scores = {one.name: one for one in score(one_class, FIXED, patients_verifiable=True)}
    assert math.isnan(scores["val_auroc"].value)
    assert scores["val_auroc"].note == "one class only"
    assert "2000 of 2000 draws undefined" in scores["val_average_precision"].note
    perfect = dataclasses.replace(simulated(30), probability=simulated(30).label.astype(float))
    first, second, *_ = score(perfect, FIXED, patients_verifiable=True)
    assert first.value == 1.0
    assert math.isnan(first.low)
    assert math.isnan(first.high)
    assert first.note == "an AUROC of 1 has no logit, hence no interval by this method"
    assert (second.value, second.low, second.high) == (1.0, 1.0, 1.0)
    assert "the interval says too little" in second.note


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    scored = [one for one in score(simulated(60), FIXED, patients_verifiable=True) if one.name != "val_ece"]
    scores = (*scored, Score("x", 0.1, 0.0, 1.0, 5, 0, 'odd, "note"', "by hand"))
    write_scores(tmp_path / "scores.csv", scores)
    assert read_scores(tmp_path / "scores.csv") == scores
    undefined = Score("val_auroc", math.nan, math.nan, math.nan, 5, 2, "")
    write_scores(tmp_path / "scores.csv", [undefined])
    assert math.isnan(read_scores(tmp_path / "scores.csv")[0].value)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("val_auroc,high,0.1,0.2,5,2,,", "found 'high'; expected a number or nan"),
        ("val_auroc,0.1,0.1,0.2,5,-2,,", "counts '5' and '-2'; expected two whole numbers"),
        ("val_auroc,0.1,0.1,0.2,5,2", "6 cells; expected 8"),
    ],
)
def test_odd_scores_are_refused_with_file_and_line(tmp_path: Path, row: str, text: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"name,value,low,high,num_images,num_patients,note,method\n{row}\n")
    with pytest.raises(RunError, match=f"line 2: found .*{text}|line 2: {text}"):
        read_scores(path)


def test_scores_from_before_methods_were_stated_are_read_and_odd_headers_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("name,value,low,high,num_images,num_patients,note\nval_auroc,0.9,0.8,0.95,5,2,\n")
    assert read_scores(path) == (Score("val_auroc", 0.9, 0.8, 0.95, 5, 2, "", ""),)
    path.write_text("name,value,low,high,num_images,num_patients,remark\nval_auroc,0.9,0.8,0.95,5,2,\n")
    with pytest.raises(RunError, match=r"line 1: found the header .*num_patients,note,method"):
        read_scores(path)


def test_table_is_aligned_and_every_line_of_phantoms_says_synthetic() -> None:
    scores = score(simulated(120), FIXED, patients_verifiable=True)
    plain = score_table(scores, synthetic=False)
    marked = score_table(scores, synthetic=True)
    assert marked == [f"SYNTHETIC {line}" for line in plain]
    body, methods = plain[1 : 1 + len(NAMES)], plain[1 + len(NAMES) : -1]
    assert len({line.index("[") for line in body if "[" in line}) == 1
    assert sum("[" in line for line in body) == len(NAMES) - 1, "the expected calibration error has no interval"
    assert [line.split(": ")[1] for line in methods] == list(dict.fromkeys(one.method for one in scores))
    assert sorted(name for line in methods for name in line.split(": ")[2].split(", ")) == sorted(NAMES)
    assert plain[0].split("  ")[0] == "metric"
    for one, line in zip(scores, body, strict=True):
        assert line.split()[:2] == [one.name, f"{one.value:.4f}"]
        assert (f"[{one.low:.4f}, {one.high:.4f}]" in line) == (one.name != "val_ece")
        assert " 120 " in line
        assert " 60" in line
    assert not any("SYNTHETIC" in line for line in plain)


def test_table_of_undefined_values_shows_no_number() -> None:
    line = score_table([Score("val_auroc", math.nan, math.nan, math.nan, 5, 2, "")], synthetic=False)[1]
    assert "nan" not in line
    assert "not defined" in line


def test_scoring_800_images_is_quick() -> None:
    predictions = simulated(800)
    start = time.process_time()  # of CPU: a machine at other work too is no slower at this
    assert len(score(predictions, FIXED, patients_verifiable=True)) == 27
    assert time.process_time() - start < 3.0
