"""The benchmark of time to quality: its arithmetic on hand-made runs, its arms, its watcher, and once the whole."""

from __future__ import annotations

import csv
import functools
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.interleaved import ROOT
from benchmarks.time_to_quality.__main__ import make_runs, overrides_of, read_words
from benchmarks.time_to_quality.arms import compose_arm, read_arms
from benchmarks.time_to_quality.coverage import SHAPES, enclosed
from benchmarks.time_to_quality.judged import (
    COMMON,
    LOWEST,
    OWN,
    SINCE_IMPORTS,
    compare,
    first_held,
    held_level,
)
from benchmarks.time_to_quality.records import Evaluation, RunRecord, read_records, record_path, write_record
from benchmarks.time_to_quality.report import write_report
from benchmarks.time_to_quality.running import Watched, watch
from cxr_experiments.config.compose import leaf_values
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import ConfigError

KAGGLE = ("data=kaggle", "data.image_size_px=128", "seed=3")


def made(arm: str, seed: int, losses: Sequence[float], *, epoch_s: float = 10.0, imports_s: float = 4.0) -> RunRecord:
    """A run whose evaluation e ends `imports_s + (e + 1) epoch_s` after its start."""
    evaluations = tuple(
        Evaluation(epoch, loss, 0.9, imports_s + (epoch + 1) * epoch_s, (epoch + 1) * epoch_s)
        for epoch, loss in enumerate(losses)
    )
    return RunRecord(
        arm=arm,
        seed=seed,
        size_px=128,
        epoch_limit=40,
        command="python ...",
        ended="early stopping",
        num_train=4000,
        num_val=700,
        split_digest=f"digest of seed {seed}",
        synthetic=False,
        commit="c0ffee",
        dirty=False,
        processor="a processor",
        num_cores=2,
        versions="tensorflow 2",
        wall_s=imports_s + len(losses) * epoch_s + 3,
        cpu_s=1.0,
        others_share=0.0,
        evaluations=evaluations,
    )


def test_level_is_held_with_the_second_of_two_evaluations_at_or_below_it() -> None:
    losses = [0.5, 0.1, 0.4, 0.2, 0.2, 0.05]
    assert held_level(losses) == 0.2
    assert first_held(losses, 0.2) == 4
    assert first_held(losses, 0.1, running=1) == 1
    assert first_held(losses, 0.1) is None, "a single lowest evaluation is held by nobody"


@given(st.lists(st.floats(0.001, 10), min_size=2, max_size=40))
def test_plain_run_holds_its_own_level_and_none_below(losses: list[float]) -> None:
    level = held_level(losses)
    assert first_held(losses, level) is not None
    assert first_held(losses, math.nextafter(level, 0.0)) is None


def test_one_evaluation_sets_no_level() -> None:
    with pytest.raises(ValueError, match="at least two epochs"):
        held_level([0.5])


FIVE = [
    record
    for seed in range(5)
    for record in (
        made("plain", seed, [0.9, 0.5, 0.3 + seed / 100, 0.2, 0.6, 0.6], epoch_s=20.0 + seed),
        made("fast", seed, [0.9, 0.1, 0.1], epoch_s=5.0),
    )
]


def test_times_of_five_seeds_give_the_ratio_of_their_medians() -> None:
    found = compare(FIVE, "fast", OWN)
    assert [one.level for one in found.reference] == pytest.approx([0.3, 0.31, 0.32, 0.33, 0.34])
    assert [one.time.seconds for one in found.reference] == [84.0, 88.0, 92.0, 96.0, 100.0]
    assert {one.time.seconds for one in found.compared} == {19.0}
    assert [one.evaluations for one in found.compared] == [3] * 5
    assert found.ratio.ratio == pytest.approx(19 / 92)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((19 / 100, 19 / 84))


def test_clock_behind_the_imports_leaves_them_out() -> None:
    found = compare(FIVE, "fast", OWN, SINCE_IMPORTS)
    assert found.ratio.ratio == pytest.approx(15 / 88)


def test_lowest_reading_takes_plain_at_its_one_best_epoch_and_asks_the_other_for_two() -> None:
    plain = made("plain", 0, [0.9, 0.2, 0.5, 0.4])
    once = made("fast", 0, [0.2, 0.3, 0.1, 0.4])
    twice = made("fast", 0, [0.2, 0.2])
    assert compare([plain, once], "fast", LOWEST).reference[0].evaluations == 2
    failed = compare([plain, once], "fast", LOWEST).compared[0]
    assert (failed.time.reached, failed.evaluations, failed.time.seconds) == (False, 4, 44.0)
    assert compare([plain, twice], "fast", LOWEST).compared[0].time.reached


def test_common_level_is_the_median_one_and_plain_may_miss_it() -> None:
    plain = [made("plain", seed, [0.9, level, level]) for seed, level in enumerate([0.1, 0.2, 0.3])]
    fast = [made("fast", seed, [0.15, 0.15, 0.15]) for seed in range(3)]
    found = compare([*plain, *fast], "fast", COMMON)
    assert {one.level for one in found.reference} == {0.2}
    assert [one.time.reached for one in found.reference] == [True, True, False]
    assert found.ratio.num_censored_reference == 1


def test_arms_are_compared_over_the_seeds_that_both_have() -> None:
    records = [one for one in FIVE if one.arm == "plain" or one.seed == 3]
    found = compare(records, "fast", OWN)
    assert [one.seed for one in found.reference] == [3]
    with pytest.raises(ValueError, match="no seed was run by both plain and slow"):
        compare(records, "slow", OWN)


def kept(folder: Path, records: Sequence[RunRecord]) -> Path:
    for one in records:
        write_record(folder, one)
    return folder


def test_record_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    kept(tmp_path, FIVE)
    assert read_records(tmp_path) == sorted(FIVE, key=lambda one: (one.arm, one.size_px, one.seed))


def test_broken_record_is_named(tmp_path: Path) -> None:
    path = record_path(kept(tmp_path, FIVE[:1]), "plain", 128, 0)
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 3'))
    with pytest.raises(ValueError, match=r"plain-128px-0\.json: expected epochs 0, 1, 2"):
        read_records(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"plain-128px-0\.json is not the record of a run"):
        read_records(tmp_path)


def test_report_has_medians_ratio_interval_and_what_kind_it_is(tmp_path: Path) -> None:
    text = write_report(kept(tmp_path, FIVE))
    assert text == (tmp_path / "report.md").read_text()
    assert "| fast | own | 5 | 5 of 5, 5 of 5 | 92 s, 19 s | 0.207 [0.19, 0.226] |" in text
    assert "fast, 5 seeds: the whole interval lies at or below one third; the whole interval lies at or below" in text
    assert "range of the 5 paired ratios" in text
    assert "93.8%" in text
    assert "in: no run." in text
    rows = list(csv.DictReader((tmp_path / "times.csv").read_text().splitlines()))
    assert len(rows) == 5 * 3 * 2
    assert (rows[0]["plain_s"], rows[0]["arm_s"]) == ("84.0", "19.0")


def test_report_tells_a_run_that_never_got_there_and_a_disturbed_one(tmp_path: Path) -> None:
    late = [replace(made("fast", one.seed, [0.9] * 7), others_share=0.4) if one.arm == "fast" else one for one in FIVE]
    text = write_report(kept(tmp_path, [*FIVE[:4], *late[4:]]))
    assert "5 of 5, 2 of 5 | 92 s, not reached | not reached [0.216, not reached]" in text
    assert "not within 74 s, 7 epochs" in text
    assert "one third lies inside the interval" in text
    assert "fast 2 (40%), fast 3 (40%), fast 4 (40%)" in text


def test_report_says_at_most_where_plain_was_cut_short(tmp_path: Path) -> None:
    plain = [made("plain", seed, [0.9, level, level]) for seed, level in enumerate([0.1, 0.2, 0.3])]
    text = write_report(kept(tmp_path, [*plain, *(made("fast", seed, [0.1, 0.1]) for seed in range(3))]))
    assert "| fast | common | 3 | 2 of 3, 3 of 3 | not reached" not in text
    assert "| fast | common | 3 | 2 of 3, 3 of 3 | 34 s, 24 s | <= 0.706 [" in text


def test_report_gives_one_seed_no_interval_and_no_verdict(tmp_path: Path) -> None:
    text = write_report(kept(tmp_path, FIVE[:2]))
    assert "0.226 [no interval]" in text
    assert "a single ratio is no verdict" in text
    assert "one third" not in text


@pytest.mark.parametrize("change", [{"num_cores": 4}, {"versions": "tensorflow 3"}, {"split_digest": "another"}])
def test_runs_that_differ_in_more_than_the_arm_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    kept(tmp_path, [FIVE[0], replace(FIVE[1], **change)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"plain, seed 0 differ in {next(iter(change))}"):
        write_report(tmp_path)


def test_report_of_nothing_says_how_to_make_something(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no record of a run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("folder", "arms"), [("time_to_quality", {"fast", "fast_adamw"}), ("time_to_quality_bfloat16", {"fast_precise"})]
)
def test_committed_tables_are_what_the_committed_records_say_and_the_page_repeats_them(
    tmp_path: Path, folder: str, arms: set[str]
) -> None:
    committed = ROOT / "results" / folder
    text = write_report(Path(shutil.copytree(committed, tmp_path / "records")))
    assert text == (committed / "report.md").read_text()
    assert (tmp_path / "records" / "times.csv").read_text() == (committed / "times.csv").read_text()
    page = (ROOT / "docs" / "time_to_quality.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| \w+ \| \w+ \| \d \| \d of", line)]
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert {arm for arm, *_ in cells} == arms
    for arm, reading, _, reached, medians, ratio, _ in cells:
        assert f"| {arm} | {reading} | {reached} | {medians} | {ratio} |" in page


@functools.cache
def composed(arm: str) -> ExperimentConfig:
    return compose_arm((*read_arms()[arm], *KAGGLE))


@pytest.mark.parametrize("arm", read_arms())
def test_every_arm_composes_and_its_val_loss_is_a_log_loss(arm: str) -> None:
    config = composed(arm)
    assert (config.seed, config.data.source, config.data.image_size_px) == (3, "kaggle", 128)
    assert config.training.label_smoothing == 0
    assert config.split.kind == "official"


@pytest.mark.parametrize(
    ("arm", "whole", "keys"),
    [
        ("bfloat16", "float32", {"training.precision"}),
        ("fast_with_bfloat16", "fast", {"training.precision"}),
        (
            "fast_adamw",
            "fast",
            {"optimizer.kind", "optimizer.learning_rate", "optimizer.weight_decay", "training.epochs"},
        ),
        ("fast_precise", "fast_adamw", {"batch_norm.kind", "training.precision", "training.epochs"}),
        ("fast_without_small_images", "fast", {"resolution.kind"}),
        ("fast_without_cosine", "fast", {"schedule.kind", "schedule.warmup_epochs", "schedule.final_fraction"}),
        ("fast_without_averaging", "fast", {"averaging.kind"}),
        ("fast_without_short_training", "fast", {"training.epochs", "training.patience"}),
    ],
)
def test_ablated_arm_differs_in_what_its_name_says(arm: str, whole: str, keys: set[str]) -> None:
    changed, before = leaf_values(composed(arm)), leaf_values(composed(whole))
    assert {name for name, value in changed.items() if value != before[name] and name != "choices"} == keys


@pytest.mark.parametrize(
    ("word", "told"),
    [("averagin=none", "did you mean averaging"), ("averaging=emma", "ema"), ("seed=", "seed"), ("seed=[", "seed")],
)
def test_mistyped_override_of_an_arm_is_one_line(word: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        compose_arm(["experiment=seed_study", word])
    assert "\n" not in str(caught.value)


def test_smoothed_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="no log loss"):
        compose_arm(["experiment=seed_study", "training.label_smoothing=0.1"])


@pytest.mark.parametrize(
    ("word", "told"), [("seed=1", "expected one of arms, seeds"), ("seeds=one", "seeds=one: invalid literal")]
)
def test_mistyped_word_is_one_line(word: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_words([word])


def test_unknown_arm_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no arm is called quick: plain, float32, fast"):
        make_runs(read_words(["arms=plain,quick", f"out={tmp_path}", f"work={tmp_path}"]))
    assert not list(tmp_path.iterdir())


def test_limit_shortens_training_and_never_lengthens_it() -> None:
    words = ["data=phantom", "data.num_patients=40", "size_px=32"]
    assert "training.epochs=2" in overrides_of(read_words([*words, "limit=2"]), "float32", 0)
    assert not any("training.epochs" in word for word in overrides_of(read_words([*words, "limit=90"]), "float32", 0))


def test_simulated_studies_are_enclosed_about_as_often_as_the_page_says() -> None:
    shares = enclosed(SHAPES["log-normal"], 5, 0.0, 300)
    assert shares.tolist() == pytest.approx([0.9375, 0.95], abs=0.05)


def watched(script: str, scratch: Path) -> Watched:
    return watch(["-c", script], scratch, scratch, lambda: scratch / "stdout.txt")


def test_watcher_stamps_each_line_when_it_is_whole(tmp_path: Path) -> None:
    script = "import time\nfor n in 'ab':\n print(n, end='', flush=True); time.sleep(.3); print(n, flush=True)"
    seen = watched(script, tmp_path)
    assert [line.text for line in seen.lines] == ["aa", "bb"]
    first, second = (line.since_start_s for line in seen.lines)
    assert first > 0.3
    assert second - first == pytest.approx(0.3, abs=0.15)
    assert seen.wall_s >= second
    assert seen.failure == ""


def test_watcher_keeps_what_a_process_wrote_before_it_failed(tmp_path: Path) -> None:
    seen = watched("print('one', flush=True); raise SystemExit('the loss became nan')", tmp_path)
    assert [line.text for line in seen.lines] == ["one"]
    assert seen.failure == "failed: the loss became nan"


@pytest.mark.long
def test_whole_benchmark_on_phantoms(tmp_path: Path) -> None:
    """Both arms train on one division, the record has what they wrote, and a second start makes nothing."""
    words = ["arms=plain,float32", "seeds=0", "size_px=32", "limit=2", "data=phantom", "data.num_patients=40"]
    asked = read_words([*words, f"out={tmp_path / 'out'}", f"work={tmp_path / 'work'}"])
    make_runs(asked)
    ours, plain = read_records(asked.out)
    assert (ours.arm, plain.arm) == ("float32", "plain")
    assert len(ours.evaluations) == len(plain.evaluations) == 2
    for one in (ours, plain):
        assert one.ended == "epoch limit"
        times = [e.since_start_s for e in one.evaluations]
        assert times == sorted(times)
        assert all(0 < e.since_imports_s < e.since_start_s < one.wall_s for e in one.evaluations)
    (linked,) = (path for path in (asked.work / "runs" / ".links").iterdir() if path.is_dir())
    assert sorted(path.name for path in linked.iterdir()) == ["train", "val"]
    counts = [sum(len(files) for _, _, files in os.walk(linked / side)) for side in ("train", "val")]
    assert counts == [plain.num_train, plain.num_val] == [ours.num_train, ours.num_val]
    assert "SYNTHETIC" in write_report(asked.out)
    before = {path: path.stat().st_mtime_ns for path in asked.out.glob("*px-*.json")}
    make_runs(asked)
    assert {path: path.stat().st_mtime_ns for path in asked.out.glob("*px-*.json")} == before
