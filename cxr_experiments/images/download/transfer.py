"""One connection: ask for the bytes that are missing, check that they belong to those that are there, append them.

An ending that another try may mend is `Broken`; any other is a DataError.  No error's own text is passed on, since
requests puts whole addresses into its own.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus

# Library: requests (proxies, certifi's certificates, URL credentials). pooch, which checks sums, does not resume.
import requests
import urllib3

from cxr_experiments.errors import DataError
from cxr_experiments.images.download.addresses import redirected, shown
from cxr_experiments.images.download.partial import Note, Partial

MIB = 1024 * 1024
MAX_REDIRECTS = 10
MIN_BYTES_PER_S = 100  # a connection slower than this over a whole `stall_s` is as good as silent
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_MOVED = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class Patience:
    """How long is waited, and how often it is tried again.

    Attributes:
        connect_s: seconds until a connection must stand.
        stall_s: seconds without a byte, or with next to none, after which a connection is given up.
        num_retries: further tries in a row that bring next to nothing.
        num_knocks: further tries at a host that was never reached.
        backoff_s: seconds before the second try; doubled each time, at most a minute.
    """

    connect_s: float = 15.0
    stall_s: float = 30.0
    num_retries: int = 5
    num_knocks: int = 2
    backoff_s: float = 1.0


@dataclass(frozen=True)
class Transfer:
    """A file on its way.

    Attributes:
        url: where from.
        partial: where to.
        has_checksum: whether the whole will be checked; only then are pieces joined without the server's validator.
        max_bytes: more is not taken.
        by_hand: what a person can do when the server will not.
        patience: how long a silent connection is waited for.
        on_progress: called with (bytes so far, bytes in all or 0).
    """

    url: str
    partial: Partial
    has_checksum: bool
    max_bytes: int
    by_hand: str
    patience: Patience
    on_progress: Callable[[int, int], None]


class Broken(Exception):
    """A connection that ended before the file did, for a reason that may pass."""

    def __init__(self, reason: str, *, was_reached: bool = True, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.was_reached = was_reached
        self.wait_s = wait_s


def receive(transfer: Transfer) -> None:
    """Bring the partial file nearer to its end over one connection; it is complete when this returns.

    Raises:
        Broken: the connection was cut, stalled or turned away for now, or the file is another one than before.
        DataError: trying again would not help.
    """
    partial = transfer.partial
    begun = _resumable(transfer)
    if begun is None:
        partial.remove()
    elif partial.num_bytes == begun.num_bytes:
        return
    with closing(_answer(transfer, begun)) as response:
        note = _accepted(response, transfer, begun)
        _check_room(transfer, note)
        _append(response, transfer, note)
    if note.num_bytes is not None and partial.num_bytes != note.num_bytes:
        raise Broken("the connection was cut")


def _resumable(transfer: Transfer) -> Note | None:
    """The note of a beginning that can be gone on with."""
    note, num_bytes = transfer.partial.note(), transfer.partial.num_bytes
    if note is None or num_bytes == 0 or note.address != shown(transfer.url):
        return None
    if note.num_bytes is not None and num_bytes > note.num_bytes:
        return None
    return note if note.validator or (transfer.has_checksum and note.num_bytes is not None) else None


def _answer(transfer: Transfer, begun: Note | None) -> requests.Response:
    """The server's answer, redirects followed by hand: requests would follow one from https down to http."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "cxr-experiments"}
    if begun is not None:
        headers["Range"] = f"bytes={transfer.partial.num_bytes}-"
        if begun.validator:
            headers["If-Range"] = begun.validator
    url = transfer.url
    for _ in range(MAX_REDIRECTS + 1):
        response = _get(url, headers, transfer.patience)
        location = response.headers.get("Location")
        if response.status_code not in _MOVED or not location:
            return response
        response.close()
        url = redirected(url, location)
    raise DataError(f"{shown(transfer.url)} redirects more than {MAX_REDIRECTS} times; nothing was fetched")


def _get(url: str, headers: Mapping[str, str], patience: Patience) -> requests.Response:
    try:
        with requests.Session() as session:
            request = session.prepare_request(requests.Request("GET", url, headers=dict(headers)))
            settings = session.merge_environment_settings(url, {}, True, None, None)
            # not session.send: it reads the body of a redirect whole, however long that is
            timeout = (patience.connect_s, patience.stall_s)
            return session.get_adapter(url).send(request, timeout=timeout, **settings)
    except requests.exceptions.SSLError as error:
        raise DataError(
            f"the certificate of {shown(url)} is not valid here; nothing was fetched. Behind a proxy with a "
            f"certificate of its own, set REQUESTS_CA_BUNDLE to the proxy's"
        ) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as error:
        raise DataError(f"{shown(url)} is no address that can be fetched") from error
    except requests.RequestException as error:
        never = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
        was_reached = not any(isinstance(cause, never) for cause in _causes(error))
        raise Broken(_reason(error, patience), was_reached=was_reached) from error


def _accepted(response: requests.Response, transfer: Transfer, begun: Note | None) -> Note:
    """The note that the partial file stands under from here on, after the answer was found to fit it."""
    status, where = response.status_code, shown(transfer.url)
    if status in _PASSING:
        raise Broken(f"{where} answered {_named(status)}", wait_s=_retry_after(response))
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and begun is not None:
        transfer.partial.remove()
        raise Broken("the file changed on the server")
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise DataError(
            f"{where} sends the file in the encoding {coding}, which was not asked for; nothing was fetched"
        )
    told = _note_of(response, transfer)
    if status == HTTPStatus.PARTIAL_CONTENT and begun is not None:
        if not _continues(response, transfer.partial.num_bytes, begun, told):
            transfer.partial.remove()
            raise Broken("the file changed on the server")
        return begun
    if status != HTTPStatus.OK:
        raise DataError(f"{where} answered {_named(status)}; {transfer.by_hand}")
    transfer.partial.begin(told)  # also when a range was asked for: the server knows none, or the file is another now
    return told


def _note_of(response: requests.Response, transfer: Transfer) -> Note:
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    return Note(shown(transfer.url), validator, int(length) if length.isdecimal() else None)


def _continues(response: requests.Response, offset: int, begun: Note, told: Note) -> bool:
    """Whether a 206 begins where we stopped, in a file of the same size and, where it says so, of the same version."""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if match is None or int(match[1]) != offset:
        return False
    same_size = match[3] == "*" or begun.num_bytes is None or int(match[3]) == begun.num_bytes
    return same_size and (not told.validator or told.validator == begun.validator)


def _check_room(transfer: Transfer, note: Note) -> None:
    if note.num_bytes is None:
        return
    if note.num_bytes > transfer.max_bytes:
        _refuse_size(transfer, f"{note.num_bytes / MIB:,.0f} MiB")
    missing = note.num_bytes - transfer.partial.num_bytes
    free = shutil.disk_usage(transfer.partial.path.parent).free
    if missing > free:
        folder = transfer.partial.target.parent
        raise DataError(
            f"{folder} has {free / MIB:,.0f} MiB free and {missing / MIB:,.0f} MiB are to come: "
            f"make room, or choose another place with data.root=DIR"
        )


def _append(response: requests.Response, transfer: Transfer, note: Note) -> None:
    partial = transfer.partial
    num_bytes = partial.num_bytes
    with partial.path.open("ab", buffering=0) as file:
        for chunk in _chunks(response, transfer.patience):
            num_bytes += len(chunk)
            if num_bytes > transfer.max_bytes:
                _refuse_size(transfer, "more")
            file.write(chunk)
            transfer.on_progress(num_bytes, note.num_bytes or 0)


def _refuse_size(transfer: Transfer, size: str) -> None:
    transfer.partial.remove()
    raise DataError(
        f"{shown(transfer.url)} sends {size} where at most {transfer.max_bytes / MIB:,.0f} MiB are expected: this is "
        f"not the published file; nothing was kept"
    )


def _chunks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The body as it comes; a connection that only drips ends as a silent one does.

    Raises:
        Broken: it was cut, or stalled.
    """
    since, arrived = time.monotonic(), 0
    while True:
        try:
            chunk = response.raw.read1(MIB, decode_content=False)
        except (urllib3.exceptions.HTTPError, requests.RequestException, OSError) as error:
            raise Broken(_reason(error, patience)) from error
        if not chunk:
            return
        yield chunk
        arrived += len(chunk)
        if time.monotonic() - since > patience.stall_s:
            if arrived < MIN_BYTES_PER_S * patience.stall_s:
                raise Broken(f"next to nothing came for {patience.stall_s:g} s")
            since, arrived = time.monotonic(), 0


def _reason(error: BaseException, patience: Patience) -> str:
    """A few words of ours for what went wrong on the way."""
    causes = list(_causes(error))
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (urllib3.exceptions.NameResolutionError, "the host's name was not found"),
        (requests.exceptions.ProxyError, "the proxy could not be reached"),  # before what it hides
        (ConnectionRefusedError, "the connection was refused"),
        ((urllib3.exceptions.ConnectTimeoutError, requests.ConnectTimeout), f"no answer in {patience.connect_s:g} s"),
        (
            (urllib3.exceptions.ReadTimeoutError, requests.ReadTimeout, TimeoutError),
            f"nothing came for {patience.stall_s:g} s",
        ),
        ((urllib3.exceptions.ProtocolError, ConnectionError), "the connection was cut"),
    )
    found = (words for kind, words in kinds if any(isinstance(cause, kind) for cause in causes))
    return next(found, "the connection failed")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that lie behind it, wherever requests and urllib3 keep them."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        behind = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [one for one in behind if isinstance(one, BaseException)]


def _retry_after(response: requests.Response) -> float:
    told = response.headers.get("Retry-After", "")
    return min(60.0, float(told)) if told.isdecimal() else 0.0


def _named(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
