"""The Python interface, by the notebook that shows it: its cells run as they stand."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sgid
from sgid.data.decode import decode
from sgid.store.reviews import Review, append_reviews
from sgid.store.tables import open_generated
from tests.end_to_end.command import ROOT, Place

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def evaluate(cells: list[str]) -> tuple[dict[str, Any], list[Any]]:
    """The names that cells define, and the value that the last line of each shows."""
    names: dict[str, Any] = {}
    shown = []
    for cell in cells:
        *body, last = ast.parse(cell).body
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
        else:
            exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return names, shown


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Executed in an empty folder; what it defines, and shows."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    place = Place(tmp_path_factory.mktemp("notebook"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place.top)
        for name, value in place.environment.items():
            patch.setenv(name, value)
        yield evaluate(code)


def test_the_notebook_shows_what_it_says(notebook):
    names, shown = notebook
    (top1, folder), (count, shape, labels), table, figure, steering = shown
    assert 0 <= top1 <= 100 and (folder / "report.html").is_file()
    assert count == 2 * 10 * (1 + 2) and shape == (8, 3, 32, 32) and labels.shape == (8,)
    assert len(table) == count and table["synthetic"].count(True) == 40
    assert figure.get_size_inches()[0] > 4  # an original and three images, beside each other
    assert [method for method, _, _ in steering] == ["sgid"] * 2 + ["text2img_label"] * 2
    assert len(names["drawn"]) == 2 * 2 * 3
    assert len({one.image.tobytes() for one in names["drawn"]}) == 12


def test_a_finished_run_is_not_run_again(notebook, capsys):
    names, _ = notebook
    again = sgid.run("aug=sgid", *names["small"])
    assert "done before" in capsys.readouterr().out
    assert again == names["result"]


def test_a_run_is_the_commands(notebook, capsys):
    """By its fingerprint: the command finds it done."""
    from sgid.cli import main

    names, _ = notebook
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["sgid", "aug=sgid", *names["small"]])
        assert main() == 0
    assert f"done before: {names['result'].folder}" in capsys.readouterr().out


def test_the_parts_of_a_store(notebook):
    names, _ = notebook
    rows = open_generated(Path(names["store"]), option="store").read().to_pylist()
    drawn = sgid.open_store(names["store"])
    both = sgid.open_store(names["store"], *names["small"], which="both", label_weights=True)
    originals = names["originals"]
    assert (len(drawn), len(originals), len(both)) == (40, 20, 60)
    assert drawn.class_names == originals.class_names
    for index in (0, 7, 39):
        image, label = drawn[index]
        assert label == rows[index]["label"]
        assert image.tobytes() == decode(rows[index]["image"]["bytes"]).tobytes()
        _, images, inside = drawn.place(index)
        assert images.keys[inside] == f"{rows[index]['key']}#{rows[index]['repeat']}"
        image, weights = both[index]
        assert weights.shape == (10,) and weights.sum() == 1 == weights[label]
    assert both[40][0].tobytes() == originals[0][0].tobytes() == both[-20][0].tobytes()
    with pytest.raises(IndexError):
        both[60]
    row = names["table"][40]
    assert row["image"].tobytes() == originals[0][0].tobytes()
    assert row["key"] == originals.place(0)[1].keys[0] and not row["synthetic"]
    assert names["table"].features["label"].names == list(drawn.class_names)
    assert torch.tensor(row["label_weights"])[row["label"]] == 1


def test_originals_need_no_models(notebook):
    """As on the machine where somebody else's code trains."""
    names, _ = notebook
    asked = [*names["small"], "models=sd15"]  # which is not here
    assert len(sgid.open_store(names["store"], *asked, which="originals")) == 20


def test_rejected_images_are_not_among_them(notebook):
    names, _ = notebook
    store = Path(names["store"])
    key, repeat = names["table"][3]["key"].rsplit("#", 1)
    append_reviews(store, [Review(key, int(repeat), "reject", "ada", "")])
    try:
        left = sgid.open_store(store)
        assert len(left) == 39
        assert names["table"][3]["key"] not in list(left.parts["generated"].keys)
    finally:
        (store / "reviews.jsonl").unlink()


def test_what_was_drawn_is_drawn_again(notebook):
    """The same images by the same seeds, with captions of one's own images."""
    names, _ = notebook
    again = sgid.draw(names["mine"], names["classes"], "aug=sgid", "expansion=3", "steps=8")
    assert again == names["drawn"][:6]
    assert {one.original for one in again} == {0, 1}
    assert all(one.caption in one.prompt and one.class_name in one.prompt for one in again)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda mine: sgid.draw(mine, ["bag"]), "2 images and 1 classes"),
        (lambda mine: sgid.draw(mine, ["a", "b"], "aug=mixup"), "none of them generates images"),
        (lambda mine: sgid.compose("noise_rat=1"), "noise_rat"),
        (lambda mine: sgid.run("noise_rate=7"), "noise_rate=7.0: must be above 0"),
    ],
)
def test_mistakes_are_errors_with_what_to_do(notebook, call, said):
    with pytest.raises(Exception, match=said):
        call(notebook[0]["mine"])


def test_a_store_of_other_images_is_refused(notebook):
    names, _ = notebook
    with pytest.raises(ValueError, match="was not made of the 50 training images"):
        sgid.open_store(names["store"], "dataset.shots=5", which="both")
    with pytest.raises(ValueError, match="which=all: must be one of generated"):
        sgid.open_store(names["store"], which="all")
    with pytest.raises(FileNotFoundError, match="path=nowhere is not a folder"):
        sgid.open_store("nowhere")


def test_importing_the_package_imports_nothing_else():
    code = "import sys, sgid; print(sgid.__version__, *{'torch', 'sgid.api'} & set(sys.modules))"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [sgid.__version__]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sgid.nothing
