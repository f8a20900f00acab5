"""The Kermany set from an archive, from a mirror and from Kaggle's own library; and `download` as it is typed."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from conftest import Command
from file_server import CONTENT, Served, serving

from cxr_experiments.config.commands import DownloadConfig
from cxr_experiments.config.schema import DataConfig
from cxr_experiments.download import download
from cxr_experiments.errors import DataError
from cxr_experiments.images.download import BadArchiveError, fetch_from_kaggle, place_archive, present
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.published import PNEUMONIAMNIST, Known, PublishedFile, known

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # kagglehub leaves sockets open
SOURCE = PNEUMONIAMNIST[28]
TOKEN = "KGAT_0123456789abcdef"


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of the test's own."""
    with serving() as told:
        yield told


FEW = Known(
    counts={("train", 0): 3, ("train", 1): 4, ("val", 0): 1, ("val", 1): 1, ("test", 0): 2, ("test", 1): 2},
    num_patients={},
)


def names_of(told: Known) -> Iterator[str]:
    """File names of a whole set, in its official folders."""
    for number, (split, label) in enumerate(Counter(told.counts).elements()):
        name = f"person{number}_virus_{number}.jpeg" if label else f"IM-{number:04d}-0001.jpeg"
        yield f"{split}/{('NORMAL', 'PNEUMONIA')[label]}/{name}"


def zip_of(path: Path, names: Iterable[str]) -> Path:
    """An archive whose files hold their names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def as_kaggle_has_it(names: Iterable[str]) -> list[str]:
    """The tree, a part of it again inside it, and what macOS strews about."""
    listed = [f"chest_xray/{name}" for name in names]
    inside = [f"chest_xray/{listed[0]}", "chest_xray/__MACOSX/train/NORMAL/._IM-0000-0001.jpeg"]
    return [*listed, *inside]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kaggle's archive, where a whole set has 13 images."""
    monkeypatch.setattr("cxr_experiments.images.download.layout.known", lambda source: FEW)
    return zip_of(tmp_path_factory.mktemp("few") / "archive.zip", as_kaggle_has_it(names_of(FEW)))


def visible(folder: Path) -> list[str]:
    """Names in a folder that do not begin with a dot."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def asked_for(home: Path, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    """`download` in this process, with CXR_HOME."""
    monkeypatch.setenv("CXR_HOME", str(home))
    data = DataConfig(source=options.pop("source"), root=options.pop("root", None), npz_size_px=28)
    download(DownloadConfig(data=data, mirror=options.get("mirror")))


def test_archive_put_there_by_hand_becomes_the_data_set(tmp_path: Path, command: Command) -> None:
    told = known("kaggle")
    assert told is not None
    folder = tmp_path / "datasets" / "kaggle"
    folder.mkdir(parents=True)
    zip_of(folder / "archive.zip", as_kaggle_has_it(names_of(told)))
    said = command("download", "data=kaggle", home=tmp_path)
    assert said.status == 0, said.err
    assert said.out.splitlines() == [
        f"{folder}/chest_xray: is there now, 5,856 images",
        "its contents were checked by counts, not by a checksum: none is published for these archives",
        "next: python -m cxr_experiments.verify data=kaggle",
    ]
    assert said.err == ""
    assert visible(folder) == ["archive.zip", "chest_xray"]
    again = command("download", "data=kaggle", home=tmp_path)
    assert again.out.splitlines()[0] == f"{folder}/chest_xray: is there already, and whole, 5,856 images"


def test_source_finds_what_was_downloaded_without_being_told_where(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXR_DATA", raising=False)
    asked_for(tmp_path, monkeypatch, source="kaggle", root=str(few))
    manifest = read_manifest(DataConfig(source="kaggle"))
    assert Counter((row.split, row.label) for row in manifest.rows) == FEW.counts
    assert (tmp_path / "datasets" / "kaggle" / "chest_xray" / "val" / "NORMAL").is_dir()


def test_archive_from_a_mirror_is_unpacked_and_not_kept(
    few: Path,
    served: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served.content = few.read_bytes()
    mirror = served.url.removesuffix("/data.bin")
    asked_for(tmp_path, monkeypatch, source="kaggle", mirror=mirror, root=str(tmp_path / "films"))
    assert served.asked[0]["path"] == "/films/chest_xray.zip"
    assert visible(tmp_path / "films") == ["chest_xray"]
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"next: python -m cxr_experiments.verify data=kaggle data.root={tmp_path}/films"
    asked_for(tmp_path, monkeypatch, source="kaggle", mirror=f"{mirror}/ChestXRay2017.zip?token=secret")
    assert served.asked[1]["path"] == "/films/ChestXRay2017.zip?token=secret"
    assert "secret" not in "".join(capsys.readouterr())


def test_error_page_from_a_mirror_is_not_kept(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.content = b"<html>please log in</html>"
    with pytest.raises(BadArchiveError, match=r"chest_xray\.zip is neither a zip nor a tar archive; is it"):
        asked_for(tmp_path, monkeypatch, source="kaggle", mirror=served.url.removesuffix("/data.bin"))
    assert visible(tmp_path / "datasets" / "kaggle") == []


@pytest.mark.usefixtures("few")
def test_archive_of_a_part_is_refused_by_its_counts(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", list(names_of(FEW))[1:])
    with pytest.raises(BadArchiveError, match=r"is not the whole set: train/NORMAL 2 instead of 3; nothing"):
        place_archive(archive, tmp_path, on_progress=lambda done, total: None)
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.usefixtures("few")
def test_layout_of_mendeley_data_without_val_is_taken(tmp_path: Path) -> None:
    names = [f"CellData/chest_xray/{name.replace('val/', 'train/')}" for name in names_of(FEW)]
    archive = zip_of(tmp_path / "ZhangLabData.zip", [*names, "CellData/OCT/train/NORMAL/NORMAL-1.jpeg"])
    placed = place_archive(archive, tmp_path, on_progress=lambda done, total: None)
    assert len(placed.images) == 13
    assert visible(placed.path) == ["test", "train"]
    assert present(tmp_path) == placed


def test_set_that_is_there_but_not_whole_is_left_as_it_is(few: Path, tmp_path: Path) -> None:
    placed = place_archive(few, tmp_path, on_progress=lambda done, total: None)
    next((placed.path / "val" / "NORMAL").iterdir()).unlink()
    with pytest.raises(DataError, match=r"not the whole set: val/NORMAL 0 instead of 1\. Move it away"):
        present(tmp_path)
    assert (placed.path / "train").is_dir()


def test_several_archives_must_be_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "datasets" / "kaggle"
    folder.mkdir(parents=True)
    for name in ("a.zip", "b.tar.gz"):
        (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"holds several archives \(a\.zip, b\.tar\.gz\): name one"):
        asked_for(tmp_path, monkeypatch, source="kaggle")


def test_npz_is_fetched_named_and_known_again(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's success, with a published file of the test's own."""
    own = PublishedFile(SOURCE.name, served.url, hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setattr("cxr_experiments.images.published.PNEUMONIAMNIST", {28: own})
    asked_for(tmp_path, monkeypatch, source="pneumoniamnist")
    path = tmp_path / "datasets" / "pneumoniamnist" / "pneumoniamnist.npz"
    assert path.read_bytes() == CONTENT
    asked_for(tmp_path, monkeypatch, source="pneumoniamnist")
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 0.6 MiB fetched (MD5 {own.md5}, as published)",
        "next: python -m cxr_experiments.verify data=pneumoniamnist data.npz_size_px=28",
        f"{path}: is there already, and right (MD5 {own.md5}, as published)",
        "next: python -m cxr_experiments.verify data=pneumoniamnist data.npz_size_px=28",
    ]


@pytest.mark.parametrize("root", ["", "/pneumoniamnist.npz"])
def test_root_is_the_folder_or_the_file_itself(
    root: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = PublishedFile(SOURCE.name, served.url, hashlib.md5(CONTENT).hexdigest())
    monkeypatch.setattr("cxr_experiments.images.published.PNEUMONIAMNIST", {28: own})
    asked_for(tmp_path, monkeypatch, source="pneumoniamnist", root=f"{tmp_path}/my films{root}")
    assert (tmp_path / "my films" / "pneumoniamnist.npz").read_bytes() == CONTENT
    assert f"npz_size_px=28 'data.root={tmp_path}/my films{root}'\n" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"other\.npz: data\.npz_size_px=28 is the file pneumoniamnist\.npz; name its"):
        asked_for(tmp_path, monkeypatch, source="pneumoniamnist", root=f"{tmp_path}/other.npz")


def test_place_that_goes_before_this_one_is_named(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXR_DATA", "/elsewhere")
    asked_for(tmp_path, monkeypatch, source="kaggle", root=str(few))
    assert capsys.readouterr().err == (
        "CXR_DATA=/elsewhere is set, and goes before this place: unset it to use what is here now\n"
    )


def test_wrong_bytes_are_one_line_and_leave_nothing(served: Served, tmp_path: Path, command: Command) -> None:
    mirror = f"mirror=http://me:secret@127.0.0.1:{served.port}/a?token=secret"
    said = command("download", "data=pneumoniamnist", "data.npz_size_px=28", mirror, home=tmp_path)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith(
        f"download: http://127.0.0.1:{served.port}/a/pneumoniamnist.npz sent other bytes than published: MD5 "
    )
    assert said.err.count("\n") == 1
    assert served.asked[0]["path"] == "/a/pneumoniamnist.npz?token=secret"
    assert "Authorization" in served.asked[0]
    assert visible(tmp_path / "datasets" / "pneumoniamnist") == []
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"secret" in content for content in kept)


def test_ctrl_c_keeps_what_arrived_and_the_next_goes_on(served: Served, tmp_path: Path, command: Command) -> None:
    served.pause_s = 0.15
    words = ["data=pneumoniamnist", "data.npz_size_px=28", f"mirror=http://127.0.0.1:{served.port}/a"]
    folder = tmp_path / "datasets" / "pneumoniamnist"
    running = subprocess.Popen(
        [sys.executable, "-m", "cxr_experiments.download", *words],
        env={**os.environ, "CXR_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    part = folder / ".pneumoniamnist.npz.part"
    while not (part.exists() and part.stat().st_size > 100_000):
        time.sleep(0.02)
        assert running.poll() is None, "it ended before it could be interrupted"
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130, told
    assert told.splitlines()[0].endswith("MiB of pneumoniamnist.npz are kept, and the same command goes on from there")
    assert told.splitlines()[1:] == ["download: interrupted"]
    assert visible(folder) == []
    kept = part.stat().st_size
    assert part.read_bytes() == CONTENT[:kept]
    served.pause_s = 0.0
    said = command("download", *words, home=tmp_path)
    assert said.status == 2, "these are not the published bytes, joined or fetched anew"
    assert [asked.get("Range") for asked in served.asked] == [None, f"bytes={kept}-", None]
    assert not part.exists()


def test_closed_port_is_told_with_what_to_do_by_hand(tmp_path: Path, command: Command) -> None:
    said = command("download", "data.npz_size_px=28", "mirror=http://127.0.0.1:9/a", home=tmp_path)
    assert said.status == 2
    target = tmp_path / "datasets" / "pneumoniamnist" / "pneumoniamnist.npz"
    assert said.err.splitlines()[-1] == (
        "download: http://127.0.0.1:9/a/pneumoniamnist.npz: the connection was refused; nothing was fetched; or fetch "
        f"https://zenodo.org/records/10519652/files/pneumoniamnist.npz by hand to {target}, and start again to check it"
    )


def test_other_sources_are_not_downloaded(tmp_path: Path, command: Command) -> None:
    said = command("download", "data=phantom", home=tmp_path)
    assert said.status == 2
    assert said.err == "download: data=phantom cannot be downloaded; there are data=kaggle, data=pneumoniamnist\n"


def test_without_kagglehub_the_ways_out_are_named(tmp_path: Path, command: Command) -> None:
    (tmp_path / "kagglehub.py").write_text("raise ModuleNotFoundError('No module named kagglehub', name='kagglehub')")
    said = command("download", "data=kaggle", home=tmp_path, PYTHONPATH=str(tmp_path))
    assert said.status == 2
    assert said.err == (
        "download: data=kaggle is fetched by kagglehub, which is not installed: pip install 'cxr-experiments[kaggle]'; "
        "or by hand: download the archive from https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia, "
        f"put it into {tmp_path}/datasets/kaggle as it is, and run the same command again, which unpacks and checks "
        "it\n"
    )


@pytest.fixture(scope="module", autouse=True)
def sockets_closed() -> Iterator[None]:
    """Those that kagglehub leaves open are closed here, and not in another module's test."""
    yield
    gc.collect()


@pytest.fixture
def kaggle(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Served:
    """kagglehub asks the test's server for Kaggle's API, without a token of anybody's."""
    pytest.importorskip("kagglehub", reason="the extra kaggle is not installed")
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, f"http://127.0.0.1:{served.port}")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    return served


def test_kaggle_archive_goes_to_its_place(
    kaggle: Served, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kaggle.content = few.read_bytes()
    asked_for(tmp_path, monkeypatch, source="kaggle", root=str(tmp_path / "films"))
    assert visible(tmp_path / "films") == ["chest_xray"]
    film = tmp_path / "films" / "chest_xray" / "train" / "NORMAL" / "IM-0000-0001.jpeg"
    assert film.read_text() == "chest_xray/train/NORMAL/IM-0000-0001.jpeg"
    assert kaggle.asked[0]["path"] == "/v1/datasets.DatasetApiService/DownloadDataset"
    assert capfd.readouterr().out.startswith(f"{tmp_path}/films/chest_xray: is there now, 13 images\n")


def test_cut_transfer_from_kaggle_goes_on(kaggle: Served, tmp_path: Path) -> None:
    kaggle.content, kaggle.cuts = CONTENT * 5, [2_500_000]  # kagglehub writes whole MiB
    notes: list[str] = []
    archive = fetch_from_kaggle(tmp_path, note=notes.append, backoff_s=0.01)
    assert notes == ["the connection to Kaggle was cut; trying again"]
    assert archive.read_bytes() == CONTENT * 5
    assert kaggle.asked[-1]["Range"] == "bytes=2097152-"
    assert os.listdir(tmp_path) == [archive.name]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_token_is_told_and_not_repeated(
    status: int, kaggle: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.statuses = [status] * 9
    with pytest.raises(DataError, match=r"^Kaggle wants a token, or refuses the one it was given: make one") as told:
        fetch_from_kaggle(tmp_path, note=lambda line: None)
    assert kaggle.asked[0]["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(told.value) + "".join(capfd.readouterr())
    assert visible(tmp_path) == []


@pytest.mark.parametrize("status", [404, 500])
def test_other_answers_of_kaggle_are_one_line(status: int, kaggle: Served, tmp_path: Path) -> None:
    kaggle.statuses = [status] * 9
    with pytest.raises(DataError, match=f"^Kaggle answered {status}; try again later, or by hand"):
        fetch_from_kaggle(tmp_path, note=lambda line: None)


def test_silence_of_kaggle_ends(kaggle: Served, tmp_path: Path) -> None:
    kaggle.silent = True
    begin = time.monotonic()
    try:
        with pytest.raises(DataError, match=r"^Kaggle sent nothing for 0.4 s; what has arrived is kept"):
            fetch_from_kaggle(tmp_path, note=lambda line: None, stall_s=0.4)
    finally:
        kaggle.silent = False
    assert time.monotonic() - begin < 5


def test_kaggle_that_is_not_there_is_told(kaggle: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"^Kaggle could not be reached: check the network; or by hand"):
        fetch_from_kaggle(tmp_path, note=lambda line: None)


def test_damaged_archive_from_kaggle_is_not_kept(
    kaggle: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.content = b"PK\x03\x04" + bytes(1000)
    with pytest.raises(BadArchiveError, match="is damaged"):
        asked_for(tmp_path, monkeypatch, source="kaggle")
    assert visible(tmp_path / "datasets" / "kaggle") == []


@pytest.mark.usefixtures("few")
def test_links_are_no_images(few: Path, tmp_path: Path) -> None:
    tree = place_archive(few, tmp_path, on_progress=lambda done, total: None).path
    film = next((tree / "val" / "NORMAL").iterdir())
    film.unlink()
    film.symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="val/NORMAL 0 instead of 1"):
        present(tmp_path)
