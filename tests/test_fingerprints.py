"""One pass over the images leaves the same records however often it was interrupted, and memory holds few of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images import fingerprints as module
from cxr_experiments.images.fingerprints import Fingerprints, take_fingerprints
from cxr_experiments.images.manifest import Manifest, load_pixels, read_manifest
from cxr_experiments.images.phantom import phantom_rows, render


def films(folder: Path, num: int = 12) -> DataConfig:
    """A folder of phantoms written as PNG, of which one breaks off and one is empty."""
    for row in phantom_rows(num, 5)[:num]:
        path = folder / ("NORMAL", "PNEUMONIA")[row.label] / f"{row.index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render(row, seed=5, difficulty=0.5).image[: 256 - row.index]).save(path)
    whole = (folder / "PNEUMONIA").glob("*.png").__next__().read_bytes()
    (folder / "NORMAL" / "broken.png").write_bytes(whole[:500])
    (folder / "PNEUMONIA" / "empty.png").touch()
    return DataConfig(source="folder", root=str(folder))


def looked(data: DataConfig, folder: Path) -> tuple[Manifest, Fingerprints]:
    manifest = read_manifest(data)
    return manifest, take_fingerprints(manifest, data, folder=folder)


def test_each_row_has_its_copy_its_digest_and_its_exposure(tmp_path: Path) -> None:
    data = films(tmp_path / "films")
    manifest, found = looked(data, tmp_path / "kept")
    bad = {manifest.rows[number].image_id: one.reason for number, one in found.bad_files.items()}
    assert bad["PNEUMONIA/empty.png"] == "empty file (0 bytes)"
    assert "truncated PNG" in bad["NORMAL/broken.png"]
    assert len(bad) == 2
    assert found.readable.sum() == len(manifest.rows) - 2
    good = next(number for number in range(len(manifest.rows)) if number not in found.bad_files)
    pixels = load_pixels(manifest.rows[good], manifest, data)
    assert abs(float(found.brightness[good]) - pixels.mean()) < 1
    assert abs(float(found.contrast[good]) - pixels.std()) < 2
    assert abs(found.film[good].mean() - pixels.mean()) < 1
    assert found.film.shape[1:] == (64, 64)
    assert len({found.pixels[number].tobytes() for number in np.flatnonzero(found.readable)}) == found.readable.sum()


def test_prepared_copy_follows_the_resize_rule_and_the_film_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    for name in ("NORMAL", "PNEUMONIA"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((100, 200), 200, np.uint8)).save(folder / name / "wide.png")
    squash, pad = (
        looked(DataConfig(source="folder", root=str(folder), resize=rule), tmp_path / "kept")[1]
        for rule in ("squash", "pad")
    )
    assert np.array_equal(squash.film, pad.film)
    assert squash.prepared.min() == 200
    assert pad.prepared[0, 0].max() == 0
    assert pad.prepared[0, 16].min() == 200


def test_equal_pixels_in_other_bytes_have_one_digest_and_turned_ones_have_not(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 32), np.uint8)
    for name, image, level in (
        ("NORMAL/a", pixels, 1),
        ("NORMAL/b", pixels, 9),
        ("PNEUMONIA/c", pixels.reshape(32, 64), 1),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"{name}.png", compress_level=level)
    manifest, found = looked(DataConfig(source="folder", root=str(tmp_path)), tmp_path / "kept")
    assert len({row.sha256 for row in manifest.rows}) == 3
    a, b, c = (found.pixels[number].tobytes() for number in range(3))
    assert a == b != c


def test_killed_pass_goes_on_where_it_stopped_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = films(tmp_path / "films")
    manifest, _ = looked(data, tmp_path / "whole")
    (whole,) = (tmp_path / "whole").glob("*.bin")
    size = whole.stat().st_size // len(manifest.rows)
    for num_kept, tail in ((5, b"half a record"), (9, b"\x01" * size)):
        folder = tmp_path / f"killed-{num_kept}"
        folder.mkdir()
        partial = folder / f"{whole.stem}.partial"
        partial.write_bytes(whole.read_bytes()[: num_kept * size] + tail)
        partial.with_suffix(".jsonl").write_text(
            "".join(
                line
                for line in whole.with_suffix(".jsonl").read_text().splitlines(keepends=True)
                if f'"row": {num_kept}' not in line
            )
            + '{"row": 99, "rea'
        )
        seen: list[str] = []
        monkeypatch.setattr(
            module, "load_pixels", lambda row, *rest, seen=seen: seen.append(row.image_id) or load_pixels(row, *rest)
        )
        found = take_fingerprints(manifest, data, folder=folder)
        assert sorted(seen) == [row.image_id for row in manifest.rows[num_kept:]]
        assert (folder / whole.name).read_bytes() == whole.read_bytes()
        assert found.bad_files == looked(data, tmp_path / "whole")[1].bad_files
        assert not partial.exists()


def test_second_call_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = films(tmp_path / "films")
    _, first = looked(data, tmp_path / "kept")
    monkeypatch.setattr(module, "load_pixels", lambda *_: pytest.fail("decoded again"))
    _, again = looked(data, tmp_path / "kept")
    assert np.array_equal(first.film, again.film)
    assert again.bad_files == first.bad_files


def test_counter_counts_to_the_end(tmp_path: Path) -> None:
    data = films(tmp_path / "films")
    manifest = read_manifest(data)
    told: list[tuple[int, int]] = []
    take_fingerprints(manifest, data, folder=tmp_path / "kept", on_progress=lambda *at: told.append(at))
    assert told == [(number, len(manifest.rows)) for number in range(1, len(manifest.rows) + 1)]
