"""The only door to kagglehub: Kaggle's archive of the Kermany set, fetched by it, and unpacked by us.

`kagglehub.dataset_download` would unpack as well, without limits; so what it is made of is called here instead, of one
pinned version.  It knows Kaggle's tokens, resumes a cut transfer, and checks the MD5 that Kaggle's storage states.  It
sets no limit of time for an answer, so it works in a thread that is watched from here, and its own words are not
passed on, since they may hold signed addresses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from cxr_experiments.errors import DataError

OWNER, DATASET, VERSION = "paultimothymooney", "chest-xray-pneumonia", 2
PAGE = f"https://www.kaggle.com/datasets/{OWNER}/{DATASET}"
STALL_S = 60.0  # kagglehub's own waits, where it has any, are 5 and 15 s
NUM_TRIES = 4
_TOKEN_PAGE = "https://www.kaggle.com/settings/api"


def by_hand(folder: Path) -> str:
    """What a person can do without kagglehub."""
    return (
        f"by hand: download the archive from {PAGE}, put it into {folder} as it is, and run the same command again, "
        f"which unpacks and checks it"
    )


def partial_archive(folder: Path) -> Path:
    """Where the archive lies while it is not whole."""
    return folder / f".{DATASET}.zip.part"


def fetch_from_kaggle(
    folder: Path, *, note: Callable[[str], None], stall_s: float = STALL_S, backoff_s: float = 2.0
) -> Path:
    """Kaggle's archive in `folder`, whole; what arrived before a failure stays hidden there and is gone on with.

    Raises:
        DataError: kagglehub is not installed, or Kaggle could not be reached, or refused.
    """
    with _surroundings():
        try:
            ask = _asking()
        except ImportError as error:
            raise DataError(
                f"data=kaggle is fetched by kagglehub, which is not installed: pip install 'cxr-experiments[kaggle]'; "
                f"or {by_hand(folder)}"
            ) from error
        part, whole = partial_archive(folder), folder / f"{DATASET}.zip"
        for tries_left in reversed(range(NUM_TRIES)):
            try:
                _watched(lambda: ask(part), part, stall_s)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if not tries_left or _has_no_route(error):
                    raise DataError(f"Kaggle could not be reached: check the network; or {by_hand(folder)}") from error
                note("the connection to Kaggle was cut; trying again")
                time.sleep(backoff_s)
            except Exception as error:
                raise _translated(error, folder) from error
        os.replace(part, whole)
        return whole


def _asking() -> Callable[[Path], None]:
    """A function that brings the archive to a path.  kagglehub is an extra: it may be absent, and has no types."""
    from kagglehub import clients, exceptions, handle
    from kagglesdk.datasets.types import dataset_api_service

    logging.getLogger("kagglehub").setLevel(logging.CRITICAL)
    dataset = handle.parse_dataset_handle(f"{OWNER}/{DATASET}/versions/{VERSION}")
    request = dataset_api_service.ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug, request.dataset_version_number = OWNER, DATASET, VERSION

    def ask(path: Path) -> None:
        with clients.build_kaggle_client() as client:
            api = client.datasets.dataset_api_client
            response = exceptions.handle_call(lambda: api.download_dataset(request), dataset)
            with contextlib.closing(response):
                clients.download_file(response, str(path), dataset)

    return ask


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """kagglehub's lines go to stderr, and its bar appears on a terminal alone."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _watched(work: Callable[[], None], part: Path, stall_s: float) -> None:
    """The work, with its error if it has one; given up when `part` has not grown for `stall_s`.

    The thread is a daemon: a command that gave up, or was interrupted, ends without it.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen, since = -1, time.monotonic()
    while thread.is_alive():
        thread.join(min(1.0, stall_s / 4))
        num_bytes = part.stat().st_size if part.exists() else 0
        if num_bytes != seen:
            seen, since = num_bytes, time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > stall_s:
            raise DataError(
                f"Kaggle sent nothing for {stall_s:g} s; what has arrived is kept, and the same command goes on from "
                f"there; or {by_hand(part.parent)}"
            )
    if errors:
        raise errors[0]


def _has_no_route(error: BaseException) -> bool:
    """Whether no connection was made at all, so that trying again at once is no use."""
    return "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error)


def _translated(error: Exception, folder: Path) -> Exception:
    """kagglehub's error in our words; one that is none of its known ones is a bug, and stays what it is."""
    if isinstance(error, DataError):
        return error
    kind = type(error).__name__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if kind == "UnauthenticatedError" or status in (401, 403):
        return DataError(
            f"Kaggle wants a token, or refuses the one it was given: make one at {_TOKEN_PAGE} and put it into "
            f"~/.kaggle/access_token or KAGGLE_API_TOKEN; or {by_hand(folder)}"
        )
    if isinstance(error, requests.RequestException):
        told = f"answered {status}" if status else f"could not be asked ({kind})"
        return DataError(f"Kaggle {told}; try again later, or {by_hand(folder)}")
    if kind == "DataCorruptionError":
        return DataError("what came from Kaggle has not the MD5 that Kaggle states; nothing was kept, start again")
    if kind in ("CredentialError", "KaggleEnvironmentError", "ColabEnvironmentError", "BackendError", "NotFoundError"):
        return DataError(f"kagglehub gave up ({kind}); {by_hand(folder)}")
    if isinstance(error, ValueError) and "redentials" in str(error):
        return DataError(f"kaggle.json is no credentials file: make a token at {_TOKEN_PAGE}; or {by_hand(folder)}")
    if isinstance(error, OSError):
        return DataError(f"cannot write to {folder}: {error.strerror or kind}; what has arrived is kept")
    return error
