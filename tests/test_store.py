"""The store holds what decode and prepare give, is never stale or half-written, and is built once for all processes."""

from __future__ import annotations

import json
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
from cxr_experiments.images.store import Store, journal, open_store, store_key

SIZE_PX = 32

# Builds a store in a process of its own, and keeps a journal line for each row.  After row `stop` (0: never) it says so
# and waits to be killed.
BUILDER = """
import sys, time
from pathlib import Path
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.store import journal, open_store
root, folder, stop = sys.argv[1:]
journal._CHECKPOINT_S, journal._MAX_SHARE = 0.0, float("inf")
data = DataConfig(source="folder", root=root, image_size_px=32, on_bad_file="skip")
manifest = read_manifest(data)
first = 0
def on_progress(done, total):
    global first
    first = first or done
    time.sleep(0.01)
    if done == int(stop):
        print("at work", flush=True)
        time.sleep(60)
print("ready", flush=True)
sys.stdin.readline()
store = open_store(manifest, data, folder=Path(folder), on_progress=on_progress)
print(f"built from {first}" if first else "shared", int(store.images.sum()), len(store.images), flush=True)
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


def start_builder(root: Path, folder: Path, stop: int = 0, script: str = BUILDER) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(root), str(folder), str(stop)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def let_go(builder: subprocess.Popen[str]) -> None:
    assert builder.stdin is not None
    builder.stdin.write("\n")
    builder.stdin.flush()


def kill_at_work(root: Path, folder: Path, stop: int, script: str = BUILDER) -> None:
    """A build that is killed after `stop` rows."""
    builder = start_builder(root, folder, stop, script)
    let_go(builder)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "at work\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate(timeout=30)


def files_of(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.iterdir()}


@pytest.fixture
def line_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal tells each row at once, not every five seconds."""
    monkeypatch.setattr(journal, "_CHECKPOINT_S", 0.0)
    monkeypatch.setattr(journal, "_MAX_SHARE", float("inf"))


def interrupt(data: DataConfig, folder: Path, after: int) -> Path:
    """A build that Ctrl-C ends after so many rows; returns what is left of it."""
    manifest = read_manifest(data)

    def on_progress(done: int, _: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(manifest, data, folder=folder, on_progress=on_progress)
    return folder / f"{store_key(manifest, data)}.partial"


def go_on(data: DataConfig, folder: Path) -> tuple[Store, list[int]]:
    """The store, and the rows that were told as done on the way."""
    done: list[int] = []
    return open_store(read_manifest(data), data, folder=folder, on_progress=lambda row, _: done.append(row)), done


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
        "PNEUMONIA/note.jpeg": (b"The film is missing.", "not a JPEG, PNG or DICOM"),
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
        (path / "rows.json").write_text('{"num_images": 19, "bad_files": []}')
    again = build(data, tmp_path / "stores")
    assert np.array_equal(again.images, expected(again.manifest, data))


def test_two_processes_on_an_empty_store_build_it_once(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    builders = [start_builder(tmp_path / "films", tmp_path / "stores") for _ in range(2)]
    for builder in builders:
        let_go(builder)
    told = [builder.communicate(timeout=30) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], told
    assert sorted(out.split()[0] for out, _ in told) == ["built", "shared"]
    assert {err for _, err in told} == {""}
    manifest = read_manifest(data)
    assert {tuple(out.split()[-2:]) for out, _ in told} == {(str(int(expected(manifest, data).sum())), "20")}


@pytest.mark.parametrize("stop", [1, 6, 23, 24])
def test_a_killed_build_goes_on_where_it_was_and_ends_bit_for_bit_the_same(tmp_path: Path, stop: int) -> None:
    data = replace(plant(tmp_path / "films"), on_bad_file="skip")
    reasons = spoil(tmp_path / "films")
    stores = tmp_path / "stores"
    kill_at_work(tmp_path / "films", stores, stop)
    key = store_key(read_manifest(data), data)
    assert not (stores / key).exists()
    with pytest.raises(ValueError, match="pickle"):  # no array that could be taken for a store
        np.load(stores / f"{key}.partial/images.npy")
    store, done = go_on(data, stores)
    assert done == list(range(stop, 25))
    assert files_of(store) == files_of(build(data, tmp_path / "uninterrupted"))
    assert np.array_equal(store.images, expected(store.manifest, data))
    assert {bad.path: reasons[bad.path] in bad.reason for bad in store.bad_files} == dict.fromkeys(reasons, True)
    assert not (stores / f"{key}.partial").exists()


def test_a_build_that_is_killed_again_and_again_comes_to_an_end(tmp_path: Path) -> None:
    data = replace(plant(tmp_path / "films"), on_bad_file="skip")
    for stop in (3, 9, 15):
        kill_at_work(tmp_path / "films", tmp_path / "stores", stop)
    store, done = go_on(data, tmp_path / "stores")
    assert done == list(range(15, 21))
    assert files_of(store) == files_of(build(data, tmp_path / "uninterrupted"))


# Each name is called on the way from the last image to the store in its place; the process dies just before.
@pytest.mark.parametrize("moment", ["json.dump", "os.replace", "building._sync", "Path.unlink"])
def test_a_kill_while_the_store_is_finished_costs_nothing(tmp_path: Path, moment: str) -> None:
    data = replace(plant(tmp_path / "films"), on_bad_file="skip")
    die = f"""
import json, os
from cxr_experiments.images.store import building
def die(*arguments, **options):
    print("at work", flush=True)
    time.sleep(60)
{moment} = die
store = open_store("""
    kill_at_work(tmp_path / "films", tmp_path / "stores", 0, BUILDER.replace("\nstore = open_store(", die))
    store, done = go_on(data, tmp_path / "stores")
    assert done == ([] if moment == "Path.unlink" else [20])
    whole = files_of(build(data, tmp_path / "uninterrupted"))
    assert {name: files_of(store)[name] for name in whole} == whole


def test_a_waiting_process_takes_up_the_build_of_one_that_is_killed(tmp_path: Path) -> None:
    plant(tmp_path / "films")
    first = start_builder(tmp_path / "films", tmp_path / "stores", stop=5)
    second = start_builder(tmp_path / "films", tmp_path / "stores")
    let_go(first)
    assert first.stdout is not None
    assert first.stdout.readline() == "at work\n"
    let_go(second)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=0.3)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=30)
    out, err = second.communicate(timeout=30)
    assert (second.returncode, err) == (0, "")
    assert out.startswith("built from 5 ")


@pytest.mark.usefixtures("line_per_row")
@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        ("nothing", 12),
        ("the last line is torn", 11),
        ("a line in the middle is torn", 5),
        ("a line is missing", 5),
        ("a pixel of image 7 is flipped", 7),
        ("the images are cut within image 4", 4),
        ("the images are longer", 12),
        ("there are no images", 0),
        ("the journal is empty", 0),
        ("it is another store's journal", 0),
        ("the journal counts beyond the manifest", 12),
        ("the journal refuses a row that is none", 12),
    ],
)
def test_of_a_damaged_partial_build_what_is_sound_is_kept(tmp_path: Path, damage: str, kept: int) -> None:
    data = plant(tmp_path / "films")
    unfinished = interrupt(data, tmp_path / "stores", after=12)
    images, lines = unfinished / "images.npy", unfinished / "journal.jsonl"
    told = lines.read_bytes().splitlines(keepends=True)
    assert len(told) == 13
    if damage == "the last line is torn":
        lines.write_bytes(b"".join(told)[:-1])
    elif damage == "a line in the middle is torn":
        lines.write_bytes(b"".join([*told[:6], told[6][:9], *told[7:]]))
    elif damage == "a line is missing":
        lines.write_bytes(b"".join([*told[:6], *told[7:]]))
    elif damage == "a pixel of image 7 is flipped":
        content = bytearray(images.read_bytes())
        content[128 + 7 * SIZE_PX**2 + 500] ^= 1
        images.write_bytes(content)
    elif damage == "the images are cut within image 4":
        os.truncate(images, 128 + 4 * SIZE_PX**2 + 500)
    elif damage == "the images are longer":
        images.write_bytes(images.read_bytes() + b"x" * 3000)
    elif damage == "there are no images":
        images.unlink()
    elif damage == "the journal is empty":
        lines.write_bytes(b"")
    elif damage == "it is another store's journal":
        lines.write_bytes(b"".join([told[0].replace(b'": "', b'": "0'), *told[1:]]))
    elif damage == "the journal counts beyond the manifest":
        more = {"row": 21, "num_images": 12, "crc32": 0, "bad_files": [[row, "?"] for row in range(12, 21)]}
        lines.write_bytes(b"".join([*told, json.dumps(more).encode() + b"\n"]))
    elif damage == "the journal refuses a row that is none":
        more = {"row": 13, "num_images": 12, "crc32": 0, "bad_files": [[20, "?"]]}
        lines.write_bytes(b"".join([*told, json.dumps(more).encode() + b"\n"]))
    store, done = go_on(data, tmp_path / "stores")
    assert done == list(range(max(kept, 1), 21))
    assert files_of(store) == files_of(build(data, tmp_path / "uninterrupted"))


@pytest.mark.usefixtures("line_per_row")
def test_a_film_that_changes_between_kill_and_restart_is_noticed(tmp_path: Path) -> None:
    data = plant(tmp_path / "films")
    manifest = read_manifest(data)
    interrupt(data, tmp_path / "stores", after=12)
    early, late = (Path(manifest.rows[number].path) for number in (3, 16))
    Image.fromarray(np.full((40, 60), 90, dtype=np.uint8)).save(late)
    with pytest.raises(DataError, match=rf"{late.name} changed after it was listed"):
        open_store(manifest, data, folder=tmp_path / "stores")
    interrupt(data, tmp_path / "stores", after=12)
    Image.fromarray(np.full((40, 60), 90, dtype=np.uint8)).save(early)
    store, done = go_on(data, tmp_path / "stores")
    assert done == list(range(1, 21)), "another data set, and none of the old pixels"
    assert np.array_equal(store.images, expected(store.manifest, data))
    assert (store.images[3] == 90).all()


def test_the_journal_takes_at_most_a_fiftieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(journal, "_sync", lambda file: now_s.__setitem__(0, now_s[0] + 1.0))  # a slow disk: 2 s a line
    with journal.open_journal(tmp_path / "partial", "key", image_bytes=4, num_rows=10_000) as opened:
        for _ in range(10_000):
            now_s[0] += 0.1
            opened.add(np.zeros((2, 2, 1), dtype=np.uint8))
    num_lines = len((tmp_path / "partial/journal.jsonl").read_text().splitlines()) - 1
    assert num_lines == 10, "one after five seconds, then one each hundred"


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
