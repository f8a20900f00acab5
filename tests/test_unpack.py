"""Archives from strangers: what leads out of the folder, or fills the disk, is refused before anything is written."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_experiments.errors import DataError
from cxr_experiments.images.download import BadArchiveError
from cxr_experiments.images.download.entries import Limits
from cxr_experiments.images.download.layout import chosen_images, shortfall, untold_patients
from cxr_experiments.images.download.names import check_clashes, safe_path
from cxr_experiments.images.download.unpack import unpack

Members = Mapping[str, bytes]
NOISE = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(4_000))  # 128,000 bytes
GOOD: Members = {"a/one.txt": b"one", "a/b/two.txt": NOISE, "three": b""}


def everything(paths: Iterable[PurePosixPath]) -> Mapping[PurePosixPath, PurePosixPath]:
    return {path: path for path in paths}


def zipped(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would mend a backslash or cut at a NUL
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def tarred(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def gzipped(path: Path, members: Members) -> Path:
    path.write_bytes(gzip.compress(tarred(path, members).read_bytes(), 1))
    return path


def bzipped(path: Path, members: Members) -> Path:
    path.write_bytes(bz2.compress(tarred(path, members).read_bytes(), 1))
    return path


FORMATS = [zipped, tarred, gzipped, bzipped]
Packed = Callable[[Path, Members], Path]


def refused(archive: Path, *, limits: Limits = Limits()) -> str:  # noqa: B008  # frozen
    """Why the archive is refused; nothing may stand beside it then."""
    with pytest.raises(DataError) as told:
        unpack(archive, archive.parent / "out", everything, limits=limits)
    assert os.listdir(archive.parent) == [archive.name]
    return str(told.value)


@pytest.mark.parametrize("packed", FORMATS)
def test_good_archive_is_unpacked_as_it_was(packed: Packed, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    archive = packed(tmp_path / "archive", GOOD)
    written = unpack(archive, tmp_path / "out", everything, on_progress=lambda *step: steps.append(step))
    assert {str(path): (tmp_path / "out" / path).read_bytes() for path in written} == dict(GOOD)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_only_what_is_chosen_is_written_and_old_remains_go(tmp_path: Path) -> None:
    (tmp_path / "out" / "old").mkdir(parents=True)
    archive = zipped(tmp_path / "archive", GOOD)
    written = unpack(archive, tmp_path / "out", lambda paths: {PurePosixPath("a/one.txt"): PurePosixPath("x/y.txt")})
    assert written == [PurePosixPath("x/y.txt")]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")] == ["x", "x/y.txt"]


@pytest.mark.parametrize("packed", FORMATS)
@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "a/../../evil", "a/..", "/etc/evil", "//evil", "a//b", "C:/evil", "C:evil", "a/b:stream"),
        *("..\\evil", "a\\b", "a/./b", "a\nb", "a\x1b[2J", "NUL", "a/com1.txt", "Aux.jpeg", "a.", "a ", "a/. /b"),
        *("x" * 256, "/".join(["d"] * 33), "\u00e9" * 128),
    ],
)
def test_name_that_leads_elsewhere_is_refused(name: str, packed: Packed, tmp_path: Path) -> None:
    told = refused(packed(tmp_path / "archive", {"good": b"x", name: b"evil"}))
    assert "nothing was unpacked" in told
    assert "\n" not in told
    assert "\x1b" not in told


def test_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"good": b"x", "evil_.jpeg": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"evil_.", b"evil\0."))
    assert "a control character" in refused(archive)


def test_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "archive", {"good": b"x", "evil_name": b"x"})
    content = bytearray(archive.read_bytes().replace(b"evil_name", b"evil\xffname"))
    start = content.index(b"evil\xff")
    header = bytes(content[start : start + 148]) + b" " * 8 + bytes(content[start + 156 : start + 512])
    content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    archive.write_bytes(bytes(content))
    assert "bytes that are no text" in refused(archive)


@pytest.mark.parametrize("packed", FORMATS)
@pytest.mark.parametrize("names", [("A/x", "a/x"), ("a", "A"), ("a/b", "a"), ("\u00e9", "e\u0301"), ("a/x", "A/y")])
def test_names_that_are_one_file_elsewhere_are_refused(names: tuple[str, str], packed: Packed, tmp_path: Path) -> None:
    told = refused(packed(tmp_path / "archive", dict.fromkeys(names, b"x")))
    assert "which are one file on some systems" in told


def test_same_name_twice_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"film": b"one", "fil_": b"two"})
    archive.write_bytes(archive.read_bytes().replace(b"fil_", b"film"))
    assert "two members called 'film'" in refused(archive)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE]
)
def test_link_or_device_in_a_tar_is_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive", "w") as archive:
        info = tarfile.TarInfo("film.jpeg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert "is a link, a device or the like" in refused(tmp_path / "archive")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_link_or_device_in_a_zip_is_refused(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        info = zipfile.ZipInfo("film.jpeg")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert "is a link, a device or the like" in refused(tmp_path / "archive")


def test_permissions_of_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        info = zipfile.ZipInfo("film.jpeg")
        info.external_attr = (stat.S_IFREG | stat.S_ISUID | 0o777) << 16
        archive.writestr(info, "x")
    unpack(tmp_path / "archive", tmp_path / "out", everything)
    assert not (tmp_path / "out" / "film.jpeg").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


def test_zip_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"film.jpeg": bytes(50 * 2**20)})
    assert archive.stat().st_size < 100_000
    assert "to 52,428,800 bytes: no film does" in refused(archive)


@pytest.mark.parametrize("packed", [gzipped, bzipped])
def test_tar_bomb_is_refused_before_it_is_unpacked(packed: Packed, tmp_path: Path) -> None:
    archive = packed(tmp_path / "archive", {"film.jpeg": bytes(70 * 2**20), "last": b"x"})
    begin = time.monotonic()
    assert "the archive holds more than any such data set" in refused(archive, limits=Limits(ratio=10))
    assert time.monotonic() - begin < 10


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """Two entries of the list point to one member, as in archives that unpack to petabytes."""
    archive = zipped(tmp_path / "archive", {"one.txt": b"kernel" * 100, "two.txt": b"x"})
    content = bytearray(archive.read_bytes())
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    archive.write_bytes(bytes(content))
    assert "overlaps another" in refused(archive)


def test_too_many_too_large_and_too_much_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", GOOD)
    assert "more than 2 members" in refused(archive, limits=Limits(num_entries=2))
    assert "128,000 bytes: no film has" in refused(archive, limits=Limits(file_bytes=10**5))
    assert "the archive's files have 128,003 bytes" in refused(archive, limits=Limits(total_bytes=10**5))
    plain = tarred(archive, GOOD)
    assert "more than 2 members" in refused(plain, limits=Limits(num_entries=2))
    assert "holds more than any such data set" in refused(plain, limits=Limits(total_bytes=10**5))


def test_header_that_asks_for_memory_is_refused(tmp_path: Path) -> None:
    """A name of 3 GiB in a tar; a list of members of 4 GiB in a zip."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3 * 2**30
    (tmp_path / "archive").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10**5))
    assert "has a header of 3,072 MiB" in refused(tmp_path / "archive")
    zipped(tmp_path / "archive", GOOD)
    content = bytearray((tmp_path / "archive").read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 2**32 - 2)
    (tmp_path / "archive").write_bytes(bytes(content))
    assert "damaged" in refused(tmp_path / "archive")


def test_negative_size_is_refused_and_ends(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("film.jpeg")
        info.pax_headers = {"size": "-512"}
        archive.addfile(info)
    begin = time.monotonic()
    refused(tmp_path / "archive")
    assert time.monotonic() - begin < 5


def test_encrypted_or_unusually_packed_members_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"film.jpeg": b"x" * 100})
    content = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    archive.write_bytes(bytes(content))
    assert "is encrypted; nothing was unpacked" in refused(archive)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as lzma:
        lzma.writestr("film.jpeg", b"x" * 100)
    assert "packed by an unusual method" in refused(archive)


@pytest.mark.parametrize(
    "content", [b"", b"<html>Not found</html>", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", bytes(1000)]
)
def test_what_is_no_archive_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    told = refused(tmp_path / "archive")
    assert "neither a zip nor a tar" in told or "damaged" in told


@pytest.mark.parametrize("packed", FORMATS)
def test_damaged_contents_leave_nothing(packed: Packed, tmp_path: Path) -> None:
    archive = packed(tmp_path / "archive", {"a/one.jpeg": b"x", "a/two.jpeg": NOISE})
    content = bytearray(archive.read_bytes())
    if packed is tarred:
        del content[len(content) // 2 :]  # a tar has no checksum over contents
    else:
        content[len(content) // 2] ^= 0xFF
    archive.write_bytes(bytes(content))
    told = refused(archive)
    assert "damaged" in told or "ends after" in told


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_bytes_is_refused_or_unpacks_below(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    packed = data.draw(st.sampled_from(FORMATS))
    content = bytearray(packed(folder / "archive", {"a/one": b"one" * 9, "b": b"two"}).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "archive").write_bytes(bytes(content))
    try:
        written = unpack(folder / "archive", folder / "out", everything)
    except DataError:
        assert os.listdir(folder) == ["archive"]
        return
    assert all((folder / "out" / path).resolve().is_relative_to(folder / "out") for path in written)
    assert sorted(os.listdir(folder)) == ["archive", "out"]


PART = st.text(min_size=1, max_size=6) | st.sampled_from(["..", ".", "", "a", "C:", "con", "..\\", "a/..", "\0"])


@given(st.lists(PART, min_size=1, max_size=5).map("/".join))
def test_any_name_is_refused_or_stays_below(name: str) -> None:
    try:
        path = safe_path(name)
    except BadArchiveError as error:
        told = str(error)
        assert told.encode(), "it can be printed"
        assert "\n" not in told
        return
    below = os.path.normpath(os.path.join("/somewhere/below", str(path)))
    assert below == os.path.join("/somewhere/below", str(path)).removesuffix("/.")
    assert below.startswith("/somewhere/below")
    assert not set("\\:\0") & set(str(path))
    check_clashes([path])


def test_usual_names_are_kept() -> None:
    for name in (
        "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
        "__MACOSX/._x",
        "R\u00f6ntgen/1 (2).jpeg",
        ".DS_Store",
    ):
        assert str(safe_path(name)) == name
    assert safe_path("./") == safe_path(".") == PurePosixPath()
    assert safe_path("././a/b/") == PurePosixPath("a/b")


def test_interrupted_unpacking_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {f"{number}": bytes(100) for number in range(10)})

    def stop(done: int, total: int) -> None:
        if done == 5:
            assert len(os.listdir(tmp_path / "out")) == 5
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out", everything, on_progress=stop)
    assert os.listdir(tmp_path) == ["archive"]


def test_disk_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    zipped(tmp_path / "archive", {"film.jpeg": os.urandom(500_000)})
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from cxr_experiments.errors import DataError\n"
        "from cxr_experiments.images.download.unpack import unpack\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "here = Path(sys.argv[1])\n"
        "try:\n"
        "    unpack(here / 'archive', here / 'out', lambda paths: {path: path for path in paths})\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"cannot write {tmp_path}/out/film.jpeg: File too large\n", done.stdout + done.stderr
    assert os.listdir(tmp_path) == ["archive"]


def test_archive_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", GOOD)

    def choose(paths: Iterable[PurePosixPath]) -> Mapping[PurePosixPath, PurePosixPath]:
        chosen = everything(paths)
        zipped(archive, {"a/one.txt": b"one"})
        return chosen

    with pytest.raises(DataError, match="changed while it was unpacked"):
        unpack(archive, tmp_path / "out", choose)
    assert os.listdir(tmp_path) == ["archive"]


def test_outermost_tree_is_chosen_and_nothing_else() -> None:
    wanted = ["train/NORMAL/IM-1-1.jpeg", "test/PNEUMONIA/person1_virus_1.jpeg", "val/NORMAL/IM-2-1.JPEG"]
    others = ["train/NORMAL/notes.txt", "train/.DS_Store", "train/OTHER/a.jpeg", "__MACOSX/train/NORMAL/._IM-1-1.jpeg"]
    for top in ("", "chest_xray/", "CellData/chest_xray/"):
        inner = [f"{top}chest_xray/{name}" for name in wanted]
        paths = [PurePosixPath(f"{top}{name}") for name in [*wanted, *others]] + [PurePosixPath(name) for name in inner]
        chosen = chosen_images([*paths, PurePosixPath("CellData/OCT/train/NORMAL/x.jpeg")], Path("archive.zip"))
        assert {str(path): str(to) for path, to in chosen.items()} == {f"{top}{name}": name for name in wanted}


def test_archive_without_or_with_two_trees_is_refused() -> None:
    with pytest.raises(BadArchiveError, match=r"archive\.zip holds no images below train/NORMAL"):
        chosen_images([PurePosixPath("train/NORMAL/a.jpeg")], Path("archive.zip"))
    twice = [PurePosixPath(f"{top}/{split}/NORMAL/a.jpeg") for top in "ab" for split in ("train", "test")]
    with pytest.raises(BadArchiveError, match=r"holds the set twice, below a and b"):
        chosen_images(twice, Path("archive.zip"))


def numbered(split: str, label: str, number: int) -> list[PurePosixPath]:
    return [PurePosixPath(split, label, f"{index}.jpeg") for index in range(number)]


def test_shortfall_names_split_class_and_both_numbers() -> None:
    test = numbered("test", "NORMAL", 234) + numbered("test", "PNEUMONIA", 390)
    val = numbered("val", "NORMAL", 8) + numbered("val", "PNEUMONIA", 8)
    kaggle = numbered("train", "NORMAL", 1341) + numbered("train", "PNEUMONIA", 3875) + val + test
    mendeley = numbered("train", "NORMAL", 1349) + numbered("train", "PNEUMONIA", 3883) + test
    assert shortfall(kaggle) == shortfall(mendeley) == ""
    assert shortfall(kaggle[1:]) == "train/NORMAL 1,340 instead of 1,341"
    assert shortfall([*mendeley, PurePosixPath("test/NORMAL/more.jpeg")]) == "test/NORMAL 235 instead of 234"


def test_names_of_later_versions_are_told() -> None:
    names = ("IM-0115-0001.jpeg", "NORMAL-1003233-0001.jpeg")
    assert untold_patients([PurePosixPath("train/NORMAL", name) for name in names]) == (names[1],)
