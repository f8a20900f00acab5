"""The only door to kagglehub: Kaggle's archive of the Kermany set, fetched and unpacked by it into a folder of ours.

kagglehub resumes a cut transfer from its folder, checks the MD5 that Kaggle's storage states, and unpacks by the
standard library; it sets no limit of time for an answer, so it works in a thread that is watched from here.  Its own
words are not passed on, since they may hold signed addresses.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from cxr_experiments.errors import DataError

HANDLE = "paultimothymooney/chest-xray-pneumonia/versions/2"
PAGE = "https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia"
CACHE_NAME = ".kagglehub"
STALL_S = 90.0  # its own waits are 5 and 15 s; unpacking writes all the time
NUM_TRIES = 4
_TOKEN_PAGE = "https://www.kaggle.com/settings/api"


def by_hand(folder: Path) -> str:
    """What a person can do without kagglehub."""
    return (
        f"by hand: download the archive from {PAGE}, put it into {folder} as it is, and run the same command again, "
        f"which unpacks and checks it"
    )


def remove_cache(folder: Path) -> None:
    """Throw away what kagglehub left in `folder`."""
    shutil.rmtree(folder / CACHE_NAME, ignore_errors=True)


def fetch_from_kaggle(
    folder: Path, *, note: Callable[[str], None], stall_s: float = STALL_S, backoff_s: float = 2.0
) -> Path:
    """Kaggle's archive, unpacked below `folder`/.kagglehub; what arrived before a failure stays there and is resumed.

    Raises:
        DataError: kagglehub is not installed, or Kaggle could not be reached, or refused.
    """
    cache = folder / CACHE_NAME
    try:
        return _fetched(folder, note=note, stall_s=stall_s, backoff_s=backoff_s)
    finally:
        if _num_bytes_below(cache) == 0:
            remove_cache(folder)


def _fetched(folder: Path, *, note: Callable[[str], None], stall_s: float, backoff_s: float) -> Path:
    cache = folder / CACHE_NAME
    try:
        with _surroundings(cache):
            kagglehub: Any = importlib.import_module("kagglehub")  # an extra: it may be absent, and has no types
    except ImportError as error:
        raise DataError(
            f"data=kaggle is fetched by kagglehub, which is not installed: pip install 'cxr-experiments[kaggle]'; or "
            f"{by_hand(folder)}"
        ) from error
    for tries_left in reversed(range(NUM_TRIES)):
        try:
            with _surroundings(cache):
                return Path(_watched(lambda: str(kagglehub.dataset_download(HANDLE)), folder, stall_s))
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if not tries_left or _has_no_route(error):
                raise DataError(f"Kaggle could not be reached: check the network; or {by_hand(folder)}") from error
            note("the connection to Kaggle was cut; going on from there")
            time.sleep(backoff_s)
        except Exception as error:
            raise _translated(error, folder) from error
    raise AssertionError("the last try raises")


@contextlib.contextmanager
def _surroundings(cache: Path) -> Iterator[None]:
    """kagglehub's folder is ours, its lines go to stderr, and its bars appear on a terminal alone."""
    wanted = {"KAGGLEHUB_CACHE": str(cache), "KAGGLEHUB_VERBOSITY": "error"}
    if not sys.stderr.isatty():
        wanted["TQDM_DISABLE"] = "1"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _watched(work: Callable[[], str], folder: Path, stall_s: float) -> str:
    """The work's result, or its error; given up when it has written nothing for `stall_s`.

    The thread is a daemon: a command that gave up, or was interrupted, ends without it.
    """
    results: list[str] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen, since = -1, time.monotonic()
    while thread.is_alive():
        thread.join(min(2.0, stall_s / 4))
        written = _num_bytes_below(folder / CACHE_NAME)
        if written != seen:
            seen, since = written, time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > stall_s:
            raise DataError(
                f"Kaggle sent nothing for {stall_s:g} s; what has arrived is kept, and the same command goes on from "
                f"there; or {by_hand(folder)}"
            )
    if errors:
        raise errors[0]
    return results[0]


def _num_bytes_below(folder: Path) -> int:
    total = 0
    for current, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(current, name)).st_size
    return total


def _has_no_route(error: BaseException) -> bool:
    """Whether no connection was made at all, so that trying again at once is no use."""
    return "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)


def _translated(error: Exception, folder: Path) -> Exception:
    """kagglehub's error in our words; one that is none of its known ones is a bug, and stays what it is."""
    if isinstance(error, DataError):
        return error
    kind = type(error).__name__
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if kind == "UnauthenticatedError" or status in (401, 403):
        return DataError(
            f"Kaggle wants a token, or refuses the one it was given: make one at {_TOKEN_PAGE} and put it into "
            f"~/.kaggle/access_token or KAGGLE_API_TOKEN; or {by_hand(folder)}"
        )
    if isinstance(error, requests.RequestException):
        told = f"answered {status}" if status else f"could not be asked ({kind})"
        return DataError(f"Kaggle {told}; try again later, or {by_hand(folder)}")
    if kind == "DataCorruptionError" or isinstance(error, zipfile.BadZipFile | tarfile.TarError | EOFError):
        remove_cache(folder)
        return DataError("what came from Kaggle is damaged and was thrown away; start again")
    if kind in ("CredentialError", "KaggleEnvironmentError", "ColabEnvironmentError", "BackendError", "NotFoundError"):
        return DataError(f"kagglehub gave up ({kind}); {by_hand(folder)}")
    if isinstance(error, ValueError) and "redentials" in str(error):
        return DataError(f"~/.kaggle/kaggle.json is no credentials file; make a token at {_TOKEN_PAGE}")
    if isinstance(error, OSError):
        return DataError(f"cannot write to {folder}: {error.strerror or kind}; what has arrived is kept")
    return error
