"""Memory is counted on models of the published sizes."""

import pytest
import torch

from experiments.benchmarks.memory import MODELS, build, count, peak


def millions(module) -> float:
    return round(sum(one.numel() for one in module.parameters()) / 1e6, 1)


@pytest.mark.parametrize(
    ("name", "unet", "texts"),
    [("sd15", 859.5, [123.1]), ("sd21", 865.9, [340.4]), ("sdxl", 2567.5, [123.1, 694.7])],
)
def test_the_models_have_the_published_numbers_of_parameters(name, unet, texts):
    parts = build(MODELS[name], None)
    assert millions(parts.unet) == unet and millions(parts.vae) == 83.7
    # The second text encoder of XL has a projection on top, which is not counted here.
    assert [millions(one) for one in parts.texts] == pytest.approx(texts, abs=2.0)


def test_what_is_alive_at_once_is_counted():
    def call():
        one = torch.empty(1000, device="meta")  # 4,000 bytes
        two = one + 1
        del one
        return (two + 1).sum()

    assert peak(torch.nn.Module(), call) == 8004  # two tensors, and the sum


def test_weights_are_not_counted_as_activations():
    with torch.device("meta"):
        linear, given = torch.nn.Linear(1000, 1000, bias=False), torch.empty(2, 3, 1000)
    output = 4 * 2 * 3 * 1000  # of four bytes each, once or twice, and not the four million
    assert output <= peak(linear, lambda: linear(given)) <= 2 * output


@pytest.mark.slow
def test_less_memory_is_less():
    ordinary, low, lowest = (
        max(count(MODELS["sd15"], mode, 4).values()) for mode in (None, "low", "lowest")
    )
    assert lowest <= low < ordinary
