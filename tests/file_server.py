"""An HTTP server for tests of downloads, on a port of its own, which misbehaves as it is told."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONTENT = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(20_000))  # 640,000 bytes
ETAG = '"first"'


@dataclass
class Served:
    """What the server does, and what it was asked.

    Attributes:
        content: bytes of every file.
        cuts: how many body bytes each of the next answers sends before the connection is cut.
        statuses: answered before anything else, one each.
        etag, ranges, length: what the server says of itself.
        redirect: where every path under /moved leads.
        pause_s: after each 64 KiB.
        encoding: a Content-Encoding that nobody asked for.
        obeys_if_range: whether a range of another version is refused.
        goes_back: how many bytes before the range that was asked for an answer begins.
        most_per_range: at most so many bytes of a range are sent; 0 is all.
        silent: whether nothing follows the headers until this is unset.
        drip: whether a byte comes every twentieth of a second, and no more.
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
    drip: bool = False
    silent: bool = False
    obeys_if_range: bool = True
    goes_back: int = 0
    most_per_range: int = 0
    scheme: str = "http"
    port: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{self.scheme}://127.0.0.1:{self.port}/films/data.bin"


def handler_of(served: Served) -> type[BaseHTTPRequestHandler]:
    """A request handler over what is served."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

        def do_GET(self) -> None:
            served.asked.append({**dict(self.headers), "path": self.path})
            if self.path.startswith("/moved"):
                self.answer(302, {"Location": served.redirect, "Content-Length": "1000000"})  # a body that never comes
            elif served.statuses:
                self.answer(served.statuses.pop(0), {"Content-Length": "0", "Retry-After": "0"})
            else:
                self.send_content()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def send_content(self) -> None:
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            fits = not served.obeys_if_range or self.headers.get("If-Range", served.etag) == served.etag
            start = int(wanted[1]) if wanted and served.ranges and fits else 0
            whole = len(served.content)
            start = max(1, start - served.goes_back) if start else 0
            end = min(whole, start + served.most_per_range) if start and served.most_per_range else whole
            headers = {"ETag": served.etag} if served.etag else {}
            headers["Accept-Ranges"] = "bytes" if served.ranges else "none"
            if served.encoding:
                headers["Content-Encoding"] = served.encoding
            if start >= whole:
                self.answer(416, {"Content-Length": "0"})
                return
            if served.length:
                headers["Content-Length"] = str(end - start)
            else:
                headers["Connection"] = "close"
            if start:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{whole}"
            self.answer(206 if start else 200, headers)
            self.send_body(served.content[start:end])

        def send_body(self, body: bytes) -> None:
            cut = served.cuts.pop(0) if served.cuts else len(body)
            while served.silent:
                time.sleep(0.02)
            while served.drip:
                self.wfile.write(body[:1])
                time.sleep(0.05)
            for start in range(0, cut, 65536):
                self.wfile.write(body[start : min(cut, start + 65536)])
                time.sleep(served.pause_s)
            self.close_connection = self.close_connection or cut < len(body) or not served.length

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ssl.SSLError):  # the client has gone
                self.close_connection = True

    return Handler


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Served]:
    """A server that runs until the end of the block; https with a file that holds certificate and key."""
    told = Served(scheme="https" if certificate else "http")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(told))
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    told.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
