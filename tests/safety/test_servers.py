"""What serves pages is heard by this machine alone, unless it is told otherwise."""

from __future__ import annotations

import ast
import socket

import pytest

from sgid.human_study import __main__ as command
from sgid.human_study.app import _greeting
from sgid.review.app import HOST
from sgid.runtime.web import listen
from tests.human_study.conftest import study  # noqa: F401  a fixture
from tests.safety.sources import FILES


def test_the_pages_for_raters_bind_to_this_machine_alone(monkeypatch, tmp_path):
    given = command._parser().parse_args(["serve", str(tmp_path)])
    with listen(given.host, 0, options="", free="") as listener:
        address, port = listener.getsockname()
        assert address == "127.0.0.1"
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
            pass


def test_a_review_is_for_this_machine_alone():
    assert HOST == "127.0.0.1"  # and no option changes it


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        *(("127.0.0.1", False), ("localhost", False), ("::1", False)),
        *(("0.0.0.0", True), ("::", True), ("192.0.2.7", True)),
    ],
)
def test_that_others_can_reach_it_is_said(study, host, warned):  # noqa: F811
    said = "\n".join(_greeting(study, host, 8000))
    assert ("Whoever can reach this machine can begin" in said) is warned


def test_nothing_else_listens_without_an_address():
    """A server is made in one place; every other would have to be looked at, and added here."""
    listens = {"create_server", "bind", "listen", "HTTPServer", "TCPServer", "run_simple"}
    found = {
        f"{file.parent.name}/{file.name}"
        for file, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) or getattr(node.func, "id", None)) in listens
    }
    assert found == {"human_study/app.py", "review/app.py", "runtime/web.py"}
