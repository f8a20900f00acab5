"""The Flask application: its pages, and what every request has to keep to and every answer carries.

Made for one machine: another Host than its own address is refused (DNS rebinding), as is a film that a page from
elsewhere sends; nothing is loaded from elsewhere, nothing is kept, and nothing uploaded reaches the disk.
"""

from __future__ import annotations

import base64
import math
from datetime import datetime
from http import HTTPStatus
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

from flask import Flask, Request, Response, abort, redirect, render_template, request
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from cxr_experiments.app.kept_reports import kept_reports
from cxr_experiments.errors import BadImageError, CxrError, one_line
from cxr_experiments.evidence.ensemble import told_origin
from cxr_experiments.evidence.evaluation.estimates import STATED_PREVALENCE

if TYPE_CHECKING:
    from cxr_experiments.app.asking import AskedRun, Desk

MB = 1_000_000
FORM_BYTES = 64_000  # what a form may hold beside the film
NAMES = ("127.0.0.1", "localhost")
# Sec-Fetch-Site, as browsers say it of pages that are not this one's; another port is the same site.
ELSEWHERE = ("cross-site", "same-site")
OWN_PAGES = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report brings its own style and pictures; it may come from anyone, so that no script of it runs.
REPORTS = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; sandbox"
)
HEADERS = {
    "Cache-Control": "no-store",  # neither does the browser keep a film
    "Content-Security-Policy": OWN_PAGES,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # with no-referrer, browsers would send `Origin: null` with the page's own form
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class InMemory(Request):
    """A request whose film stays in memory; Werkzeug would write what is larger than 500 kB to a temporary file."""

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return BytesIO()


class Site(Flask):
    """Flask with requests of that kind."""

    request_class = InMemory


def build_site(desk: Desk, *, max_upload_mb: int) -> Flask:
    """The application.

    Args:
        desk: answers; asked with names and bytes alone.
        max_upload_mb: a film may have so many million bytes.
    """
    site = Site("cxr_experiments.app")
    site.config.update(MAX_CONTENT_LENGTH=max_upload_mb * MB + FORM_BYTES, MAX_FORM_PARTS=10)
    # Flask would escape by the end of a template's name, which here is .j2
    site.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    site.jinja_env.filters.update(day=_day, figures=_figures, share=_share, png=_png, origin=told_origin)
    site.jinja_env.tests["known"] = math.isfinite
    _guard(site, max_upload_mb)
    _film_pages(site, desk, max_upload_mb)
    _report_pages(site, desk)
    return site


def _film_pages(site: Flask, desk: Desk, max_upload_mb: int) -> None:
    """The form, and the answer."""

    def page(asked: AskedRun, *, status: int = HTTPStatus.OK, **more: Any) -> Response:
        values = {"run": asked, "runs": desk.runs(), "max_upload_mb": max_upload_mb, "rarer": STATED_PREVALENCE}
        return Response(render_template("film.html.j2", **values, **{"answer": None, "problem": "", **more}), status)

    @site.get("/")
    def film() -> Response:
        return page(_asked(desk, request.args.get("run", "")))

    @site.get("/answer")
    def reloaded() -> AnyResponse:
        return redirect("/")

    @site.post("/answer")
    def answer() -> Response:
        asked = _asked(desk, request.form.get("run", ""))
        sent = request.files.get("film")
        if sent is None or not sent.filename:
            return page(asked, status=HTTPStatus.BAD_REQUEST, problem="No film was chosen.")
        try:
            found = desk.ask(asked.folder, sent.filename, sent.read())
        except BadImageError as error:
            problem = f"{one_line(sent.filename, limit=80)}: {error}"
            return page(asked, status=HTTPStatus.UNPROCESSABLE_ENTITY, problem=problem)
        return page(asked, answer=found)


def _report_pages(site: Flask, desk: Desk) -> None:
    """The list of reports, and each of them as it was written."""

    @site.get("/reports")
    def reports() -> str:
        return render_template("reports.html.j2", reports=kept_reports(desk.home).values())

    @site.get("/reports/<path:key>")
    def report(key: str) -> Response:
        kept = kept_reports(desk.home).get(key)
        if kept is None:
            abort(HTTPStatus.NOT_FOUND, "There is no such report.")
        return Response(kept.path.read_bytes(), headers={"Content-Security-Policy": REPORTS})


def _guard(site: Flask, max_upload_mb: int) -> None:
    """Who may ask, what every answer says, and how a refusal looks."""

    @site.before_request
    def own_machine_alone() -> None:
        port = request.environ["SERVER_PORT"]
        if request.host not in {f"{name}:{port}" for name in NAMES}:
            abort(HTTPStatus.FORBIDDEN, f"This page answers to http://{NAMES[0]}:{port} alone.")
        origin, foreign = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site") in ELSEWHERE
        if request.method in ("GET", "HEAD"):
            if foreign and request.headers.get("Sec-Fetch-Mode") != "navigate":  # a link may lead here, no picture
                abort(HTTPStatus.FORBIDDEN, "A page from elsewhere may lead here, and no more.")
            return
        if origin not in (None, f"http://{request.host}") or foreign:
            abort(HTTPStatus.FORBIDDEN, "A page from elsewhere sent this film: it was not looked at.")
        if request.content_length is None:
            abort(HTTPStatus.LENGTH_REQUIRED, "How long the film is was not said.")

    @site.after_request
    def guarded(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @site.errorhandler(HTTPException)
    def refused(error: HTTPException) -> AnyResponse | tuple[str, int]:
        code = error.code or 500
        if code < 400:
            return error.get_response()
        title, told = HTTPStatus(code).phrase, error.description or ""
        if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            title = "The film is too large"
            told = f"It has more than {max_upload_mb} MB and was not read. The option max_upload_mb=N allows more."
        elif code == HTTPStatus.INTERNAL_SERVER_ERROR:
            told = "This is a mistake of the program; the terminal that it was started in says more."
        return render_template("refused.html.j2", title=title, told=told), code

    @site.errorhandler(CxrError)
    def unreadable(error: CxrError) -> tuple[str, int]:
        return render_template("refused.html.j2", title="This run cannot be asked", told=one_line(error)), 500


def _asked(desk: Desk, key: str) -> AskedRun:
    """The run of that key in the list, the first one for no key."""
    if not key:
        return desk.open(desk.first)
    folder = desk.runs().get(key)
    if folder is None:
        abort(HTTPStatus.NOT_FOUND, "There is no such finished run.")
    return desk.open(folder)


def _day(seconds: float) -> str:
    """`2026-11-24 16:10`, local time; "" for no time."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else ""


def _figures(value: float, digits: int = 4) -> str:
    """A probability or a score as the terminal shows it."""
    return f"{value:.{digits}f}"


def _share(value: float) -> str:
    """`.97`, as the reports write shares."""
    return f"{value:.2f}".removeprefix("0")


def _png(content: bytes) -> str:
    """A picture inside the page: no address of it exists."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
