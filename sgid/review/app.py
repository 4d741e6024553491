"""The pages of a review, and the server that serves them to this machine alone.

/                     the classes, how far they are, go on
/class/3/0            the first page of a class: each original beside its images
/verdicts             (post) {"rows": [7, 8], "verdict": "accept", "reject" or null}
/image/CONTENT/7      an image of the store, made smaller; ?whole as it is
/original/CONTENT/7   an original
"""

from __future__ import annotations

import getpass
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import PIL.Image
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from rich.console import Console
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from sgid.review.queue import PAGE, Queue
from sgid.runtime.web import guard, listen, templates
from sgid.store.reviews import VERDICTS

if TYPE_CHECKING:
    from PIL.Image import Image

PAGES = Path(__file__).parent / "pages"

HOST = "127.0.0.1"
"""The pages are for this machine alone: verdicts have no password."""

SIDE = 320
"""Pixels along the longer side of an image on a page."""

SMALL = 128
"""Pixels of the longer side up to which an image is encoded without loss."""

REMEMBERED = 2048
"""Encoded images that stay in memory: some 20 KB each. The browser keeps those it has seen."""

_TEXT = {"style.css": "text/css", "review.js": "text/javascript"}


class Decision(BaseModel):
    """A verdict on some images, as a page sends it; `None` takes verdicts back."""

    rows: list[int] = Field(min_length=1, max_length=10 * PAGE)
    verdict: Literal["accept", "reject"] | None


def make_app(queue: Queue, *, who: str) -> FastAPI:
    """The application that serves a review; `who` is the name beside its verdicts."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    # Else a site whose name leads here could read and write, as if it were one of these pages.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    guard(app, lambda: Response("Open the page itself.", 403))

    @app.exception_handler(404)
    async def unknown(request: Request, error: Exception) -> Response:
        up = "../" * (request.url.path.count("/") - 1)
        return page("gone", 404, up=up)

    @app.get("/")
    def home() -> Response:
        counts = queue.progress()
        total = sum(one.images for one in counts.values())
        done = total - sum(one.left for one in counts.values())
        names = queue.class_names
        return page(
            "home", 200, up="", store=queue.store, who=who, total=total, done=done,
            classes=[(label, names[label], one) for label, one in counts.items()],
            waiting=queue.waiting(), content=queue.content,
        )  # fmt: skip

    @app.get("/class/{label}/{number}")
    def images(label: int, number: int) -> Response:
        pages = queue.pages.get(label, [])
        if not 0 <= number < len(pages):
            raise HTTPException(404)
        verdicts = queue.verdicts()

        def tile(row: int) -> dict[str, Any]:
            return {
                "row": row,
                "repeat": queue.names[row][1],
                "verdict": VERDICTS[verdicts[row]] if verdicts[row] >= 0 else "",
                "size": queue.sizes[row].tolist(),
                "cosine": float(queue.scores.cosines[row]),
                "seen_as": queue.seen_as(row),
            }

        groups = [
            {
                "source": group.source,
                "key": queue.names[group.rows[0]][0],
                "caption": queue.captions[group.rows[0]].as_py(),
                "tiles": [tile(row) for row in group.rows],
            }
            for group in pages[number]
        ]
        return page(
            "class", 200, up="../../", label=label, number=number, pages=len(pages), groups=groups,
            name=queue.class_names[label], waiting=queue.waiting((label, number)),
            content=queue.content,
        )  # fmt: skip

    @app.post("/verdicts")
    def decide(decision: Decision) -> Response:
        if not all(0 <= row < len(queue) for row in decision.rows):
            raise HTTPException(404)
        queue.decide(decision.rows, decision.verdict, who)
        return JSONResponse({"saved": len(decision.rows)})

    @app.get("/image/{content}/{row}")
    def image(content: str, row: int, whole: str | None = None) -> Response:
        return picture(content, row, len(queue), queue.image, whole is not None)

    @app.get("/original/{content}/{index}")
    def original(content: str, index: int, whole: str | None = None) -> Response:
        return picture(content, index, len(queue.originals), queue.original, whole is not None)

    @app.get("/{name}")
    def text(name: str) -> Response:
        if name not in _TEXT:
            raise HTTPException(404)
        return Response((PAGES / name).read_bytes(), media_type=_TEXT[name])

    @lru_cache(maxsize=REMEMBERED)
    def made_smaller(read: Callable[[int], Image], index: int) -> bytes:
        return encode(read(index), SIDE)

    def picture(
        content: str, index: int, count: int, read: Callable[[int], Image], whole: bool
    ) -> Response:
        if content != queue.content or not 0 <= index < count:
            raise HTTPException(404)
        data = encode(read(index), None) if whole else made_smaller(read, index)
        lasting = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(data, media_type="image/webp", headers=lasting)

    return app


def encode(image: Image, side: int | None) -> bytes:
    """WebP of an image, at most `side` pixels along its longer side; small ones without loss."""
    if side is not None and max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=max(image.size) <= SMALL, quality=90, method=2)
    return buffer.getvalue()


def page(template: str, status: int, /, **values: Any) -> Response:
    """A template, filled in. `up` leads from the page to where the pages begin."""
    return HTMLResponse(templates(PAGES).get_template(f"{template}.html.j2").render(values), status)


def serve(queue: Queue, *, who: str | None, port: int, console: Console) -> None:
    """Serve to this machine until stopped. Port 0 takes any that is free; the address is printed.

    `who` is the name beside the verdicts; `None` is this machine's user.

    Raises:
        OSError: if the port cannot be had.
    """
    import uvicorn

    listener = listen(HOST, port, options=f"review.port={port}", free="review.port=0")
    counts = queue.progress().values()
    left = sum(one.left for one in counts)
    at = f"http://{HOST}:{listener.getsockname()[1]}/"
    for line in (
        f"review: {at}",
        f"{len(queue):,} images of {queue.store.folder}, {left:,} without a verdict.",
        "Ctrl-C stops; every verdict is saved as it is given.",
    ):
        console.print(line, markup=False, highlight=False)
    app = make_app(queue, who=who or getpass.getuser())
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])
