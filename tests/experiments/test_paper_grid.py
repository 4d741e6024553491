"""The grids of the paper's experiments: what they ask for exists, and is asked for once."""

from __future__ import annotations

from importlib import import_module
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.paper.__main__ import read
from experiments.paper.arms import NOT_BUNDLED
from experiments.paper.grid import Sweep, products, swept, words
from experiments.paper.scales import NAMES, PAPER, SCALES, TINY
from sgid.config.compose import CONF, compose

MODULES = {name: import_module(f"experiments.paper.{name}") for name in NAMES}
CELLS = [
    {"seed": seed, "noise_rate": rate, "aug": aug}
    for seed, rate, aug in product("012", ("0.3", "0.5"), ("[sgid]", "[cutmix]", "[none]"))
]


@given(st.sets(st.integers(0, len(CELLS) - 1)), st.booleans())
def test_products_are_the_cells_each_once(chosen, split):
    cells = [CELLS[i] for i in sorted(chosen)]
    boxes = products(cells, apart=("seed",) if split else ())
    again = [cell for box in boxes for cell in Sweep(box).cells()]
    assert sorted(map(words, again)) == sorted(map(words, cells))
    assert not split or all(len(box["seed"]) == 1 for box in boxes)


def test_a_whole_grid_is_one_line():
    (box,) = products(CELLS)
    assert swept(box) == ["seed=0,1,2", "noise_rate=0.3,0.5", "aug=[sgid],[cutmix],[none]"]
    assert len(products(CELLS, apart=("seed",))) == 3


def test_cells_with_other_options_are_lines_of_their_own():
    assert products([{"a": "1"}, {"a": "1", "b": "2"}, {"a": "3", "b": "2"}]) == [
        {"a": ["1"]},
        {"a": ["1", "3"], "b": ["2"]},
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_asks_a_question_and_has_a_title(name):
    first, *_ = MODULES[name].__doc__.split("\n")
    assert "?" in first and MODULES[name].TITLE


@pytest.mark.parametrize(
    "scale",
    [
        TINY,
        *(pytest.param(one, marks=pytest.mark.slow) for one in SCALES.values() if one is not TINY),
    ],
    ids=lambda scale: scale.name,
)
def test_every_value_of_a_grid_composes(scale):
    seen: set[str] = set()
    for sweep in (one for name in NAMES for one in MODULES[name].grid(scale)):
        cells = sweep.cells()
        assert len({str(sorted(cell.items())) for cell in cells}) == len(cells)
        if sweep.classifier is not None:
            compose([*words({**cells[0], **sweep.classifier}), "evaluation.classifier=results/a"])
        for cell in cells:
            if not seen.issuperset(words(cell)):
                compose(words(cell))
                seen |= set(words(cell))


def test_every_augmentation_is_compared_somewhere_but_those_whose_models_are_not_bundled():
    asked = {
        name
        for module in MODULES.values()
        for sweep in module.grid(PAPER)
        for cell in sweep.cells()
        for name in cell["aug"].strip("[]").split(",")
    }
    every = {path.stem: path.read_text() for path in (CONF / "aug").glob("*.yaml")}
    left_out = {name.strip("[]") for name in NOT_BUNDLED}
    assert asked | left_out == set(every) and not asked & left_out
    further = ("  image_prompt:", "  edges:", "  image_guidance:")
    assert left_out == {name for name, text in every.items() if any(f in text for f in further)}


def test_a_command_line_is_read():
    scale, names, options = read(["ablation", "scale=paper", "trainer.device=cuda", "shots"])
    assert (scale, names, options) == (PAPER, ["ablation", "shots"], ["trainer.device=cuda"])
    assert read([]) == (TINY, list(NAMES), [])
    with pytest.raises(ValueError, match="ablatoin is not an experiment; there are main, "):
        read(["ablatoin"])
    with pytest.raises(ValueError, match="scale=huge is not one of tiny, paper"):
        read(["scale=huge"])
