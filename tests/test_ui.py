"""`make ui` listens on this machine alone, and answers no page that comes from elsewhere."""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def ui(home: Path, port: int) -> Iterator[psutil.Process]:
    """The server, started by the words of the Makefile's own recipe, once it answers."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MLFLOW"))}
    words = ["make", "-n", "-o", "install", "ui", f"PORT={port}", f"CXR_HOME={home}"]
    recipe = subprocess.run(words, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    (line,) = (one for one in recipe.replace("\\\n", " ").splitlines() if "mlflow server" in one)
    setting, _, *options = shlex.split(line)
    (home / "mlruns").mkdir()
    started = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *options],
        env={**outside, "MLFLOW_DISABLE_TELEMETRY": "true", **dict([setting.split("=")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process = psutil.Process(started.pid)
    try:
        wait_until_answers(port)
        yield process
    finally:
        for one in [*process.children(recursive=True), process]:
            one.terminate()
        started.wait(timeout=30)


def wait_until_answers(port: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.3)
    pytest.fail("the MLflow server did not start within 240 s")


def ask(port: int, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body or None, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_ui_answers_this_machine_alone_and_no_page_from_elsewhere(tmp_path: Path) -> None:
    port, new, search = free_port(), "/api/2.0/mlflow/experiments/create", "/api/2.0/mlflow/experiments/search"
    with ui(tmp_path, port) as server:
        every = [server, *server.children(recursive=True)]
        listening = [one.laddr for each in every for one in each.net_connections("inet") if one.status == "LISTEN"]
        assert {place.ip for place in listening} == {"127.0.0.1"}
        assert port in {place.port for place in listening}
        page = ask(port, "GET", "/", Host=f"localhost:{port}")
        assert page.status == 200
        assert page.getheader("X-Frame-Options") == "SAMEORIGIN"
        for host in ("evil.example", f"evil.example:{port}", "192.168.0.9", "127.0.0.1.evil.example"):
            assert ask(port, "GET", "/", Host=host).status == 403, host
            assert ask(port, "POST", search, '{"max_results": 5}', Host=host).status == 403, host
        own, foreign = f"http://127.0.0.1:{port}", "https://evil.example"
        assert ask(port, "POST", new, '{"name": "a"}', Origin=foreign).status == 403
        assert ask(port, "POST", new, '{"name": "b"}', Origin=own).status == 200
        read = ask(port, "GET", f"{search}?max_results=5", Origin=foreign)
        assert read.getheader("Access-Control-Allow-Origin") not in (foreign, "*"), "a page elsewhere may not read it"
