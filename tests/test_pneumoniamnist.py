"""PneumoniaMNIST's archives become rows and pixels; a hostile or damaged one is refused before it is inflated."""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
import threading
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from numpy.typing import NDArray

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest import Manifest, load_pixels, pneumoniamnist, read_manifest
from cxr_experiments.images.manifest.pneumoniamnist import read_npz
from cxr_experiments.images.published import PNEUMONIAMNIST, PublishedFile, known
from cxr_experiments.images.splits import make_split
from cxr_experiments.images.store import open_store

Arrays = dict[str, NDArray[np.generic]]
SIDE_PX = 28


def arrays_of(side_px: int = SIDE_PX) -> Arrays:
    """Six arrays of the published shapes and counts, with other pixels in every image."""
    facts = known("pneumoniamnist")
    assert facts is not None
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for split in ("train", "val", "test"):
        counts = [facts.counts[split, label] for label in (0, 1)]
        labels = np.repeat(np.array([0, 1], dtype=np.uint8), counts)
        arrays[f"{split}_images"] = rng.integers(0, 256, (sum(counts), side_px, side_px), dtype=np.uint8)
        arrays[f"{split}_labels"] = rng.permutation(labels)[:, np.newaxis]
    return arrays


def publish(path: Path) -> PublishedFile:
    """What a publisher would state of a file."""
    return PublishedFile(path.name, "https://example.org/" + path.name, hashlib.md5(path.read_bytes()).hexdigest())


def save(path: Path, arrays: Arrays, *, compressed: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)  # type: ignore[arg-type]
    return path


def config(path: Path) -> DataConfig:
    return DataConfig(source="pneumoniamnist", root=str(path), npz_size_px=SIDE_PX, image_size_px=SIDE_PX)


def read(path: Path) -> Manifest:
    return read_npz(path, publish(path), config(path))


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return arrays_of()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, arrays: Arrays) -> Path:
    return save(tmp_path_factory.mktemp("mnist") / "pneumoniamnist.npz", arrays)


@pytest.fixture(scope="module")
def manifest(archive: Path) -> Manifest:
    return read(archive)


def test_an_archive_becomes_5856_rows(manifest: Manifest, archive: Path, arrays: Arrays) -> None:
    facts = known("pneumoniamnist")
    assert facts is not None
    assert Counter((row.split, row.label) for row in manifest.rows) == facts.counts
    row = {row.image_id: row for row in manifest.rows}["train/000123"]
    assert (row.path, row.patient, row.loose_key) == ("", "", "")
    assert (row.label, row.split) == (int(arrays["train_labels"][123, 0]), "train")
    assert (row.width, row.height, row.mode, row.num_bytes) == (SIDE_PX, SIDE_PX, "L", SIDE_PX**2)
    assert (manifest.patients_verifiable, manifest.synthetic, manifest.root) == (False, False, str(archive))
    assert len({row.sha256 for row in manifest.rows}) == 5856


def test_the_digest_follows_the_pixels_and_not_the_archive(manifest: Manifest, arrays: Arrays, tmp_path: Path) -> None:
    turned = dict(reversed(arrays.items()))
    assert read(save(tmp_path / "moved" / "other.npz", turned, compressed=True)).digest == manifest.digest
    images = arrays["val_images"].copy()
    images[5, 3, 3] ^= 1
    assert read(save(tmp_path / "changed.npz", {**arrays, "val_images": images})).digest != manifest.digest
    labels = arrays["val_labels"][::-1].copy()
    assert read(save(tmp_path / "labelled.npz", {**arrays, "val_labels": labels})).digest != manifest.digest


def test_labels_of_other_whole_types_and_one_axis_fewer_are_read(
    manifest: Manifest, arrays: Arrays, tmp_path: Path
) -> None:
    wide = {name: array.astype(np.int64) if "labels" in name else array for name, array in arrays.items()}
    assert read(save(tmp_path / "wide.npz", wide)).digest == manifest.digest


def test_pixels_are_those_of_the_archive(manifest: Manifest, arrays: Arrays) -> None:
    for index in (0, 1000, 5855):
        row = manifest.rows[index]
        split, _, number = row.image_id.partition("/")
        pixels = load_pixels(row, manifest, DataConfig())
        assert np.array_equal(pixels, arrays[f"{split}_images"][int(number)])
        pixels[:] = 0
        assert load_pixels(row, manifest, DataConfig()).any(), "a caller's change is his own"


def test_many_threads_inflate_an_archive_once(
    manifest: Manifest, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    unpatched = pneumoniamnist._opened
    monkeypatch.setattr(pneumoniamnist, "_opened", lambda *told: opened.append(told) or unpatched(*told))
    pneumoniamnist._held.cache_clear()
    start = threading.Barrier(8)

    def one(number: int) -> bool:
        start.wait()
        row = manifest.rows[number]
        split, _, index = row.image_id.partition("/")
        return np.array_equal(load_pixels(row, manifest, DataConfig()), arrays[f"{split}_images"][int(index)])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(0, 5856, 732)))
    assert len(opened) == 1


def test_listing_keeps_no_pixels(archive: Path) -> None:
    pneumoniamnist._held.cache_clear()
    tracemalloc.start()
    try:
        read(archive)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rows_only = 5856 * 900
    assert peak < rows_only + 1e6, "4.6 MB of pixels are hashed as they pass"


def test_an_archive_that_changed_after_listing_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    path = save(tmp_path / "mnist.npz", arrays)
    listed = read(path)
    row = listed.rows[0]
    load_pixels(row, listed, DataConfig())
    save(path, {**arrays, "test_images": arrays["test_images"][::-1].copy()})
    with pytest.raises(DataError, match="changed after it was listed"):
        load_pixels(row, listed, DataConfig())
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_pixels(row, listed, DataConfig())


def test_an_archive_becomes_a_split_and_a_store(manifest: Manifest, archive: Path, tmp_path: Path) -> None:
    data = config(archive)
    split = make_split(manifest, data, seed=0)
    assert {manifest.rows[i].split for i in split.test} == {"test"}
    assert len(split.test) == 624
    few = replace(manifest, rows=manifest.rows[::60])
    store = open_store(few, data, folder=tmp_path)
    assert np.array_equal(store.images[7, :, :, 0], load_pixels(few.rows[7], few, data))


def test_a_file_is_found_in_its_folder_or_where_download_left_it(
    archive: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    monkeypatch.setattr(pneumoniamnist, "PNEUMONIAMNIST", {**PNEUMONIAMNIST, SIDE_PX: publish(archive)})
    unnamed = replace(config(archive), root=None)
    with pytest.raises(DataError) as refused:
        read_manifest(unnamed)
    where, how, otherwise = str(refused.value).splitlines()
    assert where == f"data=pneumoniamnist needs pneumoniamnist.npz, and {tmp_path}/datasets/pneumoniamnist has none"
    assert "python -m cxr_experiments.download data=pneumoniamnist data.npz_size_px=28" in how
    assert "MD5" in how
    assert "data=phantom" in otherwise
    (tmp_path / "datasets").mkdir()
    shutil.copytree(archive.parent, tmp_path / "datasets" / "pneumoniamnist")
    for data in (unnamed, config(archive), config(archive.parent)):
        assert read_manifest(data).digest == manifest.digest
    with pytest.raises(DataError, match=r"has none; there is one of 28 px: data\.npz_size_px=28"):
        read_manifest(replace(config(archive.parent), npz_size_px=64))


def test_another_file_than_the_published_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"is not the published pneumoniamnist\.npz: its MD5 is .* fetch it again"):
        read_manifest(config(archive))
    monkeypatch.setattr(pneumoniamnist, "PNEUMONIAMNIST", {**PNEUMONIAMNIST, 64: publish(archive)})
    with pytest.raises(DataError, match=r"holds the images of 64 px: read it with data\.npz_size_px=64"):
        read_manifest(config(archive))


def test_a_missing_file_is_status_2(command: Command, tmp_path: Path) -> None:
    said = command("train", "data=pneumoniamnist", "tracking=disabled", home=tmp_path)
    assert said.status == 2
    assert "needs pneumoniamnist_64.npz" in said.err


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def with_one(name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, name: change(arrays[name])}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("val_labels"), "expected train_images, val_images, test_images"),
        (lambda arrays: {**arrays, "more": np.zeros(3)}, "expected train_images, val_images, test_images"),
        (lambda arrays: {}, "it holds nothing"),
        (
            with_one("train_images", lambda images: images[1:]),
            r"train_images is uint8 \(4707, 28, 28\); expected uint8",
        ),
        (with_one("train_images", lambda images: images[:, :, :27]), r"\(4708, 28, 27\)"),
        (with_one("test_images", lambda images: images.astype(np.int8)), "test_images is int8"),
        (with_one("test_images", lambda images: images.astype(np.float32)), "no plain array of whole numbers"),
        (with_one("test_images", np.asfortranarray), "no plain array of whole numbers"),
        (with_one("test_labels", lambda labels: labels.astype(object)), "no plain array of whole numbers"),
        (
            with_one("test_labels", lambda labels: np.zeros_like(labels)),
            "test has 624 images of label 0, published are",
        ),
        (with_one("test_labels", lambda labels: labels + np.uint8(1)), "test has 0 images of label 0, published are"),
    ],
)
def test_other_contents_than_the_published_are_refused(
    arrays: Arrays, tmp_path: Path, change: Callable[[Arrays], Arrays], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        read(save(tmp_path / "mnist.npz", change(arrays)))


def repacked(archive: Path, target: Path, told: Callable[[str, bytes], tuple[str, bytes]], **options: int) -> Path:
    """The archive with each member's name and bytes changed by `told`."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w", **options) as copy:  # type: ignore[call-overload]
        for member in source.infolist():
            copy.writestr(*told(member.filename, source.read(member)))
    return target


def test_a_bomb_is_refused_before_it_is_inflated(archive: Path, tmp_path: Path) -> None:
    """A gigabyte of zeros that deflates to a megabyte: the header alone, then the size, give it away."""

    def bomb(name: str, content: bytes) -> tuple[str, bytes]:
        if name != "train_images.npy":
            return name, content
        return name, content[:128] + bytes(2**28)

    path = repacked(archive, tmp_path / "bomb.npz", bomb, compression=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="train_images would inflate to 268,435,584 bytes; expected"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6


def test_a_bomb_that_lies_about_its_size_is_refused(archive: Path, tmp_path: Path) -> None:
    """The directory promises the right size, the deflated stream holds more."""
    honest = 128 + 4708 * SIDE_PX**2

    def bomb(name: str, content: bytes) -> tuple[str, bytes]:
        return name, content[:128] + bytes(2**26) if name == "train_images.npy" else content

    path = repacked(archive, tmp_path / "bomb.npz", bomb, compression=zipfile.ZIP_DEFLATED)
    content = path.read_bytes().replace(struct.pack("<I", 128 + 2**26), struct.pack("<I", honest))
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="fetch it again"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2e7


@pytest.mark.parametrize(
    ("name", "header", "told"),
    [
        ("test_images.npy", b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 28, 28), }", "9999999999"),
        ("test_images.npy", b"{'descr': '|u1', 'fortran_order': False, 'shape': (624, 28, 28, 1, ), }", "28, 1"),
        ("test_images.npy", b"{'descr': '|O', 'fortran_order': False, 'shape': (624, 28, 28), }", "describes itself"),
        ("test_images.npy", b"__import__('os').system('true')", "describes itself"),
        ("test_images.npy", b"[" * 1000, "describes itself"),
        ("test_labels.npy", b"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 1), }", r"uint8 \(0, 1\)"),
    ],
)
def test_a_lying_array_header_is_refused(archive: Path, tmp_path: Path, name: str, header: bytes, told: str) -> None:
    def lie(member: str, content: bytes) -> tuple[str, bytes]:
        if member != name:
            return member, content
        padded = header.ljust(1100) + b"\n"
        return member, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + content[128:]

    with pytest.raises(DataError, match=told):
        read(repacked(archive, tmp_path / "lying.npz", lie))


def test_odd_archives_are_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.npz").touch()
    (tmp_path / "text.npz").write_text("no archive")
    content = archive.read_bytes()
    (tmp_path / "short.npz").write_bytes(content[: len(content) // 2])
    encrypted = content.replace(b"PK\x01\x02\x2d\x03\x2d\x00\x00\x00", b"PK\x01\x02\x2d\x03\x2d\x00\x01\x00")
    (tmp_path / "encrypted.npz").write_bytes(encrypted)
    assert encrypted != content
    repacked(archive, tmp_path / "bzip2.npz", lambda *told: told, compression=zipfile.ZIP_BZIP2)
    repacked(archive, tmp_path / "outside.npz", lambda name, held: (f"../{name}", held))
    for path in sorted(tmp_path.glob("*.npz")):
        with pytest.raises(DataError, match="is no whole PneumoniaMNIST file of 28 px"):
            read(path)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to eight bytes changed, half of the time where zip and array headers stand; or cut short."""
    if rng.random() < 0.1:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    headers = [start for start in range(len(content) - 1) if content[start : start + 2] in (b"PK", b"\x93N")]
    for _ in range(rng.randint(1, 8)):
        place = rng.choice(headers) + rng.randrange(100) if rng.random() < 0.7 else rng.randrange(len(content))
        if place < len(changed):
            changed[place] = rng.choice([0, 0xFF, changed[place] ^ (1 << rng.randrange(8)), rng.randrange(256)])
    return bytes(changed)


def num_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_files: int) -> int:
    """Small archives (the published counts divided by a hundred) are damaged; each is whole all the same or refused."""
    facts = known("pneumoniamnist")
    assert facts is not None
    fewer = replace(facts, counts={key: max(1, count // 100) for key, count in facts.counts.items()})
    monkeypatch.setattr(pneumoniamnist, "known", lambda _source: fewer)
    small: Arrays = {}
    for split in ("train", "val", "test"):
        counts = [fewer.counts[split, label] for label in (0, 1)]
        small[f"{split}_images"] = np.zeros((sum(counts), SIDE_PX, SIDE_PX), dtype=np.uint8)
        small[f"{split}_labels"] = np.repeat(np.array([0, 1], dtype=np.uint8), counts)[:, np.newaxis]
    contents = []
    for compressed in (False, True):
        contents.append(save(tmp_path / "small.npz", small, compressed=compressed).read_bytes())
    whole = read(tmp_path / "small.npz").digest
    refused = 0
    for seed in range(num_files):
        rng = random.Random(seed)
        path = tmp_path / "mutated.npz"
        path.write_bytes(mutated(contents[seed % 2], rng))
        try:
            assert read(path).digest == whole, f"seed {seed}: other pixels or labels came through"
        except DataError:
            refused += 1
    return refused


def test_damaged_archives_are_refused_or_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 40 < num_refused(tmp_path, monkeypatch, 150) < 150


@pytest.mark.long
def test_many_damaged_archives_are_refused_or_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1000 < num_refused(tmp_path, monkeypatch, 3000) < 3000
