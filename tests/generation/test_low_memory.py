"""Less memory gives the same images; tiles change them at the seams, and are another store's."""

from dataclasses import replace
from pathlib import Path

import accelerate.hooks
import numpy as np
import pytest
import torch

from sgid.config.compose import compose
from sgid.generation.memory import goes_in_turns, take_turns
from sgid.models.loader import Models
from sgid.models.weights import Weights
from tests.data.writers import picture
from tests.generation.requests import difference, draw, request

BATCH = [request(i, init=picture(i, 0, 32) if i % 2 else None) for i in range(4)]


def grey_levels_off(one, other) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


def test_an_image_at_a_time_is_the_same_image(make_engine, monkeypatch):
    expected = draw(make_engine(), BATCH)
    engine, seen = make_engine(memory="low"), []
    for part in (engine.autoencoder.vae.encoder, engine.autoencoder.vae.decoder):
        part.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images = draw(engine, BATCH)
    assert seen == [1] * (2 + 4)  # two originals, four images
    assert all(difference(images[name], expected[name]) <= 1 for name in expected)


def test_tiles_are_smaller_and_change_the_image(make_engine):
    expected, engine = draw(make_engine(), BATCH), make_engine(memory="lowest")
    seen = []
    engine.autoencoder.vae.decoder.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape[-1])
    )
    images = draw(engine, BATCH)
    assert max(seen) == 4 and len(seen) > 4  # of latents of 8 x 8
    off = [grey_levels_off(images[name], expected[name]) for name in expected]
    assert 0 < max(off) < 40  # each tile is normalised by itself, and these are of 16 pixels


def test_parts_take_turns(make_engine, monkeypatch):
    """On a CPU nothing moves, but each part is called through the hook that would move it."""
    expected = draw(make_engine(), BATCH)
    engine, called, aside = make_engine(memory="low"), [], []
    take_turns(engine.pipe, torch.device("cpu"))
    names = {id(part): name for name, part in engine.pipe.components.items()}
    before = accelerate.hooks.CpuOffload.pre_forward

    def pre_forward(self, module, *args, **kwargs):
        called.append(names[id(module)])
        return before(self, module, *args, **kwargs)

    monkeypatch.setattr(accelerate.hooks.CpuOffload, "pre_forward", pre_forward)
    free = type(engine.pipe).maybe_free_model_hooks
    monkeypatch.setattr(
        type(engine.pipe), "maybe_free_model_hooks",
        lambda self: (aside.append(len(called)), free(self))[1],
    )  # fmt: skip
    images = draw(engine, BATCH)
    assert all(difference(images[name], expected[name]) <= 1 for name in expected)
    order = list(dict.fromkeys(called))
    assert order == ["text_encoder", "vae", "unet"]
    texts = called.index("vae")
    originals = called.index("unet")
    assert {texts, originals, len(called)} <= set(aside)  # put aside between these, and at the end
    assert called[-1] == "vae"


@pytest.mark.parametrize(
    ("mode", "device", "turns"),
    [
        (None, "cuda", False),
        ("low", "cuda:1", True),
        ("lowest", "cuda", True),
        ("low", "cpu", False),
        ("low", "mps", False),
    ],
)
def test_where_parts_take_turns(mode, device, turns):
    assert goes_in_turns(mode, torch.device(device)) is turns


def test_only_tiles_are_in_the_identity():
    def identity(mode):
        settings = replace(compose(()).models.generator, memory=mode)
        models = replace(compose(()).models, generator=settings)
        weights = {"models.generator": Weights(Path("x"), {"content": "a"})}
        device = torch.device("cpu")
        return Models(models, weights, device=device, steps=4).identity("generator")

    assert identity("low") == identity(None) and "memory" not in str(identity(None))
    assert identity("lowest") != identity(None)
