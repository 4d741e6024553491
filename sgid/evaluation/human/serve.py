"""Serving a study: one process, SQLite underneath, nothing to set up."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path

from sgid.evaluation.human.study import Study


def serve(folder: Path, *, host: str, port: int) -> None:
    """Serve until stopped. Port 0 takes any that is free; the address is printed.

    Raises:
        FileNotFoundError, ValueError: if there is no study in `folder`.
        OSError: if the address cannot be had.
    """
    import uvicorn

    from sgid.evaluation.human.app import make_app

    study = Study(folder)
    listener = _listen(host, port)
    for line in _greeting(study, host, listener.getsockname()[1]):
        print(line, flush=True)
    # Access is not logged: the addresses of pages hold the raters' codes.
    config = uvicorn.Config(
        make_app(study), log_level="warning", access_log=False, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OSError(
            f"--host {host} --port {port}: {error.strerror or error}; --port 0 takes a free port"
        ) from error


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
