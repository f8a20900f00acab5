"""`download` against a server that cuts, lies, hangs and redirects: what arrives is right and whole, or not there."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cxr_experiments.images.download import Fetched, Listener, Patience, fetch
from cxr_experiments.images.published import PublishedFile

CONTENT = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(20_000))  # 640,000 bytes
QUICK = Patience(connect_s=2.0, stall_s=0.4, num_retries=3, num_knocks=1, backoff_s=0.01)
ETAG = '"first"'


@dataclass
class Served:
    """What the server does, and what it was asked.

    Attributes:
        content: bytes of every file.
        cuts: how many body bytes each of the next answers sends before the connection is cut.
        statuses: answered before anything else, one each.
        etag, ranges, length: what the server says of itself.
        redirect: where /moved leads.
        pause_s: before each further 64 KiB.
        asked: the headers of every request.
    """

    content: bytes = CONTENT
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    etag: str = ETAG
    ranges: bool = True
    length: bool = True
    redirect: str = ""
    pause_s: float = 0.0
    encoding: str = ""
    port: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self.port}/films/data.bin"


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    """A request handler over what is served."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

        def do_GET(self) -> None:
            served.asked.append({**dict(self.headers), "path": self.path})
            if self.path.startswith("/moved"):
                self.answer(302, {"Location": served.redirect, "Content-Length": "0"})
            elif served.statuses:
                self.answer(served.statuses.pop(0), {"Content-Length": "0", "Retry-After": "0"})
            else:
                self.send_content()

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def send_content(self) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            fits = self.headers.get("If-Range", served.etag) == served.etag
            start = int(wanted[1]) if wanted and served.ranges and fits else 0
            whole = len(served.content)
            headers = {"ETag": served.etag} if served.etag else {}
            if served.encoding:
                headers["Content-Encoding"] = served.encoding
            if start >= whole:
                self.answer(416, {"Content-Length": "0"})
                return
            if served.length:
                headers["Content-Length"] = str(whole - start)
            else:
                headers["Connection"] = "close"
            if start:
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
            self.answer(206 if start else 200, headers)
            self.send_body(served.content[start:])

        def send_body(self, body: bytes) -> None:
            cut = served.cuts.pop(0) if served.cuts else len(body)
            for start in range(0, cut, 65536):
                self.wfile.write(body[start : min(cut, start + 65536)])
                time.sleep(served.pause_s)
            self.close_connection = self.close_connection or cut < len(body) or not served.length

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True

    return Handler


@pytest.fixture
def served() -> Iterator[Served]:
    """A server on a port of its own."""
    told = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(told))
    server.daemon_threads = True
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()


def published(served: Served, content: bytes = CONTENT) -> PublishedFile:
    return PublishedFile("data.bin", served.url, hashlib.md5(content).hexdigest())


def fetched(served: Served, folder: Path, **options: object) -> Fetched:
    return fetch(published(served), folder, **{"max_bytes": 10**7, "patience": QUICK, **options})  # type: ignore[arg-type]


def names_in(folder: Path) -> set[str]:
    """What a person sees in a folder, and what they do not, locks apart."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_whole_file_arrives_and_nothing_else_stays(served: Served, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    got = fetched(served, tmp_path, listener=Listener(on_progress=lambda done, total: steps.append((done, total))))
    assert got == Fetched(tmp_path / "data.bin", was_there=False)
    assert got.path.read_bytes() == CONTENT
    assert names_in(tmp_path) == {"data.bin"}
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert fetched(served, tmp_path).was_there
    assert len(served.asked) == 1, "what is there and right is not fetched again"


def test_cut_transfers_go_on_where_they_stopped(served: Served, tmp_path: Path) -> None:
    served.cuts = [100_000, 0, 250_000]
    notes: list[str] = []
    fetched(served, tmp_path, listener=Listener(note=notes.append))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    ranges = [(asked.get("Range"), asked.get("If-Range")) for asked in served.asked]
    assert ranges == [
        (None, None),
        ("bytes=100000-", ETAG),
        ("bytes=100000-", ETAG),
        ("bytes=350000-", ETAG),
    ]
    assert len(notes) == 3
    assert "the connection was cut after 0.1 MiB" in notes[0]
