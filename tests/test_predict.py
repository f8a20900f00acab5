"""`predict` answers every image it can read, names those it cannot, and says which run answered."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command, Sweep
from numpy.typing import NDArray
from PIL import Image

from cxr_experiments.config.compose import load_config
from cxr_experiments.errors import ConfigError
from cxr_experiments.evidence.evaluation import read_predictions, read_scores
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.images.decode import encode_png
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.predict.films import named_films
from cxr_experiments.predict.heatmaps import heatmap_name
from cxr_experiments.predict.telling import new_file, shown, tell_csv
from cxr_experiments.record.answers import BATCH_SIZE, answers
from cxr_experiments.record.network import Network
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_state


@pytest.fixture(scope="module")
def folder(sweep: Sweep) -> RunFolder:
    """One finished run."""
    return next(folder for folder in all_runs(sweep.home / "runs") if read_state(folder).status == FINISHED)


@pytest.fixture(scope="module")
def films(folder: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Image id -> PNG of three validation images."""
    data = load_config(folder.file("config.yaml")).data
    manifest = read_manifest(data)
    place = tmp_path_factory.mktemp("films with space")
    wanted = read_predictions(folder.predictions("val")).image_id[:3].tolist()
    paths = {}
    for row in manifest.rows:
        if row.image_id in wanted:
            paths[row.image_id] = place / f"{row.image_id.replace('/', '_')} it's.png"
            encode_png(paths[row.image_id], load_pixels(row, manifest, data))
    return paths


def test_answers_equal_the_runs_own_predictions(
    sweep: Sweep, folder: RunFolder, films: dict[str, Path], command: Command
) -> None:
    said = command("predict", f"run={folder.run_id}", "json=true", *map(str, films.values()), home=sweep.home)
    assert said.status == 0, said.err
    answers = [json.loads(line) for line in said.out.splitlines()]
    kept = read_predictions(folder.predictions("val"))
    expected = dict(zip(kept.image_id.tolist(), kept.probability.tolist(), strict=True))
    threshold = json.loads(folder.file("threshold.json").read_text())["value"]
    for (image_id, path), answer in zip(films.items(), answers, strict=True):
        assert set(answer) == {"image", "probability", "label", "threshold", "run"}
        assert (answer["image"], answer["run"], answer["threshold"]) == (str(path), folder.run_id, threshold)
        np.testing.assert_allclose(answer["probability"], expected[image_id], atol=1e-6)
        assert answer["label"] == ("PNEUMONIA" if answer["probability"] >= threshold else "NORMAL")
    assert said.err.startswith("SYNTHETIC")


def test_broken_file_among_many_gets_its_own_error(
    sweep: Sweep, folder: RunFolder, films: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    good = [str(path) for path in films.values()]
    words = (good[0], str(tmp_path / "broken.jpg"), str(tmp_path / "absent.png"), good[1])
    said = command("predict", f"run={folder.run_id}", "json=true", *words, home=sweep.home)
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert said.status == 2
    assert [answer["image"] for answer in answers] == list(words), "in the order given"
    assert [set(answer) == {"image", "error"} for answer in answers] == [False, True, True, False]
    assert "2 of 4 images could not be read" in said.err


def test_best_run_says_among_how_many_it_chose(sweep: Sweep, films: dict[str, Path], command: Command) -> None:
    losses = {}
    for folder in all_runs(sweep.home / "runs"):
        if read_state(folder).status == FINISHED:
            losses[folder.run_id] = {one.name: one.value for one in read_scores(folder.file("scores.csv"))}[
                "val_log_loss"
            ]
    film = str(next(iter(films.values())))
    said = command("predict", "run=best", "experiment_name=phantom-two_by_two", film, home=sweep.home)
    assert said.status == 0, said.err
    best = min(losses, key=lambda run_id: losses[run_id])
    assert f"run {best}: lowest validation log loss" in said.err
    assert f"among {len(losses)} runs" in said.err
    assert film in said.out


def test_image_whose_name_holds_an_equals_sign(
    sweep: Sweep, folder: RunFolder, films: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    odd = tmp_path / "view=pa.png"
    odd.write_bytes(next(iter(films.values())).read_bytes())
    said = command("predict", f"run={folder.run_id}", f"images=['{odd}']", "json=true", home=sweep.home)
    assert said.status == 0, said.err
    assert json.loads(said.out)["image"] == str(odd)


def test_heat_maps_of_two_films_of_one_name_both_survive(
    sweep: Sweep, folder: RunFolder, films: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    place, named = tmp_path / "maps" / "new", []
    for path, side in zip(films.values(), ("left [1]", "right"), strict=False):
        (tmp_path / side).mkdir()
        named.append(tmp_path / side / "film.png")
        named[-1].write_bytes(path.read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    words = (str(named[0]), str(tmp_path / "broken.jpg"), str(named[1]))
    said = command("predict", f"run={folder.run_id}", f"heatmap={place}", "json=true", *words, home=sweep.home)
    assert said.status == 2, said.err
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert ["heatmap" in answer for answer in answers] == [True, False, True]
    drawn = [Path(answer["heatmap"]) for answer in answers if "heatmap" in answer]
    assert sorted(drawn) == sorted(place.iterdir())
    assert len(set(drawn)) == 2
    assert all(path.name.startswith(f"film-{folder.run_id}-") for path in drawn)
    for path in drawn:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"
    assert "SYNTHETIC heat maps: not validated on this model" in said.err


def test_folder_for_heat_maps_that_cannot_be_written_is_told_before_anything_is_asked(
    sweep: Sweep, folder: RunFolder, films: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    film, taken = next(iter(films.values())), tmp_path / "no_folder"
    taken.write_text("a file")
    said = command("predict", f"run={folder.run_id}", f"heatmap={taken}", str(film), home=sweep.home)
    assert (said.status, said.out) == (2, "")
    assert f"cannot write to the folder {taken}: File exists; name another" in said.err.splitlines()[-1]
    assert taken.read_text() == "a file"


def test_name_of_a_heat_map_is_safe_and_its_own() -> None:
    names = [heatmap_name(image, "0123456789ab") for image in ("a/film.png", "b/film.png", "a/film.jpg")]
    assert len(set(names)) == 3
    assert heatmap_name("a/film.png", "0123456789ab") == names[0]
    assert heatmap_name("a/film.png", "ba9876543210") != names[0]
    for odd in ("../..", "a/.hidden.png", "a/b;rm *|$(x).png", "a/" + "x" * 250 + ".png", "a/Röntgen bild.png"):
        name = heatmap_name(odd, "0123456789ab")
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.png", name), name
        assert len(name) < 120


def test_runs_leave_heat_maps_that_say_what_they_are_worth(sweep: Sweep) -> None:
    folders = [one for one in all_runs(sweep.home / "runs") if read_state(one).status == FINISHED]
    for one in folders:
        told = json.loads(one.file("explanations.json").read_text())
        assert (told["words"], told["reason"]) == ("not validated on this model", "")
        with Image.open(one.file("figures/val_heatmaps.png")) as picture:
            picture.load()
    assert sweep.said.out.count("heat maps in figures/val_heatmaps.png: not validated on this model") == len(folders)


def brightness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A network whose logit is the mean gray value less 100."""
    return np.asarray(images.mean(axis=(1, 2, 3)) - 100.0, dtype=np.float64)


def gray_films(place: Path, count: int) -> list[str]:
    """Films of one gray value each, their number."""
    for number in range(count):
        encode_png(place / f"{number:04d}.png", np.full((20, 20), number, np.uint8))
    return sorted(str(path) for path in place.iterdir())


@pytest.mark.parametrize("count", [1, BATCH_SIZE, 5 * BATCH_SIZE + 3])
def test_each_film_of_many_gets_its_own_answer_in_order(count: int, tmp_path: Path) -> None:
    films = gray_films(tmp_path, count)
    broken = set(films[3::7])
    for film in broken:
        Path(film).write_bytes(b"\x89PNG\r\n\x1a\n cut")
    films.insert(count // 2, films[0])  # named twice, answered twice
    network = Network(brightness, 16, "squash", ("LOW", "HIGH"), 0.5, "a" * 12, synthetic=False)
    found = list(answers(network, films))
    assert [one["image"] for one in found] == films
    for one in found:
        assert ("error" in one) == (one["image"] in broken)
        if "error" not in one:
            logit = np.array([int(Path(one["image"]).stem) - 100.0])
            assert one["probability"] == pytest.approx(float(sigmoid(logit)[0]))
            assert one["label"] == ("HIGH" if logit[0] >= 0 else "LOW")


def test_films_are_prepared_while_the_network_works(tmp_path: Path) -> None:
    """The second batch is there when the first one has been asked about: nobody waits for its decoding."""
    films, seen = gray_films(tmp_path, 2 * BATCH_SIZE), []

    def slow(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        if not seen:
            time.sleep(1.0)
            for film in films:
                os.unlink(film)
        seen.append(len(images))
        return brightness(images)

    network = Network(slow, 16, "squash", ("LOW", "HIGH"), 0.5, "a" * 12, synthetic=False)
    found = list(answers(network, films))
    assert seen == [BATCH_SIZE, BATCH_SIZE]
    assert not [one for one in found if "error" in one]


def test_folders_are_walked_and_patterns_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "b/2.png",
        "b/1.JPG",
        "b/deep/IM000001",
        "b/.DS_Store",
        "b/notes.txt",
        "a.png",
        "[x].png",
        "empty/x.md",
    ):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    (tmp_path / "b" / "around").symlink_to(tmp_path / "b")
    walked = ["b/1.JPG", "b/2.png", "b/deep/IM000001"]
    assert named_films(["b"]) == walked
    assert named_films(["a.png", "b", "a.png"]) == ["a.png", *walked, "a.png"]
    assert named_films(["b/*.png"]) == ["b/2.png"]
    assert named_films(["b/d*"]) == ["b/deep/IM000001"], "a folder that a pattern fits is walked"
    assert named_films(["[x].png", "none*.png"]) == ["[x].png", "none*.png"], "a file of that name; a pattern of none"
    with pytest.raises(ConfigError, match="the folder empty holds no JPEG, PNG or DICOM file"):
        named_films(["a.png", "empty"])


def test_answers_stand_in_a_new_csv_file_when_all_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = new_file(str(tmp_path / "answers.csv"))
    odd = os.fsdecode(b'films/\xff "a",\n b\r.png')
    good = {"image": odd, "probability": 0.1 + 0.2, "label": "LOW", "threshold": 0.5, "run": "a" * 12}

    def asked() -> Iterator[dict[str, Any]]:
        yield good
        assert not path.exists(), "nobody takes half of the answers for all of them"
        yield {"image": "films/x\x1b[31m.png", "error": "empty file (0 bytes)"}

    assert tell_csv(asked(), path, 2, mark="SYNTHETIC ") == 1
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {**{name: str(value) for name, value in good.items()}, "error": ""}
    assert second["error"] == "empty file (0 bytes)"
    said = capsys.readouterr()
    assert said.err == "-  could not be read  films/x\\x1b[31m.png: empty file (0 bytes)\n"
    assert re.match(r"SYNTHETIC 2 films in .* a second\): 1 LOW, 1 could not be read; ", said.out)
    assert shown(odd).isprintable()
    assert list(tmp_path.iterdir()) == [path]
    for named, told in ((str(path), "is there already"), (str(tmp_path / "no" / "a.csv"), "there is no folder")):
        with pytest.raises(ConfigError, match=told):
            new_file(named)


def test_folder_with_broken_files_is_answered_to_its_end(
    sweep: Sweep, folder: RunFolder, films: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    place = tmp_path / "films"
    place.mkdir()
    for number, path in enumerate(films.values()):
        (place / f"{2 * number}.png").write_bytes(path.read_bytes())
        (place / f"{2 * number + 1}.png").write_bytes(path.read_bytes()[:-40])
    words = (f"run={folder.run_id}", f"csv={tmp_path}/answers.csv", str(place))
    said = command("predict", *words, home=sweep.home)
    assert said.status == 2
    with (tmp_path / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(place / f"{number}.png") for number in range(6)]
    assert [bool(row["error"]) for row in rows] == [False, True] * 3
    kept = read_predictions(folder.predictions("val"))
    expected = dict(zip(kept.image_id.tolist(), kept.probability.tolist(), strict=True))
    assert [float(row["probability"]) for row in rows[::2]] == pytest.approx([expected[one] for one in films], abs=1e-6)
    assert sum("could not be read  " in line for line in said.err.splitlines()) == 3
    assert said.err.splitlines()[-1] == "predict: 3 of 6 images could not be read"
    assert said.out.startswith("SYNTHETIC 6 films in ")
