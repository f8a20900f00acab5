"""A real MLflow server that can be killed, behind a door that can hang or answer 500."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.request import urlopen


class TrackingServer:
    """`mlflow server` on a free port of this machine, with its database and artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "server.db"

    def start(self) -> None:
        """Start it, again on the same port, and wait until it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
             "--workers", "1", "--backend-store-uri", f"sqlite:///{self.database}",
             "--artifacts-destination", str(self.folder / "kept")],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.3)
        raise TimeoutError("the MLflow server did not start within 120 s")

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
        self.process.wait(timeout=30)


class Door:
    """Hands requests on to a server, or does not.

    Attributes:
        mode: `pass`, `hang` (takes the request and never answers), `error` (answers 500).
    """

    def __init__(self, behind: TrackingServer) -> None:
        self.mode, self.behind, self.closed = "pass", behind, Event()
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) + self.chunks()
                if door.mode == "hang":
                    door.closed.wait(600)
                    self.close_connection = True
                elif door.mode == "error":
                    self.answer(500, b"an error of the test's")
                else:
                    door.hand_on(self, body)

            def chunks(self) -> bytes:
                """A body without a length: so requests sends an empty file."""
                parts = []
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                return b"".join(parts)

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, daemon=True).start()

    def hand_on(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        connection = HTTPConnection("127.0.0.1", self.behind.port, timeout=60)
        own = ("host", "content-length", "transfer-encoding")
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in own}
        try:
            connection.request(handler.command, handler.path, body, headers)
            answer = connection.getresponse()
            handler.answer(answer.status, answer.read())  # type: ignore[attr-defined]
        except (OSError, HTTPException):  # killed: the connection breaks off
            handler.close_connection = True
        finally:
            connection.close()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def server_behind_door(folder: Path) -> Iterator[tuple[TrackingServer, Door]]:
    """Both, and neither is left behind."""
    server = TrackingServer(folder)
    door = Door(server)
    try:
        yield server, door
    finally:
        door.close()
        server.kill()
