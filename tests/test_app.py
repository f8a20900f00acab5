"""The page answers as `predict` does, refuses what comes from elsewhere, keeps nothing, and shows reports alone."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Sweep
from dicom_files import dicom
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from cxr_experiments.app.__main__ import first_run
from cxr_experiments.app.asking import Desk, ask
from cxr_experiments.app.finished import newest_runs
from cxr_experiments.app.kept_reports import kept_reports
from cxr_experiments.app.scale import LEFT, RIGHT, draw_scale, place
from cxr_experiments.app.server import free_socket
from cxr_experiments.app.site import MB, build_site
from cxr_experiments.config.commands import AppConfig, PredictConfig
from cxr_experiments.errors import ConfigError, LeakageError, RunError
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.similar import SAME, similar_films
from cxr_experiments.evidence.stats import proportion_interval
from cxr_experiments.predict.__main__ import predict_images
from cxr_experiments.record.answers import network_of

OWN = "http://127.0.0.1:5001"


@pytest.fixture(scope="module")
def desk(sweep: Sweep) -> Desk:
    """The sweep's newest run, ready to be asked."""
    return Desk(sweep.home, newest_runs(sweep.home / "runs")[0])


@pytest.fixture
def client(desk: Desk) -> FlaskClient:
    return build_site(desk, max_upload_mb=1).test_client()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One film of each kind: 16-bit and colour among them."""
    folder = tmp_path_factory.mktemp("films")
    pixels = np.random.default_rng(0).integers(0, 4096, (90, 70)).astype(np.uint16)
    (folder / "film").write_bytes(dicom(pixels))
    gray = (pixels // 16).astype(np.uint8)
    Image.fromarray(pixels * 16).save(folder / "film.png")
    Image.fromarray(np.dstack([gray, gray // 2, gray])).save(folder / "film.jpg")
    return {path.name: path for path in folder.iterdir()}


def send(client: FlaskClient, name: str, content: bytes, **more: Any) -> TestResponse:
    """A film sent by the form; put together here, as Werkzeug's own client writes large ones to a temporary file."""
    head = f'--b\r\nContent-Disposition: form-data; name="film"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--b--\r\n"
    return client.post("/answer", base_url=OWN, data=body, content_type="multipart/form-data; boundary=b", **more)


def words(answer: TestResponse) -> str:
    """What a page says, without its marks."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def test_page_and_predict_agree_to_the_digit(
    desk: Desk,
    client: FlaskClient,
    films: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CXR_HOME", str(desk.home))
    for name, path in list(films.items())[:2]:
        predict_images(PredictConfig(run=desk.first.run_id, images=(str(path),), json=True))
        said = json.loads(capsys.readouterr().out)
        page = send(client, name, path.read_bytes())
        assert page.status_code == 200, page.text
        (shown,) = re.findall(r'<data value="([^"]+)">([^<]+)</data>', page.text)
        assert float(shown[0]) == said["probability"], name
        assert shown == (repr(said["probability"]), f"{said['probability']:.4f}")
        assert f"{said['label']} SYNTHETIC" in words(page)
        assert f"called so from {said['threshold']:.4f} on" in words(page)


def test_answer_says_what_it_meant_what_the_heat_is_worth_and_what_it_is_not_for(
    desk: Desk, client: FlaskClient, films: dict[str, Path]
) -> None:
    page = send(client, "film.png", films["film.png"].read_bytes())
    told, run = words(page), desk.open(desk.first)
    near = similar_films(run.validation, float(re.findall(r'<data value="([^"]+)"', page.text)[0]))
    assert f"Of the {near.num_images} validation films with the nearest scores" in told
    assert f"{near.num_positive} were PNEUMONIA" in told
    assert "Heat maps: not validated on this model" in told
    assert "Not for clinical use." in told
    assert "its answers on real films mean nothing" in told
    assert f"run {desk.first.run_id} {desk.first.experiment_name}" in told
    assert page.text.count('<img src="data:image/png;base64,') == 2


def test_network_without_a_heat_map_answers_all_the_same(desk: Desk, films: dict[str, Path]) -> None:
    def no_heat(images: Any) -> Any:
        raise RunError("no heat map: no gradient")

    run = replace(desk.open(desk.first), heat=no_heat)
    found = ask(run, "film.png", films["film.png"].read_bytes())
    assert (found.pictures, found.no_heat) == (None, "no heat map: no gradient")
    assert 0 <= found.probability <= 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jpg", b"\xff\xd8\xff\xe0 no image", "a.jpg: "),
        ("notes.txt", b"Jane Doe, born 1970", "notes.txt: not a JPEG, PNG or DICOM file"),
        ("empty.png", b"", "empty.png: empty file (0 bytes)"),
        ("<script>alert(1)</script>.png", b"x", "<script>alert(1)</script>.png: not a JPEG"),
    ],
)
def test_broken_film_is_one_clear_line(client: FlaskClient, name: str, content: bytes, told: str) -> None:
    page = send(client, name, content)
    assert page.status_code == 422
    (line,) = re.findall(r'<p class="problem" role="alert">(.*?)</p>', page.text)
    assert unescape(line).startswith(told)
    assert "Jane" not in page.text
    assert "<script>alert" not in page.text


def test_image_bomb_is_refused_by_its_header(client: FlaskClient) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_001, 100)).save(bomb, "png")
    page = send(client, "bomb.png", bomb.getvalue())
    assert page.status_code == 422
    assert "decompression bomb?" in page.text


def test_no_film_and_an_unknown_run_are_told(client: FlaskClient) -> None:
    nothing = client.post("/answer", base_url=OWN, data={"run": ""}, content_type="multipart/form-data")
    assert (nothing.status_code, "No film was chosen." in nothing.text) == (400, True)
    unknown = client.get("/?run=no/such", base_url=OWN)
    assert (unknown.status_code, "There is no such finished run." in unknown.text) == (404, True)


class Counted(io.RawIOBase):
    """An endless body that counts what was read of it."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.taken += len(buffer)
        return len(buffer)


def test_film_that_is_too_large_is_refused_before_it_is_read(client: FlaskClient) -> None:
    body = Counted()
    told = {"CONTENT_LENGTH": str(50 * MB), "CONTENT_TYPE": "multipart/form-data; boundary=x", "wsgi.input": body}
    page = client.post("/answer", base_url=OWN, environ_overrides=told)
    assert page.status_code == 413
    assert "It has more than 1 MB and was not read." in words(page)
    assert body.taken == 0


def test_body_of_unsaid_length_is_refused(client: FlaskClient) -> None:
    told = {"CONTENT_TYPE": "multipart/form-data; boundary=x", "HTTP_TRANSFER_ENCODING": "chunked"}
    page = client.post("/answer", base_url=OWN, environ_overrides=told | {"wsgi.input": Counted()})
    assert page.status_code == 411


def test_nothing_that_is_uploaded_is_written(
    client: FlaskClient, desk: Desk, films: dict[str, Path], written: list[str]
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (950, 1000)).astype(np.uint8)
    large = io.BytesIO()
    Image.fromarray(noise).save(large, "png")
    assert 600_000 < len(large.getvalue()) < MB, "Werkzeug would write what has more than 500 kB to a file"
    send(client, "warm.png", films["film.png"].read_bytes())
    written.clear()
    assert send(client, "large.png", large.getvalue()).status_code == 200
    assert written == []


@pytest.fixture
def written() -> Any:
    """Every file that is opened for writing, named or not, as long as the test runs."""
    seen: list[str] = []
    live = True

    def watch(event: str, told: tuple[Any, ...]) -> None:
        if live and event == "open" and isinstance(told[2], int) and told[2] & (os.O_WRONLY | os.O_RDWR):
            seen.append(str(told[0]))
        elif live and event in ("tempfile.mkstemp", "tempfile.mkdtemp"):
            seen.append(event)

    sys.addaudithook(watch)  # there is no way to take it off
    yield seen
    live = False


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5001", "127.0.0.1:5002", "127.0.0.1.evil.example:5001"])
def test_another_host_is_refused(client: FlaskClient, host: str) -> None:
    for method, path in (("GET", "/"), ("GET", "/reports"), ("GET", "/static/app.js"), ("POST", "/answer")):
        assert client.open(path, method=method, base_url=OWN, headers={"Host": host}).status_code == 403, path
    assert client.get("/", base_url=OWN, headers={"Host": "localhost:5001"}).status_code == 200


def test_film_that_a_page_from_elsewhere_sends_is_refused(client: FlaskClient, films: dict[str, Path]) -> None:
    film = films["film.png"].read_bytes()
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:5002"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": OWN, "Sec-Fetch-Site": "same-site"},
    ):
        page = send(client, "film.png", film, headers=headers)
        assert (page.status_code, "A page from elsewhere" in page.text) == (403, True), headers
    for mode, status in (("no-cors", 403), ("navigate", 200)):
        told = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert client.get("/", base_url=OWN, headers=told).status_code == status, "a link may lead here, no picture"
    assert send(client, "film.png", film, headers={"Origin": OWN, "Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_pages_load_nothing_from_elsewhere_and_are_not_kept(client: FlaskClient, films: dict[str, Path]) -> None:
    pages = [client.get(path, base_url=OWN) for path in ("/", "/reports", "/none", "/static/app.css", "/static/app.js")]
    for page in (*pages, send(client, "film.png", films["film.png"].read_bytes())):
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["X-Frame-Options"] == "DENY"
        assert "Set-Cookie" not in page.headers
        assert "Access-Control-Allow-Origin" not in page.headers
        assert not re.search(r"(src|href|action|url|import|fetch)[=(\s\"']*(https?:)?//", page.text)
        assert " style=" not in page.text, "the policy would leave it out"
        if page.mimetype == "text/html":
            assert page.headers["Cache-Control"] == "no-store"
        page.close()


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A home with two reports, and a third one that a link stands for."""
    for folder, text in (("results/ours/test", "A study"), ("runs/.reports/ours/test", "With films")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "report.html").write_text(f"<h1>{text}</h1><script>alert(1)</script>")
        (tmp_path / folder / "report.md").write_text("# Do 2 \\* 2 \\<b\\> help? (EXPLORATORY, SYNTHETIC)\n\n```\n")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "results" / "sly" / "test").mkdir(parents=True)
    (tmp_path / "results" / "sly" / "test" / "report.html").symlink_to(tmp_path / "secret")
    (tmp_path / "outside" / "test").mkdir(parents=True)
    (tmp_path / "outside" / "test" / "report.html").write_text("secret")
    (tmp_path / "results" / "linked").symlink_to(tmp_path / "outside")
    return tmp_path


def test_reports_are_listed_and_shown_and_their_scripts_do_not_run(reported: Path, desk: Desk) -> None:
    client = build_site(Desk(reported, desk.first), max_upload_mb=1).test_client()
    listed = client.get("/reports", base_url=OWN)
    links = re.findall(r'href="(/reports/[^"]+)"', listed.text)
    assert sorted(links) == ["/reports/films/ours/test", "/reports/study/ours/test"]
    assert "Do 2 * 2 <b> help? EXPLORATORY SYNTHETIC ours, test" in words(listed)
    page = client.get("/reports/study/ours/test", base_url=OWN)
    assert "<h1>A study</h1>" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "script-src" not in policy
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox")


@pytest.mark.parametrize(
    "path",
    [
        "/reports/../secret",
        "/reports/study/../../secret",
        "/reports/%2e%2e/secret",
        "/reports/study/..%2f..%2fsecret",
        "/reports//etc/passwd",
        "/reports/study/ours/test/report.html",
        "/reports/study/sly/test",
        "/reports/study/linked/test",
        "/reports/study/ours/test%00",
        "/static/../site.py",
        "/static/%2e%2e/site.py",
        "/static/..%2fsite.py",
    ],
)
def test_no_path_leads_out_of_the_reports(reported: Path, desk: Desk, path: str) -> None:
    client = build_site(Desk(reported, desk.first), max_upload_mb=1).test_client()
    assert client.get(path, base_url=OWN).status_code in (308, 404)
    assert "secret" not in client.get(path, base_url=OWN, follow_redirects=True).text.replace(path, "")


def test_committed_reports_are_found_under_their_questions() -> None:
    root = Path(__file__).resolve().parents[1]
    found = kept_reports(root)
    assert {"study/four_choices/test", "study/recipe/test"} <= set(found)
    assert found["study/recipe/test"].flags == ("EXPLORATORY",)
    assert found["study/four_choices/test"].title.startswith("Do flips, fewer blocks")


def test_newest_finished_run_answers_when_none_is_named(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_HOME", str(sweep.home))
    newest = newest_runs(sweep.home / "runs")
    assert len(newest) == 3, "the fourth has failed"
    ends = [json.loads(one.file("events.jsonl").read_text().splitlines()[-1])["time_s"] for one in newest]
    assert ends == sorted(ends, reverse=True)
    assert first_run(AppConfig()) == newest[0]
    assert first_run(AppConfig(run=newest[2].run_id)) == newest[2]
    with pytest.raises(RunError, match="no finished run of experiment_name=none under "):
        first_run(AppConfig(experiment_name="none"))


def test_another_run_can_be_chosen_on_the_page(desk: Desk, client: FlaskClient) -> None:
    key, other = list(desk.runs().items())[1]
    assert f'<option value="{key}">' in client.get("/", base_url=OWN).text
    page = client.get("/", query_string={"run": key}, base_url=OWN)
    assert f"run {other.run_id}" in words(page)
    assert f'name="run" value="{key}"' in page.text


def test_run_that_cannot_be_read_is_left_out_or_told(desk: Desk, sweep: Sweep, tmp_path: Path) -> None:
    copy = tmp_path / "runs" / "broken" / desk.first.run_id
    shutil.copytree(desk.first.path, copy)
    (copy / "threshold.json").write_text("{}")
    broken = Desk(tmp_path, newest_runs(tmp_path / "runs")[0])
    page = build_site(broken, max_upload_mb=1).test_client().get("/", base_url=OWN)
    assert (page.status_code, "is not a frozen threshold" in page.text) == (500, True)
    (copy / "link").symlink_to(tmp_path)
    assert newest_runs(tmp_path / "runs") == []


def test_port_that_is_taken_is_one_line() -> None:
    with free_socket(0) as taken:
        host, port = taken.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(ConfigError, match=f"port={port}: Address already in use; another one, or port=0"):
            free_socket(port)


def validation(labels: list[int], probability: list[float], patients: list[str] | None = None) -> Predictions:
    count = len(labels)
    return Predictions(
        image_id=np.array([f"i{number}" for number in range(count)]),
        patient=np.array(patients or [""] * count),
        split="val",
        label=np.array(labels, dtype=np.int8),
        logit=np.full(count, np.nan),
        probability=np.array(probability),
        run_id="r",
        dataset_digest="d",
    )


def test_similar_films_are_the_nearest_by_rank_and_all_their_ties() -> None:
    rows = validation([0] * 20 + [1] * 20, [*np.linspace(0, 0.4, 20), *np.linspace(0.6, 1, 20)])
    middle = similar_films(rows, 0.5)
    assert (middle.num_images, middle.num_positive, middle.num_patients) == (20, 10, 0)
    assert (similar_films(rows, 0.0).num_positive, similar_films(rows, 1.0).num_positive) == (0, 20)
    tied = similar_films(validation([0, 1] * 30, [0.3] * 60), 0.3)
    assert (tied.num_images, tied.num_positive, tied.lowest, tied.highest) == (60, 30, 0.3, 0.3)
    few = similar_films(validation([0, 1, 1], [0.1, 0.5, 0.6]), 0.9)
    assert (few.num_images, few.num_positive, few.beyond(0.9)) == (3, 2, "high")
    assert [few.beyond(score) for score in (0.6 + SAME / 2, 0.3, 0.0)] == ["", "", "low"]


def test_similar_films_have_the_interval_of_their_patients() -> None:
    random = np.random.default_rng(3)
    scores = random.uniform(size=400)
    labels = (random.uniform(size=400) < scores).astype(int)
    patients = [f"p{number // 3}" for number in range(400)]
    for probability in random.uniform(size=20):
        found = similar_films(validation(labels.tolist(), scores.tolist(), patients), float(probability))
        inside = (scores >= found.lowest) & (scores <= found.highest)
        assert found.num_images == inside.sum() == 50
        assert min(np.sum(scores[inside] < probability), np.sum(scores[inside] > probability)) in (25, 24) or (
            found.lowest == scores.min() or found.highest == scores.max()
        )
        interval = proportion_interval(labels[inside] == 1, np.array(patients)[inside])
        assert (found.low, found.high) == (interval.low, interval.high)
        assert found.low <= found.share <= found.high
        assert found.num_patients == len(set(np.array(patients)[inside]))


def test_similar_films_are_never_those_of_the_test_split() -> None:
    with pytest.raises(LeakageError):
        similar_films(replace(validation([0, 1], [0.1, 0.9]), split="test"), 0.5)


def test_scale_holds_every_film_and_ends_where_it_says() -> None:
    rows = validation([0, 0, 1, 1, 1], [0.0, 0.5, 0.5, 0.9, 1.0])
    scale = draw_scale(rows, 1.0, 0.5)
    assert sum(bar.num_images for bar in scale.bars) == 5
    assert {bar.positive: bar.num_images for bar in scale.bars if bar.x > 400} == {True: 1}
    assert (scale.film_x, scale.threshold_x) == (RIGHT, place(0))
    assert all(bar.x >= LEFT and bar.x + bar.width <= RIGHT for bar in scale.bars)


def test_site_asks_the_network_that_predict_asks(desk: Desk) -> None:
    run = desk.open(desk.first)
    assert run.network == network_of(desk.first, run.network.predict)
