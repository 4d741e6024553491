"""What serves pages is heard by this machine alone, unless it is told otherwise."""

from __future__ import annotations

import ast
import socket

import pytest

from sgid.human_study import __main__ as command
from sgid.human_study.app import _greeting, _listen
from tests.human_study.conftest import study  # noqa: F401  a fixture
from tests.safety.sources import FILES


def test_the_pages_for_raters_bind_to_this_machine_alone(monkeypatch, tmp_path):
    given = command._parser().parse_args(["serve", str(tmp_path)])
    with _listen(given.host, 0) as listener:
        address, port = listener.getsockname()
        assert address == "127.0.0.1"
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
            pass


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
        file.name
        for file, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) or getattr(node.func, "id", None)) in listens
    }
    assert found == {"app.py"}
