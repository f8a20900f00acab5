"""A headless Chromium, driven by its DevTools protocol over two pipes: no driver, no port, no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST_S = 60


def chromium_path() -> str:
    """The browser's program; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(NAMES)})")
    return found


class Browser:
    """One tab. `requests` holds every address that it asked for, `console` what its scripts and policies complained."""

    def __init__(self, commands: int, answers: int) -> None:
        """`commands` and `answers` are the pipes' file descriptors."""
        self._commands, self._answers, self._rest, self._number = commands, answers, b"", 0
        self._seen: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.console: list[str] = []
        self._session = ""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        self._number += 1
        told = {"id": self._number, "method": method, "params": parameters}
        told |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(told).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 1_000_000)
            assert piece, "Chromium has gone"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        method, told = message.get("method", ""), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Log.entryAdded":
            self.console.append(told["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(told["exceptionDetails"]))
        elif method:
            self._seen.append(message)
        return message

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Wait for the load of the page that the block leads to."""
        self._seen.clear()
        yield
        deadline = time.monotonic() + LONGEST_S
        while not any(one["method"] == "Page.loadEventFired" for one in self._seen):
            assert time.monotonic() < deadline, "the page did not load"
            self("Runtime.evaluate", expression="1")
            time.sleep(0.02)

    def open(self, address: str) -> None:
        """Go there."""
        with self.loading():
            self("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """What the first such element says, white space made single."""
        return " ".join(self.run(f"document.querySelector({json.dumps(selector)}).innerText").split())

    def choose(self, selector: str, path: Path) -> None:
        """Put a file into a file input, as a person does."""
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Width and height of the window in CSS pixels, two device pixels each; light or dark."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium with a profile of its own in `folder`, which asks for nothing by itself."""
    words = [chromium_path(), "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"]
    words += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    words += ["--disable-gpu", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
    (its_commands, commands), (answers, its_answers) = os.pipe(), os.pipe()
    # the protocol asks for descriptors 3 and 4, which may be taken here by anything
    own = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (its_commands, its_answers)]

    def hand_over() -> None:
        os.dup2(own[0], 3)
        os.dup2(own[1], 4)

    home = {**os.environ, "HOME": str(folder)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, preexec_fn=hand_over, pass_fds=(3, 4), env=home, **quiet)
    for one in own:
        os.close(one)
    os.close(its_commands)
    os.close(its_answers)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)  # with the pipe the browser closes
        os.close(answers)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
