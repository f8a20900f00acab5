"""Equal files, equal pixels and changed copies of one film are found; films that merely look alike are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.duplicates import exact_duplicates, find_near_duplicates, pixel_duplicates
from cxr_experiments.images.duplicates import near as near_module
from cxr_experiments.images.duplicates.near import details_of
from cxr_experiments.images.fingerprints import take_fingerprints
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.phantom import phantom_rows, render


def test_equal_files_form_groups_in_order(tmp_path: Path) -> None:
    contents = {
        "NORMAL/c": b"one",
        "NORMAL/a": b"two",
        "NORMAL/b": b"one",
        "PNEUMONIA/d": b"two",
        "PNEUMONIA/e": b"six",
    }
    for name, content in {**contents, "PNEUMONIA/f": b"one"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    manifest = read_manifest(DataConfig(source="folder", root=str(tmp_path)))
    expected = (("NORMAL/a", "PNEUMONIA/d"), ("NORMAL/b", "NORMAL/c", "PNEUMONIA/f"))
    assert exact_duplicates(manifest) == expected
    assert exact_duplicates(replace(manifest, rows=manifest.rows[::-1])) == expected


def test_empty_and_unreadable_files_are_copies_of_nothing(tmp_path: Path) -> None:
    for name in ("NORMAL/a", "PNEUMONIA/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        (tmp_path / f"{name}-link").symlink_to(tmp_path / "gone")
    assert exact_duplicates(read_manifest(DataConfig(source="folder", root=str(tmp_path)))) == ()


def test_phantoms_have_no_copies() -> None:
    assert exact_duplicates(read_manifest(DataConfig(num_patients=50))) == ()


def planted(folder: Path) -> Path:
    """Twelve phantoms as JPEG, and copies of the first in other bytes and in other pixels."""
    shown = [render(row, seed=3, difficulty=0.5).image for row in phantom_rows(12, 3)[:12]]
    for name in ("NORMAL", "PNEUMONIA"):
        (folder / name).mkdir(parents=True)
    for number, image in enumerate(shown):
        Image.fromarray(image).save(folder / ("NORMAL", "PNEUMONIA")[number % 2] / f"film{number:02d}.png")
    film = Image.fromarray(shown[0])
    film.save(folder / "PNEUMONIA" / "pixels.png", compress_level=9)
    film.save(folder / "NORMAL" / "recoded.jpeg", quality=40)
    film.resize((90, 100), Image.Resampling.LANCZOS).save(folder / "NORMAL" / "resized.png")
    film.point(lambda gray: min(255, gray + 50)).save(folder / "NORMAL" / "brighter.png")
    film.point(lambda gray: round(255 * (gray / 255) ** 1.4)).save(folder / "PNEUMONIA" / "gamma.png")
    return folder


def test_recoded_resized_and_brightened_copies_are_one_group_and_look_alikes_are_none(tmp_path: Path) -> None:
    data = DataConfig(source="folder", root=str(planted(tmp_path / "films")))
    manifest = read_manifest(data)
    found = take_fingerprints(manifest, data, folder=tmp_path / "kept")
    ids = [row.image_id for row in manifest.rows]
    assert [tuple(ids[row] for row in group) for group in pixel_duplicates(found)] == [
        ("NORMAL/film00.png", "PNEUMONIA/pixels.png")
    ]
    near = find_near_duplicates(found)
    copies = ("NORMAL/brighter.png", "NORMAL/film00.png", "NORMAL/recoded.jpeg", "NORMAL/resized.png")
    assert [tuple(ids[row] for row in group) for group in near.groups] == [(*copies, "PNEUMONIA/gamma.png")]
    assert near.num_candidates >= near.num_confirmed == 4


def test_tiles_find_what_comparing_all_pairs_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(source="folder", root=str(planted(tmp_path / "films")))
    found = take_fingerprints(read_manifest(data), data, folder=tmp_path / "kept")
    whole = find_near_duplicates(found)
    monkeypatch.setattr(near_module, "_TILE", 3)
    monkeypatch.setattr(near_module, "_BATCH", 2)
    tiled = find_near_duplicates(found)
    assert (tiled.groups, tiled.num_candidates) == (whole.groups, whole.num_candidates)


def test_blank_films_are_near_nothing(tmp_path: Path) -> None:
    for number, gray in enumerate((10, 90, 200)):
        path = tmp_path / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((80, 80), gray, np.uint8)).save(path)
    data = DataConfig(source="folder", root=str(tmp_path))
    found = take_fingerprints(read_manifest(data), data, folder=tmp_path / "kept")
    assert find_near_duplicates(found).groups == ()


def test_product_of_details_is_the_correlation_of_the_films_less_their_local_mean() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (2, 3, 64, 64), np.uint8)
    right[0] = left[0]
    slow = []
    for one, other in zip(left, right, strict=True):
        details = []
        for film in (one, other):
            padded = np.pad(film.astype(float), 2, mode="edge")
            local = [[padded[y : y + 5, x : x + 5].mean() for x in range(64)] for y in range(64)]
            details.append((film - np.array(local)).ravel())
        slow.append(np.corrcoef(*details)[0, 1])
    assert np.allclose((details_of(left) * details_of(right)).sum(axis=(1, 2)), slow, atol=1e-5)
    assert slow[0] == pytest.approx(1)


def test_hashes_agree_with_the_cosine_transform() -> None:
    film = np.random.default_rng(1).integers(0, 256, (2, 64, 64), np.uint8)
    small = film.reshape(2, 32, 2, 32, 2).mean(axis=(2, 4))
    slow = dctn(small, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(2, -1)[:, 1:]
    assert np.allclose(near_module._hashes(film), slow / np.linalg.norm(slow, axis=1, keepdims=True), atol=1e-5)
