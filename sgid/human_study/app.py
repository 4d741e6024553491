"""The web pages of a study, and the server that serves them.

    /              a name, to begin with
    /r/CODE        the rater's own page: what is asked, how far, go on
    /r/CODE/7      their seventh question; posting a form answers it
    /image/ID      an image

Nothing that is sent names a method: not in addresses, names or sizes. All links are relative, so
that a proxy may put the pages below any path. There are no cookies: who knows a rater's link is
that rater.
"""

from __future__ import annotations

import math
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from sgid.human_study.questions import KINDS, SCALE
from sgid.human_study.study import LONGEST_NAME, Rater, Study, new_code
from sgid.runtime.web import guard, listen, templates

PAGES = Path(__file__).parent / "pages"


SMALL = 128
"""Pixels below which an image is shown with its pixels, not blurred."""


LONGEST = 24 * 60 * 60
"""Seconds beyond which a time is not believed."""


_TEXT = {"style.css": "text/css", "rate.js": "text/javascript"}


def make_app(study: Study) -> FastAPI:
    """The application that serves a study."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    sizes = study.sizes()
    asked = list(dict.fromkeys(one.kind for one in study.questions.values()))

    def refused() -> Response:
        return page("gone", 403, up="", title="Not from there", text="Open the link itself.")

    guard(app, refused)

    @app.exception_handler(404)
    @app.exception_handler(405)
    @app.exception_handler(RequestValidationError)
    async def unknown(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        text = "Is the link whole? Whoever sent it to you can send it again."
        up = "../" * (request.url.path.count("/") - 1)
        return page("gone", status, up=up, title="There is nothing here", text=text)

    @app.get("/")
    def start() -> Response:
        response = begin("", new_code(), "", 200)
        # Kept for "back" alone: with the same code one begins once, however often one says so. The
        # form is posted to another address (?begin), or the browser would forget this one.
        response.headers["Cache-Control"] = "private, no-cache"
        return response

    @app.post("/")
    def named(name: Annotated[str, Form()] = "", code: Annotated[str, Form()] = "") -> Response:
        try:
            rater = study.add_rater(name, code)
        except ValueError as error:
            return begin(name, code, str(error), 400)
        return RedirectResponse(f"r/{rater.code}", 303)

    @app.get("/r/{code}")
    def rater(code: str) -> Response:
        kinds = [KINDS[name] for name in asked]
        return page("rater", 200, up="../", rater=found(code), kinds=kinds)

    @app.get("/r/{code}/{position}")
    def question(code: str, position: int) -> Response:
        rater = found(code)
        if (turn := study.turn(rater, position)) is None:
            raise HTTPException(404)
        following = study.turn(rater, position + 1)
        return page(
            "question",
            200,
            up="../../",
            rater=rater,
            turn=turn,
            kind=KINDS[turn.question.kind],
            label=turn.question.label,
            scale=SCALE,
            images=[shown(id) for id in turn.question.images],
            coming=following.question.images if following else (),
        )

    @app.post("/r/{code}/{position}")
    def answer(
        code: str,
        position: int,
        value: Annotated[str, Form()],
        seconds: Annotated[str, Form()] = "",
    ) -> Response:
        rater = found(code)
        turn = study.turn(rater, position)
        if turn is None:
            raise HTTPException(404)
        if value not in ("skip", *map(str, SCALE)):
            raise RequestValidationError([f"value={value}: one of skip, 1, 2, 3, 4, 5"])
        study.rate(rater, turn, None if value == "skip" else int(value), time(seconds))
        if (following := study.turn(rater, position + 1)) is None:  # at the end: what is left out
            following = (left := found(code).waiting) and study.turn(rater, left)
        return RedirectResponse(str(following.position) if following else f"../{code}", 303)

    @app.get("/image/{id}")
    def image(id: str) -> Response:
        if (picture := study.picture(id)) is None:
            raise HTTPException(404)
        lasting = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(picture.data, media_type="image/webp", headers=lasting)

    @app.get("/{name}")
    def text(name: str) -> Response:
        if name not in _TEXT:
            raise HTTPException(404)
        return Response((PAGES / name).read_bytes(), media_type=_TEXT[name])

    def begin(name: str, code: str, problem: str, status: int) -> Response:
        values = {"name": name, "code": code, "problem": problem, "longest": LONGEST_NAME}
        return page("start", status, up="", total=len(study.questions), **values)

    def found(code: str) -> Rater:
        if (rater := study.rater(code)) is None:
            raise HTTPException(404)
        return rater

    def shown(id: str) -> dict[str, Any]:
        width, height = sizes[id]
        return {"id": id, "width": width, "height": height, "small": max(width, height) < SMALL}

    return app


def page(template: str, status: int, /, **values: Any) -> Response:
    """A template, filled in. `up` leads from the page to where the pages begin."""
    html = templates(PAGES).get_template(f"{template}.html.j2").render(**values)
    return HTMLResponse(html, status)


def time(text: str) -> float | None:
    """Seconds as a page counted them; `None` where it did not, or what it says cannot be."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST else None


def serve(folder: Path, *, host: str, port: int) -> None:
    """Serve until stopped. Port 0 takes any that is free; the address is printed.

    Raises:
        FileNotFoundError, ValueError: if there is no study in `folder`.
        OSError: if the address cannot be had.
    """
    import uvicorn

    study = Study(folder)
    listener = listen(host, port, options=f"--host {host} --port {port}", free="--port 0")
    for line in _greeting(study, host, listener.getsockname()[1]):
        print(line, flush=True)
    # Access is not logged: the addresses of pages hold the raters' codes.
    config = uvicorn.Config(
        make_app(study), log_level="warning", access_log=False, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])


def _only_here(host: str) -> bool:
    """Whether an address is of this machine alone."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ip_address(str(address[0])).is_loopback for *_, address in found)


def _greeting(study: Study, host: str, port: int) -> list[str]:
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    base = f"http://{shown}:{port}/"
    lines = [f"raters begin at {base}", "Ctrl-C stops; every rating is saved as it is given."]
    if not _only_here(host):
        lines.append("Whoever can reach this machine can begin, and nothing is encrypted.")
    for one in study.raters():
        lines.append(f"  {base}r/{one.code}  {one.name}: {one.answered} of {one.total}")
    return lines
