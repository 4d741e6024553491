"""A hub on this machine: the part of its HTTP interface that huggingface_hub asks for models."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROUTES = (
    re.compile(r"/api/(?:models|datasets)/(?P<id>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?$"),
    re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$"),
)


@dataclass
class Hub:
    """Repositories by id, each a folder at a commit, and how the server refuses.

    `asked` are the method, the path and the range of each request. Of a file, `break_at` bytes
    are sent and then nothing more, until `go_on` is set.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    status: int = 0
    damage: bool = False
    break_at: int | None = None
    sent: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the hub of this process, as HF_ENDPOINT would have it before the import."""
        template = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", self.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    def files(self, *methods: str) -> set[str]:
        """The files that were asked for, by these methods."""
        return {
            path.split("/", 5)[-1]
            for method, path, _ in self.asked
            if "/resolve/" in path and method in (methods or ("HEAD", "GET"))
        }


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_lfs(file: Path) -> bool:
    return file.suffix in (".safetensors", ".bin")


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            with suppress(ConnectionError):
                self._answer()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            found = next((match for one in ROUTES if (match := one.match(path))), None)
            if hub.status:
                return self._send(hub.status)
            if found is None or found["id"] not in hub.repositories:
                return self._send(401, {"X-Error-Code": "RepoNotFound"})
            commit = hub.commits.get(found["id"], COMMIT)
            if (found["revision"] or "main") not in ("main", commit):
                return self._send(404, {"X-Error-Code": "RevisionNotFound"})
            folder = hub.repositories[found["id"]]
            if "file" not in found.groupdict():
                return self._send(200, content=self._listing(found["id"], folder))
            if found["id"] in hub.gated:
                return self._send(401, {"X-Error-Code": "GatedRepo"})
            if not (file := folder / found["file"]).is_file():
                return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest() if _is_lfs(file) else git_hash(content)
            headers = {"X-Repo-Commit": commit, "ETag": f'"{digest}"'}
            if hub.damage:
                content = bytes(len(content))
            if begin := self.headers.get("Range"):
                start = int(begin.removeprefix("bytes=").split("-")[0])
                end = f"bytes {start}-{len(content) - 1}/{len(content)}"
                return self._send(206, {**headers, "Content-Range": end}, content[start:])
            return self._send(200, headers, content)

        def _listing(self, id: str, folder: Path) -> bytes:
            siblings = []
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                content = file.read_bytes()
                one = {"rfilename": file.relative_to(folder).as_posix(), "size": len(content)}
                one["blobId"] = git_hash(content)
                if _is_lfs(file):
                    sha256 = hashlib.sha256(content).hexdigest()
                    one["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
                siblings.append(one)
            return json.dumps(
                {"id": id, "sha": hub.commits.get(id, COMMIT), "siblings": siblings}
            ).encode()

        def _send(
            self, status: int, headers: dict[str, str] | None = None, content: bytes = b""
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.break_at is not None and len(content) > hub.break_at:
                self.wfile.write(content[: hub.break_at])
                self.wfile.flush()
                hub.sent.set()
                hub.go_on.wait(60)
                self.close_connection = True
                return
            self.wfile.write(content)

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve within the block, at `hub.url`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
