"""Prompts by a language model: a small server of our own answers, well and badly."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sgid.methods.prompts import by_class, from_files
from sgid.prompt_writer import main, sentences, write_prompts, wrong

CLASSES = {"coat": "coat", "ankle boot": "ankle boot", "boot": "boot"}


@contextmanager
def server(answers, code=200):
    """A server that gives `answers(label)` in turn; the questions that it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions" and "Authorization" not in self.headers
            asked.append(body)
            text = answers(body["messages"][0]["content"], len(asked))
            said = text if isinstance(text, dict) else {"choices": [{"message": {"content": text}}]}
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_):
            pass

    one = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{one.server_port}/v1", asked
    finally:
        one.shutdown()
        one.server_close()
        thread.join()


def good(question, turn):
    label = next(name for name in ("ankle boot", "boot", "coat") if f"show a {name}." in question)
    return f'1. "A {label} on a chair {turn}."\n\n- Two {label}s {{in}} the snow {turn}.\n'


def write(url, output, **options):
    return write_prompts(
        CLASSES, base_url=url, model="small", output=output, **{"count": 2, **options}
    )


def test_a_file_for_each_class_is_written_once_and_read_as_a_pool(tmp_path):
    with server(good) as (url, asked):
        assert write(url, tmp_path) == list(CLASSES)
        assert {one["model"] for one in asked} == {"small"} and len(asked) == 3
        assert write(url, tmp_path) == [] and len(asked) == 3
        (tmp_path / "coat.txt").unlink()
        assert write(url, tmp_path) == ["coat"]  # a killed command goes on
    pool, lacking = by_class(from_files(str(tmp_path)), list(CLASSES))
    assert lacking == []
    assert pool["ankle boot"] == [
        "A ankle boot on a chair 2.",
        "Two ankle boots {{in}} the snow 2.",
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "0 of 2 prompts for coat in 2 answers .the answers were empty."),
        ("A shoe on a chair", "'A shoe on a chair' does not name coat"),
        ("A coat beside a boot", "'A coat beside a boot' names boot"),
        ("The same coat", "1 of 2 prompts for coat"),
        ({"error": "busy"}, "answers without choices: .*busy"),
    ],
)
def test_answers_that_are_refused(answer, message, tmp_path):
    with server(lambda *_: answer) as (url, asked), pytest.raises(ValueError, match=message):
        write(url, tmp_path, attempts=2)
    assert list(tmp_path.iterdir()) == [] and len(asked) <= 2


def test_a_server_that_fails_or_is_not_there(tmp_path):
    with (
        server(lambda *_: {"error": "no such model"}, code=404) as (url, _),
        pytest.raises(ValueError, match="answers 404 .*no such model.*is --model small there"),
    ):
        write(url, tmp_path)
    with pytest.raises(ConnectionError, match="start the server, or change --base-url"):
        write(url, tmp_path)


def test_a_class_within_the_name_of_another():
    assert wrong("an ankle boot in the rain", "ankle boot", "ankle boot", ["boot"]) is None
    assert wrong("an Ankle Boot", "boot", "boot", ["ankle boot"]) == "names ankle boot"
    assert wrong("red boots", "boot", "boot", ["coat"]) is None
    assert sentences("* one\n2) two\n\n“three”") == ["one", "two", "three"]


def test_the_command(tmp_path, capsys):
    def answer(question, turn):
        label = question.partition("show a ")[2].partition(".")[0]
        return f"a {label} here\na {label} there"

    with server(answer) as (url, asked):
        options = ["--base-url", url, "--model", "m", "--output", str(tmp_path / "p")]
        assert main([*options, "--count", "2", "dataset=fashion"]) == 0
        assert len(asked) == 10 and len(list((tmp_path / "p").iterdir())) == 10
    assert main([*options, "--count", "3", "dataset=nothing"]) == 1
    assert "nothing" in capsys.readouterr().err
