"""Web pages served from this machine: the safe headers, templates, and the socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from jinja2 import Environment

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",  # links may be secrets; forms still say where they were
    "X-Content-Type-Options": "nosniff",
}


def foreign(request: Request) -> bool:
    """Whether a form was on another site, as far as the browser says where it was.

    Without TLS browsers send no `Sec-Fetch-Site`, but they send `Origin` with every form.
    """
    if site := request.headers.get("sec-fetch-site"):
        return site == "cross-site"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def guard(app: FastAPI, refused: Callable[[], Response]) -> None:
    """Send the safe headers with every response, and answer forms of other sites by `refused`."""

    @app.middleware("http")
    async def guarded(request: Request, proceed: Any) -> Response:
        abroad = request.method == "POST" and foreign(request)
        response = refused() if abroad else await proceed(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


@cache
def templates(folder: Path) -> Environment:
    """The Jinja templates of a folder; a value that is lacking is an error, and text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def listen(host: str, port: int, *, options: str, free: str) -> socket.socket:
    """A socket that listens at `host` and `port`; port 0 takes any that is free.

    Raises:
        OSError: if it cannot be had, naming the `options` that say it, and the one, `free`, that
            takes another port.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OSError(f"{options}: {error.strerror or error}; {free} takes a free port") from error
