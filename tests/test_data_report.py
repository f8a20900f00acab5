"""Whatever is planted in a data set is found under its code and level; a clean one gives no alarm."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_experiments.config.commands import VerifyConfig
from cxr_experiments.config.schema import DataConfig, ExperimentConfig, SplitConfig, TrackingConfig
from cxr_experiments.errors import LeakageError
from cxr_experiments.images.fingerprints import Fingerprints, take_fingerprints
from cxr_experiments.images.manifest import ImageRow, Manifest, load_pixels, read_manifest
from cxr_experiments.images.phantom import PhantomRow, render
from cxr_experiments.images.published import known
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import open_store
from cxr_experiments.record import console, data_report, tracking
from cxr_experiments.record.data_report import DataReport, Finding
from cxr_experiments.record.data_report.counts import check_counts
from cxr_experiments.record.data_report.finding import Looked
from cxr_experiments.record.data_report.kept import from_json
from cxr_experiments.record.run_plan import plan_run
from cxr_experiments.record.tracking import RunCard
from cxr_experiments.record.tracking.place import client_of


@dataclass(frozen=True)
class Made:
    """A report, its findings by code, and the page."""

    report: DataReport
    found: dict[str, Finding]
    page: str


def report_on(data: DataConfig, home: Path) -> Made:
    """Look at a data set and keep the report under `home`."""
    config = VerifyConfig(data=data)
    manifest = read_manifest(data)
    folder = data_report.data_folder(home, manifest.digest)
    looked = data_report.look(manifest, take_fingerprints(manifest, data, folder=folder), config.shortcuts)
    report = data_report.build_report(looked, config, started_s=0.0)
    page = data_report.write_page(report, looked, partial(load_pixels, manifest=manifest, data=data))
    data_report.keep_report(home, report, page)
    return Made(report, {one.code: one for one in report.findings}, page)


def film(number: int) -> Image.Image:
    """One phantom, each number another patient."""
    row = PhantomRow(index=number, patient=f"p{number}", label=number % 2, split="train")
    return Image.fromarray(render(row, seed=11, difficulty=0.3).image)


OFFICIAL = {
    "train/NORMAL/IM-0001-0001.jpeg": 0,
    "train/NORMAL/IM-0002-0001.jpeg": 2,
    "train/NORMAL/NORMAL2-IM-0003-0001.jpeg": 4,
    "train/PNEUMONIA/person1_bacteria_1.jpeg": 1,
    "train/PNEUMONIA/person2_bacteria_2.jpeg": 3,
    "train/PNEUMONIA/person3_virus_3.jpeg": 5,
    "test/NORMAL/IM-0011-0001.jpeg": 6,
    "test/NORMAL/NORMAL2-IM-0012-0001.jpeg": 8,
    "test/PNEUMONIA/person11_bacteria_11.jpeg": 7,
    "test/PNEUMONIA/person2_virus_12.jpeg": 9,
}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tree in the official layout; person 2 is a bare number in train and test, and no patient."""
    root = tmp_path_factory.mktemp("official")
    for name, number in OFFICIAL.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        film(number).save(root / name, quality=92)
    return root


@pytest.fixture
def tree(official: Path, tmp_path: Path) -> Path:
    """A copy of the small official tree, to plant something in."""
    return Path(shutil.copytree(official, tmp_path / "chest_xray"))


def planted(tree: Path) -> Made:
    return report_on(DataConfig(source="kaggle", root=str(tree)), tree.parent / "home")


def test_clean_tree_has_wrong_counts_alone_and_its_bare_number_is_no_patient(tree: Path) -> None:
    made = planted(tree)
    errors = [one.code for one in made.report.findings if one.level == "error"]
    assert errors == ["counts-wrong"], "ten files are not Kermany's set"
    assert "train NORMAL holds 3, known are 1,341" in made.found["counts-wrong"].sentence
    collisions = made.found["number-collisions"]
    assert collisions.level == "info"
    assert collisions.sentence.startswith("1 bare number (1 person) in training or validation and in test")
    assert collisions.files == (("test/PNEUMONIA/person2_virus_12.jpeg", "train/PNEUMONIA/person2_bacteria_2.jpeg"),)
    assert "is no patient" in collisions.advice.replace("an equal number", "")
    table = next(one for one in made.report.tables if one.title == "Patients on both sides")
    assert table.rows[0] == ("strict", "family and number", "6", "4", "0")
    assert ("loose", "bare number: person", "3", "2", "1") in table.rows


@pytest.mark.parametrize(("rule", "level"), [("strict", "error"), ("none", "warning")])
def test_patient_on_both_sides(tree: Path, rule: str, level: str) -> None:
    film(20).save(tree / "test/PNEUMONIA/person1_bacteria_99.jpeg")
    made = report_on(DataConfig(source="kaggle", root=str(tree), patient_rule=rule), tree.parent / "home")
    leak = made.found["patient-across-splits"]
    assert leak.level == level
    assert leak.files == (("test/PNEUMONIA/person1_bacteria_99.jpeg", "train/PNEUMONIA/person1_bacteria_1.jpeg"),)


def test_under_the_loose_rule_a_bare_number_is_an_error(tree: Path) -> None:
    data = DataConfig(source="kaggle", root=str(tree), patient_rule="loose")
    assert report_on(data, tree.parent / "home").found["number-collisions"].level == "error"


def test_byte_copy_across_splits_is_an_error_and_a_recoded_one_a_warning(tree: Path) -> None:
    first = tree / "train/PNEUMONIA/person1_bacteria_1.jpeg"
    shutil.copyfile(first, tree / "test/PNEUMONIA/person50_bacteria_1.jpeg")
    with Image.open(tree / "train/NORMAL/IM-0001-0001.jpeg") as image:
        image.resize((180, 170)).save(tree / "test/NORMAL/IM-0060-0001.jpeg", quality=60)
    made = planted(tree)
    copy, near = made.found["duplicate-across-splits"], made.found["near-duplicate-across-splits"]
    assert copy.level == "error"
    assert copy.files == (("test/PNEUMONIA/person50_bacteria_1.jpeg", "train/PNEUMONIA/person1_bacteria_1.jpeg"),)
    assert near.level == "warning"
    assert near.files == (("test/NORMAL/IM-0060-0001.jpeg", "train/NORMAL/IM-0001-0001.jpeg"),)
    assert made.found["two-patients-one-image"].files == copy.files
    assert "keeps equal files together" in made.found["two-patients-one-image"].advice
    assert "label-conflict" not in made.found


def test_training_refuses_a_film_that_verify_found_on_both_sides_in_other_bytes(tree: Path) -> None:
    home, content = tree.parent / "home", (tree / "train/PNEUMONIA/person1_bacteria_1.jpeg").read_bytes()
    (tree / "test/PNEUMONIA/person50_bacteria_1.jpeg").write_bytes(content + b"\n")
    data = DataConfig(source="kaggle", root=str(tree), image_size_px=32)
    store = open_store(read_manifest(data), data, folder=home / "runs" / ".stores")
    split = make_split(store.manifest, data, seed=0)
    official = ExperimentConfig(experiment_name="leak", data=data)
    assert plan_run(official, store, split, home / "runs"), "nobody has looked yet"
    assert planted(tree).found["duplicate-across-splits"].level == "error"
    with pytest.raises(LeakageError, match=r"verify found in these images: .*person50_bacteria_1.jpeg"):
        plan_run(official, store, split, home / "runs")
    control = replace(official, split=SplitConfig(kind="image_level"))
    assert plan_run(control, store, split, home / "runs"), "a control may leak"


def test_equal_pixels_under_both_labels_are_an_error_though_the_bytes_differ(tree: Path) -> None:
    source = tree / "train/NORMAL/IM-0002-0001.jpeg"
    content = source.read_bytes()
    (tree / "train/PNEUMONIA/person70_virus_1.jpeg").write_bytes(content + b"\n")
    made = planted(tree)
    conflict = made.found["label-conflict"]
    assert conflict.level == "error"
    assert conflict.files == (("train/NORMAL/IM-0002-0001.jpeg", "train/PNEUMONIA/person70_virus_1.jpeg"),)
    assert "NORMAL and PNEUMONIA" in conflict.sentence
    assert "which a split does not keep together" in made.found["two-patients-one-image"].advice


def test_near_copies_of_two_patients_or_of_two_labels_are_warnings(tree: Path) -> None:
    with Image.open(tree / "train/NORMAL/IM-0002-0001.jpeg") as image:
        image.point(lambda gray: min(255, gray + 40)).save(tree / "train/NORMAL/IM-0080-0001.jpeg")
        image.save(tree / "train/PNEUMONIA/person81_virus_1.jpeg", quality=50)
    made = planted(tree)
    three = (
        "train/NORMAL/IM-0002-0001.jpeg",
        "train/NORMAL/IM-0080-0001.jpeg",
        "train/PNEUMONIA/person81_virus_1.jpeg",
    )
    for code in ("near-duplicate-across-patients", "near-duplicate-label-conflict"):
        assert (made.found[code].level, made.found[code].files) == ("warning", (three,))


def test_unreadable_files_are_an_error_and_the_report_is_found_without_them(tree: Path) -> None:
    whole = (tree / "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    (tree / "train/NORMAL/IM-0090-0001.jpeg").write_bytes(whole[: len(whole) // 2])
    (tree / "train/PNEUMONIA/person91_virus_1.jpeg").touch()
    made = planted(tree)
    bad = made.found["unreadable"]
    assert bad.level == "error"
    assert bad.files == (("train/NORMAL/IM-0090-0001.jpeg",), ("train/PNEUMONIA/person91_virus_1.jpeg",))
    assert "empty file (0 bytes) (1)" in bad.sentence
    assert [line.partition(": ")[2] for line in bad.listed(5)] == [
        "truncated JPEG: it has no end marker",
        "empty file (0 bytes)",
    ]
    home = tree.parent / "home"
    assert made.report.usable_digest != made.report.digest
    for digest in (made.report.digest, made.report.usable_digest):
        assert data_report.find_report(home, digest) == from_json(data_report.to_json(made.report))
    assert data_report.data_tags(home, made.report.usable_digest) == {"cxr.data_report": made.report.told}
    assert data_report.find_report(home, "0" * 64) is None
    assert data_report.data_tags(home, "0" * 64) == {"cxr.data_report": "not verified"}


def test_without_its_unreadable_file_a_set_has_a_report_of_its_own(tree: Path) -> None:
    (tree / "train/PNEUMONIA/person91_virus_1.jpeg").touch()
    before, home = planted(tree), tree.parent / "home"
    (tree / "train/PNEUMONIA/person91_virus_1.jpeg").unlink()
    after = planted(tree)
    assert after.report.digest == before.report.usable_digest
    assert "unreadable" in before.found
    assert "unreadable" not in after.found
    for report in (before.report, after.report):
        assert data_report.find_report(home, report.digest) == from_json(data_report.to_json(report))
    assert data_report.data_tags(home, after.report.digest) == {"cxr.data_report": after.report.told}


def test_folder_without_patients_says_so_and_names_copies_that_nothing_keeps_together(tmp_path: Path) -> None:
    root = tmp_path / "films"
    for number in range(8):
        path = root / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number} <b>.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        film(number).save(path)
    film(0).save(root / "NORMAL" / "again.png", compress_level=0)
    film(1).save(root / "PNEUMONIA" / "again.jpeg", quality=70)
    for name, gray in (("dark", 4), ("bright", 250)):
        Image.fromarray(np.full((60, 1100), gray, np.uint8)).save(root / "NORMAL" / f"{name}.png")
    made = report_on(DataConfig(source="folder", root=str(root)), tmp_path / "home")
    assert made.report.count("error") == 0
    assert made.found["patients-not-verifiable"].level == "warning"
    assert made.found["duplicate-not-grouped"].files == (("NORMAL/0 <b>.png", "NORMAL/again.png"),)
    assert made.found["near-duplicate-across-patients"].files == (("PNEUMONIA/1 <b>.png", "PNEUMONIA/again.jpeg"),)
    assert made.found["dark"].files == (("NORMAL/dark.png",),)
    assert made.found["bright"].files == (("NORMAL/bright.png",),)
    assert made.found["blank"].files == made.found["odd-shape"].files == (("NORMAL/bright.png",), ("NORMAL/dark.png",))
    assert "0 &lt;b&gt;.png" in made.page
    assert "<b>" not in made.page
    assert "Extreme sizes" in made.page
    for outside in ("http:", "https:", "<script", "<link", "url("):
        assert outside not in made.page, "the page needs no network"


def test_odd_names_and_stray_files_stop_nothing_and_are_shown_escaped(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "films" / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        film(number).save(path)
    (tmp_path / "films" / "NORMAL" / "README").write_text("no film")
    (tmp_path / "films" / "NORMAL" / "7\x1b[31mred.png").write_text("no film either")
    data = DataConfig(source="folder", root=str(tmp_path / "films"), patient_regex="/([0-9]+)")
    made = report_on(data, tmp_path / "home")
    assert made.found["unreadable"].files == (("NORMAL/7\x1b[31mred.png",), ("NORMAL/README",))
    told = "\n".join(data_report.terminal_lines(made.report))
    assert "\x1b" not in told
    assert r"NORMAL/7\x1b[31mred.png: " in told


def test_a_class_that_is_exposed_otherwise_is_a_warning(tmp_path: Path) -> None:
    """Nothing of the files tells the label (raw pixels, no compression), and every film shows the same anatomy."""
    for number in range(80):
        path = tmp_path / "films" / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        brighter = film(number).point(lambda gray, more=60 * (number % 2): min(255, gray + more))
        brighter.save(path, compress_level=0)
    data = DataConfig(source="folder", root=str(tmp_path / "films"), patient_regex="([0-9]+)[.]png")
    made = report_on(data, tmp_path / "home")
    assert "brightness AUROC" in made.found["exposure-tells-label"].sentence
    assert "higher in PNEUMONIA" in made.found["exposure-tells-label"].sentence
    assert made.found["exposure-tells-label"].level == "warning"
    assert "shortcut-available" not in made.found
    table = next(one for one in made.report.tables if one.title == "Exposure by class")
    assert [row[0] for row in table.rows] == ["brightness", "contrast", "sharpness"]


def test_clean_phantoms_give_no_alarm_and_are_marked(tmp_path: Path) -> None:
    made = report_on(DataConfig(num_patients=60), tmp_path)
    assert made.report.told == "0 errors, 0 warnings"
    assert made.report.synthetic
    assert "SYNTHETIC" in made.page
    assert made.page.count("<img") == 12, "six examples of each class"


def test_report_comes_back_from_json_as_it_was_and_missing_numbers_are_null(tree: Path) -> None:
    report = planted(tree).report
    text = data_report.to_json(report)
    again = from_json(text)
    assert (again.findings, again.tables) == (report.findings, report.tables)
    assert data_report.to_json(again) == text
    assert "NaN" not in text
    told = json.loads(text)
    assert told["levels"] == {level: report.count(level) for level in ("error", "warning", "info")}
    with pytest.raises(ValueError, match="format 0, expected 1"):
        from_json(text.replace('"format": 1', '"format": 0'))


def test_terminal_names_five_groups_and_counts_the_rest(tree: Path) -> None:
    for number in range(7):
        (tree / f"train/NORMAL/IM-01{number:02d}-0001.jpeg").touch()
    lines = data_report.terminal_lines(planted(tree).report)
    start = next(place for place, line in enumerate(lines) if line.startswith("ERROR unreadable"))
    assert lines[start + 2] == "    train/NORMAL/IM-0100-0001.jpeg: empty file (0 bytes)"
    assert lines[start + 7] == "    and 2 more"


def counted(counts: dict[tuple[str, int], int]) -> list[Finding]:
    """The findings on a set of Kermany's that holds so many images, each of a patient of its own."""
    rows = [
        ImageRow(f"{split}/{label}/{number}", "", label, f"{split}{label}-{number}", "", split, 9, 9, "L", 9, "")
        for (split, label), count in counts.items()
        for number in range(count)
    ]
    manifest = Manifest("kaggle", tuple(rows), ("NORMAL", "PNEUMONIA"), True, False, "")
    nothing = np.zeros(0)
    prints = Fingerprints(nothing, nothing, nothing, nothing, nothing, nothing, nothing, {})
    return check_counts(Looked(manifest, prints, (), (), ()))


def test_counts_are_held_against_what_is_published() -> None:
    expected = known("kaggle")
    assert expected is not None
    whole = dict(expected.counts)
    assert [one.code for one in counted(whole)] == ["patient-keys-wrong", "class-share-differs"]
    short = {**whole, ("test", 1): 389}
    (wrong,) = [one for one in counted(short) if one.level == "error"]
    assert wrong.sentence == "image counts differ: test PNEUMONIA holds 389, known are 390"
    pooled = {("train", 0): 1349, ("train", 1): 3883, ("test", 0): 234, ("test", 1): 390}
    assert next((one.code, one.level) for one in counted(pooled)) == ("val-in-train", "info")


def test_mlflow_gets_one_run_of_a_report_and_tags_on_the_runs_before_it(tmp_path: Path) -> None:
    made = report_on(DataConfig(num_patients=12), tmp_path)
    where, folder = TrackingConfig(), data_report.data_folder(tmp_path, made.report.digest)
    place = tracking.open_place(where, tmp_path, "phantom-seed_study")
    assert place is not None
    tags = {"cxr.dataset_digest": made.report.digest, "cxr.data_report": "not verified"}
    trained = tracking.start_run(place, RunCard(name="before", params={}, tags=tags))
    other = tracking.start_run(place, RunCard(name="other", params={}, tags={"cxr.dataset_digest": "0" * 64}))
    link = data_report.tell_mlflow(where, tmp_path, made.report, folder)
    client = client_of(place.uri)
    seen = client.get_run(trained).data.tags
    assert (seen["cxr.data_report"], seen["cxr.data_report_link"]) == (made.report.told, link)
    assert "cxr.data_report" not in client.get_run(other).data.tags
    assert data_report.data_tags(tmp_path, made.report.digest)["cxr.data_report_link"] == link
    assert data_report.tell_mlflow(where, tmp_path, made.report, folder) == link, "told once"
    data_report.keep_report(tmp_path, replace(made.report, made_at="later"), made.page)
    again = data_report.tell_mlflow(where, tmp_path, made.report, folder)
    experiment = client.get_experiment_by_name("data")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id in again != link, "a new report takes the place of the one before"
    assert run.data.tags["cxr.synthetic"] == "true"
    assert run.data.metrics["num_images"] == made.report.num_images
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"report.json", "report.html"}
    assert client.get_run(trained).data.tags["cxr.data_report_link"] == again


def test_training_says_how_to_look_and_then_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    data = DataConfig(num_patients=12, phantom_seed=3)
    manifest = read_manifest(data)
    console.say_data_state(manifest.digest, data)
    words = "data=phantom data.num_patients=12 data.phantom_seed=3"
    assert capsys.readouterr().out == f"data not verified yet: python -m cxr_experiments.verify {words}\n"
    report = report_on(data, tmp_path).report
    console.say_data_state(manifest.digest, data)
    page = data_report.data_folder(tmp_path, manifest.digest) / "report.html"
    assert capsys.readouterr().out == f"SYNTHETIC data verified, {report.told}: {page}\n"
    assert page.is_file()


def test_damaged_or_foreign_report_is_none(tmp_path: Path) -> None:
    report = report_on(DataConfig(num_patients=12), tmp_path).report
    kept = data_report.data_folder(tmp_path, report.digest) / "report.json"
    whole = kept.read_text()
    for damaged in (whole[:-40], "[]", whole.replace('"findings"', '"found"'), whole.replace(report.digest, "0" * 64)):
        kept.write_text(damaged)
        assert data_report.find_report(tmp_path, report.digest) is None
