"""python -m cxr_experiments.download: fetch a public data set, checked, resumable, and never half there."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import DownloadConfig
from cxr_experiments.config.compose import CONF_DIR, datasets, register
from cxr_experiments.errors import ConfigError, DataError, Terminated

if TYPE_CHECKING:
    from cxr_experiments.images.download import Listener, Placed

register("download_schema", DownloadConfig)
MIB = 1024 * 1024
MAX_NPZ_BYTES = 1024 * MIB  # the largest, of 224 px, is some 200 MiB
MAX_ARCHIVE_BYTES = 16 * 1024 * MIB  # Kaggle's has 2.3 GiB, ZhangLabData with its OCT images 8
MIRRORED_NAME = "chest_xray.zip"


@hydra.main(config_path=str(CONF_DIR), config_name="download", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, fetch."""
    run_job(composed, DownloadConfig, download)


def download(config: DownloadConfig) -> None:
    """Fetch what `data` names and print where it lies, or that it lay there.

    Raises:
        ConfigError: the source is no public one, or the mirror is no address.
        DataError: it could not be had, or is not what was published.
    """
    sources: dict[str, Callable[[DownloadConfig], None]] = {
        "pneumoniamnist": download_pneumoniamnist,
        "kaggle": download_kaggle,
    }
    if config.data.source not in sources:
        raise ConfigError(f"data={config.data.source} cannot be downloaded; there are data=kaggle, data=pneumoniamnist")
    sources[config.data.source](config)


def download_pneumoniamnist(config: DownloadConfig) -> None:
    """One .npz of PneumoniaMNIST, checked against its published MD5."""
    from cxr_experiments.images.download import fetch, file_below
    from cxr_experiments.images.published import PNEUMONIAMNIST

    file = PNEUMONIAMNIST[config.data.npz_size_px]
    url = file_below(config.mirror, file.name) if config.mirror else file.url
    folder = _folder_of_npz(config, file.name)
    with _listening(file.name, folder) as listener:
        fetched = fetch(file, folder, url=url, max_bytes=MAX_NPZ_BYTES, listener=listener)
    told = (
        "is there already, and right" if fetched.was_there else f"{fetched.path.stat().st_size / MIB:.1f} MiB fetched"
    )
    print(f"{fetched.path}: {told} (MD5 {file.md5}, as published)", flush=True)
    _say_next(config, f"data=pneumoniamnist data.npz_size_px={config.data.npz_size_px}", at=_root(config))


def download_kaggle(config: DownloadConfig) -> None:
    """The Kermany set, from an archive that is named or lies there, from a mirror, or from Kaggle."""
    from cxr_experiments.images.download import NAME, Listener, alone, present

    root = _root(config)
    named = _named_archive(root)
    folder = datasets() / "kaggle" if named or root is None else root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder / NAME, Listener(note=_note).note):
            placed = present(folder)
            told = "is there already, and whole" if placed else "is there now"
            placed = placed or _bring(config, folder, named)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}; choose another place: data.root=DIR") from error
    print(f"{placed.path}: {told}, {len(placed.images):,} images", flush=True)
    print("its contents were checked by counts, not by a checksum: none is published for these archives", flush=True)
    _say_patients(placed)
    _say_next(config, "data=kaggle", at=None if named else root)


def _bring(config: DownloadConfig, folder: Path, named: Path | None) -> Placed:
    """The set in its place, from wherever it can be had."""
    from cxr_experiments.images.download import BadArchiveError, archives_in, place_archive
    from cxr_experiments.record.console import counter

    there = [named] if named else archives_in(folder)
    if len(there) > 1:
        names = ", ".join(path.name for path in there)
        raise DataError(f"{folder} holds several archives ({names}): name one with data.root=FILE")
    archive = there[0] if there else _fetch_archive(config, folder)
    is_ours = not there  # an archive that somebody put there stays
    try:
        with counter(f"unpacking {archive.name}") as on_progress:
            placed = place_archive(archive, folder, on_progress=on_progress)
    except BadArchiveError:
        if is_ours:
            archive.unlink()
        raise
    if is_ours:
        archive.unlink()
    return placed


def _fetch_archive(config: DownloadConfig, folder: Path) -> Path:
    """The archive of the Kermany set, from the mirror that is named, else from Kaggle."""
    from cxr_experiments.images.download import fetch_from_kaggle, partial_archive

    if config.mirror:
        return _fetch_mirrored(config.mirror, folder)
    try:
        return fetch_from_kaggle(folder, note=_note)
    except (KeyboardInterrupt, Terminated):
        if (part := partial_archive(folder)).exists():
            kept = f"{part.stat().st_size / MIB:.1f} MiB of Kaggle's archive"
            _note(f"{kept} are kept, and the same command goes on from there")
        raise


def _fetch_mirrored(mirror: str, folder: Path) -> Path:
    """The archive that the mirror holds: chest_xray.zip in the folder it names, or the archive it names itself."""
    from cxr_experiments.images.download import checked, fetch, file_below, is_archive
    from cxr_experiments.images.published import PublishedFile

    named = Path(checked(mirror).path)
    url = mirror if is_archive(named) else file_below(mirror, MIRRORED_NAME)
    file = PublishedFile(name=named.name if is_archive(named) else MIRRORED_NAME, url=url, md5="")
    with _listening(file.name, folder) as listener:
        return fetch(file, folder, max_bytes=MAX_ARCHIVE_BYTES, listener=listener).path


def _root(config: DownloadConfig) -> Path | None:
    return Path(config.data.root).expanduser().resolve() if config.data.root else None


def _folder_of_npz(config: DownloadConfig, name: str) -> Path:
    """`data.root` may name the file itself, as it may where the data set is read."""
    root = _root(config) or datasets() / "pneumoniamnist"
    if root.suffix != ".npz" or root.is_dir():
        return root
    if root.name != name:
        raise DataError(
            f"data.root={root}: data.npz_size_px={config.data.npz_size_px} is the file {name}; name its folder"
        )
    return root.parent


def _named_archive(root: Path | None) -> Path | None:
    """`data.root` when it is an archive and no folder."""
    from cxr_experiments.images.download import is_archive

    if root is None or root.is_dir() or not (root.is_file() or is_archive(root)):
        return None
    if not root.is_file():
        raise DataError(f"data.root={root}: there is no such archive")
    return root


@contextmanager
def _listening(name: str, folder: Path) -> Iterator[Listener]:
    """A counter for the bytes and lines for mishaps; who interrupts is told what is kept."""
    from cxr_experiments.images.download import Listener, Partial
    from cxr_experiments.record.console import counter

    try:
        with counter(f"{name}, KiB") as count:
            yield Listener(lambda done, total: count(done // 1024, (total or done) // 1024), _note)
    except (KeyboardInterrupt, Terminated):
        if num_bytes := Partial(folder / name).num_bytes:
            _note(f"{num_bytes / MIB:.1f} MiB of {name} are kept, and the same command goes on from there")
        raise


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_patients(placed: Placed) -> None:
    if placed.untold:
        _note(
            f"{len(placed.untold):,} file names tell no patient as Kaggle's do, such as {placed.untold[0]}: this is "
            f"another version of the set, which data=kaggle does not read"
        )


def _say_next(config: DownloadConfig, words: str, *, at: Path | None) -> None:
    root = f" {shlex.quote(f'data.root={at}')}" if at else ""
    print(f"next: python -m cxr_experiments.verify {words}{root}", flush=True)
    elsewhere = os.environ.get("CXR_DATA")
    if config.data.source == "kaggle" and at is None and elsewhere:
        _note(f"CXR_DATA={elsewhere} is set, and goes before this place: unset it to use what is here now")


if __name__ == "__main__":
    run_command(main, "download", DownloadConfig)
