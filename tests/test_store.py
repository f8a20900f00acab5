"""The store holds what decode and prepare give, is never stale or half-written, and is built once for all processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest import Manifest, load_pixels, read_manifest
from cxr_experiments.images.prepare import prepare
from cxr_experiments.images.store import Store, open_store, store_key

SIZE_PX = 32

# Builds a store in a process of its own.  After five images it says so and, told to, waits to be killed.
BUILDER = """
import sys, time
from pathlib import Path
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.store import open_store
root, folder, then = sys.argv[1:]
data = DataConfig(source="folder", root=root, image_size_px=32)
manifest = read_manifest(data)
built = False
def on_progress(done, total):
    global built
    built = True
    time.sleep(0.01)
    if done == 5 and then == "wait":
        print("at work", flush=True)
        time.sleep(60)
print("ready", flush=True)
sys.stdin.readline()
store = open_store(manifest, data, folder=Path(folder), on_progress=on_progress)
print("built" if built else "shared", int(store.images.sum()), len(store.images), flush=True)
"""


def plant(root: Path, num_images: int = 20) -> DataConfig:
    """Two class folders of small films, half of them PNG, half JPEG."""
    noise = np.random.default_rng(0)
    for number in range(num_images):
        path = root / ("NORMAL", "PNEUMONIA")[number % 2] / f"{number:02d}{('.png', '.jpg')[number // 2 % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40 + number, 60), dtype=np.uint8)).save(path)
    return DataConfig(source="folder", root=str(root), image_size_px=SIZE_PX)


def expected(manifest: Manifest, data: DataConfig) -> np.ndarray:
    pixels = [load_pixels(row, manifest, data) for row in manifest.rows]
    return np.stack([prepare(film, size_px=data.image_size_px, resize=data.resize) for film in pixels])


def build(data: DataConfig, folder: Path) -> Store:
    return open_store(read_manifest(data), data, folder=folder)


def start_builder(root: Path, folder: Path, then: str = "go") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(root), str(folder), then]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_row_i_is_manifest_row_i_decoded_and_prepared(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    store = build(data, tmp_path / "stores")
    assert isinstance(store.images, np.memmap)
    assert (store.images.shape, store.images.dtype) == ((20, SIZE_PX, SIZE_PX, 1), np.uint8)
    assert np.array_equal(store.images, expected(store.manifest, data))
    assert store.manifest == read_manifest(data)
    with pytest.raises(ValueError, match="read-only"):
        store.images[0] = 0


def test_phantoms_are_stored_like_films(tmp_path: Path) -> None:
    data = DataConfig(num_patients=8, image_size_px=SIZE_PX)
    store = build(data, tmp_path)
    assert np.array_equal(store.images, expected(store.manifest, data))


def test_a_second_opening_reads_and_builds_nothing(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    manifest = read_manifest(data)
    done: list[tuple[int, int]] = []
    first = open_store(manifest, data, folder=tmp_path / "stores", on_progress=lambda *told: done.append(told))
    assert done == [(number, 20) for number in range(1, 21)]
    for path in (tmp_path / "films").rglob("*.*"):
        path.unlink()
    second = open_store(manifest, data, folder=tmp_path / "stores", on_progress=lambda *told: done.append(told))
    assert len(done) == 20
    assert np.array_equal(first.images, second.images)


def test_the_store_does_not_care_where_the_films_lie(tmp_path: Path) -> None:
    here, there = plant(tmp_path / "here"), plant(tmp_path / "there")
    first, second = build(here, tmp_path / "stores"), build(there, tmp_path / "stores")
    assert first.path == second.path
    assert second.manifest.root == str(tmp_path / "there")


def test_a_changed_image_is_never_served_stale(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    path = tmp_path / "films/NORMAL/00.png"
    Image.fromarray(np.full((40, 60), 10, dtype=np.uint8)).save(path, compress_level=0)
    old = build(data, tmp_path / "stores")
    status = path.stat()
    Image.fromarray(np.full((40, 60), 90, dtype=np.uint8)).save(path, compress_level=0)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    new = build(data, tmp_path / "stores")
    assert (int(old.images[0].max()), int(new.images[0].max())) == (10, 90)


def test_an_image_that_changes_during_the_build_stops_it(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    manifest = read_manifest(data)
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(tmp_path / "films/PNEUMONIA/01.png")
    with pytest.raises(DataError, match=r"01\.png changed after it was listed"):
        open_store(manifest, data, folder=tmp_path / "stores")
    assert not [path for path in (tmp_path / "stores").iterdir() if path.is_dir()]


def test_every_option_that_decides_a_pixel_has_its_own_store(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    manifest = read_manifest(data)
    others = [replace(data, image_size_px=33), replace(data, resize="pad"), replace(data, resize="crop")]
    assert len({store_key(manifest, other) for other in [data, *others]}) == 4
    indifferent = [replace(data, on_bad_file="skip"), replace(data, val_fraction=0.3), replace(data, root="elsewhere")]
    assert {store_key(manifest, other) for other in indifferent} == {store_key(manifest, data)}
    assert store_key(manifest.without([manifest.rows[0].image_id]), data) != store_key(manifest, data)


def spoil(root: Path) -> dict[str, str]:
    """Four bad files and the reason of each."""
    good = (root / "NORMAL/00.png").read_bytes()
    bad = {
        "NORMAL/empty.png": (b"", "empty file"),
        "NORMAL/cut.png": (good[: len(good) // 2], "truncated PNG"),
        "PNEUMONIA/note.jpeg": (b"The film is missing.", "not a JPEG or PNG"),
        "PNEUMONIA/table.csv": (b"a,b", "suffix '.csv' is none of"),
    }
    for name, (content, _) in bad.items():
        (root / name).write_bytes(content)
    return {str(root / name): reason for name, (_, reason) in bad.items()}


def test_bad_files_stop_with_all_paths_and_reasons_and_leave_nothing(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    reasons = spoil(tmp_path / "films")
    with pytest.raises(DataError, match=r"4 file\(s\) cannot be used") as refused:
        build(data, tmp_path / "stores")
    lines = str(refused.value).splitlines()
    assert len(lines) == 6
    for path, reason in reasons.items():
        assert any(line.startswith(f"  {path}: ") and reason in line for line in lines)
    assert "data.on_bad_file=skip" in lines[-1]
    assert not [path for path in (tmp_path / "stores").iterdir() if path.is_dir()]


def test_many_bad_files_are_counted_beyond_the_twentieth(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    for number in range(25):
        (tmp_path / f"films/NORMAL/bad{number}.png").touch()
    with pytest.raises(DataError) as refused:
        build(data, tmp_path / "stores")
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("25 file(s)")
    assert len(lines) == 23
    assert lines[21] == "  and 5 more"


def test_bad_files_are_skipped_recorded_and_remembered(tmp_path: Path) -> None:
    data = replace(plant(tmp_path / "films"), on_bad_file="skip")
    clean = expected(read_manifest(data), data)
    reasons = spoil(tmp_path / "films")
    for store in (build(data, tmp_path / "stores"), build(data, tmp_path / "stores")):
        assert {bad.path for bad in store.bad_files} == set(reasons)
        assert all(reasons[bad.path] in bad.reason for bad in store.bad_files)
        assert len(store.manifest.rows) == 20
        assert np.array_equal(store.images, clean)
    with pytest.raises(DataError, match=r"4 file\(s\) cannot be used"):
        build(replace(data, on_bad_file="stop"), tmp_path / "stores")


def test_a_set_of_nothing_but_bad_files_is_refused_even_when_skipping(tmp_path: Path) -> None:
    for name in ("NORMAL/a.png", "PNEUMONIA/b.png"):
        (tmp_path / "films" / name).parent.mkdir(parents=True)
        (tmp_path / "films" / name).touch()
    data = DataConfig(source="folder", root=str(tmp_path / "films"), on_bad_file="skip")
    with pytest.raises(DataError, match=r"2 file\(s\) cannot be used"):
        build(data, tmp_path / "stores")


@pytest.mark.parametrize(
    "damage", ["cut the images", "empty the images", "lose the rows", "spoil the rows", "other rows"]
)
def test_a_damaged_store_is_built_anew(tmp_path: Path, damage: str) -> None:
    data = plant(tmp_path / "films")
    path = build(data, tmp_path / "stores").path
    if damage == "cut the images":
        os.truncate(path / "images.npy", 5000)
    elif damage == "empty the images":
        os.truncate(path / "images.npy", 0)
    elif damage == "lose the rows":
        (path / "rows.json").unlink()
    elif damage == "spoil the rows":
        (path / "rows.json").write_text("[1, 2")
    else:
        (path / "rows.json").write_text('{"image_ids": ["NORMAL/00.png"], "bad_files": []}')
    again = build(data, tmp_path / "stores")
    assert np.array_equal(again.images, expected(again.manifest, data))


def test_two_processes_on_an_empty_store_build_it_once(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    builders = [start_builder(tmp_path / "films", tmp_path / "stores") for _ in range(2)]
    for builder in builders:
        assert builder.stdin is not None
        builder.stdin.write("\n")
        builder.stdin.flush()
    told = [builder.communicate(timeout=30) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], told
    assert sorted(out.split()[0] for out, _ in told) == ["built", "shared"]
    assert {err for _, err in told} == {""}
    manifest = read_manifest(data)
    assert {tuple(out.split()[1:]) for out, _ in told} == {(str(int(expected(manifest, data).sum())), "20")}


def test_a_killed_build_leaves_nothing_half_written_and_is_built_anew(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    stores = tmp_path / "stores"
    builder = start_builder(tmp_path / "films", stores, then="wait")
    assert builder.stdin is not None
    assert builder.stdout is not None
    builder.stdin.write("\n")
    builder.stdin.flush()
    assert builder.stdout.readline() == "at work\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate(timeout=30)
    key = store_key(read_manifest(data), data)
    assert (stores / f"{key}.partial").is_dir(), "the build was killed at work"
    assert not (stores / key).exists()
    store = build(data, stores)
    assert np.array_equal(store.images, expected(store.manifest, data))
    assert not (stores / f"{key}.partial").exists()


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))  # a file that may not grow fails as one on a full disk does
    try:
        with pytest.raises(DataError, match=r"image store .* cannot be .*written: .*free the disk or set CXR_HOME"):
            build(data, tmp_path / "stores")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in (tmp_path / "stores").iterdir() if path.is_dir()]


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    (tmp_path / "stores").write_text("a file")
    with pytest.raises(DataError, match="image store"):
        build(data, tmp_path / "stores")
