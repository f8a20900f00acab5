"""Where the files of a list lie below the root: at the listed path, or wherever else one file alone has the name.

NIH's list has bare names and its archives unpack into twelve folders; CheXpert's paths begin with the folder that the
user made the root.  A file that a link leads out of the root to is refused: a list from elsewhere could name any file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cxr_experiments.errors import DataError
from cxr_experiments.images.manifest.csv_list.cells import Listed
from cxr_experiments.images.manifest.files import is_strewn

_NUM_NAMED = 5  # missing files spelt out in a message; the rest is counted
_NUM_NAMESAKES = 3  # kept of each name


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image lies: POSIX path below the root, and the whole path."""

    image_id: str
    path: str


def find_places(listed: Sequence[Listed], root: Path, list_path: Path, *, allow_missing: bool) -> list[Place]:
    """One place per listed image, in order.

    Args:
        listed: no two with one path.
        root: absolute, links resolved.
        list_path: for messages.
        allow_missing: a file that is nowhere keeps its listed place, for the store to record it as a bad one.

    Raises:
        DataError: files are missing or have namesakes, a link leads out of the root, or two lines mean one file.
    """
    own = _own_folder(listed, root)
    names = [one.path.removeprefix(own) for one in listed]
    missing = [place for place, name in enumerate(names) if not os.path.isfile(os.path.join(root, name))]
    namesakes = _namesakes({os.path.basename(names[place]) for place in missing}, root) if missing else {}
    lost = []
    for place in missing:
        found = namesakes.get(os.path.basename(names[place]), [])
        if len(found) == 1:
            names[place] = found[0]
        elif found:
            raise DataError(
                f"{list_path} line {listed[place].number}: {root / names[place]} is not there, and several files below "
                f"{root} have its name: {', '.join(found)}. The list must tell the folder too"
            )
        else:
            lost.append(place)
    if lost and not allow_missing:
        told = [f"line {listed[place].number}: {listed[place].path}" for place in lost[:_NUM_NAMED]]
        raise _refusal(told, len(lost), len(listed), root, list_path)
    _refuse_outside(names, listed, root, list_path)
    _refuse_twice(names, listed, list_path)
    return [Place(image_id=name, path=os.path.join(root, name)) for name in names]


def _own_folder(listed: Sequence[Listed], root: Path) -> str:
    """`CheXpert-v1.0-small/` where all paths begin with one folder that the root does not hold; else ""."""
    firsts = {one.path.partition("/")[0] if "/" in one.path else "" for one in listed}
    first = firsts.pop() if len(firsts) == 1 else ""
    return f"{first}/" if first and not (root / first).exists() else ""


def _namesakes(wanted: set[str], root: Path) -> dict[str, list[str]]:
    """Wanted name -> the first places below the root that have it; one walk, and only wanted names are kept."""
    found: dict[str, list[str]] = {}
    for folder, folders, files in os.walk(root, onerror=_stop):
        folders[:] = sorted(name for name in folders if not is_strewn(name))
        for name in wanted.intersection(files):
            if len(kept := found.setdefault(name, [])) < _NUM_NAMESAKES:
                kept.append(Path(folder, name).relative_to(root).as_posix())
    return found


def _refusal(told: Sequence[str], num_lost: int, num_listed: int, root: Path, list_path: Path) -> DataError:
    more = [f"  and {num_lost - len(told):,} more"] if num_lost > len(told) else []
    first = f"{list_path}: {num_lost:,} of {num_listed:,} listed files are not below {root}:"
    last = "mend data.root or data.csv_path; data.on_bad_file=skip goes on without them and records which"
    return DataError("\n".join([first, *(f"  {one}" for one in told), *more, last]))


def _refuse_outside(names: Sequence[str], listed: Sequence[Listed], root: Path, list_path: Path) -> None:
    inside: dict[str, bool] = {}  # folder -> whether it lies below the root once links are resolved
    for name, one in zip(names, listed, strict=True):
        path = os.path.join(root, name)
        folder = os.path.dirname(path)
        if folder not in inside:
            inside[folder] = Path(os.path.realpath(folder)).is_relative_to(root)
        stays = Path(os.path.realpath(path)).is_relative_to(root) if os.path.islink(path) else inside[folder]
        if not stays:
            raise DataError(
                f"{list_path} line {one.number}: a link leads from {one.path} out of {root}; "
                f"set data.root to a folder that holds the files themselves"
            )


def _refuse_twice(names: Sequence[str], listed: Sequence[Listed], list_path: Path) -> None:
    first: dict[str, int] = {}
    for name, one in zip(names, listed, strict=True):
        if (before := first.setdefault(name, one.number)) != one.number:
            raise DataError(f"{list_path} lines {before} and {one.number} both mean the file {name}; list it once")


def _stop(error: OSError) -> NoReturn:
    """`os.walk` would pass over a folder that it may not read, and its images would be missing unseen."""
    raise error
