"""The page in a real browser: film, answer, what is refused, reports; with scripts and without, on phone and desk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from chromium import Browser, browser
from conftest import Command, Sweep
from PIL import Image

pytestmark = pytest.mark.long

PHONE, DESK = (390, 844), (1280, 800)
STUDY = "results/ours/test"


@dataclass(frozen=True)
class Served:
    """The command at work: its address, process and home."""

    address: str
    process: psutil.Process
    home: Path


@pytest.fixture(scope="module")
def served(sweep: Sweep) -> Iterator[Served]:
    """`python -m cxr_experiments.app` on a free port, with one report; Ctrl-C ends it in order."""
    (sweep.home / STUDY).mkdir(parents=True, exist_ok=True)
    script = "<script>document.title = 'a script has run'</script>"
    (sweep.home / STUDY / "report.html").write_text(f"<title>A study</title><h1>A study</h1>{script}")
    words = [sys.executable, "-m", "cxr_experiments.app", "port=0"]
    with subprocess.Popen(words, cwd=sweep.home, env=environment(sweep.home), stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        told = app.stdout.readline()
        found = re.search(r"answers on (http://127\.0\.0\.1:[0-9]+)/ until Ctrl-C", told)
        assert found, told
        assert told.startswith("SYNTHETIC run ")
        yield Served(found[1], psutil.Process(app.pid), sweep.home)
        app.send_signal(signal.SIGINT)
        assert app.wait(timeout=30) == 0


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "CXR_HOME": str(home)}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "a film.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 240)).astype(np.uint8)).save(path)
    return path


def large(folder: Path) -> Path:
    """50 MB that begin like a JPEG file."""
    path = folder / "large.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0" + b"\0" * 50_000_000)
    return path


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_chosen_film_is_answered_as_predict_answers(
    served: Served, tab: Browser, film: Path, command: Command, size: tuple[int, int]
) -> None:
    tab.requests.clear()
    tab.console.clear()
    tab.size(*size)
    tab.open(f"{served.address}/")
    with tab.loading():
        tab.choose("#film", film)
    run = tab.text("section.run code")
    said = json.loads(command("predict", f"run={run}", "json=true", str(film), home=served.home).out)
    assert float(tab.run("document.querySelector('data').value")) == said["probability"]
    assert tab.text(".verdict").startswith(f"{said['label']} SYNTHETIC {said['probability']:.4f}")
    assert tab.text(".file") == "a film.png"
    assert tab.text(".worth") == "Heat maps: not validated on this model"
    assert "Not for clinical use." in tab.text("body")
    sizes = tab.run("[...document.images].map(one => [one.complete, one.naturalWidth, one.naturalHeight])")
    assert sizes == [[True, 576, 720]] * 2
    assert tab.run("document.documentElement.scrollWidth") <= size[0], "nothing sticks out"
    assert tab.console == []
    assert {one for one in tab.requests if not one.startswith((f"{served.address}/", "data:image/png"))} == set()


def test_dropped_film_is_answered(served: Served, tab: Browser, film: Path) -> None:
    tab.size(*DESK)
    tab.open(f"{served.address}/")
    dropped = {"items": [], "files": [str(film)], "dragOperationsMask": 1}
    with tab.loading():
        for kind in ("dragEnter", "dragOver", "drop"):
            tab("Input.dispatchDragEvent", type=kind, x=640, y=300, data=dropped)
    assert tab.text(".file") == "a film.png"


def test_broken_film_is_one_clear_line(served: Served, tab: Browser, tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_text("no film")
    tab.open(f"{served.address}/")
    with tab.loading():
        tab.choose("#film", tmp_path / "broken.dcm")
    assert tab.text("[role=alert]") == "broken.dcm: not a JPEG, PNG or DICOM file"
    assert tab.run("document.querySelector('.verdict')") is None


def test_film_of_50_mb_is_refused_before_it_is_sent(served: Served, tab: Browser, tmp_path: Path) -> None:
    tab.open(f"{served.address}/")
    tab.requests.clear()
    tab.choose("#film", large(tmp_path))
    assert tab.text(".said") == "large.jpg has 50.0 MB: at most 48 MB are read."
    assert tab.requests == []


def test_form_works_without_scripts_and_refuses_50_mb_without_keeping_them(
    served: Served, tab: Browser, film: Path, tmp_path: Path
) -> None:
    try:
        tab("Emulation.setScriptExecutionDisabled", value=True)
        tab.open(f"{served.address}/")
        tab.choose("#film", film)
        press(tab)
        assert tab.text(".file") == "a film.png"
        before = peak_mb(served)
        tab.open(f"{served.address}/")
        tab.choose("#film", large(tmp_path))
        press(tab)
        assert "It has more than 48 MB and was not read." in tab.text("[role=alert]")
        assert peak_mb(served) - before < 30
    finally:
        tab("Emulation.setScriptExecutionDisabled", value=False)


def press(tab: Browser) -> None:
    """The form's button, with the mouse."""
    place = tab.run(
        "(one => (one.scrollIntoView({block: 'center'}), "
        "(box => [box.x + box.width / 2, box.y + box.height / 2])(one.getBoundingClientRect())))"
        "(document.querySelector('form.drop button'))"
    )
    with tab.loading():
        for kind in ("mousePressed", "mouseReleased"):
            tab("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)


def peak_mb(served: Served) -> float:
    """The most memory that the server has had, by Linux."""
    told = Path(f"/proc/{served.process.pid}/status")
    if not told.is_file():
        pytest.skip("only Linux tells the peak of a process's memory")
    return int(re.findall(r"VmHWM:\s+([0-9]+) kB", told.read_text())[0]) / 1000


def test_reports_are_browsed_and_their_scripts_stay_silent(served: Served, tab: Browser) -> None:
    tab.size(*PHONE)
    tab.open(f"{served.address}/")
    with tab.loading():
        tab.run("document.querySelector('nav a[href=\"/reports\"]').click()")
    assert tab.run("document.documentElement.scrollWidth") <= PHONE[0]
    with tab.loading():
        tab.run("document.querySelector('.list a').click()")
    assert tab.run("location.pathname") == "/reports/study/ours/test"
    assert tab.run("[document.title, document.querySelector('h1').textContent]") == ["A study", "A study"]


def test_page_from_elsewhere_gets_no_answer(served: Served, tab: Browser, film: Path, tmp_path: Path) -> None:
    form = f'<form action="{served.address}/answer" method="post" enctype="multipart/form-data">'
    (tmp_path / "evil.html").write_text(f'{form}<input type="file" name="film"></form>')
    tab.open((tmp_path / "evil.html").as_uri())
    tab.choose("input", film)
    with tab.loading():
        tab.run("document.forms[0].submit()")
    assert "A page from elsewhere sent this film" in tab.text("[role=alert]")


def test_server_listens_on_this_machine_alone(served: Served) -> None:
    every = served.process.net_connections("inet")
    assert {one.laddr.ip for one in every if one.status == "LISTEN"} == {"127.0.0.1"}
