"""Regret by replays of a table that is made up, whose best candidate is known."""

from __future__ import annotations

import json
import random
import re

import pytest

from experiments import advise_regret
from experiments.advise_regret import LINES, SEEDS, load, replay
from sgid.advise.candidates import expand

BEST = "aug=[sgid,randaugment] noise_rate=0.7"


@pytest.fixture
def output(tmp_path):
    """Every run takes 10 s, images 20 s once; the best candidate is right on 80 % of the images,
    the others on 40 to 60 %.
    """
    drawn = random.Random(0)
    screened, runs = {}, {}
    for place, options in enumerate(expand(LINES)):
        name = " ".join(options)
        share = 80 if name == BEST else 40 + 20 * place / 15
        generates = "sgid" in name or "label" in name or "guidance" in name
        rating = {"method": "sgid", "consistency": 0.8, "diversity": 0.1, "reference": 0.9}
        screened[name] = {**rating, "images": 50, "seconds": 1.0} if generates else None
        store = name.replace(",randaugment", "").partition(" filter")[0]
        for seed in range(SEEDS):
            first = not any(run["stores"] == [f"{store} {seed}"] for run in runs.values())
            runs[f"{name} | {seed}"] = {
                "stores": [f"{store} {seed}"] if generates else [],
                "seconds": {"augment": 20.0 if first and generates else 0.1, "validate": 10.0},
                "validation": [int(drawn.random() < share / 100) for _ in range(200)],
                "test_top1": share,
            }
    (tmp_path / "table.json").write_text(json.dumps({"screened": screened, "runs": runs}))
    return tmp_path


def test_images_are_paid_for_once(output):
    table = load(output)
    stores = {store for cell in table.cells.values() for store in cell.stores}
    assert table.cost == pytest.approx(10 * len(table.cells) + 20 * len(stores))
    assert len(stores) < len(table.cells)


def test_a_search_with_time_finds_the_best_and_beats_chance_with_less(output, monkeypatch):
    monkeypatch.setattr(advise_regret, "REPLAYS", 6)
    text = replay(output)
    rows = {}
    for line in text.splitlines():
        if (match := re.match(r"\| ([a-z, :]+) \| (\d+) \|(.*)\|$", line)) and "±" in line:
            rows[match[1], int(match[2])] = [float(v.split()[0]) for v in match[3].split("|")]
    assert rows["halving", 200][-1] == rows["halving: what it advises", 200][-1] == 0
    assert rows["random", 200][-1] == 0
    assert rows["random", 200][0] > rows["random", 200][-1]
    assert rows["halving, no screening", 200][2] <= rows["random", 200][1]


def test_options_take_the_place_of_the_bundled_images(output):
    words = advise_regret.all_options(["dataset=folder", "dataset.root=here"])
    assert words[-2:] == ["dataset=folder", "dataset.root=here"]
    assert "dataset=fashion" not in words and "dataset.shots=10" in words
    with pytest.raises(ValueError, match="another --output"):
        advise_regret.grid(output, ["dataset=folder"])
