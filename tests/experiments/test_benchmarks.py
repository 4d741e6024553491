"""The benchmarks run through, small, and leave their figures."""

import json
import sys

import pytest

from experiments.benchmarks import captions, concepts, methods, training


@pytest.mark.parametrize(
    ("benchmark", "name", "options"),
    [
        (captions, "captions", ["--images", "8", "--alone", "2"]),
        pytest.param(
            methods,
            "methods",
            ["--images", "4", "--methods", "real_guidance,gif"],
            marks=pytest.mark.slow,
        ),
        (training, "training", ["--steps", "2", "--workers", "0"]),
        pytest.param(
            concepts, "concepts", ["--steps", "3", "--images", "8"], marks=pytest.mark.slow
        ),
    ],
)
def test_it_runs_and_leaves_its_figures(benchmark, name, options, tmp_path, monkeypatch):
    arguments = [name, "--rounds", "1", "--out", str(tmp_path), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{name}.{kind}" for kind in ("md", "png", "json")
    }
    assert f"![]({name}.png)" in (tmp_path / f"{name}.md").read_text()
    rates = json.loads((tmp_path / f"{name}.json").read_text())["images_per_second"]
    assert len(rates) >= 2 and all(rate > 0 for rounds in rates.values() for rate in rounds)
